//! Uploads through the proxy, over real TLS on both sides.
#![allow(clippy::unwrap_used)]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use kube_kit::Shutdown;
use kube_kit::certs::{Pair, Usage};
use kube_kit::tls::{ClientTls, ServerTls};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};

use super::forward::Servers;
use super::proxy::Proxy;
use crate::passage::Passage;
use crate::testing::{self, Shared};
use crate::token::SigningKey;
use crate::token::tests::{key, target};

const SERVER: &str = "cdi-upload-disk.ns.svc";
const PROXY: &str = "cdi-uploadproxy.cdi.svc";
const CLIENT: &str = "client.upload-server.cdi.kubevirt.io";

/// What an upload server heard: method, path, headers, bytes.
type Heard = Arc<Mutex<Vec<(String, http::HeaderMap, usize)>>>;

struct World {
    proxy: SocketAddr,
    client: ClientTls,
    cluster: Shared,
    heard: Heard,
    authority: Pair,
    client_dir: TempDir,
    _dirs: Vec<TempDir>,
}

/// Takes uploads; answers `refusal` before it has read them, if there is one.
async fn upload_server(dir: &TempDir, heard: &Heard, refusal: Option<u16>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let ca = dir.path().join("ca-bundle.crt");
    let tls = ServerTls::from_dir(dir.path(), Some(ca))
        .unwrap()
        .only_clients([CLIENT]);
    let heard = Arc::clone(heard);
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let heard = Arc::clone(&heard);
        async move {
            let (parts, body) = request.into_parts();
            let mut answer = Response::new(Full::new(Bytes::from_static(b"taken")));
            answer
                .headers_mut()
                .insert("upload-offset", "5".parse().unwrap());
            if let Some(code) = refusal {
                // What is left of the upload is read by the passage.
                drop(Passage::new(body));
                *answer.status_mut() = StatusCode::from_u16(code).unwrap();
                return Ok::<_, Infallible>(answer);
            }
            let length = body.collect().await.map_or(0, |body| body.to_bytes().len());
            let what = format!("{} {}", parts.method, parts.uri);
            heard.lock().unwrap().push((what, parts.headers, length));
            Ok(answer)
        }
    });
    tokio::spawn(kube_kit::serve(
        listener,
        Some(Arc::new(tls)),
        service,
        Shutdown::new(),
    ));
    address
}

async fn world(annotations: &Value, refusal: Option<u16>) -> World {
    let heard = Heard::default();
    let ears = Arc::clone(&heard);
    let mut world = around(annotations, async move |dir: &TempDir| {
        upload_server(dir, &ears, refusal).await
    })
    .await;
    world.heard = heard;
    world
}

/// A proxy in front of the upload server that `start` runs with the certificates in a
/// directory.
async fn around(annotations: &Value, start: impl AsyncFnOnce(&TempDir) -> SocketAddr) -> World {
    let cluster = Shared::default();
    cluster
        .lock()
        .unwrap()
        .objects
        .insert(testing::claim_path("disk"), testing::claim(annotations));
    let authority = testing::authority();
    let server_dir = testing::certificate(&authority, SERVER, Usage::Server);
    let proxy_dir = testing::certificate(&authority, PROXY, Usage::Server);
    let client_dir = testing::certificate(&authority, CLIENT, Usage::Client);
    let server = start(&server_dir).await;
    let ca = client_dir.path().join("ca-bundle.crt");
    let to_servers = ClientTls::to_hosts(client_dir.path(), &ca).unwrap();
    let key_file = server_dir.path().join("id_rsa.pub");
    std::fs::write(&key_file, &key().public).unwrap();
    let proxy = Arc::new(Proxy::new(
        testing::client(&cluster),
        key_file,
        Servers::at(to_servers, server),
    ));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = Arc::new(ServerTls::from_dir(proxy_dir.path(), None).unwrap());
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let proxy = Arc::clone(&proxy);
        async move { Ok::<_, Infallible>(proxy.answer(request).await) }
    });
    tokio::spawn(kube_kit::serve(
        listener,
        Some(tls),
        service,
        Shutdown::new(),
    ));
    let client = ClientTls::to_hosts(client_dir.path(), &ca).unwrap();
    World {
        proxy: address,
        client,
        cluster,
        heard: Heard::default(),
        authority,
        client_dir,
        _dirs: vec![server_dir, proxy_dir],
    }
}

impl World {
    async fn send(&self, request: Request<Full<Bytes>>) -> (u16, http::HeaderMap, String) {
        let stream = TcpStream::connect(self.proxy).await.unwrap();
        let stream = self.client.connect_host(PROXY, stream).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(body.to_vec()).unwrap();
        (parts.status.as_u16(), parts.headers, text)
    }

    async fn post(&self, path: &str, token: &str) -> (u16, String) {
        let request = Request::post(path)
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/octet-stream")
            .body(Full::new(Bytes::from_static(b"image")))
            .unwrap();
        let (code, _, text) = self.send(request).await;
        (code, text)
    }
}

fn ready() -> Value {
    json!({
        "cdi.kubevirt.io/storage.upload.target": "",
        "cdi.kubevirt.io/storage.pod.phase": "Running",
        "cdi.kubevirt.io/storage.pod.ready": "true",
    })
}

fn token() -> String {
    signed(&target(), jiff::Timestamp::now().as_second())
}

fn signed(target: &crate::token::Target, now: i64) -> String {
    let signing = SigningKey::from_pem(key().private.as_bytes()).unwrap();
    signing.sign(target, now).unwrap()
}

#[tokio::test]
async fn an_upload_reaches_its_claims_server_by_all_paths() {
    for path in [
        "/v1beta1/upload",
        "/v1beta1/upload-async",
        "/v1alpha1/upload",
        "/v1beta1/upload-form",
    ] {
        let world = world(&ready(), None).await;
        let (code, text) = world.post(path, &token()).await;
        assert_eq!((code, text.as_str()), (200, "taken"), "{path}");
        let heard = world.heard.lock().unwrap();
        let (what, headers, length) = &heard[0];
        assert_eq!(
            (what.as_str(), *length),
            (format!("POST {path}").as_str(), 5)
        );
        assert_eq!(headers["content-length"], "5");
        assert_eq!(headers["host"], format!("{SERVER}:8443").as_str());
        assert!(!headers.contains_key("authorization"));
    }
}

#[tokio::test]
async fn an_archives_claim_gets_its_uploads_at_another_path() {
    let mut annotations = ready();
    annotations["cdi.kubevirt.io/storage.contentType"] = json!("archive");
    let world = world(&annotations, None).await;
    world.post("/v1alpha1/upload", &token()).await;
    assert_eq!(
        world.heard.lock().unwrap()[0].0,
        "POST /v1alpha1/upload-archive"
    );
}

#[tokio::test]
async fn head_and_patch_go_through_with_their_headers() {
    let world = world(&ready(), None).await;
    for (method, body) in [("HEAD", ""), ("PATCH", "rest")] {
        let request = Request::builder()
            .method(method)
            .uri("/v1beta1/upload-async")
            .header("authorization", format!("Bearer {}", token()))
            .header("upload-offset", "5")
            .body(Full::new(Bytes::from_static(body.as_bytes())))
            .unwrap();
        let (code, headers, _) = world.send(request).await;
        assert_eq!(code, 200);
        assert_eq!(headers["upload-offset"], "5");
    }
    let heard = world.heard.lock().unwrap();
    assert_eq!(heard[1].0, "PATCH /v1beta1/upload-async");
    assert_eq!(
        (&heard[1].1["upload-offset"], heard[1].2),
        (&"5".parse().unwrap(), 4)
    );
}

#[tokio::test]
async fn tokens_that_are_not_for_this_claim_now_are_refused() {
    let world = world(&ready(), None).await;
    let now = jiff::Timestamp::now().as_second();
    let other = |change: fn(&mut crate::token::Target)| {
        let mut target = target();
        change(&mut target);
        signed(&target, now)
    };
    let good = token();
    let unsigned = {
        use base64::Engine as _;
        let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
        format!("{header}.{}.", good.split('.').nth(1).unwrap())
    };
    let cases = [
        ("expired", signed(&target(), now - 320), 401, "expired"),
        ("unsigned", unsigned, 401, "PS256"),
        (
            "of a deleted claim of this name",
            other(|t| t.uid = "u0".to_owned()),
            401,
            "deleted",
        ),
        (
            "of another claim",
            other(|t| t.name = "else".to_owned()),
            503,
            "doesn't exist",
        ),
        (
            "of another namespace",
            other(|t| t.namespace = "far".to_owned()),
            503,
            "doesn't exist",
        ),
        ("malformed", "a=b".to_owned(), 400, "Bearer"),
    ];
    for (what, token, code, why) in cases {
        let (found, text) = world.post("/v1beta1/upload", &token).await;
        assert_eq!(found, code, "{what}: {text}");
        assert!(text.contains(why), "{what}: {text}");
    }
    let request = Request::post("/v1beta1/upload")
        .body(Full::default())
        .unwrap();
    assert_eq!(world.send(request).await.0, 400);
    assert!(
        world.heard.lock().unwrap().is_empty(),
        "something got through"
    );
}

#[tokio::test]
async fn a_token_is_worth_nothing_when_the_upload_is_done() {
    let world = world(&ready(), None).await;
    let token = token();
    assert_eq!(world.post("/v1beta1/upload", &token).await.0, 200);
    let mut done = ready();
    done["cdi.kubevirt.io/storage.pod.phase"] = json!("Succeeded");
    world
        .cluster
        .lock()
        .unwrap()
        .objects
        .insert(testing::claim_path("disk"), testing::claim(&done));
    let (code, text) = world.post("/v1beta1/upload", &token).await;
    assert_eq!(code, 503);
    assert_eq!(
        text,
        "rejecting Upload Request for PVC disk that already finished uploading"
    );
    assert_eq!(world.heard.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_refusal_in_the_midst_of_a_large_upload_reaches_the_client() {
    let world = world(&ready(), Some(400)).await;
    let request = Request::post("/v1beta1/upload")
        .header("authorization", format!("Bearer {}", token()))
        .body(Full::new(Bytes::from(vec![0; 16 << 20])))
        .unwrap();
    let (code, _, text) = world.send(request).await;
    assert_eq!((code, text.as_str()), (400, "taken"));
}

#[tokio::test]
async fn certificates_and_key_are_read_again() {
    let world = world(&ready(), None).await;
    // Another authority's certificate: the server does not believe us any more.
    let stranger = testing::authority();
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    testing::renew(world.client_dir.path(), &stranger, CLIENT, Usage::Client);
    std::fs::write(
        world.client_dir.path().join("ca-bundle.crt"),
        &world.authority.certificate,
    )
    .unwrap();
    let (code, text) = world.post("/v1beta1/upload", &token()).await;
    assert_eq!(code, 502, "{text}");
    assert!(text.starts_with("error in upload-proxy: "), "{text}");
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    testing::renew(
        world.client_dir.path(),
        &world.authority,
        CLIENT,
        Usage::Client,
    );
    assert_eq!(world.post("/v1beta1/upload", &token()).await.0, 200);
}

#[tokio::test]
async fn pages_may_ask_and_probes_need_no_token() {
    let world = world(&ready(), None).await;
    let request = Request::get("/healthz")
        .header("origin", "https://a.example")
        .body(Full::default())
        .unwrap();
    let (code, headers, text) = world.send(request).await;
    assert_eq!((code, text.as_str()), (200, "OK"));
    assert_eq!(headers["access-control-allow-origin"], "*");
    let request = Request::get("/other").body(Full::default()).unwrap();
    assert_eq!(world.send(request).await.0, 404);
}

/// Runs the program cdi-uploadserver for a claim that is `target`.
async fn program(dir: &TempDir, target: &Path) -> SocketAddr {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let tls = dir.path().display();
    let args = [
        format!("--listen={address}"),
        format!("--tls-dir={tls}"),
        format!("--client-ca={tls}/ca-bundle.crt"),
        format!("--target={}", target.display()),
        "--size=16777216".to_owned(),
        format!("--termination-log={tls}/end"),
    ];
    std::thread::spawn(move || crate::worker::uploadserver(args.map(Into::into).to_vec()));
    while TcpStream::connect(address).await.is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    address
}

#[tokio::test]
async fn the_upload_server_gets_an_image_in_two_parts_and_the_claim_has_it_whole() {
    let claim = tempfile::tempdir().unwrap();
    let target = claim.path().join("disk.img");
    let world = around(&ready(), async |dir: &TempDir| program(dir, &target).await).await;
    let image: Vec<u8> = (0..6_000_000_u32).map(|at| (at % 253) as u8).collect();
    let ask = |method: &str, from: usize, bytes: &[u8]| {
        Request::builder()
            .method(method)
            .uri("/v1beta1/upload-async")
            .header("authorization", format!("Bearer {}", token()))
            .header("upload-offset", from)
            .header("upload-length", image.len())
            .body(Full::new(Bytes::copy_from_slice(bytes)))
            .unwrap()
    };
    let (code, headers, _) = world.send(ask("HEAD", 0, &[])).await;
    assert_eq!(
        (code, &headers["upload-offset"]),
        (200, &"0".parse().unwrap())
    );
    let (code, _, text) = world.send(ask("PATCH", 0, &image[..2_500_000])).await;
    assert_eq!(code, 202, "{text}");
    let (_, headers, _) = world.send(ask("HEAD", 0, &[])).await;
    assert_eq!(headers["upload-offset"], "2500000");
    assert_eq!(headers["upload-length"], "6000000");
    let (code, _, text) = world.send(ask("PATCH", 7, &image[7..])).await;
    assert_eq!(code, 416, "{text}");
    let (code, _, text) = world
        .send(ask("PATCH", 2_500_000, &image[2_500_000..]))
        .await;
    assert_eq!(code, 200, "{text}");
    let disk = std::fs::read(&target).unwrap();
    assert!(disk[..image.len()] == image[..], "other bytes arrived");
    assert!(disk[image.len()..].iter().all(|byte| *byte == 0));
}
