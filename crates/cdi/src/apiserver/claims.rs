//! `POST uploadtokenrequests`: a token for one claim.

use api::objects::is_name;
use std::time::Duration;

use http::Request;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Bytes};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::Api;
use kube_kit::answer::{self, Answer};
use serde_json::{Value, json};

use super::app::App;
use crate::token::Target;

/// A request is a few words; more is a mistake.
const BODY: usize = 64 * 1024;
/// How long a claim is waited for: a script asks for a DataVolume and for its token in
/// one breath.
const WAIT: Duration = Duration::from_secs(5);
/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(250);

/// Signs a token for the claim that the request names. The claim must be there, for
/// its UID goes into the token.
pub(super) async fn create<B>(app: &App, namespace: &str, request: Request<B>) -> Answer
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let body = match Limited::new(request.into_body(), BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return answer::text(400, error.to_string()),
    };
    let mut asked: Value = match serde_json::from_slice(&body) {
        Ok(Value::Object(asked)) => Value::Object(asked),
        Ok(_) => return answer::text(400, "expected an UploadTokenRequest in JSON"),
        Err(error) => {
            return answer::text(
                400,
                format!("expected an UploadTokenRequest in JSON: {error}"),
            );
        }
    };
    let name = asked["spec"]["pvcName"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    if !is_name(&name) {
        return status(
            422,
            "Invalid",
            &format!("spec.pvcName: expected the name of a PersistentVolumeClaim, found {name:?}"),
        );
    }
    let uid = match uid(app, namespace, &name).await {
        Ok(Some(uid)) => uid,
        Ok(None) => {
            return status(
                404,
                "NotFound",
                &format!("persistentvolumeclaims \"{name}\" not found in namespace {namespace}"),
            );
        }
        Err(error) => {
            tracing::error!(namespace, name, "cannot read the claim: {error}");
            return status(500, "InternalError", &kube_kit::reason(&error));
        }
    };
    let target = Target {
        namespace: namespace.to_owned(),
        name,
        uid,
    };
    match app.key.sign(&target, jiff::Timestamp::now().as_second()) {
        Ok(token) => {
            asked["status"] = json!({ "token": token });
            answer::json(200, &asked)
        }
        Err(error) => status(500, "InternalError", &format!("{error:#}")),
    }
}

async fn uid(app: &App, namespace: &str, name: &str) -> kube::Result<Option<String>> {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(app.client.clone(), namespace);
    let until = tokio::time::Instant::now() + WAIT;
    loop {
        match claims.get_metadata(name).await {
            Ok(claim) => return Ok(claim.metadata.uid),
            Err(error) if !kube_kit::is_not_found(&error) => return Err(error),
            Err(_) if tokio::time::Instant::now() >= until => return Ok(None),
            Err(_) => tokio::time::sleep(LOOK).await,
        }
    }
}

/// A failure as a `metav1.Status`.
fn status(code: u16, reason: &str, message: &str) -> Answer {
    answer::json(
        code,
        &json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "reason": reason, "code": code,
        }),
    )
}
