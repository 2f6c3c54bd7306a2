//! What has to be changed on a node: pure, from facts, fixes and the files that are
//! there to the files and commands that make it so.
//!
//! Files of ours are drop-ins that are written whole: they hold what was asked for in
//! this run and in earlier ones, so that a second run finds nothing to change.

use std::collections::{BTreeMap, BTreeSet};

use hardware::{Facts, Fix};

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
const HEADER: &str = "# Written by edgevirt preflight --fix.\n";

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
        let mut gigantic: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        for ((size, node), count) in &self.pages {
            if *size >= GIB {
                gigantic.entry(*size).or_default().push(match node {
                    Some(node) => format!("{node}:{count}"),
                    None => count.to_string(),
                });
            }
        }
        self.pages.retain(|(size, _), _| *size < GIB);
        for (size, counts) in gigantic {
            // Pages anywhere come first in the order of keys; those of nodes say more.
            let of_nodes: Vec<String> =
                counts.iter().filter(|c| c.contains(':')).cloned().collect();
            let counts = if of_nodes.is_empty() {
                counts
            } else {
                of_nodes
            };
            self.add.push(format!("hugepagesz={}G", size / GIB));
            self.add.push(format!("hugepages={}", counts.join(",")));
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

/// What may stand in a kernel argument, and in a shell word without quotes.
fn harmless(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_=.,:/".contains(c)
}

fn own_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The drop-in: shell, which update-grub reads after /etc/default/grub. `old` is the
/// drop-in that is there; what it did, the new one does too.
fn grub(old: &str, add: &[String], remove: &[String]) -> String {
    let listed = |mark: &str| -> Vec<String> {
        old.lines()
            .filter_map(|line| line.strip_prefix(mark))
            .flat_map(str::split_whitespace)
            .map(str::to_owned)
            .collect()
    };
    let name = |word: &str| word.split('=').next().unwrap_or_default().to_owned();
    let gone: BTreeSet<String> = listed("# remove:")
        .into_iter()
        .chain(remove.iter().cloned())
        .filter(|word| !add.contains(word))
        .collect();
    // A new value replaces an older one of ours; hugepagesz and hugepages are pairs.
    let pairs = add.iter().any(|w| w.starts_with("hugepagesz="));
    let mut words: Vec<String> = listed("# add:")
        .into_iter()
        .filter(|old| !gone.contains(old))
        .filter(|old| {
            let same = add.iter().any(|new| name(new) == name(old));
            !same || (add.contains(old) && !(pairs && name(old).starts_with("hugepages")))
        })
        .collect();
    for word in add {
        let of_pair = pairs && name(word).starts_with("hugepages");
        if of_pair || !words.contains(word) {
            words.push(word.clone());
        }
    }
    let mut text = HEADER.to_owned();
    if !words.is_empty() {
        text += &format!("# add: {}\n", words.join(" "));
    }
    if !gone.is_empty() {
        let list: Vec<&str> = gone.iter().map(String::as_str).collect();
        text += &format!("# remove: {}\n", list.join(" "));
        for variable in ["GRUB_CMDLINE_LINUX", "GRUB_CMDLINE_LINUX_DEFAULT"] {
            let pattern = list.join("\" | \"");
            text += &format!(
                "edgevirt_kept=\nfor edgevirt_word in ${variable}; do\n  case \"$edgevirt_word\" in \"{pattern}\") ;; *) edgevirt_kept=\"$edgevirt_kept $edgevirt_word\" ;; esac\ndone\n{variable}=\"${{edgevirt_kept# }}\"\n"
            );
        }
    }
    if !words.is_empty() {
        text += &format!(
            "GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX {}\"\n",
            words.join(" ")
        );
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn debian() -> Facts {
        let mut facts = Facts::default();
        facts.bootloader.update_grub = Some("/usr/sbin/update-grub".into());
        facts
    }

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|w| (*w).to_owned()).collect()
    }

    fn arguments(add: &[&str], remove: &[&str]) -> Fix {
        Fix::KernelArgs {
            add: words(add),
            remove: words(remove),
        }
    }

    /// Files after the plan was carried out.
    fn after(plan: &Plan, mut files: BTreeMap<String, String>) -> BTreeMap<String, String> {
        for change in &plan.changes {
            files.insert(change.path.clone(), change.after.clone());
        }
        files
    }

    /// The variables of GRUB as update-grub sees them.
    fn sourced(drop_in: &str, line: &str, default: &str) -> (String, String) {
        let script = format!(
            "set -e\nGRUB_CMDLINE_LINUX='{line}'\nGRUB_CMDLINE_LINUX_DEFAULT='{default}'\n{drop_in}\nprintf '%s\\n' \"$GRUB_CMDLINE_LINUX\" \"$GRUB_CMDLINE_LINUX_DEFAULT\""
        );
        let output = std::process::Command::new("sh")
            .args(["-c", &script])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let mut lines = text.lines().map(|l| l.trim().to_owned());
        (lines.next().unwrap(), lines.next().unwrap())
    }

    #[test]
    fn grub_gets_a_drop_in_whose_effect_is_the_change_and_a_second_run_changes_nothing() {
        let fixes = [arguments(&["intel_iommu=on"], &["intel_iommu=off"])];
        let first = plan(&debian(), &fixes, &BTreeMap::new());
        assert!(first.reboot);
        assert_eq!(first.commands, [words(&["/usr/sbin/update-grub"])]);
        let files = after(&first, BTreeMap::new());
        assert_eq!(
            sourced(&files[GRUB], "a", "quiet intel_iommu=off b"),
            ("a intel_iommu=on".to_owned(), "quiet b".to_owned())
        );
        let second = plan(&debian(), &fixes, &files);
        assert!(second.is_empty(), "{second:?}");
    }

    #[test]
    fn the_menu_is_written_when_an_earlier_run_did_not_come_to_it() {
        let fixes = [arguments(&["intel_iommu=on"], &[])];
        let first = plan(&debian(), &fixes, &BTreeMap::new());
        let mut files = after(&first, BTreeMap::new());
        files.insert(UNFINISHED.to_owned(), String::new());
        let second = plan(&debian(), &fixes, &files);
        assert!(second.changes.is_empty() && second.reboot);
        assert_eq!(second.commands, [words(&["/usr/sbin/update-grub"])]);
    }

    #[test]
    fn what_an_earlier_run_asked_for_stays() {
        let files = after(
            &plan(
                &debian(),
                &[arguments(&["intel_iommu=on"], &[])],
                &BTreeMap::new(),
            ),
            BTreeMap::new(),
        );
        let pages = Fix::Hugepages {
            size: GIB,
            count: 4,
            node: None,
        };
        let files = after(&plan(&debian(), &[pages], &files), files.clone());
        assert_eq!(
            sourced(&files[GRUB], "", "").0,
            "intel_iommu=on hugepagesz=1G hugepages=4"
        );
        let more = Fix::Hugepages {
            size: GIB,
            count: 8,
            node: Some(1),
        };
        let files = after(&plan(&debian(), &[more], &files), files.clone());
        assert_eq!(
            sourced(&files[GRUB], "", "").0,
            "intel_iommu=on hugepagesz=1G hugepages=1:8"
        );
    }

    #[test]
    fn gigantic_pages_of_several_nodes_are_one_word() {
        let pages = |node| Fix::Hugepages {
            size: GIB,
            count: 16,
            node: Some(node),
        };
        let files = after(
            &plan(&debian(), &[pages(0), pages(1)], &BTreeMap::new()),
            BTreeMap::new(),
        );
        assert_eq!(
            sourced(&files[GRUB], "", "").0,
            "hugepagesz=1G hugepages=0:16,1:16"
        );
    }

    #[test]
    fn every_bootloader_is_changed_by_its_own_tool() {
        let fixes = [arguments(&["intel_iommu=on"], &["intel_iommu=off"])];
        let mut facts = Facts::default();
        facts.bootloader.grubby = Some("/usr/sbin/grubby".into());
        assert_eq!(
            plan(&facts, &fixes, &BTreeMap::new()).commands,
            [words(&[
                "/usr/sbin/grubby",
                "--update-kernel=ALL",
                "--remove-args=intel_iommu=off",
                "--args=intel_iommu=on"
            ])]
        );
        facts.bootloader.rpm_ostree = Some("/usr/bin/rpm-ostree".into());
        assert_eq!(
            plan(&facts, &fixes, &BTreeMap::new()).commands,
            [words(&[
                "/usr/bin/rpm-ostree",
                "kargs",
                "--delete-if-present=intel_iommu=off",
                "--append-if-missing=intel_iommu=on"
            ])]
        );
        let none = plan(&Facts::default(), &fixes, &BTreeMap::new());
        assert!(none.is_empty() && !none.reboot);
        assert!(none.refused[0].contains("neither update-grub"), "{none:?}");
    }

    #[test]
    fn an_argument_that_a_shell_would_read_otherwise_is_refused() {
        for bad in ["a;reboot", "$(x)", "a b", "x=\"y\"", ""] {
            let plan = plan(&debian(), &[arguments(&[bad], &[])], &BTreeMap::new());
            assert!(plan.is_empty() && !plan.refused.is_empty(), "{bad}");
        }
    }

    #[test]
    fn modules_are_loaded_now_and_at_boot() {
        let fix = Fix::ModulesLoad {
            names: words(&["vfio-pci", "tun", "x;y"]),
        };
        let files = BTreeMap::from([(MODULES.to_owned(), "# ours\nrbd\n".to_owned())]);
        let plan = plan(&debian(), &[fix], &files);
        assert_eq!(
            plan.changes[0].after,
            format!("{HEADER}rbd\ntun\nvfio-pci\n")
        );
        assert_eq!(
            plan.commands,
            [
                words(&["modprobe", "tun"]),
                words(&["modprobe", "vfio-pci"])
            ]
        );
        assert!(!plan.reboot && plan.refused.len() == 1);
    }

    #[test]
    fn hugepages_are_kept_by_sysctl_or_for_one_node_by_tmpfiles() {
        let fix = |node| Fix::Hugepages {
            size: 2 << 20,
            count: 16,
            node,
        };
        let any = plan(&debian(), &[fix(None)], &BTreeMap::new());
        assert_eq!(any.changes[0].path, SYSCTL);
        assert!(any.changes[0].after.ends_with("vm.nr_hugepages = 16\n"));
        assert!(any.commands[0][2].contains("/sys/kernel/mm/hugepages/hugepages-2048kB"));
        let one = plan(&debian(), &[fix(Some(1))], &BTreeMap::new());
        assert_eq!(one.changes[0].path, TMPFILES);
        assert!(one.changes[0].after.contains(
            "w /sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages - - - - 16"
        ));
        assert!(!one.reboot);
    }

    #[test]
    fn swap_is_switched_off_and_its_lines_stay_as_comments() {
        let fix = Fix::SwapOff {
            areas: words(&["/dev/sda2"]),
        };
        let files = BTreeMap::from([(
            FSTAB.to_owned(),
            "/dev/sda1 / ext4 defaults 0 1\n/dev/sda2 none swap sw 0 0\n".to_owned(),
        )]);
        let first = plan(&debian(), std::slice::from_ref(&fix), &files);
        assert_eq!(first.commands, [words(&["swapoff", "-a"])]);
        assert!(
            first.changes[0]
                .after
                .contains("# edgevirt: no swap: /dev/sda2 none swap")
        );
        assert!(
            first.changes[0].after.contains("\n/dev/sda1")
                || first.changes[0].after.starts_with("/dev/sda1")
        );
        let second = plan(&debian(), &[fix], &after(&first, files));
        assert!(second.changes.is_empty());
        assert!(second.refused[0].contains("something else"));
    }
}
