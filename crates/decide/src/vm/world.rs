//! A small world that carries out plans: whatever happens in it, the decisions
//! come to rest, and no request is forgotten.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::tests::{at, deleted, template, vm, vmi};
use super::*;

fn apply<T: serde::Serialize + serde::de::DeserializeOwned>(object: &mut T, patch: &Value) {
    let mut value = serde_json::to_value(&*object).unwrap();
    json_patch::merge(&mut value, patch);
    *object = serde_json::from_value(value).unwrap();
}

struct World {
    vm: VirtualMachine,
    vmi: Option<VirtualMachineInstance>,
    made: u32,
    vm_gone: bool,
    now: i64,
}

impl World {
    /// Decides and applies until there is nothing to do.
    fn settle(&mut self) {
        let template = template();
        for _ in 0..12 {
            if self.vm_gone {
                return;
            }
            let observed = Observed {
                vm: &self.vm,
                template: &template,
                vmi: self.vmi.as_ref(),
                failure: None,
                storage: super::tests::no_storage(),
                random: 0.5,
            };
            let plan = decide(&observed, at(self.now));
            if plan.steps.is_empty() {
                return;
            }
            for step in plan.steps {
                self.take(step.op);
            }
        }
        panic!("no rest: {:?} {:?}", self.vm, self.vmi);
    }

    fn take(&mut self, op: Op) {
        match op {
            Op::Patch(patch) => {
                apply(&mut self.vm, &patch);
                let bare = self
                    .vm
                    .metadata
                    .finalizers
                    .iter()
                    .flatten()
                    .next()
                    .is_none();
                self.vm_gone = bare && self.vm.metadata.deletion_timestamp.is_some();
            }
            Op::PatchStatus(patch) => apply(&mut self.vm, &json!({ "status": patch["status"] })),
            Op::CreateDataVolume(made) => panic!("no template asks for it: {made}"),
            Op::CreateInstance(made) => {
                assert!(self.vmi.is_none(), "made twice");
                self.made += 1;
                let mut vmi: VirtualMachineInstance = serde_json::from_value(*made).unwrap();
                vmi.metadata.uid = Some(format!("vmi-{}", self.made));
                self.vmi = Some(vmi);
            }
            Op::DeleteInstance { uid } => {
                let vmi = self.vmi.take().expect("deleted what does not exist");
                assert_eq!(vmi.metadata.uid, Some(uid));
                self.vmi = Some(deleted(vmi));
            }
            Op::PatchInstance(patch) => apply(self.vmi.as_mut().unwrap(), &patch),
        }
    }

    fn set_phase(&mut self, phase: &str) {
        if let Some(vmi) = &mut self.vmi {
            let old = vmi.status.as_ref().is_some_and(|s| s.phase.is_final());
            if !old {
                let stamp =
                    json!([{"phase": phase, "phaseTransitionTimestamp": "2026-01-01T00:00:00Z"}]);
                apply(
                    vmi,
                    &json!({ "status": { "phase": phase, "phaseTransitionTimestamps": stamp } }),
                );
            }
        }
    }

    /// The pod and then the instance go, once both sides let them.
    fn collect(&mut self) {
        self.set_phase("Succeeded");
        self.settle();
        let held = self.vmi.as_ref().is_some_and(|vmi| {
            vmi.metadata.deletion_timestamp.is_none()
                || vmi
                    .metadata
                    .finalizers
                    .iter()
                    .flatten()
                    .any(|f| f == VM_FINALIZER)
        });
        if !held {
            self.vmi = None;
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Happens {
    Start,
    Stop,
    Restart,
    Strategy(&'static str),
    Runs,
    ShutsDown,
    Fails,
    Goes,
    Waits,
    UserDeletesInstance,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        Just(Happens::Start),
        Just(Happens::Stop),
        Just(Happens::Restart),
        proptest::sample::select(vec!["Always", "Halted", "Manual", "RerunOnFailure", "Once"])
            .prop_map(Happens::Strategy),
        Just(Happens::Runs),
        Just(Happens::ShutsDown),
        Just(Happens::Fails),
        Just(Happens::Goes),
        Just(Happens::Waits),
        Just(Happens::UserDeletesInstance),
    ]
}

fn request(world: &mut World, words: &[&str]) {
    let uid = world.vmi.as_ref().and_then(|vmi| vmi.metadata.uid.clone());
    let requests: Vec<Value> = words
        .iter()
        .map(|word| match *word {
            "Stop" => json!({ "action": "Stop", "uid": uid }),
            word => json!({ "action": word }),
        })
        .collect();
    apply(
        &mut world.vm,
        &json!({ "status": { "stateChangeRequests": requests } }),
    );
}

fn step(world: &mut World, happens: Happens) {
    match happens {
        Happens::Start => request(world, &["Start"]),
        Happens::Stop if world.vmi.is_some() => request(world, &["Stop"]),
        Happens::Restart if world.vmi.is_some() => request(world, &["Stop", "Start"]),
        Happens::Stop | Happens::Restart => {}
        Happens::Strategy(strategy) => {
            apply(
                &mut world.vm,
                &json!({ "spec": { "runStrategy": strategy } }),
            );
        }
        Happens::Runs => world.set_phase("Running"),
        Happens::ShutsDown => world.set_phase("Succeeded"),
        Happens::Fails => world.set_phase("Failed"),
        Happens::Goes => {
            if world
                .vmi
                .as_ref()
                .is_some_and(|vmi| vmi.metadata.deletion_timestamp.is_some())
            {
                world.collect();
            }
        }
        Happens::Waits => world.now += 400,
        Happens::UserDeletesInstance => world.vmi = world.vmi.take().map(deleted),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn decisions_come_to_rest_and_end_where_the_strategy_says(
        all in proptest::collection::vec(happens(), 1..24),
        last in proptest::sample::select(vec!["Always", "Halted"]),
    ) {
        let mut world = World {
            vm: vm(json!({ "runStrategy": "Manual" }), json!({})),
            vmi: None,
            made: 0,
            vm_gone: false,
            now: 0,
        };
        world.settle();
        for happens in all {
            step(&mut world, happens);
            world.settle();
        }
        // A queued start would switch a halted VM on, as it should; leave it out.
        request(&mut world, &[]);
        step(&mut world, Happens::Strategy(last));
        for _ in 0..3 {
            world.now += 400;
            world.settle();
            step(&mut world, Happens::Goes);
            world.settle();
        }
        if last == "Always" {
            let live = world.vmi.as_ref().is_some_and(|vmi| {
                vmi.metadata.deletion_timestamp.is_none() && !super::status::is_final(vmi)
            });
            prop_assert!(live, "{:?}", world.vmi);
        } else {
            prop_assert!(world.vmi.is_none(), "{:?}", world.vmi);
            prop_assert_eq!(world.vm.status.unwrap().printable_status, "Stopped");
        }
    }
}

#[test]
fn deletion_leaves_nothing() {
    for phase in ["Pending", "Running", "Succeeded", "Failed"] {
        let mut world = World {
            vm: vm(json!({ "runStrategy": "Manual" }), json!({})),
            vmi: Some(vmi(phase, true)),
            made: 0,
            vm_gone: false,
            now: 0,
        };
        world.vm.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(0)));
        world.settle();
        assert!(!world.vm_gone, "{phase}");
        world.collect();
        world.settle();
        assert!(world.vm_gone && world.vmi.is_none(), "{phase}");
    }
}
