//! `--limit`: names and groups with wildcards, `!` to leave out, `&` to keep only.

use std::collections::BTreeSet;

use anyhow::bail;

use super::Inventory;
use crate::ssh::known_hosts::glob;

/// Hosts that the pattern means, in the order of the inventory.
pub(crate) fn select(inventory: &Inventory, limit: Option<&str>) -> anyhow::Result<Vec<String>> {
    let all = inventory.hosts();
    let Some(limit) = limit else {
        return Ok(all.to_vec());
    };
    let mut chosen: Option<BTreeSet<&str>> = None;
    let (mut leave_out, mut keep) = (BTreeSet::new(), Vec::new());
    for part in limit
        .split([',', ':'])
        .map(str::trim)
        .filter(|p| !p.is_empty())
    {
        if part.starts_with(['~', '@']) || part.contains('[') {
            bail!(
                "--limit {part}: expected names and groups with *, ?, ! and &; regular expressions, files and subscripts are not read"
            );
        }
        if let Some(not) = part.strip_prefix('!') {
            leave_out.extend(mean(inventory, not)?);
        } else if let Some(and) = part.strip_prefix('&') {
            keep.push(mean(inventory, and)?);
        } else {
            chosen
                .get_or_insert_default()
                .extend(mean(inventory, part)?);
        }
    }
    Ok(all
        .iter()
        .filter(|host| {
            let host = host.as_str();
            chosen.as_ref().is_none_or(|c| c.contains(host))
                && !leave_out.contains(host)
                && keep.iter().all(|k| k.contains(host))
        })
        .cloned()
        .collect())
}

fn mean<'a>(inventory: &'a Inventory, pattern: &str) -> anyhow::Result<BTreeSet<&'a str>> {
    let mut hosts: BTreeSet<&str> = inventory
        .hosts()
        .iter()
        .map(String::as_str)
        .filter(|host| glob(pattern, host))
        .collect();
    let groups = inventory
        .groups
        .keys()
        .map(String::as_str)
        .chain(["all"])
        .filter(|group| glob(pattern, group));
    let mut known = !hosts.is_empty();
    for group in groups {
        known = true;
        hosts.extend(inventory.members(group).unwrap_or_default());
    }
    if !known {
        bail!("--limit {pattern}: no such host or group in the inventory");
    }
    Ok(hosts)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_limit_means_what_it_means_to_ansible() {
        let mut inventory = Inventory::default();
        inventory
            .add_text(
                std::path::Path::new("h"),
                "[a]\nn[1:3]\n[b]\nn3\nm1\n[c:children]\na\n",
                false,
            )
            .unwrap();
        for (limit, expected) in [
            (None, vec!["n1", "n2", "n3", "m1"]),
            (Some("n2"), vec!["n2"]),
            (Some("c"), vec!["n1", "n2", "n3"]),
            (Some("n*:!n2"), vec!["n1", "n3"]),
            (Some("a:&b"), vec!["n3"]),
            (Some("!a"), vec!["m1"]),
            (Some("all,!b"), vec!["n1", "n2"]),
        ] {
            assert_eq!(select(&inventory, limit).unwrap(), expected, "{limit:?}");
        }
        assert!(select(&inventory, Some("x")).is_err());
        assert!(select(&inventory, Some("~n.")).is_err());
    }
}
