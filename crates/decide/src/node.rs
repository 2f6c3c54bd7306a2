//! Nodes whose virt-handler is silent.
//!
//! Source of the rule: KubeVirt, pkg/virt-controller/watch/node/node.go.

use api::names::{HEARTBEAT_ANNOTATION, PROCESSORS_ANNOTATION, SCHEDULABLE_LABEL};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use crate::plan::{Event, Plan, Step};

/// A handler that was not heard of for so long is unresponsive.
pub const HEARTBEAT_TIMEOUT_SECONDS: i64 = 300;

/// What is known about a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// VMIs may be scheduled there.
    pub schedulable: bool,
    /// Last heartbeat; `None` when no handler was ever there.
    pub heartbeat: Option<Timestamp>,
    /// Processors that its handler told; 0 before.
    pub processors: usize,
}

impl From<&ObjectMeta> for NodeFacts {
    fn from(meta: &ObjectMeta) -> Self {
        let label = meta.labels.as_ref().and_then(|l| l.get(SCHEDULABLE_LABEL));
        let annotation = |name| meta.annotations.as_ref().and_then(|all| all.get(name));
        let heartbeat = annotation(HEARTBEAT_ANNOTATION);
        Self {
            schedulable: label.is_some_and(|value| value == "true"),
            heartbeat: heartbeat.and_then(|text| text.parse().ok()),
            processors: annotation(PROCESSORS_ANNOTATION)
                .and_then(|text| text.parse().ok())
                .unwrap_or(0),
        }
    }
}

/// One thing to do about a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Merge patch of the node.
    Patch(Value),
}

/// Whether the handler of a node is silent; a node that does not exist is.
#[must_use]
pub fn is_unresponsive(node: Option<&NodeFacts>, now: Timestamp) -> bool {
    node.is_none_or(|node| due(node).is_some_and(|due| due <= now))
}

/// Takes a silent node out of scheduling, and looks again when it could fall silent.
#[must_use]
pub fn decide(node: &NodeFacts, now: Timestamp) -> Plan<Op> {
    let mut plan = Plan::default();
    if !is_unresponsive(Some(node), now) {
        if let Some(due) = due(node) {
            plan.look_again(now, due);
        }
    } else if node.schedulable {
        plan.steps.push(Step {
            op: Op::Patch(json!({ "metadata": { "labels": { SCHEDULABLE_LABEL: "false" } } })),
            done: Some(Event {
                warning: false,
                reason: "NodeUnresponsive",
                message: "virt-handler is not responsive, marking node as unresponsive".to_owned(),
            }),
            failed: None,
        });
    }
    plan
}

fn due(node: &NodeFacts) -> Option<Timestamp> {
    let timeout = SignedDuration::from_secs(HEARTBEAT_TIMEOUT_SECONDS);
    node.heartbeat?.checked_add(timeout).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_silent_node_is_taken_out_of_scheduling_once() {
        let beating = NodeFacts {
            schedulable: true,
            heartbeat: Some(at(1000)),
            processors: 2,
        };
        let plan = decide(&beating, at(1100));
        assert!(plan.steps.is_empty());
        assert_eq!(plan.requeue.unwrap().as_secs(), 200);

        let plan = decide(&beating, at(1300));
        assert_eq!(plan.steps.len(), 1);
        let silent = NodeFacts {
            schedulable: false,
            ..beating
        };
        assert_eq!(decide(&silent, at(1300)), Plan::default());
        assert!(is_unresponsive(Some(&silent), at(1300)));
    }

    #[test]
    fn a_node_without_handler_is_left_alone_and_a_missing_one_is_silent() {
        assert_eq!(decide(&NodeFacts::default(), at(1)), Plan::default());
        assert!(!is_unresponsive(Some(&NodeFacts::default()), at(1)));
        assert!(is_unresponsive(None, at(1)));
    }

    #[test]
    fn facts_are_read_from_labels_and_annotations() {
        let meta: ObjectMeta = serde_json::from_value(json!({
            "labels": { "kubevirt.io/schedulable": "true" },
            "annotations": {
                "kubevirt.io/heartbeat": "2026-01-02T03:04:05Z",
                "edgevirt.local/processors": "8"
            }
        }))
        .unwrap();
        let facts = NodeFacts::from(&meta);
        assert!(facts.schedulable);
        assert_eq!(facts.processors, 8);
        assert_eq!(facts.heartbeat.unwrap().to_string(), "2026-01-02T03:04:05Z");
    }
}
