//! The kernel proper out of a bzImage.
//!
//! Offsets are those of the kernel's x86 boot protocol, version 2.08: the number of setup sectors at 0x1f1, where the
//! packed kernel begins after them at 0x248, its length at 0x24c.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};

use super::programs::Programs;
use crate::images::root::Root;

/// How an xz stream begins.
const XZ: [u8; 6] = [0xfd, b'7', b'z', b'X', b'Z', 0];

/// Writes the kernel of the unpacked packages as the ELF file that QEMU starts over its PVH entry.
pub(super) fn extract(root: &Root, tools: &Programs, to: &Path) -> anyhow::Result<()> {
    let path = root
        .below("boot")
        .into_iter()
        .find(|path| path.starts_with("boot/vmlinuz-"))
        .context("the kernel's package has no /boot/vmlinuz-*")?;
    let image = fs::read(root.find(path)?)?;
    let packed = to.with_extension("xz");
    fs::write(&packed, payload(&image).with_context(|| path.to_owned())?)?;
    let unpacked = tools.run(
        "xz",
        &["-dc", "--single-stream", &packed.display().to_string()],
    )?;
    fs::remove_file(&packed)?;
    if !unpacked.stdout.starts_with(b"\x7fELF") {
        bail!("{path}: expected an ELF file in it, found something else");
    }
    Ok(fs::write(to, unpacked.stdout)?)
}

/// The packed kernel within the image.
fn payload(image: &[u8]) -> anyhow::Result<&[u8]> {
    let word = |at: usize| -> anyhow::Result<usize> {
        let bytes = image
            .get(at..at + 4)
            .context("it is too short for a kernel")?;
        Ok(u32::from_le_bytes(bytes.try_into()?).try_into()?)
    };
    let sectors = usize::from(*image.get(0x1f1).context("it is too short for a kernel")?);
    let start = (sectors + 1) * 512 + word(0x248)?;
    let found = image
        .get(start..start + word(0x24c)?)
        .context("its header points past its end")?;
    if !found.starts_with(&XZ) {
        bail!(
            "expected a kernel packed with xz, found {:02x?}",
            &found[..found.len().min(6)]
        );
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_payload_is_where_the_header_says() {
        let mut image = vec![0; 2048];
        image[0x1f1] = 1;
        image[0x248..0x24c].copy_from_slice(&16_u32.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&8_u32.to_le_bytes());
        assert!(payload(&image).is_err());
        image[1040..1046].copy_from_slice(&XZ);
        assert_eq!(payload(&image).unwrap().len(), 8);
        assert!(payload(&image[..1040]).is_err());
        assert!(payload(&[]).is_err());
    }
}
