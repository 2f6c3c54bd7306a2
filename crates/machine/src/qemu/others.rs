//! Root ports, entropy, balloon, inputs, watchdog.

use super::switch::{Device, Pairs};
use super::{Places, at, push_all};
use crate::spec::{Machine, WatchdogAction};

/// Slot of the first root port.
const FIRST_PORT_SLOT: u8 = 2;

/// Root ports 1 to `count`, eight to a slot; firmware numbers their buses in
/// this order, so port N is bus N.
pub(super) fn push_root_ports(count: u8, argv: &mut Vec<String>) {
    for i in 0..count {
        let (slot, function) = (FIRST_PORT_SLOT + i / 8, i % 8);
        let mut port = Device::new("pcie-root-port", &format!("rp{}", i + 1))
            .with("bus", "pcie.0")
            .with("addr", format!("{slot:#x}.{function:#x}"))
            .with("chassis", i + 1)
            .with("port", format!("{:#x}", slot * 8 + function));
        if function == 0 {
            port = port.with("multifunction", "on");
        }
        push_all(argv, &[&port]);
    }
}

pub(super) fn push(machine: &Machine, places: &Places, argv: &mut Vec<String>) {
    for (i, (input, place)) in machine.inputs.iter().zip(&places.inputs).enumerate() {
        let kind = if input.keyboard { "keyboard" } else { "tablet" };
        let id = format!("input{i}");
        let device = match place {
            Some(place) => at(Device::new(&format!("virtio-{kind}-pci"), &id), *place),
            None => {
                let driver = if input.keyboard {
                    "usb-kbd"
                } else {
                    "usb-tablet"
                };
                Device::new(driver, &id).with("bus", "usb0.0")
            }
        };
        push_all(argv, &[&device]);
    }
    if let Some(place) = places.balloon {
        // With reporting, pages the guest frees go back to the host by themselves.
        let balloon = Device::new("virtio-balloon-pci-non-transitional", "balloon0").with(
            "free-page-reporting",
            super::switch::on(machine.free_page_reporting),
        );
        push_all(argv, &[&at(balloon, place)]);
    }
    if let Some(place) = places.rng {
        push_all(
            argv,
            &[
                &Pairs::new("-object", "rng-random")
                    .with("id", "entropy0")
                    .with("filename", "/dev/urandom"),
                &at(
                    Device::new("virtio-rng-pci-non-transitional", "rng0").with("rng", "entropy0"),
                    place,
                ),
            ],
        );
    }
    if let (Some(action), Some(place)) = (machine.watchdog, places.watchdog) {
        let word = match action {
            WatchdogAction::Reset => "reset",
            WatchdogAction::Poweroff => "poweroff",
            WatchdogAction::Shutdown => "shutdown",
        };
        push_all(
            argv,
            &[
                &at(Device::new("i6300esb", "watchdog0"), place),
                &Pairs::new("-action", "").with("watchdog", word),
            ],
        );
    }
}
