//! The list of all checks, and what can be done with it: judge a node, explain a
//! check, look one up.

use std::fmt::Write as _;

use crate::checks::{cgroup, cpu, disk, hugepages, iommu, iommu_group, kernel, kvm, modules};
use crate::checks::{names, nic, ports, proxy, resources, sriov, sriov_trial, vfio};
use crate::facts::Facts;
use crate::finding::Finding;
use crate::requirements::Requirements;
use crate::verdict::{Status, Verdict};

/// A check: what it reads, why, how it judges, what helps, and the judgement itself.
#[derive(Debug)]
pub struct Check {
    /// Stable name: `iommu.active`.
    pub id: &'static str,
    /// What it finds out, in a few words.
    pub title: &'static str,
    /// Files, devices and calls it rests on.
    pub reads: &'static [&'static str],
    /// Why it matters.
    pub why: &'static str,
    /// When it passes, warns, fails and is skipped.
    pub judged: &'static str,
    /// What helps, by case.
    pub remedies: &'static [Remedy],
    /// The judgement: one or more findings, each on its subject.
    pub(crate) judge: fn(&Facts, &Requirements) -> Vec<Finding>,
}

/// What helps in one case.
#[derive(Clone, Copy, Debug)]
pub struct Remedy {
    /// The case: a vendor, a system or a symptom.
    pub case: &'static str,
    /// What to do.
    pub text: &'static str,
}

/// Every check, in the order in which the parts of a node depend on one another.
static CATALOGUE: [&Check; 33] = [
    &cpu::VIRT,
    &kvm::DEVICE,
    &kvm::RUN,
    &kvm::NESTED,
    &iommu::ACPI,
    &iommu::ACTIVE,
    &iommu::CMDLINE,
    &iommu::MODE,
    &iommu::REMAPPING,
    &iommu::UNSAFE,
    &iommu_group::GROUP,
    &vfio::MODULE,
    &sriov::CAPABILITY,
    &sriov::STATE,
    &sriov_trial::TRIAL,
    &sriov::MANAGEMENT,
    &nic::NUMA,
    &nic::LINK,
    &nic::MTU,
    &hugepages::HUGEPAGES,
    &kernel::SECURE_BOOT,
    &kernel::KERNEL,
    &cpu::MICROCODE,
    &modules::MODULES,
    &cgroup::CGROUP,
    &disk::CEPH,
    &disk::STALE,
    &resources::SWAP,
    &names::TIME,
    &ports::PORTS,
    &names::NAMES,
    &proxy::PROXY,
    &resources::RESOURCES,
];

/// Every check, in the order of the verdicts.
#[must_use]
pub fn catalogue() -> &'static [&'static Check] {
    &CATALOGUE
}

/// The check `id`.
#[must_use]
pub fn check(id: &str) -> Option<&'static Check> {
    CATALOGUE.iter().find(|check| check.id == id).copied()
}

/// All verdicts on a node, in the order of the catalogue.
#[must_use]
pub fn judge(facts: &Facts, requirements: &Requirements) -> Vec<Verdict> {
    CATALOGUE
        .iter()
        .flat_map(|check| verdicts(check, facts, requirements))
        .collect()
}

fn verdicts(check: &Check, facts: &Facts, requirements: &Requirements) -> Vec<Verdict> {
    (check.judge)(facts, requirements)
        .into_iter()
        .map(|finding| {
            let well = matches!(finding.status, Status::Pass | Status::Skip);
            Verdict {
                id: check.id.to_owned(),
                subject: finding.subject,
                status: finding.status,
                evidence: finding.evidence,
                why: check.why.to_owned(),
                remedy: if well { String::new() } else { finding.remedy },
                fix: finding.fix.filter(|_| !well),
            }
        })
        .collect()
}

/// The page of `preflight explain ID`: what is read, why, how it is judged, what
/// helps. `None`: there is no such check.
#[must_use]
pub fn explain(id: &str) -> Option<String> {
    let check = check(id)?;
    let mut text = format!("{}: {}\n\nReads:\n", check.id, check.title);
    // Writing to a String cannot fail.
    for path in check.reads {
        let _ = writeln!(text, "  {path}");
    }
    let _ = writeln!(
        text,
        "\nWhy: {}.\n\nJudged: {}",
        capitalised(check.why),
        check.judged
    );
    if !check.remedies.is_empty() {
        text.push_str("\nWhat helps:\n");
        for remedy in check.remedies {
            let _ = writeln!(text, "  {}: {}.", remedy.case, remedy.text);
        }
    }
    Some(text)
}

/// `docs/preflight.md`'s list of checks: a table of all, then a section for each.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from("| check | finds out |\n|---|---|\n");
    for check in catalogue() {
        let anchor: String = check.id.chars().filter(|c| *c != '.').collect();
        let _ = writeln!(text, "| [`{}`](#{anchor}) | {} |", check.id, check.title);
    }
    for check in catalogue() {
        let _ = write!(
            text,
            "\n### {}\n\n{}.\n\n**Why.** {}.\n\n**Reads.** {}.\n\n**Judged.** {}\n",
            check.id,
            capitalised(check.title),
            capitalised(check.why),
            check
                .reads
                .iter()
                .map(|path| format!("`{path}`"))
                .collect::<Vec<_>>()
                .join(", "),
            check.judged,
        );
        if !check.remedies.is_empty() {
            text.push_str("\n| case | what helps |\n|---|---|\n");
            for remedy in check.remedies {
                let _ = writeln!(
                    text,
                    "| {} | {} |",
                    remedy.case,
                    remedy.text.replace('|', "\\|").replace('<', "&lt;")
                );
            }
        }
    }
    text.trim().to_owned()
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().chain(letters).collect())
        .unwrap_or_default()
}
