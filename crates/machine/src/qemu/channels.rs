//! Channels between QEMU and the world: monitor, guest agent, serial console,
//! display.

use super::switch::{Device, Pairs, Word};
use super::{Places, Runtime, at, push_all};
use crate::spec::{Firmware, Machine};

/// Name by which the guest agent finds its port.
pub(super) const AGENT_PORT: &str = "org.qemu.guest_agent.0";

pub(super) fn push_backends(machine: &Machine, runtime: &Runtime, argv: &mut Vec<String>) {
    // Monitor and agent are inherited sockets: nothing in the file system that
    // anyone else could connect to.
    let inherited = |id: &str, fd: i32| {
        Pairs::new("-chardev", "socket")
            .with("id", id)
            .with("fd", fd)
    };
    push_all(
        argv,
        &[
            &inherited("monitor", runtime.monitor_fd),
            &Pairs::new("-mon", "")
                .with("chardev", "monitor")
                .with("mode", "control"),
            &inherited("agent", runtime.agent_fd),
        ],
    );
    if machine.serial_console {
        push_all(
            argv,
            // Output goes nowhere while nobody is connected: the guest never waits.
            &[&Pairs::new("-chardev", "socket")
                .with("id", "serial0")
                .with("path", &runtime.serial_socket)
                .with("server", "on")
                .with("wait", "off")],
        );
    }
    if machine.graphics {
        push_all(
            argv,
            &[&Word("-vnc", format!("unix:{}", runtime.vnc_socket))],
        );
    }
}

pub(super) fn push_devices(machine: &Machine, places: &Places, argv: &mut Vec<String>) {
    push_all(
        argv,
        &[
            &at(
                Device::new("virtio-serial-pci-non-transitional", "virtio-serial0"),
                places.serial,
            ),
            &Device::new("virtserialport", "channel0")
                .with("bus", "virtio-serial0.0")
                .with("nr", 1)
                .with("chardev", "agent")
                .with("name", AGENT_PORT),
        ],
    );
    if machine.serial_console {
        push_all(
            argv,
            &[&Device::new("isa-serial", "console0").with("chardev", "serial0")],
        );
    }
    if machine.graphics {
        // UEFI needs no legacy VGA, and has its own driver instead of a ROM; as upstream.
        let video = match machine.firmware {
            Firmware::Efi { .. } => Device::new("bochs-display", "video0").with("romfile", ""),
            Firmware::Bios { .. } => Device::new("VGA", "video0").with("vgamem_mb", 16),
        };
        push_all(argv, &[&video.with("bus", "pcie.0").with("addr", "0x1")]);
    }
}
