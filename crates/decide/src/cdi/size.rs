//! How much of a claim a disk may use, and how large a claim a disk needs.
//!
//! A file system keeps a share of its volume to itself. Shares have three
//! decimals, so all of this is whole numbers and the two functions undo each other.
//! Source: CDI pkg/util (GetRequiredSpace, GetUsableSpace), whose default share is 6 %.

use k8s_openapi::api::core::v1::PersistentVolumeClaimSpec;

/// Sizes of disks on file systems are multiples of this, in bytes.
const ALIGNMENT: u64 = 1 << 20;

/// Thousandths of a volume that its file system needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overhead(u64);

impl Overhead {
    /// Of a device: nothing.
    pub const NONE: Self = Self(0);
    /// Of a file system that nobody said anything about.
    pub const DEFAULT: Self = Self(60);

    /// Reads a decimal from 0 to 1 with up to three places; `None` when it is none, or
    /// when it leaves no room for data.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (whole, places) = text.split_once('.').unwrap_or((text, ""));
        if whole != "0" || places.len() > 3 || !places.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        format!("{places:0<3}").parse().ok().map(Self)
    }

    /// The decimal, as the configuration has it.
    #[must_use]
    pub fn text(self) -> String {
        let text = format!("0.{:03}", self.0);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }

    /// Bytes of a claim that holds a disk of `disk` bytes.
    #[must_use]
    pub fn claim_for(self, disk: u64) -> u64 {
        if self == Self::NONE {
            return disk;
        }
        let disk = u128::from(disk.div_ceil(ALIGNMENT)) * u128::from(ALIGNMENT);
        u64::try_from((disk * 1000).div_ceil(u128::from(1000 - self.0))).unwrap_or(u64::MAX)
    }

    /// Bytes of the largest disk that fits a claim of `claim` bytes.
    #[must_use]
    pub fn disk_in(self, claim: u64) -> u64 {
        if self == Self::NONE {
            return claim;
        }
        let room = u128::from(claim) * u128::from(1000 - self.0) / 1000;
        u64::try_from(room).unwrap_or(u64::MAX) / ALIGNMENT * ALIGNMENT
    }
}

/// Whether the claim is a device rather than a file system.
#[must_use]
pub fn is_block(claim: &PersistentVolumeClaimSpec) -> bool {
    claim.volume_mode.as_deref() == Some("Block")
}

/// Bytes of a quantity; `None` when it is none.
#[must_use]
pub fn bytes(quantity: &str) -> Option<u64> {
    machine::quantity::parse(quantity).ok()
}

/// Bytes that a claim asks for; `None` when it says nothing readable.
#[must_use]
pub fn requested(claim: &PersistentVolumeClaimSpec) -> Option<u64> {
    let storage = claim
        .resources
        .as_ref()?
        .requests
        .as_ref()?
        .get("storage")?;
    machine::quantity::bytes(storage).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shares_are_read_and_written() {
        for (text, share) in [("0.06", 60), ("0", 0), ("0.055", 55), ("0.5", 500)] {
            let overhead = Overhead::parse(text).unwrap();
            assert_eq!(overhead.0, share);
            assert_eq!(overhead.text(), text);
        }
        for text in ["1", "", "6", "0.0001", "-0.1", "0.x", "0.+1"] {
            assert_eq!(Overhead::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_gibibyte_needs_a_claim_six_percent_larger() {
        assert_eq!(Overhead::DEFAULT.claim_for(1 << 30), 1_142_278_537);
        assert_eq!(Overhead::DEFAULT.disk_in(1_142_278_537), 1 << 30);
        assert_eq!(Overhead::NONE.claim_for(12345), 12345);
    }

    proptest! {
        #[test]
        fn a_disk_fits_the_claim_that_was_made_for_it(disk in 1_u64..1 << 50, share in 0_u64..1000) {
            let overhead = Overhead(share);
            prop_assert!(overhead.disk_in(overhead.claim_for(disk)) >= disk);
        }
    }
}
