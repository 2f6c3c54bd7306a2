//! Hugepages reserved against hugepages asked for.

use super::{GIB, size};
use crate::catalogue::{Check, Remedy};
use crate::facts::{Facts, Hugepages};
use crate::finding::Finding;
use crate::requirements::{HugepagesWanted, Requirements};
use crate::verdict::Fix;

/// Share of memory that hugepages may take, in percent: the rest is the node's own.
const MOST: u64 = 90;

pub(crate) static HUGEPAGES: Check = Check {
    id: "hugepages",
    title: "the hugepages asked for are reserved",
    reads: &[
        "/sys/devices/system/node/node*/hugepages/hugepages-*kB/{nr_hugepages,free_hugepages}",
        "/sys/kernel/mm/hugepages/",
        "/proc/meminfo",
        "/proc/cpuinfo (flag pdpe1gb)",
    ],
    why: "a guest on hugepages starts only if they are reserved, and on the NUMA node where its CPUs are",
    judged: "For each size and node asked for: passes when as many are reserved, warns when they are but others use them, fails when they are not. Skipped when none are asked for.",
    remedies: &[
        Remedy {
            case: "2 MiB pages",
            text: "write the number to nr_hugepages of the NUMA node, and to a file of /etc/sysctl.d or the kernel's command line (hugepagesz=2M hugepages=N) for the next boot",
        },
        Remedy {
            case: "1 GiB pages",
            text: "reserve them at boot, while memory is in one piece: hugepagesz=1G hugepages=N on the kernel's command line (hugepages=NODE:N per NUMA node, since Linux 5.16)",
        },
        Remedy {
            case: "no flag pdpe1gb",
            text: "the CPU has no 1 GiB pages: ask for 2 MiB ones",
        },
    ],
    judge,
};

fn judge(facts: &Facts, requirements: &Requirements) -> Vec<Finding> {
    if requirements.hugepages.is_empty() {
        let reserved: Vec<String> = facts
            .memory
            .hugepages
            .iter()
            .filter(|pages| pages.total > 0)
            .map(|pages| format!("{}/nr_hugepages: {}", pages.path, pages.total))
            .collect();
        return Finding::skip(if reserved.is_empty() {
            "no hugepages are asked for".to_owned()
        } else {
            format!(
                "{}; no hugepages are asked for",
                super::some_of(&reserved, 4)
            )
        })
        .alone();
    }
    requirements
        .hugepages
        .iter()
        .map(|wanted| one(facts, requirements, wanted).on(subject(wanted)))
        .collect()
}

fn subject(wanted: &HugepagesWanted) -> String {
    match wanted.node {
        Some(node) => format!("{} on node {node}", size(wanted.size)),
        None => size(wanted.size),
    }
}

fn one(facts: &Facts, requirements: &Requirements, wanted: &HugepagesWanted) -> Finding {
    let memory = &facts.memory;
    if memory.hugepages.is_empty() {
        return Finding::skip(super::not_read(facts, "/sys/kernel/mm/hugepages"));
    }
    if let Some(node) = wanted.node
        && !memory.nodes.is_empty()
        && !memory.nodes.iter().any(|found| found.id == node)
    {
        let ids: Vec<String> = memory
            .nodes
            .iter()
            .map(|found| found.id.to_string())
            .collect();
        return Finding::fail(
            format!(
                "/sys/devices/system/node: no node {node}; there are {}",
                ids.join(", ")
            ),
            "correct the NUMA node in the inventory's hugepages",
        );
    }
    let pages: Vec<&Hugepages> = memory
        .hugepages
        .iter()
        .filter(|pages| pages.size == wanted.size)
        .filter(|pages| wanted.node.is_none() || pages.node == wanted.node)
        .collect();
    let one_gib_missing = wanted.size == GIB
        && !facts.cpu.flags.is_empty()
        && facts.cpu.logical > 0
        && !facts.cpu.has_flag("pdpe1gb");
    if pages.is_empty() || one_gib_missing {
        return Finding::fail(
            format!(
                "/sys/kernel/mm/hugepages: no pages of {}",
                size(wanted.size)
            ),
            if wanted.size == GIB {
                "the CPU has no 1 GiB pages (flag pdpe1gb of /proc/cpuinfo): ask for 2 MiB ones"
            } else {
                "ask for a size that the CPU has: 2 MiB, or 1 GiB with the flag pdpe1gb"
            },
        );
    }
    let total: u64 = pages
        .iter()
        .fold(0, |sum, pages| sum.saturating_add(pages.total));
    let free: u64 = pages
        .iter()
        .fold(0, |sum, pages| sum.saturating_add(pages.free));
    let paths: Vec<String> = pages
        .iter()
        .map(|pages| {
            format!(
                "{}/nr_hugepages: {} ({} free)",
                pages.path, pages.total, pages.free
            )
        })
        .collect();
    let evidence = format!("{}; {} asked for", super::some_of(&paths, 4), wanted.count);
    if total >= wanted.count {
        return if free >= wanted.count {
            Finding::pass(evidence)
        } else {
            Finding::warn(
                evidence,
                "they are reserved, but something uses them: stop it, or reserve more",
            )
        };
    }
    let bytes = wanted.count.saturating_mul(wanted.size);
    let room = wanted
        .node
        .and_then(|node| memory.nodes.iter().find(|found| found.id == node)?.memory)
        .or(memory.total);
    if let Some(room) = room
        && bytes > room / 100 * MOST
    {
        return Finding::fail(
            format!("{evidence}; memory there: {}", size(room)),
            format!(
                "add memory, or ask for fewer: {} pages of {} are {}",
                wanted.count,
                size(wanted.size),
                size(bytes)
            ),
        );
    }
    let remedy = if wanted.size >= GIB {
        at_boot(facts, requirements, wanted.size)
    } else {
        format!(
            "echo {} > {}/nr_hugepages now, and hugepagesz={}M hugepages={} on the kernel's command line for the next boot",
            wanted.count,
            pages
                .first()
                .map_or("/sys/kernel/mm/hugepages", |pages| pages.path.as_str()),
            wanted.size >> 20,
            wanted.count
        )
    };
    Finding::fail(evidence, remedy).fixed_by(Fix::Hugepages {
        size: wanted.size,
        count: wanted.count,
        node: wanted.node,
    })
}

/// How pages that only boot can reserve are reserved: all that are asked for of one
/// size in one argument, because the kernel takes a size only once.
fn at_boot(facts: &Facts, requirements: &Requirements, page: u64) -> String {
    let of_size = || {
        requirements
            .hugepages
            .iter()
            .filter(|wanted| wanted.size == page)
    };
    let per_node: Vec<String> = of_size()
        .filter_map(|wanted| wanted.node.map(|node| format!("{node}:{}", wanted.count)))
        .collect();
    let count = if per_node.is_empty() {
        of_size()
            .fold(0_u64, |sum, wanted| sum.saturating_add(wanted.count))
            .to_string()
    } else {
        per_node.join(",")
    };
    let words = [
        format!("hugepagesz={}G", page >> 30),
        format!("hugepages={count}"),
    ];
    let line = facts.kernel.cmdline.as_deref().unwrap_or_default();
    let present: Vec<&str> = line
        .split_whitespace()
        .filter(|word| word.starts_with("hugepages"))
        .collect();
    if present.is_empty() {
        crate::boot::remedy(facts, &words, &[])
    } else {
        // Pairs of size and count stand in an order that an edit by name would break.
        format!(
            "on the kernel's command line, now {}, put {} for that size, then reboot",
            present.join(" "),
            words.join(" ")
        )
    }
}
