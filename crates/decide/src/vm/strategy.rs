//! What a run strategy wants.
//!
//! ```text
//!                   no instance            instance ended          instance lives
//! Always            start (back-off)       delete it               delete on Stop
//! RerunOnFailure    start if asked (1)     delete; rerun if Failed delete on Stop
//! Manual            start if asked         delete on Stop, Start   delete on Stop
//! Halted            switch on if asked     delete                  delete
//! Once              start                  leave                   leave
//! ```
//! (1) or if the VM has just been given this strategy.

use api::vm::{RunStrategy, StateChangeRequest};
use api::vmi_status::Phase;
use api::{VirtualMachine, VirtualMachineInstance};
use jiff::Timestamp;

use super::status::is_final;

/// What the run strategy wants now.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Wish {
    /// All is as it should be, or under way.
    Nothing,
    /// Make the instance.
    Start,
    /// Make the instance, but not before this time.
    Wait(Timestamp),
    /// Delete the instance; `rerun`: it failed, make another after it.
    Stop {
        /// Queue a start.
        rerun: bool,
    },
    /// Set the VM's own wish to "running".
    SwitchOn,
    /// Nothing can be done, for this reason.
    Refuse(String),
}

/// The run strategy in force.
pub(super) fn run_strategy(vm: &VirtualMachine) -> Result<RunStrategy, String> {
    match (vm.spec.run_strategy, vm.spec.running) {
        (Some(_), Some(_)) => Err(
            "spec.running and spec.runStrategy exclude each other; remove spec.running".to_owned(),
        ),
        (Some(strategy), None) => Ok(strategy),
        (None, Some(true)) => Ok(RunStrategy::Always),
        (None, Some(false) | None) => Ok(RunStrategy::Halted),
    }
}

/// The requests that are not done yet, oldest first.
pub(super) fn open_requests(
    vm: &VirtualMachine,
    vmi: Option<&VirtualMachineInstance>,
) -> Vec<StateChangeRequest> {
    let all = vm
        .status
        .as_ref()
        .map_or(&[][..], |status| &status.state_change_requests);
    let done = all
        .iter()
        .take_while(|request| is_done(request, vmi))
        .count();
    all.get(done..).unwrap_or_default().to_vec()
}

fn is_done(request: &StateChangeRequest, vmi: Option<&VirtualMachineInstance>) -> bool {
    match (request.action.as_str(), vmi) {
        ("Stop", None) => true,
        // A request without UID, or for an instance that is gone, has no object.
        ("Stop", Some(vmi)) => request.uid.is_none() || request.uid != vmi.metadata.uid,
        ("Start", Some(vmi)) => vmi.metadata.deletion_timestamp.is_none() && !is_final(vmi),
        ("Start", None) => false,
        // Nobody can act on a word that does not exist.
        _ => true,
    }
}

pub(super) fn wish(
    vm: &VirtualMachine,
    vmi: Option<&VirtualMachineInstance>,
    requests: &[StateChangeRequest],
    now: Timestamp,
) -> Wish {
    let strategy = match run_strategy(vm) {
        Ok(strategy) => strategy,
        Err(reason) => return Wish::Refuse(reason),
    };
    let asked = |action: &str| requests.first().is_some_and(|r| r.action == action);
    let Some(vmi) = vmi else {
        return without_instance(vm, strategy, asked("Start"), now);
    };
    if vmi.metadata.deletion_timestamp.is_some() {
        return Wish::Nothing;
    }
    let ended = is_final(vmi);
    let failed = vmi
        .status
        .as_ref()
        .is_some_and(|status| status.phase == Phase::Failed);
    let stop = match strategy {
        RunStrategy::Halted => true,
        RunStrategy::Always | RunStrategy::RerunOnFailure => ended || asked("Stop"),
        RunStrategy::Manual => asked("Stop") || (ended && asked("Start")),
        RunStrategy::Once => false,
        RunStrategy::WaitAsReceiver => return refuse_receiver(),
    };
    if !stop {
        return Wish::Nothing;
    }
    // A user's Stop that was followed by a Start says itself what comes next.
    let followed = requests.iter().any(|r| r.action == "Start");
    Wish::Stop {
        rerun: strategy == RunStrategy::RerunOnFailure && failed && !followed,
    }
}

fn without_instance(
    vm: &VirtualMachine,
    strategy: RunStrategy,
    start_asked: bool,
    now: Timestamp,
) -> Wish {
    let status = vm.status.as_ref();
    let due = status
        .and_then(|status| status.start_failure.as_ref())
        .and_then(|failure| failure.retry_after_timestamp.as_ref())
        .map(|time| time.0)
        .filter(|due| now < *due);
    let start = due.map_or(Wish::Start, Wish::Wait);
    match strategy {
        RunStrategy::Always => start,
        RunStrategy::RerunOnFailure => {
            let new = status.and_then(|status| status.run_strategy) != Some(strategy);
            if start_asked || new {
                start
            } else {
                Wish::Nothing
            }
        }
        RunStrategy::Manual if start_asked => Wish::Start,
        RunStrategy::Halted if start_asked => Wish::SwitchOn,
        RunStrategy::Manual | RunStrategy::Halted => Wish::Nothing,
        RunStrategy::Once => Wish::Start,
        RunStrategy::WaitAsReceiver => refuse_receiver(),
    }
}

fn refuse_receiver() -> Wish {
    Wish::Refuse(
        "spec.runStrategy: found WaitAsReceiver, live migration is not implemented yet; use Always, Manual, RerunOnFailure, Once or Halted"
            .to_owned(),
    )
}
