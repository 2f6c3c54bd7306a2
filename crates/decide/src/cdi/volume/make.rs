//! The claim of a DataVolume, and what a clone needs before its claim is made.

use api::cdi::DataVolume;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::super::across;
use super::super::claim;
use super::super::smart::{self, Next, Origin, Patience};
use super::{Observed, Op, Story};
use crate::plan::{Plan, Step};

/// Makes the claim of a DataVolume, or what that needs before.
pub(super) fn make_claim(
    seen: &Observed<'_>,
    dv: &DataVolume,
    held: bool,
    now: Timestamp,
    story: &mut Story,
    plan: &mut Plan<Op>,
) {
    // A claim that is gone after it was full is the user's business.
    let done = dv
        .status
        .as_ref()
        .is_some_and(|status| status.phase == api::cdi::phase::SUCCEEDED);
    if held || done {
        return;
    }
    let source = match &seen.source {
        Ok(source) => source.as_ref(),
        Err(refusal) => return story.refuse(refusal.reason, refusal.message.clone()),
    };
    if let Err(message) = &seen.permit {
        return story.refuse(across::REFUSED, message.clone());
    }
    let snapshot = source.and_then(|source| source.snapshot.as_ref());
    let stand_in = match snapshot.map(|from| smart::stand_in(from, seen.look, seen.cluster)) {
        None => None,
        Some(Ok(claim)) => Some(claim),
        Some(Err(refusal)) => {
            plan.look_again(now, look_again(&dv.metadata, now));
            return story.refuse(refusal.reason, refusal.message);
        }
    };
    let original = stand_in.as_ref().or(seen.original);
    let claim = match claim::build(dv, source, original, seen.cluster) {
        Ok(claim) => claim,
        Err(refusal) => return story.refuse(refusal.reason, refusal.message),
    };
    let origin = match (snapshot, &stand_in, seen.original) {
        (Some(from), Some(stand_in), _) => Origin::Snapshot(&from.name, stand_in),
        (None, _, Some(original)) => Origin::Claim(original),
        _ => return plan.steps.push(create(claim)),
    };
    let next = smart::next(claim, &claim::owner(dv), origin, seen.look, seen.cluster);
    if let Some(patience) = follow(next, plan) {
        plan.look_again(now, look_again(&dv.metadata, now));
        story.stage = patience.stage;
        story.wait_for(patience.reason, patience.message);
    }
}

/// Makes a claim in its namespace.
pub(in super::super) fn create(claim: PersistentVolumeClaim) -> Step<Op> {
    Step {
        op: Op::CreateClaim(Box::new(claim)),
        done: None,
        failed: Some("ErrClaimNotValid"),
    }
}

/// Plans what a clone needs next; gives back what it has to wait for.
pub(in super::super) fn follow(next: Next, plan: &mut Plan<Op>) -> Option<Patience> {
    let (op, event, failed) = match next {
        Next::Wait(patience) => return Some(patience),
        Next::Snapshot { object, unused } => (
            Op::CreateSnapshot { object, unused },
            None,
            "ErrUnableToClone",
        ),
        Next::Make {
            claim,
            temporary,
            unused,
            event,
        } => {
            plan.steps.extend(temporary.map(|claim| create(*claim)));
            let op = match unused {
                Some(unused) => Op::CreateClone { claim, unused },
                None => Op::CreateClaim(claim),
            };
            (op, event, "ErrClaimNotValid")
        }
    };
    plan.steps.push(Step {
        op,
        done: event,
        failed: Some(failed),
    });
    None
}

/// When to look again at storage, which nobody watches: soon at first, then ever less often.
pub(in super::super) fn look_again(meta: &ObjectMeta, now: Timestamp) -> Timestamp {
    let began = meta.creation_timestamp.as_ref().map_or(now, |at| at.0);
    let age = now.as_second().saturating_sub(began.as_second());
    let wait = SignedDuration::from_secs((age / 10).clamp(1, 30));
    now.checked_add(wait).unwrap_or(now)
}
