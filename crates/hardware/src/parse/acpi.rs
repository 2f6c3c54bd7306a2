//! The firmware's tables that announce an IOMMU: DMAR (Intel VT-d specification,
//! chapter 8) and IVRS (AMD I/O Virtualization Technology specification, chapter 5).

use super::text::{le16, le32, le64, padded};

/// Bytes of the header that every ACPI table has (ACPI specification 6.5, 5.2.6).
const HEADER: usize = 36;

/// What a DMAR table says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dmar {
    /// Who made the firmware's table.
    pub oem: String,
    /// Bits of a physical address that DMA may use.
    pub address_width: u8,
    /// Bit 0: the platform supports interrupt remapping; bit 1: the firmware asks
    /// the system to leave x2APIC off; bit 2: it wants DMA protected from boot on.
    pub flags: u8,
    /// Remapping units: PCI segment and register base of each DRHD.
    pub units: Vec<(u16, u64)>,
    /// Every byte adds up to 0, and the length is the file's.
    pub sound: bool,
}

/// Reads a DMAR table; `None` when the bytes are no such table.
#[must_use]
pub fn dmar(table: &[u8]) -> Option<Dmar> {
    if table.get(..4)? != b"DMAR" {
        return None;
    }
    let flags = *table.get(37)?;
    // Header, width, flags, 10 reserved bytes; then structures of type, length, …
    let units = structures(table, 48)
        .filter(|(kind, _)| *kind == 0)
        .filter_map(|(_, body)| Some((le16(body, 6)?, le64(body, 8)?)))
        .collect();
    Some(Dmar {
        oem: padded(table.get(10..16)?),
        address_width: table.get(HEADER)?.saturating_add(1),
        flags,
        units,
        sound: sound(table),
    })
}

/// The structures of a DMAR table: 16-bit type, 16-bit length with both fields.
fn structures(table: &[u8], start: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let mut at = start;
    std::iter::from_fn(move || {
        let kind = le16(table, at)?;
        let length = usize::from(le16(table, at.checked_add(2)?)?);
        // A length that does not get further would never end.
        if length < 4 {
            return None;
        }
        let body = table.get(at..at.checked_add(length)?)?;
        at = at.checked_add(length)?;
        Some((kind, body))
    })
}

/// What an IVRS table says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ivrs {
    /// Who made the firmware's table.
    pub oem: String,
    /// Bits of a physical address, from IVinfo.
    pub address_width: u8,
    /// IVinfo as it is.
    pub info: u32,
    /// IOMMUs: PCI segment and register base, each named once though several
    /// blocks (types 10h, 11h, 40h) may describe it.
    pub units: Vec<(u16, u64)>,
    /// Every byte adds up to 0, and the length is the file's.
    pub sound: bool,
}

/// Reads an IVRS table; `None` when the bytes are no such table.
#[must_use]
pub fn ivrs(table: &[u8]) -> Option<Ivrs> {
    if table.get(..4)? != b"IVRS" {
        return None;
    }
    let info = le32(table, HEADER)?;
    let mut units: Vec<(u16, u64)> = Vec::new();
    // IVinfo and 8 reserved bytes; then blocks of type, flags, 16-bit length, …
    let mut at = 48;
    while let (Some(kind), Some(length)) = (table.get(at), le16(table, at + 2)) {
        let length = usize::from(length);
        let Some(body) = table.get(at..at.saturating_add(length)) else {
            break;
        };
        if length < 4 {
            break;
        }
        if matches!(kind, 0x10 | 0x11 | 0x40)
            && let (Some(base), Some(segment)) = (le64(body, 8), le16(body, 16))
            && !units.contains(&(segment, base))
        {
            units.push((segment, base));
        }
        at += length;
    }
    Some(Ivrs {
        oem: padded(table.get(10..16)?),
        // Bits 14:8, PASize.
        address_width: u8::try_from((info >> 8) & 0x7f).unwrap_or_default(),
        info,
        units,
        sound: sound(table),
    })
}

fn sound(table: &[u8]) -> bool {
    let length = le32(table, 4).and_then(|length| usize::try_from(length).ok());
    length == Some(table.len()) && table.iter().fold(0_u8, |sum, b| sum.wrapping_add(*b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table with the right length and checksum.
    fn table(signature: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let mut bytes = signature.to_vec();
        let length = u32::try_from(HEADER + body.len()).unwrap_or(0);
        bytes.extend(length.to_le_bytes());
        bytes.extend([1, 0]);
        bytes.extend(b"BOCHS BXPC    ");
        bytes.resize(HEADER, 0);
        bytes.extend(body);
        let sum = bytes.iter().fold(0_u8, |sum, b| sum.wrapping_add(*b));
        bytes[9] = 0_u8.wrapping_sub(sum);
        bytes
    }

    #[test]
    fn a_dmar_table_names_its_flags_and_units() {
        let mut body = vec![38, 1];
        body.resize(12, 0);
        body.extend([0, 0, 16, 0, 1, 0, 0, 0]);
        body.extend(0xfed9_0000_u64.to_le_bytes());
        let dmar = dmar(&table(b"DMAR", &body)).unwrap_or_default();
        assert!(dmar.sound && dmar.flags == 1);
        assert_eq!(dmar.address_width, 39);
        assert_eq!(dmar.oem, "BOCHS");
        assert_eq!(dmar.units, [(0, 0xfed9_0000)]);
    }

    #[test]
    fn an_ivrs_table_names_each_unit_once() {
        let mut body = vec![0; 12];
        body[1] = 40;
        for kind in [0x10, 0x11] {
            let mut block = vec![kind, 0, 24, 0, 0, 0, 0, 0];
            block.extend(0xfeb8_0000_u64.to_le_bytes());
            block.resize(24, 0);
            body.extend(block);
        }
        let ivrs = ivrs(&table(b"IVRS", &body)).unwrap_or_default();
        assert!(ivrs.sound);
        assert_eq!(ivrs.address_width, 40);
        assert_eq!(ivrs.units, [(0, 0xfeb8_0000)]);
    }

    #[test]
    fn what_is_cut_short_or_something_else_is_no_table() {
        assert_eq!(dmar(b"DMAR"), None);
        assert_eq!(dmar(&table(b"APIC", &[0; 40])), None);
        assert_eq!(ivrs(b"IVRS\0"), None);
        // A structure of length 0 ends the list and not never.
        let endless = dmar(&table(b"DMAR", &[0; 40])).unwrap_or_default();
        assert!(endless.units.is_empty());
    }
}
