//! Upload tokens: good for one claim, for a while, once.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD as URL};
use http::{Method, Request};
use kube::client::Body;
use ring::rsa::KeyPair;
use ring::signature::RSA_PSS_SHA256;
use serde_json::{Value, json};
use testkit::{Namespace, eventually, kubectl};

use crate::datavolumes::{create, delete, holds, no_workers, random, succeeds, volume};

/// The answer to a request: status and text.
pub(crate) type Answer = (u16, String);

/// One request to a server whose certificate nobody needs to trust; what went wrong when there was no answer.
pub(crate) fn ask(
    method: &Method,
    url: &str,
    token: Option<&str>,
    body: Vec<u8>,
) -> Result<Answer, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let uri: http::Uri = url.parse().unwrap();
        let host = format!("https://{}", uri.authority().unwrap());
        let mut config = kube::Config::new(host.parse().unwrap());
        config.accept_invalid_certs = true;
        // A refusal is an answer.
        config.default_retry = false;
        let client = kube::Client::try_from(config).map_err(|error| error.to_string())?;
        let mut request = Request::builder()
            .method(method)
            .uri(uri.path())
            .header("content-type", "application/octet-stream");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Body::from(body)).unwrap();
        let answer = client.send(request).await.map_err(|e| e.to_string())?;
        let status = answer.status().as_u16();
        let text = answer.into_body().collect_bytes().await;
        let text = text.map_err(|error| error.to_string())?;
        Ok((status, String::from_utf8_lossy(&text).into_owned()))
    })
}

/// Address and port of the upload proxy's service.
pub(crate) fn proxy_address() -> String {
    let words = [
        "-n",
        "cdi",
        "get",
        "service",
        "cdi-uploadproxy",
        "-o=jsonpath={.spec.clusterIP}",
    ];
    let ip = kubectl(&words, None).expect_ok("the upload proxy's address");
    format!("{ip}:443")
}

pub(crate) fn proxy() -> String {
    format!("https://{}/v1beta1/upload", proxy_address())
}

fn refused(token: &str, status: u16, words: &str) {
    let (found, text) = ask(&Method::POST, &proxy(), Some(token), b"evil".to_vec()).unwrap();
    assert_eq!(found, status, "{words}: {text}");
    assert!(text.contains(words), "{words}: {text}");
}

fn request(claim: &str) -> String {
    json!({
        "apiVersion": "upload.cdi.kubevirt.io/v1beta1", "kind": "UploadTokenRequest",
        "metadata": {"name": claim}, "spec": {"pvcName": claim},
    })
    .to_string()
}

pub(crate) fn token(ns: &Namespace, claim: &str) -> String {
    let words = [
        "--namespace",
        ns.name(),
        "create",
        "-f",
        "-",
        "-o=jsonpath={.status.token}",
    ];
    kubectl(&words, Some(&request(claim))).expect_ok("a token")
}

fn part(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).unwrap();
    serde_json::from_slice(&URL.decode(part).unwrap()).unwrap()
}

fn encode(part: &Value) -> String {
    URL.encode(part.to_string())
}

/// A token with the cluster's own signature, which nobody else can make.
pub(crate) fn signed(claims: &Value) -> String {
    let words = [
        "-n",
        "cdi",
        "get",
        "secret",
        "cdi-api-signing-key",
        "-o=jsonpath={.data.id_rsa}",
    ];
    let pem = kubectl(&words, None).expect_ok("the key");
    let pem = String::from_utf8(STANDARD.decode(pem.trim()).unwrap()).unwrap();
    let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let key = KeyPair::from_der(&STANDARD.decode(base64).unwrap()).unwrap();
    let text = format!("{}.{}", encode(&json!({"alg": "PS256"})), encode(claims));
    let mut signature = vec![0; key.public().modulus_len()];
    let random = ring::rand::SystemRandom::new();
    key.sign(&RSA_PSS_SHA256, &random, text.as_bytes(), &mut signature)
        .unwrap();
    format!("{text}.{}", URL.encode(signature))
}

fn ready(ns: &Namespace, name: &str) {
    ns.wait_for("dv", name, "/status/phase", "UploadReady");
}

#[test]
fn a_token_is_good_for_its_claim_only_and_only_once() {
    let (ns, other) = (Namespace::new("tokens"), Namespace::new("others"));
    let upload = json!({"upload": {}});
    for (ns, name) in [(&ns, "mine"), (&ns, "yours"), (&other, "mine")] {
        create(ns, &volume(name, &upload, "16Mi"));
    }
    for (ns, name) in [(&ns, "mine"), (&ns, "yours"), (&other, "mine")] {
        ready(ns, name);
    }
    let good = token(&ns, "mine");
    let yours = token(&ns, "yours");
    let pieces: Vec<&str> = good.split('.').collect();
    let claims = part(&good, 1);
    let changed = |name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        claims
    };

    // None, and what is none.
    let (status, text) = ask(&Method::POST, &proxy(), None, Vec::new()).unwrap();
    assert_eq!(status, 400, "{text}");
    refused("nonsense", 401, "not valid");
    // Unsigned, in each way there is.
    let none = encode(&json!({"alg": "none"}));
    let payload = pieces[1];
    refused(&format!("{none}.{payload}."), 401, "not valid");
    refused(&format!("{}.{payload}.", pieces[0]), 401, "not valid");
    let symmetric = encode(&json!({"alg": "HS256"}));
    let signature = pieces[2];
    refused(
        &format!("{symmetric}.{payload}.{signature}"),
        401,
        "not valid",
    );
    // Signed, but changed to another namespace, another claim or a longer life.
    for claims in [
        changed("namespace", json!(other.name())),
        changed("name", json!("yours")),
        changed("exp", json!(4_000_000_000_i64)),
    ] {
        let forged = format!("{}.{}.{signature}", pieces[0], encode(&claims));
        refused(&forged, 401, "not valid");
    }
    let swapped = yours.split('.').nth(1).unwrap();
    refused(
        &format!("{}.{swapped}.{signature}", pieces[0]),
        401,
        "not valid",
    );
    // Well signed: expired; not yet valid; by its name for a claim, by its uid for another one, as a token is that
    // outlived its claim.
    let now = claims["iat"].as_i64().unwrap();
    let old = json!(now - 60);
    let mut expired = changed("exp", old.clone());
    expired["iat"] = json!(now - 400);
    expired["nbf"] = json!(now - 400);
    refused(&signed(&expired), 401, "not valid");
    let mut early = changed("nbf", json!(now + 600));
    early["exp"] = json!(now + 900);
    refused(&signed(&early), 401, "not valid");
    for (name, value) in [("namespace", json!(other.name())), ("name", json!("yours"))] {
        refused(&signed(&changed(name, value)), 401, "was deleted");
    }
    refused(
        &signed(&changed("operation", json!("Clone"))),
        400,
        "not for an upload",
    );
    // The signature alone was never the reason.
    let head = format!("{}-async", proxy());
    let (status, _) = ask(&Method::HEAD, &head, Some(&signed(&claims)), Vec::new()).unwrap();
    assert_eq!(status, 200);

    // Who may not ask for tokens gets none.
    let stranger = format!("--as=system:serviceaccount:{}:default", other.name());
    let words = ["--namespace", ns.name(), &stranger, "create", "-f", "-"];
    let said = kubectl(&words, Some(&request("mine"))).expect_err("a stranger");
    assert!(said.contains("forbidden"), "{said}");
    // And the upload server takes nothing but from the proxy.
    around_the_proxy(&ns, &good);

    let disk = random(2 << 20);
    let (status, text) = ask(&Method::POST, &proxy(), Some(&good), disk.clone()).unwrap();
    assert_eq!(status, 200, "{text}");
    succeeds(&ns, "mine");
    holds(&ns, "mine", &disk);
    refused(&good, 503, "already finished uploading");
    holds(&ns, "mine", &disk);
    // Nothing of all this reached a claim of somebody else.
    for (ns, name) in [(&ns, "yours"), (&other, "mine")] {
        assert_eq!(ns.get("dv", name)["status"]["phase"], "UploadReady");
    }

    delete(&ns, "yours");
    delete(&other, "mine");
    no_workers(&ns);
}

fn around_the_proxy(ns: &Namespace, token: &str) {
    let ip = eventually("the upload pod's address", || {
        let pod = ns.get("pod", "cdi-upload-mine");
        let ip = pod["status"]["podIP"].as_str().map(str::to_owned);
        ip.ok_or_else(|| pod["status"].to_string())
    });
    let url = format!("https://{ip}:8443/v1beta1/upload");
    // No handshake without the proxy's certificate, or no answer but a refusal.
    if let Ok((status, text)) = ask(&Method::POST, &url, Some(token), b"evil".to_vec()) {
        assert_eq!(status, 401, "{text}");
    }
}
