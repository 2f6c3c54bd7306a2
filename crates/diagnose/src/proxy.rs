//! Where the upload proxy is reached.

use api::cdi::names;
use hardware::Verdict;
use k8s_openapi::api::networking::v1::Ingress;

use crate::facts::{Facts, Way};
use crate::verdict::{fail, pass, skip, unread, warn};

/// Opens the proxy on a port of every node. Another service than CDI's own, whose type the
/// operator puts back, with other labels than CDI's own, by which it would take it for its own
/// and away.
const EXPOSE: &str = "kubectl -n cdi expose deployment cdi-uploadproxy --name=cdi-uploadproxy-nodeport --labels=app=cdi-uploadproxy-nodeport --type=NodePort --port=443 --target-port=8443";

pub(crate) fn service(facts: &Facts) -> Vec<Verdict> {
    const ID: &str = "proxy.service";
    let services = match &facts.services {
        Err(error) => return unread(ID, "services in namespace cdi", error),
        Ok(services) => services,
    };
    let service = services
        .iter()
        .find(|one| one.metadata.name.as_deref() == Some(names::UPLOAD_PROXY));
    let Some(service) = service else {
        return vec![fail(
            ID,
            "",
            "no service cdi/cdi-uploadproxy",
            "kubectl -n cdi rollout restart deployment cdi-operator",
        )];
    };
    let spec = service.spec.clone().unwrap_or_default();
    let address = spec.cluster_ip.unwrap_or_default();
    let ports: Vec<String> = spec
        .ports
        .iter()
        .flatten()
        .map(|port| port.port.to_string())
        .collect();
    let text = format!(
        "cdi/cdi-uploadproxy: {address}, port {}, {}",
        ports.join(", "),
        spec.type_.as_deref().unwrap_or("ClusterIP")
    );
    vec![match &facts.endpoints {
        Err(error) => skip(ID, "", format!("{text}; its pods cannot be read: {error}")),
        Ok(0) => fail(
            ID,
            "",
            format!("{text}; no ready pod behind it"),
            "kubectl -n cdi get pods -l cdi.kubevirt.io=cdi-uploadproxy && kubectl -n cdi logs deployment/cdi-uploadproxy --tail=20",
        ),
        Ok(count) => pass(ID, "", format!("{text}; {count} ready behind it")),
    }]
}

pub(crate) fn address(facts: &Facts) -> Vec<Verdict> {
    const ID: &str = "proxy.address";
    let direct = facts
        .open_doors()
        .find(|(door, _)| door.way != Way::PortForward);
    let tunnel = facts
        .open_doors()
        .any(|(door, _)| door.way == Way::PortForward);
    let mut verdicts = Vec::new();
    for door in &facts.doors {
        let word = door.way.word();
        let url = &door.url;
        verdicts.push(match (&door.greeting, door.way) {
            (Ok(greeting), _) if greeting.status < 500 => pass(
                ID,
                word,
                match door.way {
                    Way::PortForward => "reached from here through the API server".to_owned(),
                    _ => format!("{url} is reached from here"),
                },
            ),
            (Ok(greeting), _) => fail(
                ID,
                word,
                format!("{url} answers {} to GET /healthz", greeting.status),
                "kubectl -n cdi logs deployment/cdi-uploadproxy --tail=20",
            ),
            // Clients go there by themselves.
            (Err(error), Way::Configured) => fail(
                ID,
                word,
                format!("{url} is not reached from here: {error}"),
                match direct {
                    Some((other, _)) => set_url(&other.url),
                    None => clear_url(),
                },
            ),
            // Somewhere else it may be reached; here another way does.
            (Err(error), _) if direct.is_some() || tunnel => {
                skip(ID, word, format!("{url} is not reached from here: {error}"))
            }
            (Err(error), _) => fail(
                ID,
                word,
                format!("{url} is not reached from here: {error}"),
                format!("{EXPOSE}, and run this again for its port"),
            ),
        });
    }
    if direct.is_none() && tunnel {
        verdicts.push(warn(
            ID,
            "",
            "from here the proxy is reached through the API server only, which is slower",
            format!(
                "virtctl image-upload without --uploadproxy-url takes that way by itself; for a direct one: {EXPOSE}"
            ),
        ));
    }
    if facts.doors.is_empty() {
        let why = match &facts.services {
            Err(error) => format!("services in namespace cdi cannot be read: {error}"),
            Ok(_) => "there is no service to reach".to_owned(),
        };
        verdicts.push(skip(ID, "", why));
    }
    verdicts
}

pub(crate) fn url(facts: &Facts) -> Vec<Verdict> {
    const ID: &str = "proxy.url";
    let config = match &facts.config {
        Err(error) => return unread(ID, "the CDIConfig object", error),
        Ok(config) => config.clone().unwrap_or_default(),
    };
    let said = config
        .status
        .unwrap_or_default()
        .upload_proxy_url
        .filter(|url| !url.is_empty());
    if let Some(url) = said {
        return vec![pass(ID, "", format!("status.uploadProxyURL is {url}"))];
    }
    let ingress = facts.ingresses.iter().flatten().find_map(host);
    // A client's address is a guess: what this machine reaches.
    let best = facts
        .open_doors()
        .find(|(door, _)| door.way != Way::PortForward)
        .map(|(door, _)| door.url.clone());
    let (about, url) = match (ingress, best) {
        // Upstream takes it from there; a host without a scheme, as clients read it.
        (Some((name, host)), _) => (
            format!("; ingress {name} leads to the proxy from {host}, and is not taken over"),
            format!("https://{host}"),
        ),
        (None, Some(url)) => (String::new(), url),
        (None, None) => (String::new(), "https://HOST:PORT".to_owned()),
    };
    vec![warn(
        ID,
        "",
        format!(
            "status.uploadProxyURL is empty{about}: our virtctl goes through the API server then, others want --uploadproxy-url"
        ),
        set_url(&url),
    )]
}

fn set_url(url: &str) -> String {
    format!(
        "kubectl patch cdi {} --type=merge -p '{{\"spec\":{{\"config\":{{\"uploadProxyURLOverride\":\"{url}\"}}}}}}'",
        names::CDI
    )
}

fn clear_url() -> String {
    format!(
        "kubectl patch cdi {} --type=json -p '[{{\"op\":\"remove\",\"path\":\"/spec/config/uploadProxyURLOverride\"}}]'",
        names::CDI
    )
}

/// The ingress's name, and the host by which it leads to the proxy.
/// Source: CDI's config controller (pkg/controller/config-controller.go).
fn host(ingress: &Ingress) -> Option<(String, String)> {
    let name = ingress.metadata.name.clone().unwrap_or_default();
    let spec = ingress.spec.as_ref()?;
    let leads = |service: Option<&str>| service == Some(names::UPLOAD_PROXY);
    let rules = || spec.rules.iter().flatten();
    let default = spec
        .default_backend
        .as_ref()
        .and_then(|backend| backend.service.as_ref());
    let host = match default {
        Some(service) if leads(Some(&service.name)) => rules().find_map(|rule| rule.host.clone()),
        Some(_) => None,
        None => rules().find_map(|rule| {
            let mut paths = rule.http.as_ref()?.paths.iter();
            let found = paths.any(|path| {
                leads(
                    path.backend
                        .service
                        .as_ref()
                        .map(|service| service.name.as_str()),
                )
            });
            found.then(|| rule.host.clone()).flatten()
        }),
    };
    host.filter(|host| !host.is_empty())
        .map(|host| (name, host))
}
