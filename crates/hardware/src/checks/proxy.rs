//! Proxies that programs on the node inherit.

use std::net::IpAddr;

use crate::catalogue::{Check, Remedy};
use crate::facts::Facts;
use crate::finding::Finding;
use crate::requirements::Requirements;

pub(crate) static PROXY: Check = Check {
    id: "proxy",
    title: "what must not go through a proxy does not",
    reads: &[
        "/etc/environment, /etc/profile.d/",
        "http_proxy, https_proxy, no_proxy of the environment",
    ],
    why: "a request from the API server to a webhook or a kubelet that goes to a proxy instead never arrives",
    judged: "Passes without a proxy, or when no_proxy covers the address ranges and names that the inventory gives (pods, services, nodes, .svc): the same, a larger range, a parent domain or *. Fails when one is not covered.",
    remedies: &[Remedy {
        case: "always",
        text: "add the ranges and names to no_proxy and NO_PROXY in /etc/environment and in the units of the kubelet and the container runtime",
    }],
    judge,
};

fn judge(facts: &Facts, requirements: &Requirements) -> Vec<Finding> {
    let proxy = &facts.proxy;
    let set: Vec<String> = [("http_proxy", &proxy.http), ("https_proxy", &proxy.https)]
        .into_iter()
        .filter_map(|(name, sourced)| {
            let sourced = sourced.as_ref()?;
            Some(format!("{}: {name}={}", sourced.path, sourced.value))
        })
        .collect();
    if set.is_empty() {
        return Finding::pass("no proxy is set").alone();
    }
    let (path, value) = proxy
        .no_proxy
        .as_ref()
        .map_or(("no_proxy", ""), |sourced| (&sourced.path, &sourced.value));
    let evidence = format!("{}; {path}: no_proxy={value}", set.join("; "));
    let entries: Vec<&str> = value
        .split([',', ' '])
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .collect();
    let missing: Vec<&str> = requirements
        .no_proxy
        .iter()
        .map(String::as_str)
        .filter(|wanted| !entries.iter().any(|entry| covers(entry, wanted)))
        .collect();
    if missing.is_empty() {
        return Finding::pass(evidence).alone();
    }
    Finding::fail(
        format!("{evidence}; not covered: {}", missing.join(", ")),
        format!(
            "add {} to no_proxy and NO_PROXY in /etc/environment and in the units of the kubelet and the container runtime",
            missing.join(",")
        ),
    )
    .alone()
}

/// `entry` of no_proxy covers `wanted`: `*`, the same, a larger range, a parent domain.
fn covers(entry: &str, wanted: &str) -> bool {
    if entry == "*" || entry.eq_ignore_ascii_case(wanted) {
        return true;
    }
    match (range(entry), range(wanted)) {
        (Some((base, length)), Some((address, inner))) => {
            length <= inner && bits(base).1 == bits(address).1 && {
                let (base, width) = bits(base);
                let (address, _) = bits(address);
                let shift = width - u32::from(length);
                // A shift by the whole width is a range of everything.
                shift >= 128 || (base >> shift) == (address >> shift)
            }
        }
        (None, None) => {
            let domain = entry.trim_start_matches("*.").trim_start_matches('.');
            let host = wanted.trim_start_matches('.');
            host == domain
                || host
                    .strip_suffix(domain)
                    .is_some_and(|rest| rest.ends_with('.') && !domain.is_empty())
        }
        _ => false,
    }
}

/// An address with prefix length; a bare address is a range of one.
fn range(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let address: IpAddr = address.trim_matches(['[', ']']).parse().ok()?;
    let whole = if address.is_ipv4() { 32 } else { 128 };
    let length = match length {
        Some(length) => length.parse().ok().filter(|length| *length <= whole)?,
        None => whole,
    };
    Some((address, length))
}

/// The address as a number, and its width in bits.
fn bits(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(address) => (u128::from(u32::from(address)), 32),
        IpAddr::V6(address) => (u128::from(address), 128),
    }
}

#[cfg(test)]
mod tests {
    use super::covers;

    #[test]
    fn a_larger_range_or_a_parent_domain_covers() {
        for (entry, wanted, expected) in [
            ("10.0.0.0/8", "10.96.0.0/12", true),
            ("10.96.0.0/12", "10.0.0.0/8", false),
            ("10.96.0.0/12", "10.96.0.10", true),
            ("0.0.0.0/0", "10.96.0.0/12", true),
            ("::/0", "fd00::/8", true),
            ("::/0", "10.0.0.0/8", false),
            ("fd00::/8", "fd00:1::/64", true),
            (".svc", ".svc", true),
            ("svc", ".svc", true),
            ("cluster.local", ".svc.cluster.local", true),
            ("local", "xlocal", false),
            ("*", "anything", true),
            ("10.0.0.0/33", "10.0.0.0/8", false),
            ("", "a", false),
        ] {
            assert_eq!(covers(entry, wanted), expected, "{entry} {wanted}");
        }
    }
}
