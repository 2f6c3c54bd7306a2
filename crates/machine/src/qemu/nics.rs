//! Network interfaces: taps and devices.

use super::switch::{Device, Pairs};
use super::{Places, at, nic_driver, push_all};
use crate::spec::{Machine, NicModel};

pub(super) fn push(machine: &Machine, places: &Places, argv: &mut Vec<String>) {
    for (i, (nic, place)) in machine.nics.iter().zip(&places.nics).enumerate() {
        let many = nic.queues > 1;
        let netdev = Pairs::new("-netdev", "tap")
            .with("id", format!("tap{i}"))
            .with("ifname", &nic.tap)
            .with("script", "no")
            .with("downscript", "no")
            .with_some("queues", many.then_some(nic.queues))
            .with("vhost", super::switch::on(nic.vhost));
        let mut device = Device::new(nic_driver(nic.model), &format!("net{i}"))
            .with("netdev", format!("tap{i}"))
            .with("mac", &nic.mac);
        if nic.model == NicModel::Virtio {
            device = device
                .with_some("host_mtu", (nic.mtu > 0).then_some(nic.mtu))
                .with_some("mq", many.then_some("on"))
                // One interrupt a queue, one for control, one for changes.
                .with_some("vectors", many.then_some(2 * nic.queues + 2));
        }
        // The boot ROM is only loaded for an interface in the boot order.
        let device = match nic.boot_order {
            Some(order) => device.with("bootindex", order),
            None => device.with("romfile", ""),
        };
        let device = device.with_some("acpi-index", nic.acpi_index);
        push_all(argv, &[&netdev, &at(device, *place)]);
    }
}
