//! virt-controller and virt-handler write the status of one VMI, each by its own
//! decision. Whatever the pod and the guest are like, the two must come to rest:
//! a field that both set differently is patched for ever.
#![allow(clippy::unwrap_used, clippy::panic)]

use api::VirtualMachineInstance;
use api::launcher::{DomainPhase, DomainState};
use api::names::VMI_FINALIZER;
use decide::handler::{self, NicFacts, PodView};
use decide::pod::{PodFacts, PodPhase, Settings};
use decide::vmi::{self, Op};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + seconds).unwrap()
}

fn instance(phase: &str, secret: bool, bridge: bool) -> VirtualMachineInstance {
    let data = if secret {
        json!({"secretRef": {"name": "s"}})
    } else {
        json!({"userData": "x"})
    };
    let binding = if bridge { "bridge" } else { "masquerade" };
    serde_json::from_value(json!({
        "metadata": {
            "name": "web", "namespace": "ns", "uid": "vmi-uid", "resourceVersion": "5",
            "finalizers": [VMI_FINALIZER]
        },
        "spec": {
            "domain": {
                "resources": {"requests": {"memory": "64Mi"}},
                "devices": {"interfaces": [{"name": "default", binding: {}}]}
            },
            "networks": [{"name": "default", "pod": {}}],
            "volumes": [
                {"name": "root", "containerDisk": {"image": "disk"}},
                {"name": "seed", "cloudInitNoCloud": data}
            ]
        },
        "status": {"phase": phase, "nodeName": "edge1"}
    }))
    .unwrap()
}

fn patched(vmi: &VirtualMachineInstance, patch: &Value) -> VirtualMachineInstance {
    let mut value = serde_json::to_value(vmi).unwrap();
    json_patch::merge(&mut value, patch);
    serde_json::from_value(value).unwrap()
}

/// The world as both see it.
#[derive(Clone, Debug)]
struct World {
    vmi: VirtualMachineInstance,
    pod: PodFacts,
    domain: Option<DomainState>,
    sync_error: Option<String>,
}

impl World {
    fn controller(&mut self) -> Option<Value> {
        let settings = Settings {
            use_emulation: true,
            ..Settings::new("launcher:1")
        };
        let plan = vmi::decide(
            &vmi::Observed {
                vmi: &self.vmi,
                pods: std::slice::from_ref(&self.pod),
                absence_confirmed: true,
                owner_exists: true,
                node_unresponsive: false,
                waits_until: None,
                failure: None,
                storage: &decide::storage::Storage::default(),
                settings: &settings,
            },
            at(60),
        );
        let mut said = None;
        for step in plan.steps {
            match step.op {
                Op::Patch(patch) => {
                    self.vmi = patched(&self.vmi, &patch);
                    said = Some(patch);
                }
                Op::PatchPodStatus { patch, .. } => {
                    let status = &patch["status"]["conditions"][0]["status"];
                    self.pod.unpaused = Some(status == "True");
                }
                Op::PatchPod { .. } => self.pod.has_deadline = true,
                other => panic!("{other:?}"),
            }
        }
        said
    }

    fn handler(&mut self) -> Option<Value> {
        let nics = [NicFacts {
            network: "default".to_owned(),
            mac: "0a:00:00:00:00:01".to_owned(),
            pod_interface: "eth0".to_owned(),
            pod_addresses: vec!["10.1.1.1".to_owned()],
            translated: false,
            queues: 1,
        }];
        let plan = handler::decide(&handler::Observed {
            vmi: &self.vmi,
            domain: self.domain.as_ref(),
            pod: &PodView {
                uid: self.pod.uid.clone(),
                node: self.pod.node.clone(),
                qos_class: self.pod.qos_class.clone(),
                ips: vec!["10.1.1.1".to_owned()],
                ready: self
                    .pod
                    .ready
                    .as_ref()
                    .is_some_and(|one| one.status == "True"),
                leaving: self.pod.deleting,
                end: self.pod.exit_code.map(|code| {
                    if code == 0 {
                        handler::PodEnd::Succeeded
                    } else {
                        handler::PodEnd::Failed
                    }
                }),
            },
            nics: &nics,
            sync_error: self.sync_error.as_deref(),
            stop_sent: None,
            now: at(60),
        });
        if let Some(patch) = &plan.patch {
            self.vmi = patched(&self.vmi, patch);
        }
        plan.patch
    }
}

fn pods() -> impl Strategy<Value = PodFacts> {
    let ready = prop_oneof![
        Just(None),
        any::<bool>().prop_map(|yes| {
            serde_json::from_value(json!({
                "type": "Ready", "status": if yes { "True" } else { "False" },
                "reason": if yes { "" } else { "ContainersNotReady" }
            }))
            .ok()
        })
    ];
    let unschedulable = serde_json::from_value(json!({
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable"
    }))
    .ok();
    (
        any::<bool>(),
        ready,
        proptest::option::of(prop_oneof![
            Just("ErrImagePull"),
            Just("CreateContainerError")
        ]),
        any::<bool>(),
        proptest::option::of(0..3_i32),
        any::<[bool; 4]>(),
    )
        .prop_map(
            move |(containers_ready, ready, image, unprepared, exit_code, bits)| PodFacts {
                name: "p".to_owned(),
                uid: "pod-uid".to_owned(),
                vmi_name: "web".to_owned(),
                vmi_uid: "vmi-uid".to_owned(),
                node: if bits[0] { "edge1" } else { "" }.to_owned(),
                phase: PodPhase::Running,
                containers_ready,
                ready,
                image_error: image.map(|reason| (reason.to_owned(), "why".to_owned())),
                unprepared_since: unprepared.then(|| at(0)),
                unschedulable: if bits[1] { None } else { unschedulable.clone() },
                exit_code,
                finished_at: exit_code.map(|_| at(55)),
                end_reason: exit_code.map_or(String::new(), |_| "Error".to_owned()),
                broken: bits[2],
                broken_at: bits[2].then(|| at(55)),
                deleting: bits[3],
                image: "launcher:1".to_owned(),
                ..PodFacts::default()
            },
        )
}

fn domains() -> impl Strategy<Value = Option<DomainState>> {
    let phase = prop_oneof![
        Just(DomainPhase::Waiting),
        Just(DomainPhase::Starting),
        Just(DomainPhase::Running),
        Just(DomainPhase::Paused),
        Just(DomainPhase::ShuttingDown),
        Just(DomainPhase::Shutdown),
        Just(DomainPhase::Crashed),
        Just(DomainPhase::StartFailed),
    ];
    proptest::option::of(
        (phase, any::<bool>()).prop_map(|(phase, agent)| DomainState {
            phase,
            agent_connected: agent,
            message: "because".to_owned(),
            machine_type: "pc-q35-10.0".to_owned(),
            disks: vec![("root".to_owned(), "vda".to_owned(), 5)],
            ..DomainState::default()
        }),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn controller_and_handler_come_to_rest_over_one_vmi(
        phase in prop_oneof![
            Just(""), Just("Pending"), Just("Scheduling"), Just("Scheduled"), Just("Running"),
        ],
        pod in pods(),
        domain in domains(),
        sync_error in proptest::option::of(Just("no network".to_owned())),
        kind in any::<[bool; 2]>(),
    ) {
        let mut world = World {
            vmi: instance(phase, kind[0], kind[1]), pod, domain, sync_error,
        };
        let start = world.clone();
        let mut said = Vec::new();
        loop {
            let round = (world.controller(), world.handler());
            if round == (None, None) {
                break;
            }
            said.push(round);
            // Scheduling, Scheduled, Running and an end: one patch of each side for each, at most.
            prop_assert!(said.len() < 5, "{start:#?}\n{said:#?}");
        }
    }
}

/// One VMI from its creation to its end, stopped by its deletion: how often each
/// side patches it. A guest that shuts down for a minute while its pod is still
/// Ready once cost hundreds of patches.
#[test]
fn a_whole_life_takes_a_handful_of_patches() {
    let condition = |type_: &str, status: &str| {
        serde_json::from_value(json!({"type": type_, "status": status})).ok()
    };
    let mut world = World {
        vmi: instance("Pending", false, true),
        pod: PodFacts {
            name: "p".to_owned(),
            uid: "pod-uid".to_owned(),
            vmi_name: "web".to_owned(),
            vmi_uid: "vmi-uid".to_owned(),
            image: "launcher:1".to_owned(),
            ..PodFacts::default()
        },
        domain: None,
        sync_error: None,
    };
    let domain = |phase| {
        Some(DomainState {
            phase,
            machine_type: "pc-q35-10.0".to_owned(),
            disks: vec![("root".to_owned(), "vda".to_owned(), 5)],
            ..DomainState::default()
        })
    };
    type Happens<'a> = (&'a str, Box<dyn Fn(&mut World) + 'a>);
    let steps: Vec<Happens<'_>> = vec![
        ("created", Box::new(|_| {})),
        (
            "bound",
            Box::new(|world| world.pod.node = "edge1".to_owned()),
        ),
        (
            "prepares",
            Box::new(|world| world.pod.unprepared_since = Some(at(59))),
        ),
        (
            "prepared",
            Box::new(|world| world.pod.unprepared_since = None),
        ),
        (
            "waits",
            Box::new(|world| world.domain = domain(DomainPhase::Waiting)),
        ),
        (
            "starts",
            Box::new(|world| world.domain = domain(DomainPhase::Starting)),
        ),
        (
            "runs",
            Box::new(|world| world.domain = domain(DomainPhase::Running)),
        ),
        (
            "ready",
            Box::new(|world| {
                world.pod.phase = PodPhase::Running;
                world.pod.containers_ready = true;
                world.pod.ready = condition("Ready", "True");
            }),
        ),
        (
            "deleted",
            Box::new(|world| {
                world.vmi.metadata.deletion_timestamp =
                    serde_json::from_value(json!("2026-01-01T00:00:00Z")).ok();
                world.pod.deleting = true;
            }),
        ),
        (
            "shuts down",
            Box::new(|world| world.domain = domain(DomainPhase::ShuttingDown)),
        ),
        (
            "off",
            Box::new(|world| world.domain = domain(DomainPhase::Shutdown)),
        ),
        (
            "exited",
            Box::new(|world| {
                world.pod.exit_code = Some(0);
                world.pod.finished_at = Some(at(60));
                world.pod.containers_ready = false;
                world.pod.ready = condition("Ready", "False");
            }),
        ),
    ];
    let (mut controller, mut handler) = (Vec::new(), Vec::new());
    for (name, happens) in &steps {
        happens(&mut world);
        for round in 0.. {
            assert!(round < 4, "no rest after {name}: {world:#?}");
            let (ours, theirs) = (world.controller(), world.handler());
            if ours.is_none() && theirs.is_none() {
                break;
            }
            controller.extend(ours.map(|_| *name));
            handler.extend(theirs.map(|_| *name));
        }
    }
    assert_eq!(controller, ["created", "ready", "deleted"]);
    assert_eq!(handler, ["runs", "off"]);
}
