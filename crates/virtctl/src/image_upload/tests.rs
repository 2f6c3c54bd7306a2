//! image-upload against an API server and an upload proxy of this process.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::sync::{Arc, Mutex};

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::args::ImageUploadArgs;
use super::door::Door;
use super::send::Upload;
use crate::cluster::Cluster;

/// How the proxy answers, one after the other; then 200.
#[derive(Clone, Copy)]
enum Script {
    /// A code and its words, after all of the body.
    Answer(u16, &'static str),
    /// The connection breaks after so many bytes.
    Break(usize),
}

/// Both servers' memory.
#[derive(Default)]
struct World {
    script: Vec<Script>,
    /// Bytes that the upload server has.
    have: Vec<u8>,
    /// What was asked of the proxy.
    uploads: Vec<String>,
    tokens: usize,
    claim: Value,
    /// Whether the server knows asynchronous uploads.
    old: bool,
}

type Shared = Arc<Mutex<World>>;

async fn serve(shared: Shared) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (connection, _) = listener.accept().await.unwrap();
            let shared = Arc::clone(&shared);
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                answer(Arc::clone(&shared), request)
            });
            let server = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(connection), service);
            tokio::spawn(server);
        }
    });
    format!("http://{address}")
}

async fn answer(
    shared: Shared,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let (parts, mut body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    if path.ends_with("/uploadtokenrequests") {
        let mut world = shared.lock().unwrap();
        world.tokens += 1;
        let token = format!("t{}", world.tokens);
        return Ok(reply(200, json!({"status": {"token": token}}).to_string()));
    }
    if path.contains("/cdiconfigs/") {
        return Ok(reply(404, String::new()));
    }
    if path.starts_with("/api/v1/") {
        let patch = body.collect().await.unwrap().to_bytes();
        let mut world = shared.lock().unwrap();
        if parts.method == http::Method::PATCH {
            let patch: Value = serde_json::from_slice(&patch).unwrap();
            world.claim["metadata"]["annotations"] = patch["metadata"]["annotations"].clone();
        }
        return Ok(reply(200, world.claim.to_string()));
    }
    if parts.method == http::Method::HEAD {
        let world = shared.lock().unwrap();
        let mut answer = reply(if world.old { 404 } else { 200 }, String::new());
        let offset = world.have.len();
        answer.headers_mut().insert("upload-offset", offset.into());
        return Ok(answer);
    }
    let script = {
        let mut world = shared.lock().unwrap();
        let from = parts
            .headers
            .get("upload-offset")
            .map(|at| at.to_str().unwrap());
        let token = parts.headers["authorization"].to_str().unwrap();
        let asked = format!("{} {path} {} {token}", parts.method, from.unwrap_or("0"));
        world.uploads.push(asked);
        if from.is_none() {
            world.have.clear();
        }
        (!world.script.is_empty()).then(|| world.script.remove(0))
    };
    while let Some(Ok(frame)) = body.frame().await {
        let mut world = shared.lock().unwrap();
        if let Ok(data) = frame.into_data() {
            world.have.extend(&data);
        }
        if let Some(Script::Break(after)) = script
            && world.have.len() >= after
        {
            world.have.truncate(after);
            return Err(std::io::Error::other("broken on purpose"));
        }
    }
    Ok(match script {
        Some(Script::Answer(code, words)) => reply(code, words.to_owned()),
        _ => reply(200, String::new()),
    })
}

fn reply(code: u16, body: String) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = StatusCode::from_u16(code).unwrap();
    answer
}

fn image() -> (std::fs::File, Vec<u8>) {
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    (file, bytes)
}

async fn upload(shared: &Shared, file: &std::fs::File, resume: bool) -> Result<(), String> {
    let url = serve(Arc::clone(shared)).await;
    let client = kube::Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap();
    let cluster = Cluster {
        client,
        namespace: "ns".to_owned(),
    };
    let args = ImageUploadArgs {
        uploadproxy_url: Some(url),
        resume,
        retry: 3,
        ..ImageUploadArgs::default()
    };
    let door = Door::find(&cluster, &args).await.unwrap();
    let upload = Upload::new(&cluster, "disk", &door, file.try_clone().unwrap(), &args);
    upload
        .unwrap()
        .send()
        .await
        .map_err(|error| format!("{error:#}"))
}

fn world(script: &[Script]) -> Shared {
    Arc::new(Mutex::new(World {
        script: script.to_vec(),
        claim: json!({"metadata": {"name": "disk"}}),
        ..World::default()
    }))
}

#[tokio::test]
async fn a_file_arrives_whole_by_the_asynchronous_way() {
    let (file, bytes) = image();
    let shared = world(&[]);
    upload(&shared, &file, false).await.unwrap();
    let world = shared.lock().unwrap();
    assert!(world.have == bytes);
    assert_eq!(world.uploads, ["POST /v1beta1/upload-async 0 Bearer t1"]);
}

#[tokio::test]
async fn a_server_without_it_gets_the_file_synchronously() {
    let (file, bytes) = image();
    let shared = world(&[]);
    shared.lock().unwrap().old = true;
    upload(&shared, &file, false).await.unwrap();
    let world = shared.lock().unwrap();
    assert!(world.have == bytes);
    assert_eq!(world.uploads, ["POST /v1beta1/upload 0 Bearer t1"]);
}

#[tokio::test]
async fn an_upload_that_breaks_goes_on_where_it_stopped() {
    let (file, bytes) = image();
    let shared = world(&[Script::Break(1_000_000)]);
    upload(&shared, &file, false).await.unwrap();
    let world = shared.lock().unwrap();
    assert!(world.have == bytes);
    assert_eq!(
        world.uploads[1],
        "PATCH /v1beta1/upload-async 1000000 Bearer t1"
    );
}

#[tokio::test]
async fn resume_goes_on_with_the_same_file_only() {
    let (file, bytes) = image();
    let broken = [Script::Break(500_000); 3];
    let shared = world(&broken);
    let why = upload(&shared, &file, false).await.unwrap_err();
    assert!(
        why.contains("after 3 retries") && why.contains("--resume"),
        "{why}"
    );
    shared.lock().unwrap().uploads.clear();
    upload(&shared, &file, true).await.unwrap();
    {
        let world = shared.lock().unwrap();
        assert!(world.have == bytes);
        assert!(world.uploads[0].starts_with("PATCH"), "{:?}", world.uploads);
    }
    let (mut other, _) = image();
    other.write_all(b"more").unwrap();
    shared.lock().unwrap().uploads.clear();
    upload(&shared, &other, true).await.unwrap();
    assert!(shared.lock().unwrap().uploads[0].starts_with("POST"));
}

#[tokio::test]
async fn a_token_is_renewed_when_it_expires_on_the_way_and_not_when_it_never_was_good() {
    let (file, _) = image();
    let shared = world(&[Script::Answer(500, "busy"), Script::Answer(401, "expired")]);
    upload(&shared, &file, false).await.unwrap();
    assert_eq!(shared.lock().unwrap().tokens, 2);
    let shared = world(&[Script::Answer(401, "not yours")]);
    let why = upload(&shared, &file, false).await.unwrap_err();
    assert_eq!(
        why,
        "authentication failed: unexpected return value 401, not yours"
    );
    assert_eq!(shared.lock().unwrap().uploads.len(), 1);
}

#[tokio::test]
async fn an_image_that_does_not_fit_is_sent_once_and_the_reason_told() {
    let (file, _) = image();
    let words =
        "Saving stream failed: effective image size is larger than the reported available storage";
    let shared = world(&[Script::Answer(400, words)]);
    let why = upload(&shared, &file, false).await.unwrap_err();
    assert_eq!(
        why,
        format!("error uploading image: unexpected return value 400, {words}")
    );
    assert_eq!(shared.lock().unwrap().uploads.len(), 1);
}

#[tokio::test]
async fn a_lost_answer_of_a_finished_upload_is_no_failure() {
    let (file, _) = image();
    let done = "rejecting Upload Request for PVC disk that already finished uploading";
    let shared = world(&[Script::Answer(502, "gone"), Script::Answer(503, done)]);
    upload(&shared, &file, false).await.unwrap();
    let shared = world(&[Script::Answer(503, done)]);
    assert!(
        upload(&shared, &file, false)
            .await
            .unwrap_err()
            .contains(done)
    );
}
