//! Plans for every bootloader, and what earlier runs wrote.
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
