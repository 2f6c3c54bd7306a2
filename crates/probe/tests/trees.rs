//! Facts from trees: a machine that is all right, and one whose files are anything but.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use hardware::Facts;
use hardware::facts::CpuVendor;
use probe::Options;

/// A root to fill.
struct Root(tempfile::TempDir);

impl Root {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, inside: &str) -> std::path::PathBuf {
        let path = self.0.path().join(inside.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn file(&self, inside: &str, text: &str) -> &Self {
        fs::write(self.path(inside), text).unwrap();
        self
    }

    fn link(&self, inside: &str, target: &str) -> &Self {
        symlink(target, self.path(inside)).unwrap();
        self
    }

    fn fifo(&self, inside: &str) -> &Self {
        let path = self.path(inside);
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
        self
    }

    fn gather(&self) -> Facts {
        let options = Options {
            root: self.0.path().to_owned(),
            ..Options::default()
        };
        probe::gather(&options).unwrap()
    }
}

const CPUINFO: &str = "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Xeon\nphysical id\t: 0\ncore id\t: 0\nflags\t\t: fpu vmx\n\n\
processor\t: 1\nvendor_id\t: GenuineIntel\nmodel name\t: Xeon\nphysical id\t: 1\ncore id\t: 0\nflags\t\t: fpu vmx ept\n";

/// A network card with two functions, each in a group of its own.
fn card(root: &Root) {
    let pf = "/sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0";
    let vf = "/sys/devices/pci0000:00/0000:00:01.0/0000:01:10.0";
    for (folder, device, group) in [(pf, "0x10c9", 7), (vf, "0x10ca", 8)] {
        let address = Path::new(folder).file_name().unwrap().to_str().unwrap();
        root.file(&format!("{folder}/class"), "0x020000\n")
            .file(&format!("{folder}/vendor"), "0x8086\n")
            .file(&format!("{folder}/device"), &format!("{device}\n"))
            .file(&format!("{folder}/driver_override"), "(null)\n")
            .link(
                &format!("{folder}/iommu_group"),
                &format!("../../../../kernel/iommu_groups/{group}"),
            )
            .link(
                &format!("/sys/bus/pci/devices/{address}"),
                &format!("../../..{}", folder.trim_start_matches("/sys")),
            )
            .file(
                &format!("/sys/kernel/iommu_groups/{group}/type"),
                "identity\n",
            )
            .link(
                &format!("/sys/kernel/iommu_groups/{group}/devices/{address}"),
                &format!("../../../..{}", folder.trim_start_matches("/sys")),
            );
    }
    root.file(&format!("{pf}/sriov_totalvfs"), "7\n")
        .file(&format!("{pf}/sriov_numvfs"), "1\n")
        .link(&format!("{pf}/virtfn0"), "../0000:01:10.0")
        .link(&format!("{vf}/physfn"), "../0000:01:00.0")
        .file(&format!("{pf}/net/eth1/mtu"), "1500\n");
}

#[test]
fn a_node_is_read_from_its_files_alone() {
    let root = Root::new();
    root.file("/proc/cpuinfo", CPUINFO)
        .file("/proc/cmdline", "quiet intel_iommu=on\n")
        .file("/sys/class/iommu/dmar0/intel-iommu/ecap", "f00f4e\n");
    card(&root);
    let facts = root.gather();
    assert_eq!(facts.cpu.vendor, CpuVendor::Intel);
    assert_eq!((facts.cpu.logical, facts.cpu.sockets), (2, 2));
    assert!(facts.cpu.has_flag("vmx"));
    assert!(!facts.cpu.has_flag("ept"), "one CPU has it, not every one");
    assert_eq!(facts.iommu.active(), Some(true));
    let units = facts.iommu.units.as_ref().unwrap();
    assert_eq!(units[0].interrupt_remapping(), Some(true));
    let pf = facts
        .pci
        .iter()
        .find(|d| d.address == "0000:01:00.0")
        .unwrap();
    assert_eq!(pf.iommu_group, Some(7));
    let sriov = pf.sriov.as_ref().unwrap();
    assert_eq!((sriov.total, sriov.current), (7, 1));
    assert_eq!(sriov.functions, ["0000:01:10.0"]);
    let vf = facts
        .pci
        .iter()
        .find(|d| d.address == "0000:01:10.0")
        .unwrap();
    assert_eq!(vf.physfn.as_deref(), Some("0000:01:00.0"));
    assert_eq!(vf.iommu_group, Some(8));
}

#[test]
fn files_that_wait_lie_or_never_end_cost_their_own_facts_only() {
    let root = Root::new();
    root.fifo("/proc/meminfo")
        .fifo("/sys/kernel/iommu_groups/7/type")
        .link("/proc/cmdline", "cmdline")
        .file("/proc/cpuinfo", CPUINFO)
        .file(
            "/proc/swaps",
            "\u{0}\u{fffd} not a table \n\n\t\t\t9999999999999999999999\n",
        );
    card_with_garbage(&root);
    // As long as a disk, without taking one.
    let endless = fs::File::create(root.path("/proc/interrupts")).unwrap();
    endless.set_len(1 << 40).unwrap();
    let begin = Instant::now();
    let facts = root.gather();
    assert!(begin.elapsed() < Duration::from_secs(20));
    assert_eq!(facts.cpu.logical, 2, "the file beside them is read");
    for path in ["/proc/meminfo", "/proc/cmdline", "/proc/interrupts"] {
        assert!(
            facts.unread.iter().any(|unread| unread.path == path),
            "{path}: {:?}",
            facts.unread
        );
    }
    assert_eq!(facts.iommu.interrupt_chips, None);
    assert_eq!(facts.swaps, None, "noise is not a list without areas");
}

#[test]
fn noise_is_no_fact_and_its_file_is_named() {
    let root = Root::new();
    let files = [
        "/proc/cpuinfo",
        "/proc/meminfo",
        "/proc/swaps",
        "/proc/net/tcp",
    ];
    for file in files {
        root.file(file, "\u{7}]\u{fffd}A m\t\u{12}\n\n 0: x\n");
    }
    let facts = root.gather();
    assert_eq!((facts.cpu.logical, facts.memory.total), (0, None));
    assert!(facts.swaps.is_none() && facts.network.listeners.is_none());
    for file in files {
        let named = facts.unread.iter().any(|unread| unread.path == file);
        assert!(named, "{file}: {:?}", facts.unread);
    }
}

/// A card whose numbers are none.
fn card_with_garbage(root: &Root) {
    let card = "/sys/bus/pci/devices/0000:01:00.0";
    root.file(&format!("{card}/class"), "0x020000\n")
        .file(&format!("{card}/vendor"), "Intel, surely\n")
        .file(&format!("{card}/sriov_totalvfs"), "-1\n")
        .file(&format!("{card}/sriov_numvfs"), &"9".repeat(5000))
        .link(&format!("{card}/virtfn0"), "virtfn0")
        .file("/sys/bus/pci/devices/not an address/class", "0x020000\n");
}

#[test]
fn a_link_does_not_lead_out_of_the_tree() {
    let root = Root::new();
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("cmdline");
    fs::write(&secret, "secret-of-this-machine").unwrap();
    root.link("/proc/cmdline", secret.to_str().unwrap())
        .link("/proc/cpuinfo", "../../../../../../../../proc/cpuinfo");
    let facts = root.gather();
    let text = serde_json::to_string(&facts).unwrap();
    assert!(!text.contains("secret-of-this-machine"));
    assert_eq!(facts.cpu.logical, 0, "{:?}", facts.cpu);
}
