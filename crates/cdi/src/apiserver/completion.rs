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
        // A name with a slash is no driver's, and its path would be another resource's.
        Some(driver) if refers(claim) && !driver.contains('/') => {
            let drivers: Api<CSIDriver> = Api::all(app.client.clone());
            drivers.get_metadata_opt(&driver).await?.is_some()
        }
        _ => false,
    };
    Ok((cluster, knows_sources))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use base64::Engine as _;
    use http_body_util::{BodyExt, Full};
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{self, Shared};
    use crate::token::SigningKey;
    use crate::token::tests::key;

    const LOCAL: &str = "rancher.io/local-path";

    /// The patches of a claim, by an API server with one class of this provisioner and
    /// one CSI driver, `x.csi`.
    async fn patched(provisioner: &str, operation: &str, claim: &Value) -> String {
        let cluster = Shared::default();
        let class = json!({
            "metadata": {"name": "fast", "annotations": {
                "storageclass.kubernetes.io/is-default-class": "true"}},
            "provisioner": provisioner,
        });
        let list = |items: Value| json!({"metadata": {}, "items": items});
        for (path, object) in [
            ("storage.k8s.io/v1/storageclasses", list(json!([class]))),
            ("cdi.kubevirt.io/v1beta1/storageprofiles", list(json!([]))),
            ("cdi.kubevirt.io/v1beta1/cdis", list(json!([]))),
        ] {
            let path = format!("/apis/{path}");
            cluster.lock().unwrap().objects.insert(path, object);
        }
        let path = "/apis/storage.k8s.io/v1/csidrivers/x.csi".to_owned();
        let driver = json!({"metadata": {"name": "x.csi"}});
        cluster.lock().unwrap().objects.insert(path, driver);
        let signing = SigningKey::from_pem(key().private.as_bytes()).unwrap();
        let app = App::new(testing::client(&cluster), signing);
        let review = json!({"request": {
            "uid": "r1", "operation": operation, "object": claim,
            "resource": {"group": "", "version": "v1", "resource": "persistentvolumeclaims"},
        }});
        let request = Request::post(PATH).body(Full::new(Bytes::from(review.to_string())));
        let answer = app.answer(request.unwrap()).await;
        assert_eq!(answer.status(), 200);
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let response = serde_json::from_slice::<Value>(&body).unwrap()["response"].clone();
        assert_eq!(response["allowed"], true, "{response}");
        let patch = response["patch"].as_str().unwrap_or_default();
        let patch = base64::engine::general_purpose::STANDARD.decode(patch);
        String::from_utf8(patch.unwrap()).unwrap()
    }

    fn claim(labels: &Value, more: &Value) -> Value {
        let mut spec = json!({"resources": {"requests": {"storage": "1Gi"}}});
        for (field, value) in more.as_object().unwrap() {
            spec[field] = value.clone();
        }
        json!({"metadata": {"name": "c", "labels": labels}, "spec": spec})
    }

    #[tokio::test]
    async fn claims_are_completed_when_they_are_made() {
        let label = json!({"cdi.kubevirt.io/applyStorageProfile": "true"});
        let wants = claim(&label, &json!({}));
        let patch = patched(LOCAL, "CREATE", &wants).await;
        for words in ["accessModes", "1142278537", "fast"] {
            assert!(patch.contains(words), "{words}: {patch}");
        }
        assert_eq!(patched(LOCAL, "UPDATE", &wants).await, "");
    }

    #[tokio::test]
    async fn a_provisioner_without_a_csi_driver_is_kept_off_claims_with_a_source() {
        let to = json!({"apiGroup": "cdi.kubevirt.io", "kind": "VolumeUploadSource", "name": "s"});
        let refers = claim(&json!({}), &json!({"dataSourceRef": to}));
        for provisioner in [LOCAL, "nfs.old"] {
            let patch = patched(provisioner, "CREATE", &refers).await;
            assert!(patch.contains("/spec/selector"), "{provisioner}: {patch}");
        }
        assert_eq!(patched("x.csi", "CREATE", &refers).await, "");
    }
}
