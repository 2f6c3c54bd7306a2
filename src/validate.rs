//! `edgevirt validate`: asks a cluster whether its parts work, by effect.

mod cdi;
mod rollout;
mod storage;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::{Api, Client};
use serde::Serialize;

use crate::cli::{Component, Format, ValidateArgs};
use crate::cluster;
use crate::output::{Output, Tone};

/// Deployments of the control plane, as the walk-through lists them; virt-operator first.
const DEPLOYMENTS: [&str; 3] = ["virt-operator", "virt-api", "virt-controller"];
/// Its DaemonSet.
const HANDLER: &str = "virt-handler";

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    check: String,
    ok: bool,
    found: String,
}

/// Exit code 0 when all is well, 3 when something is not.
pub(crate) fn run(args: &ValidateArgs, out: &Output) -> anyhow::Result<ExitCode> {
    cluster::kubeconfigs(&args.cluster)?;
    let findings = cluster::runtime()?.block_on(async {
        let deadline = Instant::now() + Duration::from_secs(args.wait);
        let client = loop {
            match cluster::client(&args.cluster).await {
                Err(_) if Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                outcome => break outcome?,
            }
        };
        loop {
            let mut findings = Vec::new();
            for component in &args.component {
                findings.extend(match component {
                    Component::Kubevirt => look(&client, &args.namespace).await,
                    Component::Cdi => cdi::look(&client).await,
                    Component::StorageLocal => storage::look(&client).await,
                });
            }
            if findings.iter().all(|f| f.ok) || Instant::now() >= deadline {
                return anyhow::Ok(findings);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    })?;
    match args.output {
        Format::Json => out.json(&findings)?,
        Format::Table => {
            let mut rows = vec![vec!["CHECK".into(), "STATUS".into(), "FOUND".into()]];
            rows.extend(findings.iter().map(|f| {
                let (word, tone) = if f.ok {
                    ("ok", Tone::Good)
                } else {
                    ("not ok", Tone::Bad)
                };
                vec![f.check.clone(), out.paint(word, tone), f.found.clone()]
            }));
            out.table(&rows);
        }
    }
    Ok(if findings.iter().all(|f| f.ok) {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(3)
    })
}

async fn look(client: &Client, namespace: &str) -> Vec<Finding> {
    let mut findings = vec![kubevirt(client, namespace).await];
    let (found, image) = deployments(client, namespace, &DEPLOYMENTS).await;
    findings.extend(found);
    let daemon_sets: Api<DaemonSet> = Api::namespaced(client.clone(), namespace);
    let result = daemon_sets
        .get(HANDLER)
        .await
        .map_err(|error| error.to_string());
    findings.push(finding(
        HANDLER,
        result.and_then(|object| rollout::daemon_set(&object, image.as_deref())),
    ));
    findings.push(subresources(client).await);
    findings.push(devices(client).await);
    findings
}

/// What is found of deployments. The first is the operator's, and says what image
/// the others shall have, which is given too.
async fn deployments(
    client: &Client,
    namespace: &str,
    names: &[&str],
) -> (Vec<Finding>, Option<String>) {
    let api: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let mut image = None;
    let mut findings = Vec::new();
    for name in names {
        let found = api.get(name).await;
        if let Ok(object) = &found
            && image.is_none()
        {
            image = rollout::image_of_components(object);
        }
        let result = found.map_err(|error| error.to_string());
        findings.push(finding(
            name,
            result.and_then(|object| rollout::deployment(&object, image.as_deref())),
        ));
    }
    (findings, image)
}

fn finding(check: &str, result: Result<String, String>) -> Finding {
    let ok = result.is_ok();
    Finding {
        check: check.to_owned(),
        ok,
        found: result.unwrap_or_else(|found| found),
    }
}

async fn kubevirt(client: &Client, namespace: &str) -> Finding {
    let api: Api<api::KubeVirt> = Api::namespaced(client.clone(), namespace);
    let result = match api.list(&ListParams::default()).await {
        Err(error) => Err(error.to_string()),
        Ok(list) => match list.items.first() {
            None => Err("no KubeVirt object".to_owned()),
            Some(object) => {
                let status = object.status.clone().unwrap_or_default();
                if api::condition::is_true(&status.conditions, "Available")
                    && status.phase == "Deployed"
                {
                    if status.observed_deployment_id == status.target_deployment_id {
                        Ok(format!("{}, Available", status.phase))
                    } else {
                        Err("an update is under way".to_owned())
                    }
                } else {
                    Err(format!(
                        "phase {:?}, not Available: {}",
                        status.phase,
                        api::condition::find(&status.conditions, "Available")
                            .map_or("no condition yet", |c| c.message.as_str())
                    ))
                }
            }
        },
    };
    finding("KubeVirt", result)
}

/// The aggregated API answers through the API server.
async fn subresources(client: &Client) -> Finding {
    let path = format!(
        "/apis/{}/{}/version",
        api::names::SUBRESOURCE_GROUP,
        api::names::SUBRESOURCE_VERSIONS[0]
    );
    let result = match http::Request::get(path).body(Vec::new()) {
        Err(error) => Err(error.to_string()),
        Ok(request) => client
            .request::<api::subresource::VersionInfo>(request)
            .await
            .map(|version| format!("{} answers", version.git_version))
            .map_err(|error| error.to_string()),
    };
    finding("subresources API", result)
}

/// At least one node can take a virtual machine.
async fn devices(client: &Client) -> Finding {
    let api: Api<Node> = Api::all(client.clone());
    let result = match api.list(&ListParams::default()).await {
        Err(error) => Err(error.to_string()),
        Ok(nodes) => {
            let able: Vec<String> = nodes
                .items
                .iter()
                .filter(|node| {
                    let labels = node.metadata.labels.as_ref();
                    let schedulable = labels
                        .and_then(|l| l.get(api::names::SCHEDULABLE_LABEL))
                        .is_some_and(|v| v == "true");
                    let tun = node
                        .status
                        .as_ref()
                        .and_then(|s| s.allocatable.as_ref())
                        .and_then(|a| a.get(api::names::TUN_RESOURCE))
                        .is_some_and(|q| q.0 != "0");
                    schedulable && tun
                })
                .filter_map(|node| node.metadata.name.clone())
                .collect();
            if able.is_empty() {
                Err("no node offers devices.kubevirt.io/tun and is labelled schedulable".to_owned())
            } else {
                Ok(able.join(", "))
            }
        }
    };
    finding("nodes for VMs", result)
}
