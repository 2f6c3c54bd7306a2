//! The webhook that completes new claims: crate `decide` says how, this asks the API
//! server for what that depends on. Only claims that ask for it come here.
//! Source of its path: CDI pkg/apiserver/apiserver.go.

use api::cdi::names::API_VERSION;
use api::cdi::{CDI, StorageProfile};
use decide::admission::Verdict;
use decide::cdi::admission::claim::{mutate, refers};
use decide::cdi::cluster::{Class, Cluster};
use http::Request;
use hyper::body::{Body, Bytes};
use k8s_openapi::api::storage::v1::{CSIDriver, StorageClass};
use kube::Api;
use kube::api::ListParams;
use kube_kit::answer::{self, Answer};

use super::app::App;

/// Path of the webhook.
pub(super) const PATH: &str = "/pvc-mutate";

/// Answers an AdmissionReview of a claim.
pub(super) async fn serve<B>(app: &App, request: Request<B>) -> Answer
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let review = match answer::review(request).await {
        Ok(review) => review,
        Err(refused) => return refused,
    };
    let request = &review["request"];
    let uid = request["uid"].as_str().unwrap_or_default();
    if uid.is_empty() || request["resource"]["resource"] != "persistentvolumeclaims" {
        return answer::text(
            400,
            format!("expected a review of a persistentvolumeclaim in {API_VERSION}"),
        );
    }
    let verdict = if request["operation"] == "CREATE" {
        let claim = &request["object"];
        match look(app, claim).await {
            Ok((cluster, knows_sources)) => mutate(claim, &cluster, knows_sources),
            Err(error) => {
                return answer::text(
                    500,
                    format!("cannot ask the API server: {}", kube_kit::reason(&error)),
                );
            }
        }
    } else {
        Verdict::allow()
    };
    answer::json(200, &verdict.into_review(uid))
}

/// What the cluster has, and whether the claim's provisioner knows data sources: those
/// with a CSI driver do.
async fn look(app: &App, claim: &serde_json::Value) -> kube::Result<(Cluster, bool)> {
    let all = ListParams::default();
    let classes: Api<StorageClass> = Api::all(app.client.clone());
    let profiles: Api<StorageProfile> = Api::all(app.client.clone());
    let cdis: Api<CDI> = Api::all(app.client.clone());
    let mut cluster = Cluster::default();
    for class in classes.list(&all).await?.items {
        let class = Class::from(&class);
        cluster.classes.insert(class.name.clone(), class);
    }
    for profile in profiles.list(&all).await?.items {
        let name = profile.metadata.name.clone().unwrap_or_default();
        cluster.profiles.insert(name, profile);
    }
    if let Some(cdi) = cdis.list(&all).await?.items.into_iter().next() {
        cluster.config = cdi.spec.config.unwrap_or_default();
    }
    let name = claim["spec"]["storageClassName"].as_str();
    let provisioner = cluster
        .class(name, true)
        .map(|class| class.provisioner.clone());
    let knows_sources = match provisioner {
        Some(driver) if refers(claim) => {
            let drivers: Api<CSIDriver> = Api::all(app.client.clone());
            drivers.get_metadata_opt(&driver).await?.is_some()
        }
        _ => false,
    };
    Ok((cluster, knows_sources))
}
