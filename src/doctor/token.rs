//! An upload token, asked for and shown to the proxy, without an upload.
//!
//! A token is for a claim, so there is one for a moment: it names a volume that does not exist and no
//! class, so nothing is provisioned and nothing bound. It is no upload target, so the proxy, once it
//! believes the token, has nowhere to write to and says so.

use std::time::Duration;

use api::cdi::{UploadTokenRequest, UploadTokenRequestSpec, names};
use api::upload::{ENDPOINTS, PATH_VERSIONS};
use diagnose::Attempt;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use super::door;

/// Label of the doctor's claims.
pub(super) const LABEL: &str = "edgevirt.local/doctor";
/// How long taking the claim away may take.
const CLEAN_UP: Duration = Duration::from_secs(10);
/// Older claims belong to a doctor that was killed.
const LEFT_BEHIND: i64 = 300;

/// Makes the claim, asks, and takes the claim away, whatever happens; an interruption only cuts the
/// asking short.
pub(super) async fn attempt(
    client: &Client,
    namespace: &str,
    ways: &[door::Path],
    stop: &kube_kit::Shutdown,
) -> Attempt {
    if stop.is_cancelled() {
        return Attempt::NoClaim("interrupted".to_owned());
    }
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    sweep(&claims).await;
    let now = jiff::Timestamp::now().as_microsecond();
    let name = format!("edgevirt-doctor-{}-{now:x}", std::process::id());
    let claim = match serde_json::from_value(claim(&name)) {
        Ok(claim) => claim,
        Err(error) => return Attempt::NoClaim(error.to_string()),
    };
    // Not cut short: nobody would know whether there is a claim.
    if let Err(error) = claims.create(&PostParams::default(), &claim).await {
        // One that was made though the answer was lost.
        let _ = tokio::time::timeout(CLEAN_UP, remove(&claims, &name)).await;
        return Attempt::NoClaim(kube_kit::reason(&error));
    }
    let outcome = tokio::select! {
        outcome = ask(client, namespace, &name, ways) => outcome,
        () = stop.cancelled() => Attempt::NoAnswer("interrupted".to_owned()),
    };
    let _ = tokio::time::timeout(CLEAN_UP, remove(&claims, &name)).await;
    outcome
}

fn claim(name: &str) -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": { "name": name, "labels": { LABEL: "token" } },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": { "requests": { "storage": "1Mi" } },
            "storageClassName": "",
            "volumeName": name,
        },
    })
}

async fn ask(client: &Client, namespace: &str, claim: &str, ways: &[door::Path]) -> Attempt {
    let api: Api<UploadTokenRequest> = Api::namespaced(client.clone(), namespace);
    let mut request = UploadTokenRequest {
        spec: UploadTokenRequestSpec {
            pvc_name: claim.to_owned(),
        },
        ..UploadTokenRequest::default()
    };
    request.api_version = format!("{}/{}", names::UPLOAD_GROUP, names::UPLOAD_VERSION);
    request.kind = "UploadTokenRequest".to_owned();
    request.metadata.name = Some(claim.to_owned());
    request.metadata.namespace = Some(namespace.to_owned());
    let token = match api.create(&PostParams::default(), &request).await {
        Ok(answer) if !answer.status.token.is_empty() => answer.status.token,
        Ok(_) => return Attempt::NoToken("the answer has an empty status.token".to_owned()),
        Err(error) => return Attempt::NoToken(kube_kit::reason(&error)),
    };
    let path = format!("/{}/{}", PATH_VERSIONS[0], ENDPOINTS[0]);
    let mut why = "no way to the proxy".to_owned();
    for way in ways {
        match way.post(&path, &token).await {
            Ok((status, text)) => return Attempt::Answer { status, text },
            Err(error) => why = error,
        }
    }
    Attempt::NoAnswer(why)
}

async fn remove(claims: &Api<PersistentVolumeClaim>, name: &str) {
    for _ in 0..3 {
        match claims.delete(name, &DeleteParams::default()).await {
            Ok(_) => return,
            Err(error) if kube_kit::is_not_found(&error) => return,
            Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}

/// Takes away what a doctor left that was killed.
async fn sweep(claims: &Api<PersistentVolumeClaim>) {
    let now = jiff::Timestamp::now().as_second();
    let params = ListParams::default().labels(LABEL);
    let Ok(found) = claims.list(&params).await else {
        return;
    };
    for claim in found.items {
        let made = claim
            .metadata
            .creation_timestamp
            .map(|time| time.0.as_second());
        if let (Some(name), Some(made)) = (claim.metadata.name, made)
            && now.saturating_sub(made) > LEFT_BEHIND
        {
            let _ = tokio::time::timeout(CLEAN_UP, remove(claims, &name)).await;
        }
    }
}
