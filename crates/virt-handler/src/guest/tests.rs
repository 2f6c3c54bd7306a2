//! A guest's two tasks between a launcher and an API server that are both played here.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::ffi::OsString;
use std::path::Path;

use api::launcher::{DomainPhase, Message};
use decide::handler::PodView;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::*;

/// An API server with one VMI: applies merge patches and tells of each write.
fn api_server(vmi: Value) -> (kube::Client, mpsc::UnboundedReceiver<(String, Value)>) {
    let (writes, seen) = mpsc::unbounded_channel();
    let vmi = Arc::new(Mutex::new(vmi));
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let (vmi, writes) = (Arc::clone(&vmi), writes.clone());
        async move {
            let (method, path) = (request.method().clone(), request.uri().path().to_owned());
            let body = request.into_body().collect_bytes().await.unwrap();
            let sent: Value = serde_json::from_slice(&body).unwrap_or_default();
            let mut vmi = vmi.lock().unwrap();
            if method != http::Method::GET {
                if method == http::Method::PATCH {
                    merge(&mut vmi, &sent);
                }
                writes.send((path.clone(), sent.clone())).unwrap();
            }
            let answer = if path.ends_with("/events") {
                sent
            } else {
                vmi.clone()
            };
            Ok::<_, tower::BoxError>(http::Response::new(Body::from(
                answer.to_string().into_bytes(),
            )))
        }
    });
    (kube::Client::new(service, "default"), seen)
}

fn merge(object: &mut Value, patch: &Value) {
    let (Some(into), Some(from)) = (object.as_object_mut(), patch.as_object()) else {
        *object = patch.clone();
        return;
    };
    for (key, value) in from {
        merge(into.entry(key.clone()).or_insert(Value::Null), value);
    }
}

struct Launcher {
    lines: tokio::io::Lines<BufReader<tokio::net::unix::OwnedReadHalf>>,
    writer: tokio::net::unix::OwnedWriteHalf,
}

impl Launcher {
    async fn accept(listener: &UnixListener) -> Self {
        let (stream, _): (UnixStream, _) = listener.accept().await.unwrap();
        let (reader, writer) = stream.into_split();
        Self {
            lines: BufReader::new(reader).lines(),
            writer,
        }
    }

    async fn asked(&mut self) -> Value {
        serde_json::from_str(&self.lines.next_line().await.unwrap().unwrap()).unwrap()
    }

    async fn says(&mut self, phase: DomainPhase) {
        let state = DomainState {
            phase,
            ..DomainState::default()
        };
        let mut line = serde_json::to_vec(&Message::State(Box::new(state))).unwrap();
        line.push(b'\n');
        self.writer.write_all(&line).await.unwrap();
    }

    async fn answers(&mut self, request: &Value, error: Option<&str>) {
        let line = json!({"kind": "reply", "id": request["id"], "error": error}).to_string() + "\n";
        self.writer.write_all(line.as_bytes()).await.unwrap();
    }
}

fn pod() -> PodInfo {
    PodInfo {
        namespace: "n".to_owned(),
        name: "virt-launcher-a".to_owned(),
        uid: "p".to_owned(),
        vmi_uid: "v".to_owned(),
        vmi_name: "a".to_owned(),
        view: PodView {
            ips: vec!["10.1.1.1".to_owned()],
            ready: true,
            end: None,
            ..PodView::default()
        },
        ..PodInfo::default()
    }
}

fn settings(root: &Path) -> Settings {
    let args = ["--node-name", "node", "--kubelet-dir"].map(OsString::from);
    let dir = |name: &str| root.join(name).into_os_string();
    let args = args
        .into_iter()
        .chain([dir("kubelet"), "--state-dir".into(), dir("state")]);
    Settings::parse(args.collect()).unwrap()
}

async fn phase(writes: &mut mpsc::UnboundedReceiver<(String, Value)>) -> String {
    loop {
        let (path, body) = writes.recv().await.unwrap();
        if path.ends_with("/virtualmachineinstances/a") {
            assert_eq!(body["metadata"]["resourceVersion"], "7");
            return body["status"]["phase"].as_str().unwrap().to_owned();
        }
    }
}

#[tokio::test]
async fn a_handler_that_comes_later_follows_a_running_guest_to_its_end_without_touching_it() {
    let root = tempfile::tempdir().unwrap();
    let settings = settings(root.path());
    let private = settings.pods().join(private_dir("p"));
    std::fs::create_dir_all(&private).unwrap();
    let (client, mut writes) = api_server(json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
        "metadata": {"name": "a", "namespace": "n", "uid": "v", "resourceVersion": "7"},
        "spec": {"domain": {"devices": {}}}, "status": {"phase": "Scheduled"}
    }));
    let guests = Guests::new(&settings, client, Watcher::new().unwrap());
    guests.pod(pod());
    assert!(matches!(
        guests.command("n", "other", Op::Pause).await,
        Err(CommandError::NotHere { .. })
    ));

    // The socket comes after the pod; the wait for it needs no polling.
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    let short = root.path().join("s");
    let listener = UnixListener::bind(&short).unwrap();
    std::fs::rename(&short, private.join(api::names::LAUNCHER_SOCKET)).unwrap();
    let mut launcher = Launcher::accept(&listener).await;
    assert_eq!(launcher.asked().await["op"], "watch");
    launcher.says(DomainPhase::Running).await;
    assert_eq!(phase(&mut writes).await, "Running");

    // A request goes through, and its refusal comes back.
    let asked = async {
        let request = launcher.asked().await;
        assert_eq!(request["op"], "pause");
        launcher.answers(&request, Some("no")).await;
        launcher
    };
    let (outcome, mut launcher) = futures::join!(guests.command("n", "a", Op::Pause), asked);
    assert_eq!(outcome.unwrap_err().to_string(), "no");

    // The launcher is lost and comes again: nothing is started anew.
    drop(launcher);
    launcher = Launcher::accept(&listener).await;
    assert_eq!(launcher.asked().await["op"], "watch");
    launcher.says(DomainPhase::Running).await;

    // Its last state is read from the file when the message was missed.
    let last = DomainState {
        phase: DomainPhase::Shutdown,
        ..DomainState::default()
    };
    std::fs::write(
        private.join(api::names::STATE_FILE),
        serde_json::to_vec(&last).unwrap(),
    )
    .unwrap();
    drop(launcher);
    assert_eq!(phase(&mut writes).await, "Succeeded");
    assert!(guests.command("n", "a", Op::Pause).await.is_err());

    guests.keep(&HashSet::new());
    assert_eq!(guests.count(), 0);
}

#[tokio::test]
async fn a_launcher_that_waits_for_its_disks_is_told_once_that_all_containers_were_started() {
    let root = tempfile::tempdir().unwrap();
    let settings = settings(root.path());
    let private = settings.pods().join(private_dir("p"));
    std::fs::create_dir_all(&private).unwrap();
    let (client, _writes) = api_server(json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
        "metadata": {"name": "a", "namespace": "n", "uid": "v", "resourceVersion": "7"},
        "spec": {"domain": {"devices": {}}}, "status": {"phase": "Scheduling"}
    }));
    let guests = Guests::new(&settings, client, Watcher::new().unwrap());
    let pod = pod();
    guests.pod(pod.clone());
    // Short: a socket's path has at most 108 bytes.
    let short = root.path().join("s");
    let listener = UnixListener::bind(&short).unwrap();
    std::fs::rename(&short, private.join(api::names::LAUNCHER_SOCKET)).unwrap();
    let mut launcher = Launcher::accept(&listener).await;
    assert_eq!(launcher.asked().await["op"], "watch");
    launcher.says(DomainPhase::Starting).await;
    let quiet = tokio::time::timeout(std::time::Duration::from_millis(50), launcher.asked());
    assert!(
        quiet.await.is_err(),
        "told before the containers were started"
    );

    let started = PodInfo {
        started: true,
        ..pod
    };
    guests.pod(started.clone());
    let request = launcher.asked().await;
    assert_eq!(request["op"], "containersStarted");
    launcher.answers(&request, None).await;

    guests.pod(PodInfo {
        name: "changed".to_owned(),
        ..started
    });
    let quiet = tokio::time::timeout(std::time::Duration::from_millis(50), launcher.asked());
    assert!(quiet.await.is_err(), "told twice");
}
