//! What has to be changed on a node: pure, from facts, fixes and the files that are
//! there to the files and commands that make it so.
//!
//! Files of ours are drop-ins that are written whole: they hold what was asked for in
//! this run and in earlier ones, so that a second run finds nothing to change.

use std::collections::{BTreeMap, BTreeSet};

use hardware::{Facts, Fix};

use super::grub::drop_in as grub;

/// Arguments for the kernel, on nodes with update-grub. Read after /etc/default/grub.
pub(crate) const GRUB: &str = "/etc/default/grub.d/90-edgevirt.cfg";
/// Modules loaded at boot.
pub(crate) const MODULES: &str = "/etc/modules-load.d/edgevirt.conf";
/// Hugepages of the default size.
pub(crate) const SYSCTL: &str = "/etc/sysctl.d/90-edgevirt.conf";
/// Hugepages of one NUMA node or of another size.
pub(crate) const TMPFILES: &str = "/etc/tmpfiles.d/edgevirt-hugepages.conf";
/// Where swap areas are switched on at boot.
pub(crate) const FSTAB: &str = "/etc/fstab";
/// There from before the first change until the last command has ended: a run that was
/// interrupted, or that failed, has written files whose commands did not run.
pub(crate) const UNFINISHED: &str = "/var/lib/edgevirt/fix-unfinished";
/// Every file that a plan reads.
pub(crate) const FILES: [&str; 6] = [GRUB, MODULES, SYSCTL, TMPFILES, FSTAB, UNFINISHED];

const GIB: u64 = 1 << 30;
/// The first line of every file of ours.
pub(super) const HEADER: &str = "# Written by edgevirt preflight --fix.\n";

/// A file before and after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// Its path.
    pub(crate) path: String,
    /// Its text; `None`: there is no such file.
    pub(crate) before: Option<String>,
    /// Its text afterwards.
    pub(crate) after: String,
}

/// What will be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Files to write.
    pub(crate) changes: Vec<Change>,
    /// Commands to run after that, as words.
    pub(crate) commands: Vec<Vec<String>>,
    /// It takes effect after a reboot only.
    pub(crate) reboot: bool,
    /// What cannot be done here, with the reason.
    pub(crate) refused: Vec<String>,
}

impl Plan {
    /// There is nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.commands.is_empty()
    }
}

/// Plans the fixes. `files` are those of [`FILES`] that exist.
pub(crate) fn plan(facts: &Facts, fixes: &[Fix], files: &BTreeMap<String, String>) -> Plan {
    let mut planner = Planner {
        facts,
        files,
        add: Vec::new(),
        remove: BTreeSet::new(),
        modules: BTreeSet::new(),
        pages: BTreeMap::new(),
        swaps: BTreeSet::new(),
        plan: Plan::default(),
    };
    for fix in fixes {
        planner.take(fix);
    }
    planner.kernel_arguments();
    planner.load_modules();
    planner.hugepages();
    planner.swap();
    planner.plan
}

struct Planner<'a> {
    facts: &'a Facts,
    files: &'a BTreeMap<String, String>,
    add: Vec<String>,
    remove: BTreeSet<String>,
    modules: BTreeSet<String>,
    /// By size and NUMA node.
    pages: BTreeMap<(u64, Option<u32>), u64>,
    swaps: BTreeSet<String>,
    plan: Plan,
}

impl Planner<'_> {
    fn take(&mut self, fix: &Fix) {
        match fix {
            Fix::KernelArgs { add, remove } => {
                for word in add {
                    if !self.add.contains(word) {
                        self.add.push(word.clone());
                    }
                }
                self.remove.extend(remove.iter().cloned());
            }
            Fix::ModulesLoad { names } => self.modules.extend(names.iter().cloned()),
            Fix::Hugepages { size, count, node } => {
                let pages = self.pages.entry((*size, *node)).or_default();
                *pages = (*pages).max(*count);
            }
            Fix::SwapOff { areas } => self.swaps.extend(areas.iter().cloned()),
        }
    }

    fn write(&mut self, path: &str, after: String) -> bool {
        let before = self.files.get(path).cloned();
        if before.as_deref() == Some(after.as_str()) {
            return false;
        }
        self.plan.changes.push(Change {
            path: path.to_owned(),
            before,
            after,
        });
        true
    }

    fn run(&mut self, words: &[&str]) {
        self.plan
            .commands
            .push(words.iter().map(|w| (*w).to_owned()).collect());
    }

    fn kernel_arguments(&mut self) {
        // Pages of 1 GiB want contiguous memory, which only boot has for sure. The kernel takes
        // a size once and ignores it the second time, so one word lists all NUMA nodes
        // (Documentation/admin-guide/kernel-parameters.txt, hugepages=).
        let mut gigantic: BTreeMap<u64, Vec<(Option<u32>, u64)>> = BTreeMap::new();
        for ((size, node), count) in &self.pages {
            if *size >= GIB {
                gigantic.entry(*size).or_default().push((*node, *count));
            }
        }
        self.pages.retain(|(size, _), _| *size < GIB);
        for (size, counts) in gigantic {
            self.add.push(format!("hugepagesz={}G", size / GIB));
            self.add
                .push(format!("hugepages={}", gigantic_count(&counts)));
        }
        if self.add.is_empty() && self.remove.is_empty() {
            return;
        }
        if let Some(bad) = self
            .add
            .iter()
            .chain(&self.remove)
            .find(|w| w.is_empty() || !w.chars().all(harmless))
        {
            self.plan.refused.push(format!(
                "kernel argument {bad:?}: expected letters, digits and -_=.,:/; change the command line by hand"
            ));
            return;
        }
        let loader = &self.facts.bootloader;
        let (add, remove): (Vec<String>, Vec<String>) =
            (self.add.clone(), self.remove.iter().cloned().collect());
        if let Some(program) = loader.rpm_ostree.clone() {
            let mut words = vec![program, "kargs".to_owned()];
            words.extend(remove.iter().map(|w| format!("--delete-if-present={w}")));
            words.extend(add.iter().map(|w| format!("--append-if-missing={w}")));
            self.plan.commands.push(words);
        } else if let Some(program) = loader.grubby.clone() {
            let mut words = vec![program, "--update-kernel=ALL".to_owned()];
            if !remove.is_empty() {
                words.push(format!("--remove-args={}", remove.join(" ")));
            }
            if !add.is_empty() {
                words.push(format!("--args={}", add.join(" ")));
            }
            self.plan.commands.push(words);
        } else if let Some(program) = loader.update_grub.clone() {
            let text = self.files.get(GRUB).map_or("", String::as_str);
            let unfinished = self.files.contains_key(UNFINISHED);
            if self.write(GRUB, grub(text, &add, &remove)) || unfinished {
                self.run(&[&program]);
            }
        } else {
            self.plan.refused.push(format!(
                "kernel arguments {}: the node has neither update-grub, grubby nor rpm-ostree; change its command line where it boots from",
                add.iter().map(|w| format!("+{w}")).chain(remove.iter().map(|w| format!("-{w}"))).collect::<Vec<_>>().join(" ")
            ));
            return;
        }
        self.plan.reboot = true;
    }

    fn load_modules(&mut self) {
        if self.modules.is_empty() {
            return;
        }
        let name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let (modules, bad): (BTreeSet<String>, BTreeSet<String>) =
            std::mem::take(&mut self.modules)
                .into_iter()
                .partition(|m| !m.is_empty() && m.chars().all(name));
        for module in bad {
            self.plan.refused.push(format!(
                "module {module:?}: expected letters, digits, - and _"
            ));
        }
        let mut all: BTreeSet<&str> = modules.iter().map(String::as_str).collect();
        let old = self.files.get(MODULES).map_or("", String::as_str);
        all.extend(own_lines(old));
        let after = all
            .iter()
            .fold(HEADER.to_owned(), |text, m| text + m + "\n");
        let _ = self.write(MODULES, after);
        for module in &modules {
            self.run(&["modprobe", module]);
        }
    }

    fn hugepages(&mut self) {
        let pages = std::mem::take(&mut self.pages);
        let mut sysctl = None;
        let mut tmpfiles: BTreeMap<String, u64> = BTreeMap::new();
        if pages.is_empty() {
            return;
        }
        for ((size, node), count) in &pages {
            let kib = size / 1024;
            let base = match node {
                Some(node) => format!("/sys/devices/system/node/node{node}/hugepages"),
                None => "/sys/kernel/mm/hugepages".to_owned(),
            };
            let file = format!("{base}/hugepages-{kib}kB/nr_hugepages");
            // 2 MiB is the default size on x86-64 unless the command line says another.
            let default = *size == 2 << 20
                && !self
                    .facts
                    .kernel
                    .cmdline
                    .as_deref()
                    .unwrap_or_default()
                    .contains("default_hugepagesz=");
            if default && node.is_none() {
                sysctl = Some(*count);
            } else {
                tmpfiles.insert(file.clone(), *count);
            }
            self.run(&["sh", "-c", &format!("echo {count} >{file}")]);
        }
        if let Some(count) = sysctl {
            let _ = self.write(SYSCTL, format!("{HEADER}vm.nr_hugepages = {count}\n"));
        }
        if !tmpfiles.is_empty() {
            let old = self.files.get(TMPFILES).cloned().unwrap_or_default();
            let mut lines: BTreeMap<String, String> = own_lines(&old)
                .filter_map(|line| {
                    Some((line.split_whitespace().nth(1)?.to_owned(), line.to_owned()))
                })
                .collect();
            for (file, count) in tmpfiles {
                lines.insert(file.clone(), format!("w {file} - - - - {count}"));
            }
            let after = lines
                .values()
                .fold(HEADER.to_owned(), |text, line| text + line + "\n");
            let _ = self.write(TMPFILES, after);
        }
    }

    fn swap(&mut self) {
        if self.swaps.is_empty() {
            return;
        }
        self.run(&["swapoff", "-a"]);
        let Some(fstab) = self.files.get(FSTAB) else {
            return;
        };
        let is_swap = |line: &str| {
            !line.trim_start().starts_with('#') && line.split_whitespace().nth(2) == Some("swap")
        };
        if !fstab.lines().any(is_swap) {
            self.plan.refused.push(format!(
                "swap {}: not in {FSTAB}, so something else switches it on at boot (systemctl list-units --type=swap); take it away there",
                self.swaps.iter().cloned().collect::<Vec<_>>().join(", ")
            ));
            return;
        }
        let after: String = fstab
            .lines()
            .map(|line| {
                if is_swap(line) {
                    format!("# edgevirt: no swap: {line}\n")
                } else {
                    format!("{line}\n")
                }
            })
            .collect();
        let _ = self.write(FSTAB, after);
    }
}

/// The value of `hugepages=`. Counts of NUMA nodes say more than one for pages anywhere.
fn gigantic_count(counts: &[(Option<u32>, u64)]) -> String {
    let of_nodes: Vec<String> = counts
        .iter()
        .filter_map(|(node, count)| Some(format!("{}:{count}", (*node)?)))
        .collect();
    match of_nodes.is_empty() {
        true => counts
            .iter()
            .map(|(_, count)| *count)
            .sum::<u64>()
            .to_string(),
        false => of_nodes.join(","),
    }
}

/// What may stand in a kernel argument, and in a shell word without quotes.
fn harmless(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_=.,:/".contains(c)
}

fn own_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
