//! Where an archive's members are. Nothing is unpacked: a name is only looked up
//! in a table, so one that leaves the archive leads nowhere.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

use crate::{Error, Result};

/// The most members an archive may have; an image has a few for each of at most 127 layers.
const MEMBERS_MAX: usize = 20_000;

#[derive(Debug, Clone)]
pub(super) enum Member {
    Data { offset: u64, size: u64 },
    Link(String),
}

/// The table of an archive's members.
pub(super) fn scan(path: &Path) -> Result<BTreeMap<String, Member>> {
    let mut file = File::open(path).map_err(Error::file("open", path))?;
    let mut magic = [0; 6];
    let known = file.read(&mut magic).map_err(Error::file("read", path))?;
    let packer = match &magic[..known] {
        [0x1f, 0x8b, ..] => Some("gunzip"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some("unzstd"),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Some("unxz"),
        _ => None,
    };
    if let Some(packer) = packer {
        return Err(Error::archive(
            path,
            format!("it is compressed as a whole; unpack it with `{packer}` first"),
        ));
    }
    file.rewind().map_err(Error::file("read", path))?;
    let length = file.metadata().map_err(Error::file("look at", path))?.len();
    let broken =
        |e: io::Error| Error::archive(path, format!("it is no tar archive, or a damaged one: {e}"));
    let mut members = BTreeMap::new();
    let mut tar = tar::Archive::new(file);
    for entry in tar.entries_with_seek().map_err(broken)? {
        let entry = entry.map_err(broken)?;
        let raw = entry.path().map_err(broken)?.to_string_lossy().into_owned();
        // A name that leaves the archive can be referred to by nothing; it is passed over.
        let Some(name) = normal(&raw) else { continue };
        let kind = entry.header().entry_type();
        let (offset, size) = (entry.raw_file_position(), entry.size());
        if kind.is_file() {
            if offset.checked_add(size).is_none_or(|end| end > length) {
                return Err(Error::archive(
                    path,
                    format!("{name} is longer than the archive; it was cut off"),
                ));
            }
            members.insert(name, Member::Data { offset, size });
        } else if kind.is_symlink() || kind.is_hard_link() {
            let target = entry
                .link_name()
                .map_err(broken)?
                .map(|t| t.to_string_lossy().into_owned());
            let base = name.rsplit_once('/').map_or("", |(dir, _)| dir);
            let joined = target.map(|t| {
                if kind.is_symlink() {
                    format!("{base}/{t}")
                } else {
                    t
                }
            });
            if let Some(target) = joined.as_deref().and_then(normal) {
                members.insert(name, Member::Link(target));
            }
        }
        if members.len() > MEMBERS_MAX {
            return Err(Error::archive(
                path,
                format!("it has more than {MEMBERS_MAX} members; that is no image"),
            ));
        }
    }
    Ok(members)
}

/// A name without `.` and `..`; none if it leaves the archive.
pub(super) fn normal(name: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}
