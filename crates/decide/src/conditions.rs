//! Lists of conditions that keep the time of their last change.

use api::Condition;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// A condition without times; [`set`] fills them. `status` is `True`, `False` or `Unknown`.
#[must_use]
pub fn said(type_: &str, status: &str, reason: &str, message: &str) -> Condition {
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        ..Condition::default()
    }
}

/// [`said`], with a status that is known.
#[must_use]
pub fn condition(type_: &str, status: bool, reason: &str, message: &str) -> Condition {
    said(
        type_,
        if status { "True" } else { "False" },
        reason,
        message,
    )
}

/// [`set`] for conditions whose heartbeat time tells of any change: those of CDI.
pub fn beat(list: &mut Vec<Condition>, mut new: Condition, now: Timestamp) {
    new.last_heartbeat_time = Some(Time(crate::plan::whole_seconds(now)));
    set(list, new, now);
}

/// [`set`] for conditions whose probe time tells of any change: that of KubeVirt.
pub fn probe(list: &mut Vec<Condition>, mut new: Condition, now: Timestamp) {
    new.last_probe_time = Some(Time(crate::plan::whole_seconds(now)));
    set(list, new, now);
}

/// Puts `new` in the list, in place of the one of its type.
///
/// One that says the same stays as it is, times included. The transition time
/// is the given one, else the old one while `status` stays, else `now`.
pub fn set(list: &mut Vec<Condition>, mut new: Condition, now: Timestamp) {
    match list.iter_mut().find(|c| c.type_ == new.type_) {
        Some(old) if says_the_same(old, &new) => {}
        Some(old) => {
            let kept = (old.status == new.status)
                .then(|| old.last_transition_time.clone())
                .flatten();
            new.last_transition_time = new
                .last_transition_time
                .or(kept)
                .or_else(|| Some(Time(crate::plan::whole_seconds(now))));
            *old = new;
        }
        None => {
            new.last_transition_time = new
                .last_transition_time
                .or_else(|| Some(Time(crate::plan::whole_seconds(now))));
            list.push(new);
        }
    }
}

/// Takes the condition of that type away.
pub fn remove(list: &mut Vec<Condition>, type_: &str) {
    list.retain(|c| c.type_ != type_);
}

fn says_the_same(a: &Condition, b: &Condition) -> bool {
    a.status == b.status && a.reason == b.reason && a.message == b.message
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_transition_time_changes_with_the_status_only() {
        let mut list = Vec::new();
        set(&mut list, condition("Ready", false, "A", "a"), at(1));
        assert_eq!(list[0].last_transition_time, Some(Time(at(1))));
        set(&mut list, condition("Ready", false, "B", "b"), at(2));
        assert_eq!(list[0].last_transition_time, Some(Time(at(1))));
        assert_eq!(list[0].reason, "B");
        set(&mut list, condition("Ready", true, "", ""), at(3));
        assert_eq!(list[0].last_transition_time, Some(Time(at(3))));
        set(&mut list, condition("Ready", true, "", ""), at(4));
        assert_eq!(list[0].last_transition_time, Some(Time(at(3))));
        remove(&mut list, "Ready");
        assert!(list.is_empty());
    }
}
