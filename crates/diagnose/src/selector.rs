//! Whom network policies let through.
//! Source: the API's description of NetworkPolicy: a pod that no policy selects is open in that
//! direction; one that some select is open to whom any of them admits.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Labels of an object.
pub(crate) type Labels = BTreeMap<String, String>;

/// The direction of a connection, from the selected pod's point of view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// To the pod.
    Ingress,
    /// From the pod.
    Egress,
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Other<'a> {
    /// Pods with these labels in a namespace.
    Pods {
        own_namespace: bool,
        namespace: &'a Labels,
        labels: &'a Labels,
    },
    /// Anybody, in the cluster or outside.
    Anybody,
}

/// Peers and ports of a rule; none named: all.
type Rule<'a> = (
    Option<&'a Vec<NetworkPolicyPeer>>,
    Option<&'a Vec<NetworkPolicyPort>>,
);

/// What policies say to a connection. Policies by name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Say {
    /// None selects the pod.
    Open,
    /// This one admits it.
    Admitted(String),
    /// These select the pod, and none admits it.
    Shut(Vec<String>),
}

/// What the policies of a pod's namespace say to a TCP connection. `port` is the receiving pod's.
pub(crate) fn say<'a>(
    policies: impl Iterator<Item = &'a NetworkPolicy>,
    direction: Direction,
    pod: &Labels,
    other: Other<'_>,
    port: Option<u16>,
) -> Say {
    let mut shut = Vec::new();
    for policy in policies {
        let name = policy.metadata.name.clone().unwrap_or_default();
        let Some(spec) = &policy.spec else { continue };
        if !selects(spec.pod_selector.as_ref(), pod) || !is_about(policy, direction) {
            continue;
        }
        let mut rules: Vec<Rule<'_>> = match direction {
            Direction::Ingress => spec
                .ingress
                .iter()
                .flatten()
                .map(|rule| (rule.from.as_ref(), rule.ports.as_ref()))
                .collect(),
            Direction::Egress => spec
                .egress
                .iter()
                .flatten()
                .map(|rule| (rule.to.as_ref(), rule.ports.as_ref()))
                .collect(),
        };
        rules.retain(|(peers, ports)| {
            admits_port(ports.map_or(&[], Vec::as_slice), port)
                && admits(peers.map_or(&[], Vec::as_slice), other)
        });
        if !rules.is_empty() {
            return Say::Admitted(name);
        }
        shut.push(name);
    }
    if shut.is_empty() {
        Say::Open
    } else {
        Say::Shut(shut)
    }
}

fn is_about(policy: &NetworkPolicy, direction: Direction) -> bool {
    let Some(spec) = &policy.spec else {
        return false;
    };
    let word = match direction {
        Direction::Ingress => "Ingress",
        Direction::Egress => "Egress",
    };
    match &spec.policy_types {
        Some(types) if !types.is_empty() => types.iter().any(|one| one == word),
        _ => direction == Direction::Ingress || spec.egress.is_some(),
    }
}

/// No peers named: everybody. An `ipBlock` says nothing of pods, but one of all addresses admits anybody.
fn admits(peers: &[NetworkPolicyPeer], other: Other<'_>) -> bool {
    if peers.is_empty() {
        return true;
    }
    peers.iter().any(|peer| match (&peer.ip_block, other) {
        (Some(block), _) => {
            matches!(block.cidr.as_str(), "0.0.0.0/0" | "::/0")
                && block.except.as_ref().is_none_or(Vec::is_empty)
        }
        (None, Other::Anybody) => false,
        (
            None,
            Other::Pods {
                own_namespace,
                namespace,
                labels,
            },
        ) => {
            let place = match &peer.namespace_selector {
                Some(selector) => selects(Some(selector), namespace),
                None => own_namespace,
            };
            place && selects(peer.pod_selector.as_ref(), labels)
        }
    })
}

fn admits_port(ports: &[NetworkPolicyPort], wanted: Option<u16>) -> bool {
    if ports.is_empty() {
        return true;
    }
    let Some(wanted) = wanted.map(i32::from) else {
        return false;
    };
    ports.iter().any(|port| {
        port.protocol.as_deref().unwrap_or("TCP") == "TCP"
            && match &port.port {
                None => true,
                Some(IntOrString::Int(first)) => {
                    (*first..=port.end_port.unwrap_or(*first)).contains(&wanted)
                }
                // A name of a container's port; workers' ports have none.
                Some(IntOrString::String(_)) => false,
            }
    })
}

/// A selector that is missing or empty selects everything.
pub(crate) fn selects(selector: Option<&LabelSelector>, labels: &Labels) -> bool {
    let Some(selector) = selector else {
        return true;
    };
    let equal = selector
        .match_labels
        .iter()
        .flatten()
        .all(|(key, value)| labels.get(key) == Some(value));
    let expressions = selector.match_expressions.iter().flatten().all(|one| {
        let found = labels.get(&one.key);
        let listed = found.is_some_and(|value| one.values.iter().flatten().any(|v| v == value));
        match one.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            "Exists" => found.is_some(),
            "DoesNotExist" => found.is_none(),
            _ => false,
        }
    });
    equal && expressions
}
