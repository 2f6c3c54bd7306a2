//! The command line of a node's QEMU.
//!
//! What is not obvious in it was learnt the hard way:
//! - `amd-iommu` with interrupt remapping ends in a kernel panic under emulation;
//! - up to QEMU 10.0.5, virtual functions whose registers lie above 4 GiB are dead, and the firmware puts them there
//!   once a q35 has 2816 MiB of memory: nodes have less;
//! - the kernel tests its timer against the clock, which an emulated processor on a busy machine fails, and panics
//!   where interrupts are remapped: `no_timer_check`, as on any hypervisor it knows;
//! - with a thread for each processor QEMU now and then ends itself while the firmware maps a device
//!   (`iotlb_to_section: Assertion`); one thread for both costs no more;
//! - `panic=-1` with `reboot=shutdown` makes a kernel panic the end of QEMU instead of silence.

use std::path::Path;

use super::Testbed;
use super::variant::{Iommu, Nic, Variant};

/// Memory of a node, MiB.
const MEMORY: u32 = 384;
/// The address of the link that carries the connection; the node's first program looks for it.
const MANAGEMENT_MAC: &str = "52:54:00:ed:9e:01";
/// The address of the NIC for guests.
const NIC_MAC: &str = "52:54:00:ed:9e:02";

/// The program and all its words.
pub(super) fn words(testbed: &Testbed, variant: &Variant, dir: &Path, port: u16) -> Vec<String> {
    let file = |name: &str| testbed.file(name).display().to_string();
    let run = |name: &str| dir.join(name).display().to_string();
    let mut words: Vec<String> = [
        &file("qemu/ld-linux-x86-64.so.2"),
        "--library-path",
        &file("qemu"),
        &file("qemu/qemu-system-x86_64"),
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-L",
        &file("firmware"),
        "-machine",
        "q35",
        "-accel",
        "tcg,thread=single",
        "-smp",
        "2",
        "-cpu",
        &variant.cpu,
        "-m",
        &MEMORY.to_string(),
        "-serial",
        &format!("file:{}", run("console.log")),
        "-pidfile",
        &run("pid"),
        "-object",
        "rng-random,id=rng,filename=/dev/urandom",
        "-device",
        "virtio-rng-pci,rng=rng",
    ]
    .map(str::to_owned)
    .to_vec();
    let mut add = |option: &str, value: String| words.extend([option.to_owned(), value]);
    if variant.own_disk {
        // Its writes go with QEMU.
        let disk = file("disk.raw");
        add(
            "-drive",
            format!("file={disk},format=raw,if=none,id=root,snapshot=on,cache=unsafe"),
        );
        add(
            "-device",
            "virtio-blk-pci,drive=root,serial=ROOT0,bootindex=1".into(),
        );
    } else {
        add("-kernel", file("vmlinux"));
        add("-initrd", file("initrd"));
        add("-append", kernel_words(variant));
        // A kernel that panics ends QEMU.
        add("-action", "reboot=shutdown".into());
    }
    match variant.iommu {
        Iommu::Intel => add("-device", intel("on")),
        Iommu::IntelNoRemapping => add("-device", intel("off")),
        Iommu::Amd => add("-device", "amd-iommu,intremap=off".into()),
        Iommu::None => {}
    }
    // Nothing but the forwarded port leads in, and nothing leads out. IPv6 is off because user networking would offer
    // itself as the default route on every link.
    let management = format!("user,restrict=on,ipv6=off,hostfwd=tcp:127.0.0.1:{port}-:22");
    let guests = "user,restrict=on,ipv6=off,net=10.9.0.0/24";
    let (first, mac) = if variant.ssh_over_nic {
        (management, MANAGEMENT_MAC)
    } else {
        add("-netdev", format!("{management},id=management"));
        add(
            "-device",
            format!("virtio-net-pci,netdev=management,mac={MANAGEMENT_MAC},romfile="),
        );
        (guests.to_owned(), NIC_MAC)
    };
    add("-netdev", format!("{first},id=guests"));
    add(
        "-device",
        "pcie-root-port,id=port1,bus=pcie.0,chassis=1,slot=1".into(),
    );
    let nic = format!("netdev=guests,bus=port1,mac={mac},romfile=");
    match variant.nic {
        Nic::Igb => add("-device", format!("igb,{nic}")),
        Nic::E1000e => add("-device", format!("e1000e,{nic}")),
        Nic::E1000eTwoFunctions => {
            add("-device", format!("e1000e,{nic},multifunction=on,addr=0.0"));
            add(
                "-netdev",
                "user,restrict=on,ipv6=off,net=10.10.0.0/24,id=more".into(),
            );
            add(
                "-device",
                "e1000e,netdev=more,bus=port1,addr=0.1,romfile=".into(),
            );
        }
    }
    add(
        "-drive",
        format!(
            "file={},format=raw,if=none,id=spare,cache=unsafe",
            run("spare.raw")
        ),
    );
    add("-device", "virtio-blk-pci,drive=spare,serial=CEPH0".into());
    words
}

fn intel(remapping: &str) -> String {
    format!("intel-iommu,intremap={remapping},caching-mode=on,device-iotlb=on")
}

/// The kernel's command line.
fn kernel_words(variant: &Variant) -> String {
    let mut words = vec![
        "console=ttyS0".to_owned(),
        "quiet".into(),
        "panic=-1".into(),
    ];
    words.extend(variant.kernel.iter().cloned());
    if variant.hugepages > 0 {
        words.push(format!("hugepages={}", variant.hugepages));
    }
    if !variant.without.is_empty() {
        words.push(format!("edge.without={}", variant.without.join(",")));
    }
    words.join(" ")
}
