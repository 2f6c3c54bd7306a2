//! The decision table, and small worlds in which a plan is applied and decided again.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
use api::launcher::AgentInfo;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::from_value;

use super::*;

fn vmi(phase: &str) -> VirtualMachineInstance {
    from_value(json!({
        "metadata": {"name": "a", "namespace": "n", "uid": "u", "resourceVersion": "7"},
        "spec": {
            "domain": {
                "cpu": {"cores": 2},
                "resources": {"requests": {"memory": "64Mi"}},
                "devices": {"interfaces": [{"name": "default", "bridge": {}}]}
            },
            "volumes": [{"name": "root", "containerDisk": {"image": "i"}}]
        },
        "status": {"phase": phase}
    }))
    .unwrap()
}

fn domain(phase: DomainPhase) -> DomainState {
    DomainState {
        phase,
        message: "because".to_owned(),
        machine_type: "pc-q35-10.0".to_owned(),
        disks: vec![("root".to_owned(), "vda".to_owned(), 5)],
        ..DomainState::default()
    }
}

fn nics() -> Vec<NicFacts> {
    vec![NicFacts {
        network: "default".to_owned(),
        mac: "0a:00:00:00:00:01".to_owned(),
        pod_interface: "eth0".to_owned(),
        pod_addresses: vec!["10.1.1.1".to_owned()],
        translated: false,
        queues: 1,
    }]
}

struct World {
    vmi: VirtualMachineInstance,
    domain: Option<DomainState>,
    pod: PodView,
    error: Option<String>,
    stop_sent: Option<i64>,
}

impl World {
    fn new(phase: &str, at: Option<DomainPhase>) -> Self {
        Self {
            vmi: vmi(phase),
            domain: at.map(domain),
            pod: PodView {
                ips: vec!["10.1.1.1".to_owned()],
                ready: true,
                uid: "p".to_owned(),
                node: "edge1".to_owned(),
                ..PodView::default()
            },
            error: None,
            stop_sent: None,
        }
    }

    fn decide(&self) -> Plan {
        decide(&Observed {
            vmi: &self.vmi,
            domain: self.domain.as_ref(),
            pod: &self.pod,
            nics: &nics(),
            sync_error: self.error.as_deref(),
            stop_sent: self.stop_sent,
            now: Timestamp::from_second(1000).unwrap(),
        })
    }

    /// Applies the plan's patch as the API server would.
    fn settle(&mut self) -> Plan {
        let plan = self.decide();
        if let Some(patch) = &plan.patch {
            let mut object = serde_json::to_value(&self.vmi).unwrap();
            json_patch::merge(&mut object, patch);
            self.vmi = from_value(object).unwrap();
        }
        plan
    }
}

fn reasons(plan: &Plan) -> Vec<&str> {
    plan.events.iter().map(|event| event.reason).collect()
}

#[test]
fn the_phase_follows_the_guest() {
    use DomainPhase::*;
    for (before, at, end, after) in [
        ("Scheduling", None, None, None),
        ("Scheduling", Some(Starting), None, None),
        ("Scheduling", Some(StartFailed), None, None),
        ("Scheduling", Some(Running), None, Some("Running")),
        ("Scheduling", Some(Running), Some(PodEnd::Failed), None),
        ("Pending", Some(Running), None, Some("Running")),
        ("Scheduled", None, None, None),
        ("Scheduled", Some(Starting), None, None),
        ("Scheduled", Some(Running), None, Some("Running")),
        ("Scheduled", Some(Paused), None, Some("Running")),
        ("Scheduled", Some(StartFailed), None, Some("Failed")),
        ("Scheduled", Some(Shutdown), None, Some("Succeeded")),
        ("Unknown", Some(Running), None, Some("Running")),
        ("Running", Some(ShuttingDown), None, None),
        ("Running", Some(Shutdown), None, Some("Succeeded")),
        ("Running", Some(Killed), None, Some("Failed")),
        ("Running", Some(Crashed), None, Some("Failed")),
        ("Running", None, Some(PodEnd::Failed), Some("Failed")),
        ("Running", None, Some(PodEnd::Succeeded), Some("Succeeded")),
        (
            "Running",
            Some(Shutdown),
            Some(PodEnd::Failed),
            Some("Succeeded"),
        ),
        ("Succeeded", Some(Running), None, None),
        ("Failed", Some(Crashed), None, None),
    ] {
        let mut world = World::new(before, at);
        world.pod.end = end;
        let plan = world.decide();
        let phase = plan
            .patch
            .as_ref()
            .and_then(|patch| patch["status"]["phase"].as_str());
        assert_eq!(phase, after, "{before} {at:?} {end:?}");
    }
}

#[test]
fn a_killed_guest_without_acpi_or_grace_has_succeeded() {
    for spec in [
        json!({"domain": {"features": {"acpi": {"enabled": false}}}}),
        json!({"terminationGracePeriodSeconds": 0}),
    ] {
        let mut world = World::new("Running", Some(DomainPhase::Killed));
        world.vmi.spec = from_value(spec).unwrap();
        assert_eq!(
            world.decide().patch.unwrap()["status"]["phase"],
            "Succeeded"
        );
    }
}

#[test]
fn a_started_guest_is_told_whole_in_one_patch_and_then_rests() {
    let mut world = World::new("Scheduled", Some(DomainPhase::Running));
    let plan = world.settle();
    assert_eq!(reasons(&plan), ["Created", "Started"]);
    let patch = plan.patch.unwrap();
    assert_eq!(patch["metadata"]["resourceVersion"], "7");
    let status = world.vmi.status.clone().unwrap();
    assert_eq!(status.interfaces[0].ip_address, "10.1.1.1");
    assert_eq!(status.volume_status[0].target, "vda");
    assert_eq!(status.machine.unwrap().type_, "pc-q35-10.0");
    assert_eq!(status.phase_transition_timestamps.len(), 1);
    assert!(condition_of(&world, "Ready"));
    assert_eq!(world.decide(), Plan::default());
}

#[test]
fn a_guest_that_runs_before_the_kubelet_has_looked_is_told_at_once() {
    let mut world = World::new("Scheduling", Some(DomainPhase::Running));
    world.pod.ips.clear();
    world.pod.ready = false;
    world.pod.qos_class = Some("Burstable".to_owned());
    world.vmi.status = from_value(json!({"phase": "Scheduling", "conditions": [
        {"type": "Ready", "status": "False", "reason": "GuestNotRunning"},
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]}))
    .unwrap();
    assert_eq!(reasons(&world.settle()), ["Created", "Started"]);
    let labels = world.vmi.metadata.labels.clone().unwrap();
    assert_eq!(labels[api::names::NODE_NAME_LABEL], "edge1");
    let status = world.vmi.status.clone().unwrap();
    assert_eq!(status.node_name, "edge1");
    assert_eq!(status.active_pods["p"], "edge1");
    assert_eq!(status.qos_class.as_deref(), Some("Burstable"));
    assert_eq!(status.interfaces[0].ip_address, "10.1.1.1");
    let passed: Vec<_> = status
        .phase_transition_timestamps
        .iter()
        .map(|transition| transition.phase.as_str())
        .collect();
    assert_eq!(passed, ["Scheduling", "Scheduled", "Running"]);
    assert!(api::condition::find(&status.conditions, "PodScheduled").is_none());
    assert!(!condition_of(&world, "Ready"));
    // The rest is virt-controller's, which sees the pod become ready as well.
    world.pod.ips = vec!["10.1.1.1".to_owned()];
    world.pod.ready = true;
    assert_eq!(world.decide(), Plan::default());
}

#[test]
fn a_guest_that_is_deleted_before_it_was_known_to_run_is_not_taken_over() {
    for leave in [
        |world: &mut World| world.pod.leaving = true,
        |world: &mut World| {
            world.vmi.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH))
        },
    ] {
        let mut world = World::new("Scheduling", Some(DomainPhase::Running));
        leave(&mut world);
        assert_eq!(world.decide().patch, None);
    }
}

fn condition_of(world: &World, type_: &str) -> bool {
    api::condition::is_true(&world.vmi.status.as_ref().unwrap().conditions, type_)
}

#[test]
fn pause_and_agent_come_and_go_as_conditions() {
    let mut world = World::new("Scheduled", Some(DomainPhase::Running));
    world.settle();
    world.domain.as_mut().unwrap().phase = DomainPhase::Paused;
    assert_eq!(reasons(&world.settle()), ["Paused"]);
    assert!(condition_of(&world, "Paused"));
    world.domain.as_mut().unwrap().phase = DomainPhase::Running;
    assert_eq!(reasons(&world.settle()), ["Unpaused"]);
    assert!(!condition_of(&world, "Paused"));

    let state = world.domain.as_mut().unwrap();
    state.agent_connected = true;
    state.agent = Some(AgentInfo {
        os: [("name".to_owned(), "Debian".to_owned())].into(),
        interfaces: vec![(
            "eth0".to_owned(),
            "0A:00:00:00:00:01".to_owned(),
            vec!["fe80::1".to_owned(), "10.1.1.1".to_owned()],
        )],
        ..AgentInfo::default()
    });
    assert!(reasons(&world.settle()).is_empty());
    assert!(condition_of(&world, "AgentConnected"));
    let status = world.vmi.status.clone().unwrap();
    assert_eq!(status.guest_os_info["name"], "Debian");
    assert_eq!(status.interfaces[0].ip_addresses, ["10.1.1.1", "fe80::1"]);
    assert_eq!(status.interfaces[0].info_source, "domain, guest-agent");
    world.domain.as_mut().unwrap().agent_connected = false;
    world.settle();
    assert!(!condition_of(&world, "AgentConnected"));
    assert_eq!(world.decide(), Plan::default());
}

#[test]
fn a_deleted_vmi_stops_its_guest_once_and_sooner_when_asked() {
    let mut world = World::new("Running", Some(DomainPhase::Running));
    world.settle();
    world.vmi.metadata.deletion_timestamp = Some(
        k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH),
    );
    let plan = world.decide();
    assert_eq!(
        (plan.stop, reasons(&plan)),
        (Some(30), vec!["ShuttingDown"])
    );
    world.stop_sent = Some(30);
    assert_eq!(world.decide().stop, None);
    world.vmi.spec.termination_grace_period_seconds = Some(0);
    let plan = world.decide();
    assert_eq!((plan.stop, reasons(&plan)), (Some(0), vec!["Deleted"]));
    world.domain.as_mut().unwrap().phase = DomainPhase::Killed;
    assert_eq!(world.decide().stop, None);
}

#[test]
fn what_cannot_be_prepared_is_told_once() {
    let mut world = World::new("Scheduling", None);
    world.error = Some("no eth0".to_owned());
    assert_eq!(reasons(&world.settle()), ["SyncFailed"]);
    assert_eq!(world.decide(), Plan::default());
    world.error = None;
    assert!(world.settle().patch.is_some());
    assert!(world.vmi.status.as_ref().unwrap().conditions.is_empty());

    let mut world = World::new("Scheduled", Some(DomainPhase::StartFailed));
    assert_eq!(reasons(&world.settle()), ["SyncFailed", "Stopped"]);
    assert_eq!(
        world.vmi.status.as_ref().unwrap().conditions[0].message,
        "because"
    );
}
