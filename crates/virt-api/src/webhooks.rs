//! Admission webhooks: the API server posts an AdmissionReview, crate `decide`
//! answers it. The caller needs no certificate: what is asked here is no
//! secret and changes nothing.
//! Source of paths: KubeVirt pkg/virt-operator/resource/generate/components/webhooks.go.

use std::sync::Arc;

use decide::admission::{Context, Kind, Operation, Review, Workloads, mutate, validate};
use http::Request;
use hyper::body::{Body, Bytes};
use kube::api::ObjectList;
use kube::core::PartialObjectMeta;
use kube_kit::answer::{self, Answer};

use crate::app::App;

/// What a webhook does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Webhook {
    Mutate,
    Validate,
}

/// The webhook at `path`, if there is one.
pub(crate) fn at(path: &str) -> Option<Webhook> {
    match path {
        "/virtualmachines-mutate" | "/virtualmachineinstances-mutate" => Some(Webhook::Mutate),
        "/virtualmachines-validate"
        | "/virtualmachineinstances-validate-create"
        | "/virtualmachineinstances-validate-update"
        | "/status-validate"
        | "/kubevirt-validate-create"
        | "/kubevirt-validate-update"
        | "/kubevirt-validate-delete" => Some(Webhook::Validate),
        _ => None,
    }
}

pub(crate) async fn serve<B>(app: &Arc<App>, webhook: Webhook, request: Request<B>) -> Answer
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let review = match answer::review(request).await {
        Ok(review) => review,
        Err(refused) => return refused,
    };
    let review = match Review::parse(review) {
        Ok(review) => review,
        Err(error) => return answer::text(400, error.to_string()),
    };
    let workloads = match workloads(app, &review).await {
        Ok(workloads) => workloads,
        Err(error) => return answer::text(500, format!("cannot list what exists: {error}")),
    };
    let context = Context {
        config: app.config().as_ref().clone(),
        namespace: app.namespace.clone(),
        now: jiff::Timestamp::now()
            .strftime("%Y-%m-%dT%H:%M:%SZ")
            .to_string(),
        workloads,
    };
    let verdict = match webhook {
        Webhook::Mutate => mutate(&review, &context),
        Webhook::Validate => validate(&review, &context),
    };
    answer::json(200, &verdict.into_review(&review.uid))
}

/// What exists in the cluster: asked only where it matters, at the birth and
/// death of a KubeVirt object.
async fn workloads(app: &App, review: &Review) -> kube::Result<Workloads> {
    if review.kind != Kind::KubeVirt
        || !matches!(review.operation, Operation::Create | Operation::Delete)
    {
        return Ok(Workloads::default());
    }
    Ok(Workloads {
        kubevirts: count(app, "kubevirts", 2).await?,
        instances: count(app, "virtualmachineinstances", 1).await? > 0,
        machines: count(app, "virtualmachines", 1).await? > 0,
    })
}

async fn count(app: &App, plural: &str, limit: u32) -> kube::Result<usize> {
    let request = Request::get(format!(
        "/apis/{}/{plural}?limit={limit}",
        api::names::API_VERSION
    ))
    .header(
        http::header::ACCEPT,
        "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
    )
    .body(Vec::new())
    .map_err(kube::Error::HttpError)?;
    let list: ObjectList<PartialObjectMeta> = app.client.request(request).await?;
    Ok(list.items.len())
}
