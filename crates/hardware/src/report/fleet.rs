//! What can only be said of nodes together: clocks that differ, names that repeat.

use std::collections::BTreeMap;

use super::NodeReport;
use crate::facts::Facts;
use crate::verdict::{Status, Verdict};

/// How far each clock is from the fleet's median, milliseconds, in the order given.
///
/// `offsets` are the nodes' clocks minus the gatherer's at the moment each was read
/// ([`crate::facts::Clock::unix_ms`] minus the middle of the round trip); `None` where
/// the node did not tell. Fewer than two clocks have no median to differ from.
#[must_use]
pub fn clock_skews(offsets: &[Option<i64>]) -> Vec<Option<i64>> {
    let mut known: Vec<i64> = offsets.iter().flatten().copied().collect();
    known.sort_unstable();
    let middle = known.len() / 2;
    let median = match (known.get(middle.wrapping_sub(1)), known.get(middle)) {
        (Some(low), Some(high)) if known.len().is_multiple_of(2) => low.midpoint(*high),
        (Some(_), Some(middle)) => *middle,
        _ => return vec![None; offsets.len()],
    };
    offsets
        .iter()
        .map(|offset| offset.map(|offset| offset.saturating_sub(median)))
        .collect()
}

/// Adds the verdicts that need the whole fleet: a host name or a machine id that two
/// nodes share. Nodes without facts are left out.
pub fn judge_fleet(nodes: &mut [NodeReport]) {
    let why = crate::catalogue::check("names").map_or("", |check| check.why);
    let by = |nodes: &[NodeReport], key: &dyn Fn(&Facts) -> Option<String>| {
        let mut found: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (at, node) in nodes.iter().enumerate() {
            if let Some(value) = node.facts.as_ref().and_then(key) {
                found.entry(value).or_default().push(at);
            }
        }
        found.retain(|_, at| at.len() > 1);
        found
    };
    let named = |value: &str| (!value.is_empty()).then(|| value.to_owned());
    let hostnames = by(nodes, &|facts| named(&facts.names.hostname));
    let machines = by(nodes, &|facts| {
        named(facts.names.machine_id.as_deref().unwrap_or_default())
            .filter(|id| id != "uninitialized")
    });
    let shared = [
        (
            hostnames,
            "hostname",
            Status::Fail,
            "/proc/sys/kernel/hostname",
            "hostnamectl set-hostname NAME, so that each node has its own",
        ),
        (
            machines,
            "machine-id",
            Status::Warn,
            "/etc/machine-id",
            "rm /etc/machine-id && systemd-machine-id-setup, then reboot (a cloned image keeps the original's)",
        ),
    ];
    for (groups, subject, status, path, remedy) in shared {
        for (value, members) in groups {
            let names: Vec<String> = members
                .iter()
                .filter_map(|at| nodes.get(*at).map(|node| node.node.clone()))
                .collect();
            for at in members {
                let Some(node) = nodes.get_mut(at) else {
                    continue;
                };
                let others: Vec<String> = names
                    .iter()
                    .filter(|name| **name != node.node)
                    .cloned()
                    .collect();
                let verdict = Verdict {
                    id: "names".to_owned(),
                    subject: subject.to_owned(),
                    status,
                    evidence: format!(
                        "{path}: {value}, as on {}",
                        crate::checks::some_of(&others, 6)
                    ),
                    why: why.to_owned(),
                    remedy: remedy.to_owned(),
                    fix: None,
                };
                insert(&mut node.verdicts, verdict);
            }
        }
    }
}

/// Puts a verdict after the last of its check, or at the end.
fn insert(verdicts: &mut Vec<Verdict>, verdict: Verdict) {
    let at = verdicts
        .iter()
        .rposition(|known| known.id == verdict.id)
        .map_or(verdicts.len(), |at| at + 1);
    verdicts.insert(at, verdict);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::Requirements;

    #[test]
    fn the_skew_is_told_from_the_median() {
        for (offsets, expected) in [
            (vec![], vec![]),
            (vec![Some(5)], vec![None]),
            (vec![Some(0), Some(10)], vec![Some(-5), Some(5)]),
            (
                vec![Some(0), Some(10), None, Some(4000)],
                vec![Some(-10), Some(0), None, Some(3990)],
            ),
        ] {
            assert_eq!(clock_skews(&offsets), expected, "{offsets:?}");
        }
    }

    #[test]
    fn two_nodes_of_one_name_fail_and_say_of_each_other() {
        let mut nodes: Vec<NodeReport> = [("a", "edge", "1"), ("b", "edge", "2"), ("c", "c", "2")]
            .into_iter()
            .map(|(node, hostname, id)| {
                let mut facts = Facts::default();
                facts.names.hostname = hostname.to_owned();
                facts.names.machine_id = Some(id.to_owned());
                NodeReport {
                    node: node.to_owned(),
                    verdicts: crate::judge(&facts, &Requirements::default()),
                    facts: Some(facts),
                    ..NodeReport::default()
                }
            })
            .collect();
        judge_fleet(&mut nodes);
        let found: Vec<(&str, &str, Status)> = nodes
            .iter()
            .flat_map(|node| {
                node.verdicts
                    .iter()
                    .filter(|v| v.id == "names" && v.evidence.contains(", as on "))
                    .map(|v| (node.node.as_str(), v.subject.as_str(), v.status))
            })
            .collect();
        assert_eq!(
            found,
            [
                ("a", "hostname", Status::Fail),
                ("b", "hostname", Status::Fail),
                ("b", "machine-id", Status::Warn),
                ("c", "machine-id", Status::Warn),
            ]
        );
    }
}
