//! Device nodes, the clock, names, proxies.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;

use hardware::facts::{Attempt, Clock, DeviceNode, Names, Proxy, Sourced};
use hardware::parse::system as parse;
use hardware::parse::text::assignments;
use rustix::fs::OFlags;

use super::process::Process;
use crate::tree::Tree;

/// Device nodes that guests and their networks need.
const DEVICES: [&str; 3] = ["/dev/net/tun", "/dev/vhost-net", "/dev/vfio/vfio"];
/// Programs that discipline the clock, by the first 15 bytes of their names.
const TIME_SERVICES: [&str; 6] = [
    "chronyd",
    "ntpd",
    "ntpsec",
    "openntpd",
    "phc2sys",
    "systemd-timesyn",
];

pub(super) fn devices(tree: &Tree) -> Vec<DeviceNode> {
    DEVICES
        .into_iter()
        .map(|path| {
            let present = tree.exists(path);
            DeviceNode {
                path: path.to_owned(),
                present: Some(present),
                open: match tree.live() && present {
                    true => open(path),
                    false => Attempt::NotTried,
                },
            }
        })
        .collect()
}

fn open(path: &str) -> Attempt {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path);
    match opened {
        Ok(_) => Attempt::Worked,
        Err(error) => Attempt::failed(error.raw_os_error(), format!("open {path}: {error}")),
    }
}

pub(super) fn clock(tree: &Tree, processes: &[Process]) -> Clock {
    let service = processes
        .iter()
        .map(|process| process.name.as_str())
        .find(|name| TIME_SERVICES.contains(name));
    let mut clock = Clock {
        source: tree.line("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        service: service.map(|name| match name {
            "systemd-timesyn" => "systemd-timesyncd".to_owned(),
            name => name.to_owned(),
        }),
        ..Clock::default()
    };
    if tree.live() {
        match host::clock::discipline() {
            Ok(found) => {
                clock.synchronized = Some(parse::synchronized(found.state, found.status));
                clock.max_error_us = Some(found.maximum_error);
            }
            Err(error) => tree.note("adjtimex", &error),
        }
    }
    clock
}

pub(super) fn names(tree: &Tree) -> Names {
    let hostname = tree
        .line("/proc/sys/kernel/hostname")
        .or_else(|| tree.line("/etc/hostname"))
        .unwrap_or_default();
    let hosts = tree.text("/etc/hosts").unwrap_or_default();
    let resolver = tree.text("/etc/resolv.conf");
    Names {
        machine_id: tree.line("/etc/machine-id"),
        hosts_entries: parse::hosts(&hosts, &hostname),
        nameservers: resolver.as_deref().map(parse::name_servers),
        search: resolver
            .as_deref()
            .map(parse::search_domains)
            .unwrap_or_default(),
        hostname,
        answered: Attempt::NotTried,
    }
}

/// The environment says what programs of this login get, the files what later
/// ones get; the environment comes first where they differ.
pub(super) fn proxy(tree: &Tree) -> Proxy {
    let mut files = vec!["/etc/environment".to_owned()];
    let profiles = tree.list("/etc/profile.d").unwrap_or_default();
    files.extend(profiles.iter().map(|name| format!("/etc/profile.d/{name}")));
    let mut found: Vec<(String, Sourced)> = Vec::new();
    if tree.live() {
        found.extend(std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            let sourced = Sourced {
                path: format!("environment {name}"),
                value: value.into_string().ok()?,
            };
            Some((name, sourced))
        }));
    }
    for path in files.iter().filter(|path| !path.ends_with(".csh")) {
        let text = tree.text(path).unwrap_or_default();
        found.extend(assignments(&text).map(|(name, value)| {
            let path = path.clone();
            (name.to_owned(), Sourced { path, value })
        }));
    }
    let first = |wanted: &str| {
        let (_, sourced) = found.iter().find(|(name, sourced)| {
            name.eq_ignore_ascii_case(wanted) && !sourced.value.is_empty()
        })?;
        Some(Sourced {
            value: parse::without_password(&sourced.value),
            ..sourced.clone()
        })
    };
    Proxy {
        http: first("http_proxy"),
        https: first("https_proxy"),
        no_proxy: first("no_proxy"),
    }
}
