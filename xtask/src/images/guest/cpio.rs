//! Writes a tree as a cpio archive of the form the kernel unpacks (`newc`).

use std::io::Write;

use anyhow::Context;
use oci::{Kind, Source, Tree};

/// The console, which the kernel opens for the first program before /dev is mounted: character device 5:1.
const CONSOLE: (u32, u32) = (5, 1);

/// The archive's bytes. Everything belongs to root, times are zero.
pub(crate) fn archive(tree: &Tree) -> anyhow::Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut inode = 0;
    let mut put =
        |path: &str, mode: u32, content: &[u8], device: (u32, u32)| -> anyhow::Result<()> {
            inode += 1;
            let size = u32::try_from(content.len()).context("a file above 4 GiB does not fit")?;
            let links = if mode & 0o170_000 == 0o040_000 { 2 } else { 1 };
            let fields = [
                inode,
                mode,
                0,
                0,
                links,
                0,
                size,
                0,
                0,
                device.0,
                device.1,
                u32::try_from(path.len())? + 1,
                0,
            ];
            out.write_all(b"070701")?;
            for field in fields {
                write!(out, "{field:08X}")?;
            }
            out.write_all(path.as_bytes())?;
            out.push(0);
            pad(&mut out);
            out.write_all(content)?;
            pad(&mut out);
            Ok(())
        };
    for (path, kind, mode) in tree.entries() {
        match kind {
            Kind::Dir => put(path, 0o040_000 | mode, b"", (0, 0))?,
            Kind::Symlink(target) => put(path, 0o120_777, target.as_bytes(), (0, 0))?,
            Kind::File(Source::Bytes(bytes)) => put(path, 0o100_000 | mode, bytes, (0, 0))?,
            Kind::File(Source::Path(file)) => {
                let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
                put(path, 0o100_000 | mode, &bytes, (0, 0))?;
            }
        }
    }
    put("dev/console", 0o020_600, b"", CONSOLE)?;
    put("TRAILER!!!", 0, b"", (0, 0))?;
    Ok(out)
}

/// Names and contents begin at multiples of four bytes.
fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}
