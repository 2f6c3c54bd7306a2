//! Whether images come into claims: the CDI object, its programs, and the API of upload tokens.

use api::cdi::{CDI, names};
use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, Client};

use super::{Finding, finding, rollout};

/// Deployments of CDI, as the walk-through lists them; the operator says what image the others shall have.
const DEPLOYMENTS: [&str; 4] = [
    "cdi-operator",
    "cdi-apiserver",
    names::CONTROLLER,
    names::UPLOAD_PROXY,
];

pub(super) async fn look(client: &Client) -> Vec<Finding> {
    let mut findings = vec![finding("CDI", object(client).await)];
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), names::NAMESPACE);
    let mut image = None;
    for name in DEPLOYMENTS {
        let found = deployments.get(name).await;
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
    findings.push(finding("upload tokens API", tokens(client).await));
    findings
}

async fn object(client: &Client) -> Result<String, String> {
    let api: Api<CDI> = Api::all(client.clone());
    let object = api
        .get(names::CDI)
        .await
        .map_err(|error| error.to_string())?;
    let status = object.status.unwrap_or_default();
    let available = status
        .conditions
        .iter()
        .find(|one| one.type_ == "Available");
    if status.phase == "Deployed" && available.is_some_and(|one| one.status == "True") {
        return Ok("Deployed, Available".to_owned());
    }
    Err(format!(
        "phase {:?}, not Available: {}",
        status.phase,
        available.map_or("no condition yet", |one| one.message.as_str())
    ))
}

/// The aggregated API answers through the API server.
async fn tokens(client: &Client) -> Result<String, String> {
    let group = format!("{}/{}", names::UPLOAD_GROUP, names::UPLOAD_VERSION);
    client
        .list_api_group_resources(&group)
        .await
        .map(|list| format!("{} answers", list.group_version))
        .map_err(|error| error.to_string())
}
