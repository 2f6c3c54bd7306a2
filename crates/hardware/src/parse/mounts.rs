//! /proc/self/mountinfo (Documentation/filesystems/proc.rst, 3.5).

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// `major:minor` of the file system's device.
    pub device: String,
    /// Where it is mounted.
    pub point: String,
    /// Type, for example `ext4`.
    pub kind: String,
    /// What was mounted, for example `/dev/sda1`.
    pub source: String,
}

/// Reads mountinfo; lines that are cut short are left out.
#[must_use]
pub fn mountinfo(text: &str) -> Vec<Mount> {
    text.lines().filter_map(line).collect()
}

fn line(line: &str) -> Option<Mount> {
    // id parent major:minor root point options [optional...] - type source options
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split_whitespace().skip(2);
    let device = before.next()?.to_owned();
    let point = unescape(before.nth(1)?);
    let mut after = after.split_whitespace();
    Some(Mount {
        device,
        point,
        kind: after.next()?.to_owned(),
        source: unescape(after.next()?),
    })
}

/// Takes the kernel's octal escapes (`\040` is a space) out of a name.
#[must_use]
pub fn unescape(name: &str) -> String {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let escaped = match (first, tail) {
            (
                b'\\',
                [
                    a @ b'0'..=b'3',
                    b @ b'0'..=b'7',
                    c @ b'0'..=b'7',
                    after @ ..,
                ],
            ) => Some(((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'), after)),
            _ => None,
        };
        let (byte, after) = escaped.unwrap_or((*first, tail));
        out.push(byte);
        rest = after;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_with_and_without_optional_fields() {
        let text = "27 1 254:0 / / rw shared:2 - ext4 /dev/vda rw\n\
                    30 27 8:17 / /my\\040disk rw - xfs /dev/sdb1 rw\nshort - x\n\n";
        let found = mountinfo(text);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].device, "254:0");
        assert_eq!(found[0].kind, "ext4");
        assert_eq!(found[1].point, "/my disk");
        assert_eq!(found[1].source, "/dev/sdb1");
    }

    #[test]
    fn escapes_that_are_none_stay_as_they_are() {
        for (text, expected) in [("a\\040b", "a b"), ("a\\9", "a\\9"), ("\\", "\\")] {
            assert_eq!(unescape(text), expected);
        }
    }
}
