//! Whether images come into claims: the CDI object, its programs, and the API of upload tokens.

use api::cdi::{CDI, names};
use kube::{Api, Client};

use super::{Finding, deployments, finding};

/// Deployments of CDI, as the walk-through lists them; the operator says what image the others shall have.
const DEPLOYMENTS: [&str; 4] = [
    "cdi-operator",
    "cdi-apiserver",
    names::CONTROLLER,
    names::UPLOAD_PROXY,
];

pub(super) async fn look(client: &Client) -> Vec<Finding> {
    let mut findings = vec![finding("CDI", object(client).await)];
    let (found, _) = deployments(client, names::NAMESPACE, &DEPLOYMENTS).await;
    findings.extend(found);
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
