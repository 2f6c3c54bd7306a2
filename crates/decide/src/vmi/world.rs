//! A small world of one VMI, its pod and a handler: whatever happens, the
//! decisions come to rest and phases move only along the diagram's arrows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;
use serde_json::json;

use super::tests::{at, deleted, pod, settings, vmi};
use super::*;
use crate::pod::PodPhase;

struct World {
    vmi: Option<VirtualMachineInstance>,
    pods: Vec<PodFacts>,
    made: u32,
    now: i64,
}

fn legal(from: Phase, to: Phase) -> bool {
    use Phase::{Failed, Pending, Running, Scheduled, Scheduling, Succeeded, Unset};
    from == to
        || matches!(
            (from, to),
            (Unset, Pending)
                | (Unset | Pending, Scheduling | Failed)
                | (Scheduling, Scheduled | Failed | Succeeded)
                | (Scheduled | Running, Failed | Succeeded)
        )
}

impl World {
    fn settle(&mut self) {
        let settings = settings();
        for _ in 0..10 {
            let Some(vmi) = self.vmi.clone() else { return };
            let observed = Observed {
                vmi: &vmi,
                pods: &self.pods,
                absence_confirmed: self.pods.is_empty(),
                owner_exists: false,
                node_unresponsive: false,
                waits_until: None,
                failure: None,
                storage: &Storage::default(),
                settings: &settings,
            };
            let plan = decide(&observed, at(self.now));
            if plan.steps.is_empty() {
                return;
            }
            for step in plan.steps {
                self.take(&vmi, step.op);
            }
        }
        panic!("no rest: {:?} {:?}", self.vmi, self.pods);
    }

    fn take(&mut self, before: &VirtualMachineInstance, op: Op) {
        match op {
            Op::CreatePod(_) => {
                assert!(self.pods.is_empty(), "two pods");
                self.made += 1;
                assert_eq!(self.made, 1, "made twice");
                self.pods.push(PodFacts {
                    phase: PodPhase::Pending,
                    containers_ready: false,
                    node: String::new(),
                    ready: None,
                    unpaused: None,
                    ..pod()
                });
            }
            Op::DeletePod { uid, .. } => {
                let pod = self.pods.iter_mut().find(|pod| pod.uid == uid).unwrap();
                pod.deleting = true;
            }
            Op::ConfirmPod { .. } => panic!("absence was confirmed"),
            Op::PatchPod { .. } => self.pods[0].has_deadline = true,
            Op::PatchPodStatus { patch, .. } => {
                let status = &patch["status"]["conditions"][0]["status"];
                self.pods[0].unpaused = Some(status == "True");
            }
            Op::Patch(patch) => {
                let mut value = serde_json::to_value(self.vmi.as_ref().unwrap()).unwrap();
                json_patch::merge(&mut value, &patch);
                let vmi: VirtualMachineInstance = serde_json::from_value(value).unwrap();
                let phase = |vmi: &VirtualMachineInstance| vmi.status.as_ref().unwrap().phase;
                assert!(legal(phase(before), phase(&vmi)), "{patch}");
                let bare = vmi.metadata.finalizers.iter().flatten().next().is_none();
                let gone = bare && vmi.metadata.deletion_timestamp.is_some();
                self.vmi = (!gone).then_some(vmi);
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Happens {
    Binds,
    Ready,
    HandlerRuns,
    HandlerPauses,
    HandlerEnds,
    Exits(i32),
    PodVanishes,
    UserDeletes,
    Waits,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        2 => Just(Happens::Binds),
        3 => Just(Happens::Ready),
        3 => Just(Happens::HandlerRuns),
        1 => Just(Happens::HandlerPauses),
        1 => Just(Happens::HandlerEnds),
        1 => (0..3).prop_map(Happens::Exits),
        1 => Just(Happens::PodVanishes),
        1 => Just(Happens::UserDeletes),
        1 => Just(Happens::Waits),
    ]
}

fn handler(world: &mut World, from: &[Phase], patch: &Value) {
    let Some(vmi) = &world.vmi else { return };
    if from.contains(&vmi.status.as_ref().unwrap().phase) {
        let mut value = serde_json::to_value(vmi).unwrap();
        json_patch::merge(&mut value, patch);
        world.vmi = Some(serde_json::from_value(value).unwrap());
    }
}

fn step(world: &mut World, happens: Happens) {
    let now = world.now;
    match happens {
        Happens::Binds => world
            .pods
            .iter_mut()
            .for_each(|pod| pod.node = "edge1".to_owned()),
        Happens::Ready => {
            for pod in world
                .pods
                .iter_mut()
                .filter(|pod| !pod.node.is_empty() && !pod.is_over())
            {
                pod.phase = PodPhase::Running;
                pod.containers_ready = true;
                pod.ready = Some(crate::conditions::condition("Ready", true, "", ""));
            }
        }
        Happens::HandlerRuns => {
            let here = |pod: &PodFacts| !pod.node.is_empty() && !pod.deleting && !pod.is_over();
            if world.pods.iter().any(here) {
                handler(
                    world,
                    &[Phase::Scheduling, Phase::Scheduled],
                    &json!({"status": {"phase": "Running", "phaseTransitionTimestamps": [
                        {"phase": "Running", "phaseTransitionTimestamp": "2026-01-01T00:00:00Z"}]}}),
                );
            }
        }
        Happens::HandlerPauses => handler(
            world,
            &[Phase::Running],
            &json!({"status": {"conditions": [{"type": "Paused", "status": "True"}]}}),
        ),
        Happens::HandlerEnds => handler(
            world,
            &[Phase::Scheduled, Phase::Running],
            &json!({"status": {"phase": "Succeeded"}}),
        ),
        Happens::Exits(code) => {
            for pod in &mut world.pods {
                pod.phase = if code == 0 {
                    PodPhase::Succeeded
                } else {
                    PodPhase::Failed
                };
                pod.containers_ready = false;
                pod.exit_code = Some(code);
                pod.finished_at = Some(at(now));
            }
        }
        Happens::PodVanishes => world.pods.clear(),
        Happens::UserDeletes => {
            let bare = |vmi: &VirtualMachineInstance| {
                vmi.metadata.finalizers.iter().flatten().next().is_none()
            };
            world.vmi = world.vmi.take().filter(|vmi| !bare(vmi)).map(deleted);
        }
        Happens::Waits => world.now += 60,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn decisions_come_to_rest_and_deletion_always_completes(
        all in proptest::collection::vec(happens(), 1..24),
        webhook in any::<bool>(),
    ) {
        let mut start = vmi(if webhook { "Pending" } else { "" });
        if !webhook {
            start.metadata.finalizers = None;
        }
        let mut world = World { vmi: Some(start), pods: Vec::new(), made: 0, now: 0 };
        world.settle();
        for happens in all {
            step(&mut world, happens);
            world.settle();
        }
        for happens in [Happens::UserDeletes, Happens::Exits(0), Happens::PodVanishes] {
            step(&mut world, happens);
            world.settle();
        }
        prop_assert!(world.vmi.is_none(), "{:?}", world.vmi);
    }
}
