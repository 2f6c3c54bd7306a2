//! Network interfaces.

use api::launcher::Sync;

use crate::error::SpecError;
use crate::pci::PciAddress;

/// One interface of the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nic {
    /// Name of the network.
    pub name: String,
    /// What the guest sees.
    pub model: NicModel,
    /// Tap device in the pod's network namespace.
    pub tap: String,
    /// MAC address.
    pub mac: String,
    /// Largest packet in bytes; 0 when not told.
    pub mtu: u32,
    /// Pairs of queues.
    pub queues: u32,
    /// The kernel moves packets.
    pub vhost: bool,
    /// Place in the boot order, from 1.
    pub boot_order: Option<u32>,
    /// Place on the PCI bus, when the user chose one.
    pub pci: Option<PciAddress>,
    /// ACPI index, which names the interface in the guest.
    pub acpi_index: Option<u32>,
    /// The link is down at start.
    pub link_down: bool,
}

/// Model of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NicModel {
    /// virtio-net.
    Virtio,
    /// Intel 82540EM.
    E1000,
    /// Intel 82574L.
    E1000e,
    /// Realtek RTL8029.
    Ne2kPci,
    /// AMD PCnet.
    Pcnet,
    /// Realtek RTL8139.
    Rtl8139,
}

impl NicModel {
    /// It sits on PCI Express; the others are conventional PCI devices.
    #[must_use]
    pub fn is_express(self) -> bool {
        matches!(self, Self::Virtio | Self::E1000e)
    }
}

/// All interfaces, in the order of the specification.
pub(super) fn nics(sync: &Sync) -> Result<Vec<Nic>, SpecError> {
    let interfaces = &sync.vmi.spec.domain.devices.interfaces;
    let mut nics = Vec::new();
    for (i, interface) in interfaces.iter().enumerate() {
        let path = format!("spec.domain.devices.interfaces[{i}]");
        let Some(ready) = sync.nics.iter().find(|n| n.network == interface.name) else {
            return Err(SpecError::new(
                format!("{path}.name"),
                &interface.name,
                "an interface that the node has prepared",
            ));
        };
        let model = model(interface.model.as_deref(), &format!("{path}.model"))?;
        let pci = interface
            .pci_address
            .as_deref()
            .map(|text| PciAddress::parse(&format!("{path}.pciAddress"), text))
            .transpose()?;
        if let Some(address) = pci
            && !model.is_express()
            && address.bus != 0
        {
            return Err(SpecError::new(
                format!("{path}.pciAddress"),
                address,
                "a place on bus 00, where conventional PCI devices sit",
            ));
        }
        nics.push(Nic {
            name: interface.name.clone(),
            model,
            tap: name(&ready.tap, &format!("{path}.tap"))?,
            mac: mac(&ready.mac, &format!("{path}.macAddress"))?,
            mtu: ready.mtu,
            queues: if model == NicModel::Virtio {
                ready.queues.max(1)
            } else {
                1
            },
            vhost: sync.vhost_net && model == NicModel::Virtio,
            boot_order: interface.boot_order,
            pci,
            acpi_index: interface.acpi_index,
            link_down: match interface.state.as_deref() {
                None | Some("" | "up") => false,
                Some("down") => true,
                Some(other) => {
                    return Err(SpecError::new(format!("{path}.state"), other, "up or down"));
                }
            },
        });
    }
    Ok(nics)
}

fn model(text: Option<&str>, path: &str) -> Result<NicModel, SpecError> {
    match text {
        None | Some("" | "virtio") => Ok(NicModel::Virtio),
        Some("e1000") => Ok(NicModel::E1000),
        Some("e1000e") => Ok(NicModel::E1000e),
        Some("ne2k_pci") => Ok(NicModel::Ne2kPci),
        Some("pcnet") => Ok(NicModel::Pcnet),
        Some("rtl8139") => Ok(NicModel::Rtl8139),
        Some(other) => Err(SpecError::new(
            path,
            other,
            "virtio, e1000, e1000e, ne2k_pci, pcnet or rtl8139",
        )),
    }
}

/// A network device name of Linux: 1 to 15 bytes.
fn name(text: &str, path: &str) -> Result<String, SpecError> {
    let fine = (1..=15).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if fine {
        Ok(text.to_owned())
    } else {
        Err(SpecError::new(path, text, "the name of a tap device"))
    }
}

/// A unicast MAC address, in colons and lower case.
fn mac(text: &str, path: &str) -> Result<String, SpecError> {
    let bytes = parse_mac(text).filter(|bytes| bytes[0] & 1 == 0);
    let Some(bytes) = bytes else {
        return Err(SpecError::new(
            path,
            text,
            "a unicast address such as 02:00:00:00:00:01",
        ));
    };
    let parts: Vec<String> = bytes.iter().map(|b| format!("{b:02x}")).collect();
    Ok(parts.join(":"))
}

/// The six bytes of a MAC address written with colons or dashes.
#[must_use]
pub fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut bytes = [0; 6];
    let mut parts = text.split([':', '-']);
    for byte in &mut bytes {
        let part = parts.next().filter(|p| p.len() == 2)?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(bytes)
}
