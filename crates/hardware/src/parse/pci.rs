//! PCI addresses and configuration space (PCI Express Base specification 6.0, 7).

use super::text::{le16, le32};
use crate::facts::Acs;

/// Type 0 and 1 headers have their list of capabilities from here.
const CAPABILITIES: usize = 0x34;
/// Extended capabilities begin here: what is shorter has none.
pub const EXTENDED: usize = 0x100;
/// Bytes from the beginning of an extended capability in which all is that [`config`] reads of it.
pub const CAPABILITY: usize = 0x10;
/// Extended capability "Access Control Services".
const ACS: u16 = 0x000d;
/// Extended capability "Single Root I/O Virtualization".
const SRIOV: u16 = 0x0010;

/// The address of a function, `0000:01:00.0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// Segment.
    pub domain: u32,
    /// Bus.
    pub bus: u8,
    /// Device, 0 to 31.
    pub device: u8,
    /// Function, 0 to 7.
    pub function: u8,
}

/// Reads `DDDD:BB:DD.F` as sysfs writes it; `BB:DD.F` is in domain 0.
#[must_use]
pub fn address(text: &str) -> Option<Address> {
    let (rest, function) = text.rsplit_once('.')?;
    let mut parts = rest.rsplit(':');
    let hex = |text: &str, digits: std::ops::RangeInclusive<usize>| {
        let fits = digits.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
        fits.then(|| u32::from_str_radix(text, 16).ok()).flatten()
    };
    let device = u8::try_from(hex(parts.next()?, 2..=2)?).ok()?;
    let bus = u8::try_from(hex(parts.next()?, 2..=2)?).ok()?;
    let domain = match parts.next() {
        Some(domain) => hex(domain, 4..=8)?,
        None => 0,
    };
    let function = u8::try_from(hex(function, 1..=1)?).ok()?;
    (parts.next().is_none() && device < 32 && function < 8).then_some(Address {
        domain,
        bus,
        device,
        function,
    })
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (domain, bus, device) = (self.domain, self.bus, self.device);
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{}", self.function)
    }
}

/// What configuration space says that sysfs does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Vendor and device id.
    pub ids: (u16, u16),
    /// The function is a bridge (header type 1).
    pub bridge: bool,
    /// Its express capability, when it has one: the port's type (7.5.3.2), for
    /// example 4 for a root port, 6 for a switch's downstream port.
    pub port: Option<u8>,
    /// Access Control Services, when the function has them. Bits of both registers:
    /// 0 source validation, 2 request redirect, 3 completion redirect, 4
    /// upstream forwarding. A port without them lets its devices talk past the
    /// IOMMU, so the kernel puts them into one group.
    pub acs: Option<Acs>,
    /// VFs that the hardware has, when it has SR-IOV at all.
    pub total_vfs: Option<u16>,
    /// Bytes that could be read: 64 or 256 tell nothing of extended capabilities.
    pub length: usize,
}

/// Reads configuration space; `None` when there is no device behind it.
#[must_use]
pub fn config(bytes: &[u8]) -> Option<Config> {
    let ids = (le16(bytes, 0)?, le16(bytes, 2)?);
    if ids.0 == 0xffff {
        return None;
    }
    let mut config = Config {
        ids,
        bridge: bytes.get(0x0e).is_some_and(|kind| kind & 0x7f == 1),
        length: bytes.len(),
        ..Config::default()
    };
    config.port = express(bytes);
    for (id, at) in extended(bytes) {
        match id {
            ACS => {
                config.acs =
                    le16(bytes, at + 4)
                        .zip(le16(bytes, at + 6))
                        .map(|(capability, control)| Acs {
                            capability,
                            control,
                        });
            }
            SRIOV => config.total_vfs = le16(bytes, at + 0x0e),
            _ => {}
        }
    }
    Some(config)
}

/// The type of port from the express capability (id 10h).
fn express(bytes: &[u8]) -> Option<u8> {
    // Bit 4 of the status register: there is a list.
    if le16(bytes, 6)? & (1 << 4) == 0 {
        return None;
    }
    let mut at = usize::from(bytes.get(CAPABILITIES)? & !3);
    // The list may lead in a circle on a broken device: 48 fit.
    for _ in 0..48 {
        if at < 0x40 {
            return None;
        }
        if *bytes.get(at)? == 0x10 {
            return Some(u8::try_from((le16(bytes, at + 2)? >> 4) & 0xf).unwrap_or_default());
        }
        at = usize::from(bytes.get(at + 1)? & !3);
    }
    None
}

/// Id and place of each extended capability.
fn extended(bytes: &[u8]) -> Vec<(u16, usize)> {
    let mut found = Vec::new();
    let mut at = EXTENDED;
    // 960 fit; a circle ends here.
    while found.len() < 960 {
        let Some((id, next)) = capability(bytes, at) else {
            break;
        };
        found.push((id, at));
        let Some(next) = next else { break };
        at = next;
    }
    found
}

/// Id of the extended capability at `at`, and where the next one is; `None` when there is none at `at`.
#[must_use]
pub fn capability(bytes: &[u8], at: usize) -> Option<(u16, Option<usize>)> {
    let header = le32(bytes, at)?;
    if header == 0 || header == u32::MAX {
        return None;
    }
    let id = u16::try_from(header & 0xffff).unwrap_or_default();
    let next = usize::try_from(header >> 20).unwrap_or_default() & !3;
    Some((id, (next >= EXTENDED).then_some(next)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_with_and_without_their_domain() {
        for (text, expected) in [
            ("0000:01:00.0", Some("0000:01:00.0")),
            ("01:10.7", Some("0000:01:10.7")),
            ("10000:e1:1f.3", Some("10000:e1:1f.3")),
            ("0000:01:20.0", None),
            ("0000:01:00.8", None),
            ("0000:01:00", None),
            ("../01:00.0", None),
            ("a:0000:01:00.0", None),
            ("0000:+1:00.0", None),
        ] {
            let found = address(text).map(|address| address.to_string());
            assert_eq!(found.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn capabilities_are_followed_and_a_circle_ends() {
        let mut bytes = vec![0; 4096];
        bytes[..4].copy_from_slice(&[0x86, 0x80, 0xc9, 0x10]);
        bytes[6] = 0x10;
        bytes[0x34] = 0x40;
        bytes[0x40..0x44].copy_from_slice(&[0x10, 0x40, 0x42, 0]);
        // ACS at 0x100, then SR-IOV at 0x140, then back to ACS.
        bytes[0x100..0x104].copy_from_slice(&0x1401_000d_u32.to_le_bytes());
        bytes[0x106] = 0x1d;
        bytes[0x140..0x144].copy_from_slice(&0x1001_0010_u32.to_le_bytes());
        bytes[0x14e] = 8;
        let config = config(&bytes).unwrap_or_default();
        assert_eq!(config.ids, (0x8086, 0x10c9));
        assert_eq!(config.port, Some(4));
        assert_eq!(config.acs.map(|acs| acs.control), Some(0x1d));
        assert_eq!(config.total_vfs, Some(8));
    }

    #[test]
    fn a_device_that_is_gone_has_no_configuration() {
        assert_eq!(config(&[0xff; 64]), None);
        assert_eq!(config(&[]), None);
        assert_eq!(
            config(&[0x86, 0x80, 1, 0]).map(|config| config.total_vfs),
            Some(None)
        );
    }
}
