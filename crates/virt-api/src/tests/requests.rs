//! Requests that end with an answer.

use serde_json::{Value, json};

use super::world::{GROUP, World, handler, request, vm, vmi};

const VM: &str = "/apis/subresources.kubevirt.io/v1/namespaces/ns/virtualmachines/x";
const VMI: &str = "/apis/subresources.kubevirt.io/v1alpha3/namespaces/ns/virtualmachineinstances/x";
const STORED: &str = "/apis/kubevirt.io/v1/namespaces/ns";

fn message(answer: &(u16, String)) -> (u16, String) {
    let status: Value = serde_json::from_str(&answer.1).unwrap();
    assert_eq!(
        (&status["kind"], &status["status"]),
        (&json!("Status"), &json!("Failure"))
    );
    assert_eq!(status["code"], answer.0);
    (answer.0, status["message"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn start_switches_the_machine_on_after_asking_who_may() {
    let world = World::new(1).with("virtualmachines", vm("Halted"));
    assert_eq!(
        world.ask("PUT", &format!("{VM}/start"), "").await,
        (202, String::new())
    );
    let writes = world.writes();
    assert_eq!(writes.len(), 1);
    assert_eq!(writes[0].0, format!("PATCH {STORED}/virtualmachines/x"));
    assert_eq!(
        writes[0].1[1],
        json!({"op": "add", "path": "/spec/runStrategy", "value": "Always"})
    );
    let reviews = &world.cluster.lock().unwrap().reviews;
    assert_eq!(reviews[0]["user"], "alice");
    assert_eq!(reviews[0]["groups"], json!(["dev"]));
    assert_eq!(reviews[0]["resourceAttributes"]["verb"], "update");
    assert_eq!(reviews[0]["resourceAttributes"]["subresource"], "start");
}

#[tokio::test]
async fn bodies_may_be_json_yaml_or_absent_and_dry_run_is_honoured() {
    for body in [
        r#"{"paused": true, "dryRun": ["All"]}"#,
        "paused: true\ndryRun: [All]\n",
    ] {
        let world = World::new(1).with("virtualmachines", vm("Halted"));
        assert_eq!(world.ask("PUT", &format!("{VM}/start"), body).await.0, 202);
        let writes = world.writes();
        assert_eq!(
            writes[0].0,
            format!("PATCH {STORED}/virtualmachines/x/status?dryRun=All")
        );
        assert_eq!(writes[0].1[1]["value"][0]["data"]["paused"], "true");
    }
    let world = World::new(1).with("virtualmachines", vm("Halted"));
    let (code, why) = message(&world.ask("PUT", &format!("{VM}/start"), "[[").await);
    assert_eq!(code, 400);
    assert!(
        why.starts_with("Can not unmarshal Request body to struct, error: "),
        "{why}"
    );
    assert!(world.writes().is_empty());
}

#[tokio::test]
async fn nobody_unknown_or_denied_gets_further_than_401() {
    let world = World::new(1).with("virtualmachines", vm("Halted"));
    let path = format!("{VM}/start");
    assert_eq!(
        world.send(request("PUT", &path, "")).await,
        (401, "request is not authenticated".to_owned())
    );
    world.cluster.lock().unwrap().denied = Some("no".to_owned());
    assert_eq!(world.ask("PUT", &path, "").await, (401, "no".to_owned()));
    let (code, why) = world.ask("GET", "/nonsense", "").await;
    assert_eq!(
        (code, why.as_str()),
        (401, "unknown api endpoint: /nonsense")
    );
    assert!(world.writes().is_empty());
}

#[tokio::test]
async fn a_machine_that_changed_meanwhile_is_decided_anew() {
    let world = World::new(1).with("virtualmachines", vm("Halted"));
    let raced = "the server rejected our request due to an error in our request";
    world.cluster.lock().unwrap().failures = vec![
        Some((422, raced.to_owned())),
        Some((409, "conflict".to_owned())),
    ];
    assert_eq!(world.ask("PUT", &format!("{VM}/start"), "").await.0, 202);
    assert_eq!(world.writes().len(), 3);
}

#[tokio::test]
async fn what_the_api_server_refuses_is_an_internal_error() {
    let world = World::new(1).with("virtualmachines", vm("Halted"));
    world.cluster.lock().unwrap().failures = vec![Some((
        422,
        "admission webhook denied the request".to_owned(),
    ))];
    let answer = message(&world.ask("PUT", &format!("{VM}/start"), "").await);
    assert_eq!(
        answer,
        (
            500,
            "Internal error occurred: admission webhook denied the request".to_owned()
        )
    );
}

#[tokio::test]
async fn a_forced_restart_that_fails_gives_the_grace_period_back() {
    let world = World::new(1)
        .with("virtualmachines", vm("Always"))
        .with("virtualmachineinstances", vmi("Running"));
    let forced = r#"{"gracePeriodSeconds": 0}"#;
    assert_eq!(
        world.ask("PUT", &format!("{VM}/restart"), forced).await.0,
        202
    );
    assert_eq!(world.writes().len(), 2);
    world.cluster.lock().unwrap().asked.clear();
    world.cluster.lock().unwrap().failures = vec![None, Some((500, "down".to_owned()))];
    assert_eq!(
        world.ask("PUT", &format!("{VM}/restart"), forced).await.0,
        500
    );
    let writes = world.writes();
    assert_eq!(writes.len(), 3);
    assert_eq!(
        writes[2].0,
        format!("PATCH {STORED}/virtualmachineinstances/x")
    );
    assert_eq!(writes[2].1[1]["value"], 30);
}

#[tokio::test]
async fn missing_objects_are_404_with_singular_names() {
    let world = World::new(1);
    let answer = message(&world.ask("PUT", &format!("{VM}/start"), "").await);
    assert_eq!(
        answer,
        (404, "virtualmachine.kubevirt.io \"x\" not found".to_owned())
    );
    let answer = message(&world.ask("GET", &format!("{VMI}/console"), "").await);
    assert_eq!(
        answer,
        (
            404,
            "virtualmachineinstance.kubevirt.io \"x\" not found".to_owned()
        )
    );
}

#[tokio::test]
async fn pause_and_unpause_are_passed_to_the_node() {
    let (world, heard) = handler(None).await;
    let world = world.with("virtualmachineinstances", vmi("Running"));
    assert_eq!(
        world.ask("PUT", &format!("{VMI}/pause"), "{}").await,
        (200, String::new())
    );
    assert_eq!(
        *heard.lock().unwrap(),
        ["PUT /v1/namespaces/ns/virtualmachineinstances/x/pause"]
    );
    let dry = r#"{"dryRun": ["All"]}"#;
    assert_eq!(world.ask("PUT", &format!("{VMI}/pause"), dry).await.0, 200);
    assert_eq!(heard.lock().unwrap().len(), 1);
    for verb in ["softreboot", "reset"] {
        assert_eq!(world.ask("PUT", &format!("{VMI}/{verb}"), "").await.0, 200);
    }
    let answer = message(&world.ask("PUT", &format!("{VMI}/unpause"), "").await);
    assert_eq!(answer.0, 409);
    let mut paused = vmi("Running");
    paused["status"]["conditions"] = json!([{"type": "Paused", "status": "True"}]);
    let world = world.with("virtualmachineinstances", paused);
    assert_eq!(world.ask("PUT", &format!("{VMI}/unpause"), "").await.0, 200);
    // The pod's address was asked for once.
    let asked = &world.cluster.lock().unwrap().asked;
    assert_eq!(
        asked
            .iter()
            .filter(|(what, _)| what.contains("/pods"))
            .count(),
        1
    );
}

#[tokio::test]
async fn what_the_node_refuses_is_an_internal_error_with_its_words() {
    let (world, _) = handler(Some((500, r#"{"kind":"Status","message":"QMP is gone"}"#))).await;
    let world = world.with("virtualmachineinstances", vmi("Running"));
    let answer = message(&world.ask("PUT", &format!("{VMI}/pause"), "").await);
    assert_eq!(
        answer,
        (
            500,
            "Internal error occurred: unexpected return code 500, message: QMP is gone".to_owned()
        )
    );
}

#[tokio::test]
async fn streams_fail_before_the_upgrade_with_a_status() {
    let world = World::new(1).with("virtualmachineinstances", vmi("Scheduling"));
    for stream in ["console", "vnc"] {
        let answer = message(&world.ask("GET", &format!("{VMI}/{stream}"), "").await);
        assert_eq!(answer, (400, "VMI is not running".to_owned()));
    }
    let world = World::new(1).with("virtualmachineinstances", vmi("Running"));
    let (code, why) = message(&world.ask("GET", &format!("{VMI}/console"), "").await);
    assert_eq!(code, 400);
    assert!(why.contains("websocket protocol"), "{why}");
    let (code, why) = message(&world.ask("GET", &format!("{VMI}/portforward/1"), "").await);
    assert_eq!(code, 500);
    assert!(
        why.starts_with("Internal error occurred: dialing VM: dial tcp 127.0.0.1:1: "),
        "{why}"
    );
}

#[tokio::test]
async fn refused_subresources_say_why() {
    let world = World::new(1)
        .with("virtualmachines", vm("Always"))
        .with("virtualmachineinstances", vmi("Running"));
    for (method, path, code, words) in [
        ("PUT", format!("{VM}/migrate"), 501, "live migration"),
        (
            "PUT",
            format!("{VM}/addvolume"),
            400,
            "HotplugVolumes feature gate",
        ),
        ("PUT", format!("{VMI}/freeze"), 501, "freezing"),
        (
            "GET",
            format!("{VMI}/usbredir"),
            409,
            "Not configured with USB Redirection",
        ),
        (
            "GET",
            format!("{VMI}/sev/fetchcertchain"),
            400,
            "WorkloadEncryptionSEV",
        ),
        (
            "PUT",
            format!("{GROUP}/namespaces/ns/expand-vm-spec"),
            501,
            "instancetypes",
        ),
    ] {
        let (found, why) = message(&world.ask(method, &path, "").await);
        assert_eq!(found, code, "{path}");
        assert!(why.contains(words), "{why}");
    }
    let (code, why) = world.ask("GET", &format!("{VMI}/guestosinfo"), "").await;
    assert_eq!(code, 500);
    assert!(
        why.ends_with("VMI does not have guest agent connected"),
        "{why}"
    );
    assert_eq!(
        world.ask("GET", &format!("{VM}/expand-spec"), "").await.0,
        200
    );
    assert_eq!(world.ask("GET", &format!("{VM}/start"), "").await.0, 405);
    assert_eq!(crate::refused().len(), 26);
}

#[tokio::test]
async fn documents_need_no_user() {
    let world = World::new(1);
    let get = async |path: &str| -> Value {
        let (code, body) = world.send(request("GET", path, "")).await;
        assert_eq!(code, 200, "{path}");
        serde_json::from_str(&body).unwrap()
    };
    assert_eq!(
        get("/apis").await["groups"][0]["name"],
        "subresource.kubevirt.io"
    );
    let list = get(GROUP).await;
    assert_eq!(list["groupVersion"], "subresources.kubevirt.io/v1");
    let names: Vec<&str> = list["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["name"].as_str().unwrap())
        .collect();
    assert!(
        names.contains(&"virtualmachines/start")
            && names.contains(&"virtualmachineinstances/console")
    );
    assert_eq!(
        get(&format!("{GROUP}/version")).await["gitVersion"],
        "v0.1.0"
    );
    assert_eq!(get("/openapi/v2").await["swagger"], "2.0");
    let index = get("/openapi/v3").await;
    let url = index["paths"]["apis/subresources.kubevirt.io/v1"]["serverRelativeURL"]
        .as_str()
        .unwrap()
        .to_owned();
    let document = get(url.split('?').next().unwrap()).await;
    assert!(document["paths"].as_object().unwrap().len() > 30);
    assert_eq!(world.send(request("GET", "/healthz", "")).await.0, 200);
    assert_eq!(world.send(request("GET", "/readyz", "")).await.0, 503);
    let metrics = world.send(request("GET", "/metrics", "")).await.1;
    assert!(metrics.contains("kubevirt_console_active_connections"));
}

#[tokio::test]
async fn operation_ids_are_unique_in_the_openapi_document() {
    let world = World::new(1);
    let (_, body) = world.send(request("GET", "/openapi/v2", "")).await;
    let document: Value = serde_json::from_str(&body).unwrap();
    let mut ids: Vec<&str> = document["paths"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|path| path.as_object().unwrap().values())
        .map(|operation| operation["operationId"].as_str().unwrap())
        .collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);
}

#[tokio::test]
async fn webhooks_answer_the_review_they_were_sent() {
    let world = World::new(1);
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "r1", "operation": "CREATE", "namespace": "ns", "name": "x",
            "resource": {"group": "kubevirt.io", "version": "v1", "resource": "virtualmachines"},
            "userInfo": {"username": "alice"},
            "object": {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": "x"}, "spec": {}},
        },
    });
    for path in [
        "/virtualmachines-mutate?timeout=10s",
        "/virtualmachines-validate?timeout=10s",
    ] {
        let (code, body) = world.send(request("POST", path, &review.to_string())).await;
        assert_eq!(code, 200, "{body}");
        let answer: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(answer["response"]["uid"], "r1");
        assert_eq!(answer["kind"], "AdmissionReview");
        // A VM without template cannot be valid, but mutation never refuses it.
        assert_eq!(
            answer["response"]["allowed"],
            path.contains("mutate"),
            "{body}"
        );
    }
    assert_eq!(
        world
            .send(request("POST", "/virtualmachines-validate", "{}"))
            .await
            .0,
        400
    );
    assert_eq!(
        world
            .send(request("GET", "/virtualmachines-validate", ""))
            .await
            .0,
        405
    );
}
