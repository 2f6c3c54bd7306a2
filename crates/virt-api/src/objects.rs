//! Reads and patches of VMs and VMIs, as raw JSON.

use decide::subresource::{self as decision, Plan, Refusal};
use serde_json::Value;

use crate::app::App;
use crate::catalog::Resource;
use crate::router::Target;

/// Why a plan was not carried out.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Somebody changed the object since it was read: read and decide again.
    Raced(String),
    /// The API server refused.
    Refused(String),
}

impl App {
    /// The object of this kind with the request's name, if there is one.
    pub(crate) async fn find(
        &self,
        resource: Resource,
        target: &Target<'_>,
    ) -> Result<Option<Value>, Refusal> {
        let request = http::Request::get(url(resource, target)).body(Vec::new());
        let request = request.map_err(|error| Refusal::internal(error.to_string()))?;
        match self.client.request::<Value>(request).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if kube_kit::is_not_found(&error) => Ok(None),
            Err(error) => {
                let word = match resource {
                    Resource::Machine => "vm",
                    Resource::Instance => "vmi",
                };
                let why = sentence(&error);
                Err(Refusal::internal(format!(
                    "unable to retrieve {word} [{}]: {why}",
                    target.name
                )))
            }
        }
    }

    /// Sends the plan's patches; when one fails, takes those before it back.
    pub(crate) async fn carry_out(
        &self,
        target: &Target<'_>,
        plan: &Plan,
        dry_run: bool,
    ) -> Result<(), Failure> {
        for (at, patch) in plan.patches.iter().enumerate() {
            let Err(error) = self.patch(target, patch.target, &patch.ops, dry_run).await else {
                continue;
            };
            for done in plan.patches[..at]
                .iter()
                .rev()
                .filter(|done| !done.undo.is_empty())
            {
                if let Err(error) = self.patch(target, done.target, &done.undo, dry_run).await {
                    tracing::warn!(
                        namespace = target.namespace,
                        name = target.name,
                        "cannot undo a patch: {error}"
                    );
                }
            }
            return Err(failure(&error));
        }
        Ok(())
    }

    async fn patch(
        &self,
        target: &Target<'_>,
        what: decision::Target,
        ops: &[Value],
        dry_run: bool,
    ) -> kube::Result<()> {
        let (resource, status) = match what {
            decision::Target::Machine => (Resource::Machine, ""),
            decision::Target::MachineStatus => (Resource::Machine, "/status"),
            decision::Target::Instance => (Resource::Instance, ""),
        };
        let query = if dry_run { "?dryRun=All" } else { "" };
        let body = serde_json::to_vec(ops).map_err(kube::Error::SerdeError)?;
        let request = http::Request::patch(format!("{}{status}{query}", url(resource, target)))
            .header(http::header::CONTENT_TYPE, "application/json-patch+json")
            .body(body)
            .map_err(kube::Error::HttpError)?;
        self.client.request::<Value>(request).await.map(|_| ())
    }
}

fn url(resource: Resource, target: &Target<'_>) -> String {
    format!(
        "/apis/{}/namespaces/{}/{}/{}",
        api::names::API_VERSION,
        target.namespace,
        resource.plural(),
        target.name
    )
}

/// A failed `test` operation is a 422 with a sentence that names no field
/// (apiserver's `NewGenericServerResponse`); a webhook's refusal is a 422 too,
/// but names itself.
fn failure(error: &kube::Error) -> Failure {
    let why = sentence(error);
    let raced = match kube_kit::status_code(error) {
        Some(409) => true,
        Some(422) => why.starts_with("the server rejected our request"),
        _ => false,
    };
    if raced {
        Failure::Raced(why)
    } else {
        Failure::Refused(why)
    }
}

/// What the API server said, or what went wrong on the way to it.
pub(crate) fn sentence(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        error => error.to_string(),
    }
}
