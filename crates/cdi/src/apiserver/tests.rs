//! Requests as the API server's front proxy sends them.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use kube_kit::serve::Peer;
use serde_json::{Value, json};

use super::app::App;
use super::signing_key;
use crate::testing::{self, Shared};
use crate::token::tests::{key, target};
use crate::token::{SigningKey, VerifyingKey};

const GROUP: &str = "/apis/upload.cdi.kubevirt.io";

fn world() -> (App, Shared) {
    let cluster = Shared::default();
    cluster
        .lock()
        .unwrap()
        .objects
        .insert(testing::claim_path("disk"), testing::claim(&json!({})));
    let signing = SigningKey::from_pem(key().private.as_bytes()).unwrap();
    let app = App::new(testing::client(&cluster), signing);
    (app, cluster)
}

fn front_proxy() -> Peer {
    Peer {
        address: ([127, 0, 0, 1], 1).into(),
        certificates: Arc::from([vec![0u8].into()]),
        common_name: Some("front-proxy-client".to_owned()),
    }
}

async fn ask(
    app: &App,
    peer: Option<Peer>,
    method: &str,
    path: &str,
    body: &Value,
) -> (u16, String) {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("X-Remote-User", "alice")
        .header("X-Remote-Group", "dev")
        .body(Full::new(Bytes::from(body.to_string())))
        .unwrap();
    if let Some(peer) = peer {
        request.extensions_mut().insert(peer);
    }
    let answer = app.answer(request).await;
    let code = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (code, String::from_utf8(body.to_vec()).unwrap())
}

fn request(name: &str) -> Value {
    json!({
        "kind": "UploadTokenRequest", "apiVersion": "upload.cdi.kubevirt.io/v1beta1",
        "metadata": {"generateName": "token-for-virtctl-", "namespace": "ns"},
        "spec": {"pvcName": name}, "status": {},
    })
}

#[tokio::test]
async fn both_versions_give_a_token_for_the_claim_of_that_uid() {
    for version in ["v1beta1", "v1alpha1"] {
        let (app, cluster) = world();
        let path = format!("{GROUP}/{version}/namespaces/ns/uploadtokenrequests");
        let (code, body) = ask(&app, Some(front_proxy()), "POST", &path, &request("disk")).await;
        assert_eq!(code, 200, "{body}");
        let answer: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(answer["metadata"], request("disk")["metadata"]);
        let token = answer["status"]["token"].as_str().unwrap();
        let verifying = VerifyingKey::from_pem(key().public.as_bytes()).unwrap();
        let now = jiff::Timestamp::now().as_second();
        assert_eq!(verifying.verify(token, now), Ok(target()));
        let review = &cluster.lock().unwrap().asked[0];
        assert_eq!(
            review.1["spec"],
            json!({
                "user": "alice", "groups": ["dev"], "extra": {},
                "resourceAttributes": {
                    "namespace": "ns", "verb": "create", "group": "upload.cdi.kubevirt.io",
                    "version": version, "resource": "uploadtokenrequests",
                },
            })
        );
    }
}

#[tokio::test]
async fn nobody_gets_a_token_without_proof_permission_and_claim() {
    let path = format!("{GROUP}/v1beta1/namespaces/ns/uploadtokenrequests");
    let (app, cluster) = world();
    let (code, body) = ask(&app, None, "POST", &path, &request("disk")).await;
    assert_eq!((code, body.as_str()), (401, "request is not authenticated"));
    assert!(cluster.lock().unwrap().asked.is_empty());

    cluster.lock().unwrap().denied = Some("no role".to_owned());
    let (code, body) = ask(&app, Some(front_proxy()), "POST", &path, &request("disk")).await;
    assert_eq!((code, body.as_str()), (401, "no role"));

    cluster.lock().unwrap().denied = None;
    for name in ["", "../secrets/x", "a?b", "Disk"] {
        let (code, body) = ask(&app, Some(front_proxy()), "POST", &path, &request(name)).await;
        assert_eq!(code, 422, "{name}: {body}");
        assert!(body.contains("spec.pvcName"), "{body}");
    }
    for body in [json!("x"), json!([1])] {
        let (code, _) = ask(&app, Some(front_proxy()), "POST", &path, &body).await;
        assert_eq!(code, 400);
    }
    let (code, _) = ask(&app, Some(front_proxy()), "GET", &path, &Value::Null).await;
    assert_eq!(code, 405);
    let (code, _) = ask(
        &app,
        Some(front_proxy()),
        "GET",
        &format!("{path}/x"),
        &Value::Null,
    )
    .await;
    assert_eq!(code, 404);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_just_being_made_is_waited_for() {
    let path = format!("{GROUP}/v1beta1/namespaces/ns/uploadtokenrequests");
    let (app, cluster) = world();
    let (code, body) = ask(&app, Some(front_proxy()), "POST", &path, &request("new")).await;
    assert_eq!(code, 404);
    let status: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (&status["kind"], &status["reason"]),
        (&json!("Status"), &json!("NotFound"))
    );
    let made = Arc::clone(&cluster);
    tokio::spawn(async move {
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        let claim = testing::claim(&json!({}));
        made.lock()
            .unwrap()
            .objects
            .insert(testing::claim_path("new"), claim);
    });
    let (code, _) = ask(&app, Some(front_proxy()), "POST", &path, &request("new")).await;
    assert_eq!(code, 200);
}

#[tokio::test]
async fn documents_are_for_all_and_only_read() {
    let (app, _) = world();
    for path in [
        "/",
        "/apis",
        GROUP,
        &format!("{GROUP}/v1beta1"),
        &format!("{GROUP}/v1alpha1"),
        "/openapi/v2",
        "/openapi/v3",
        "/openapi/v3/apis/upload.cdi.kubevirt.io/v1beta1",
    ] {
        let (code, body) = ask(&app, None, "GET", path, &Value::Null).await;
        assert_eq!(code, 200, "{path}");
        assert!(body.contains("upload.cdi.kubevirt.io"), "{path}: {body}");
        let (code, _) = ask(&app, None, "DELETE", path, &Value::Null).await;
        assert_eq!(code, 405, "{path}");
    }
    let (_, body) = ask(
        &app,
        None,
        "GET",
        &format!("{GROUP}/v1alpha1"),
        &Value::Null,
    )
    .await;
    let list: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(list["groupVersion"], "upload.cdi.kubevirt.io/v1alpha1");
    assert_eq!(list["resources"][0]["verbs"], json!(["create"]));
    assert_eq!(list["resources"][0]["shortNames"], json!(["utr", "utrs"]));
}

#[tokio::test]
async fn the_key_is_made_once_and_found_again() {
    let cluster = Shared::default();
    let client = testing::client(&cluster);
    let made = signing_key::get_or_make(&client, "cdi").await.unwrap();
    let token = made.sign(&target(), 1000).unwrap();
    let path = "/api/v1/namespaces/cdi/secrets/cdi-api-signing-key";
    let secret = cluster.lock().unwrap().objects[path].clone();
    let secret: k8s_openapi::api::core::v1::Secret = serde_json::from_value(secret).unwrap();
    let public = &secret.data.unwrap()["id_rsa.pub"].0;
    let verifying = VerifyingKey::from_pem(public).unwrap();
    assert!(verifying.verify(&token, 1000).is_ok());
    let found = signing_key::get_or_make(&client, "cdi").await.unwrap();
    let token = found.sign(&target(), 1000).unwrap();
    assert!(verifying.verify(&token, 1000).is_ok());
    let posts = |shared: &Shared| {
        let asked = &shared.lock().unwrap().asked;
        asked
            .iter()
            .filter(|(what, _)| what.starts_with("POST"))
            .count()
    };
    assert_eq!(posts(&cluster), 1);

    let spoil = |shared: &Shared| {
        let objects = &mut shared.lock().unwrap().objects;
        objects.get_mut(path).unwrap()["data"]["id_rsa"] = json!("eA==");
    };
    spoil(&cluster);
    let error = signing_key::get_or_make(&client, "cdi").await.unwrap_err();
    assert!(
        format!("{error:#}").contains("Secret cdi/cdi-api-signing-key"),
        "{error:#}"
    );
}
