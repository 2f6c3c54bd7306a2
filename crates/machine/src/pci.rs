//! Places on the PCI bus.
//!
//! ```text
//!   pcie.0  00.0 host bridge   01.0 VGA
//!           02.0 … 09.7  root ports 1 … 64, each a bus of one device
//!           0a.0 … 1e.0  conventional devices and places the user chose
//!           1f.x  ICH9: LPC, AHCI, SMBus
//! ```
//!
//! Interfaces get the first buses, so the first one is `enp1s0` in the guest,
//! as with upstream. The layout depends on the specification alone: a restart
//! renames nothing.

use std::collections::BTreeSet;
use std::fmt;

use crate::error::SpecError;

/// Root ports there can be: slots 02 to 09, eight functions each.
const MAX_PORTS: u8 = 64;
/// First slot for conventional devices.
const FIRST_SLOT: u8 = 0x0a;
/// Last slot before ICH9's.
const LAST_SLOT: u8 = 0x1e;

/// A place that a user may choose: `0000:BB:SS.0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PciAddress {
    /// 0 for the root complex, else the number of a root port.
    pub bus: u8,
    /// Slot on the bus.
    pub slot: u8,
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0000:{:02x}:{:02x}.0", self.bus, self.slot)
    }
}

impl PciAddress {
    /// Reads `0000:BB:SS.F` and refuses places that q35 does not have.
    pub(crate) fn parse(path: &str, text: &str) -> Result<Self, SpecError> {
        let wrong = || {
            SpecError::new(
                path,
                text,
                format!(
                    "0000:BB:00.0 with bus 01 to {MAX_PORTS:02x}, or 0000:00:SS.0 with slot {FIRST_SLOT:02x} to {LAST_SLOT:02x}"
                ),
            )
        };
        let mut parts = text.split([':', '.']);
        let mut next = |len| {
            parts
                .next()
                .filter(|p| p.len() == len)
                .and_then(|p| u16::from_str_radix(p, 16).ok())
                .ok_or_else(wrong)
        };
        let (domain, bus, slot, function) = (next(4)?, next(2)?, next(2)?, next(1)?);
        if parts.next().is_some() || domain != 0 || function != 0 {
            return Err(wrong());
        }
        let address = Self {
            bus: u8::try_from(bus).map_err(|_| wrong())?,
            slot: u8::try_from(slot).map_err(|_| wrong())?,
        };
        let fine = match address.bus {
            0 => (FIRST_SLOT..=LAST_SLOT).contains(&address.slot),
            bus => bus <= MAX_PORTS && address.slot == 0,
        };
        if fine { Ok(address) } else { Err(wrong()) }
    }
}

/// Hands out places; first the chosen ones are reserved, then the rest follow.
#[derive(Debug, Default)]
pub(crate) struct Placement {
    taken: BTreeSet<PciAddress>,
    next_port: u8,
    next_slot: u8,
}

impl Placement {
    /// Reserves a place the user chose.
    pub(crate) fn reserve(&mut self, address: PciAddress) -> Result<(), SpecError> {
        if self.taken.insert(address) {
            Ok(())
        } else {
            Err(SpecError::new(
                "spec.domain.devices",
                address,
                "a PCI address that only one device has",
            ))
        }
    }

    /// The next free root port.
    pub(crate) fn port(&mut self) -> Result<PciAddress, SpecError> {
        while self.next_port < MAX_PORTS {
            self.next_port += 1;
            let address = PciAddress {
                bus: self.next_port,
                slot: 0,
            };
            if self.taken.insert(address) {
                return Ok(address);
            }
        }
        Err(SpecError::new(
            "spec.domain.devices",
            "too many devices",
            format!("at most {MAX_PORTS} PCI Express devices"),
        ))
    }

    /// The next free slot for a conventional device.
    pub(crate) fn slot(&mut self) -> Result<PciAddress, SpecError> {
        self.next_slot = self.next_slot.max(FIRST_SLOT);
        while self.next_slot <= LAST_SLOT {
            let address = PciAddress {
                bus: 0,
                slot: self.next_slot,
            };
            self.next_slot += 1;
            if self.taken.insert(address) {
                return Ok(address);
            }
        }
        Err(SpecError::new(
            "spec.domain.devices",
            "too many devices",
            "at most 21 conventional PCI devices",
        ))
    }

    /// Root ports needed: up to the highest that is taken.
    pub(crate) fn ports(&self) -> u8 {
        self.taken.iter().map(|a| a.bus).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn places_that_q35_has_are_read_and_others_refused() {
        for (text, bus, slot) in [("0000:01:00.0", 1, 0), ("0000:00:1b.0", 0, 0x1b)] {
            let address = PciAddress::parse("x", text).unwrap();
            assert_eq!((address.bus, address.slot), (bus, slot));
            assert_eq!(address.to_string(), text);
        }
        for text in [
            "",
            "0000:81:01.0",
            "0001:01:00.0",
            "0000:01:00.1",
            "0000:00:01.0",
            "0000:00:1f.0",
            "01:00.0",
            "0000:01:00.0.0",
        ] {
            assert!(PciAddress::parse("x", text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_chosen_place_is_left_out_when_the_rest_follow() {
        let mut placement = Placement::default();
        placement.reserve(PciAddress { bus: 1, slot: 0 }).unwrap();
        assert_eq!(placement.port().unwrap().bus, 2);
        assert!(placement.reserve(PciAddress { bus: 2, slot: 0 }).is_err());
        assert_eq!(placement.slot().unwrap().slot, FIRST_SLOT);
        assert_eq!(placement.ports(), 2);
    }

    #[test]
    fn the_ports_run_out_aloud() {
        let mut placement = Placement::default();
        for _ in 0..MAX_PORTS {
            placement.port().unwrap();
        }
        assert!(placement.port().is_err());
    }
}
