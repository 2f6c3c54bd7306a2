//! Memory: /proc/meminfo, swap, hugepages' directory names.

use crate::facts::Swap;

/// A `Key: n kB` line of /proc/meminfo or of a node's meminfo, in bytes.
#[must_use]
pub fn meminfo_bytes(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        // A node's lines begin with `Node 0`.
        let line = match line.strip_prefix("Node ") {
            Some(rest) => rest.split_once(' ')?.1.trim_start(),
            None => line,
        };
        let rest = line.strip_prefix(key)?.strip_prefix(':')?;
        let mut words = rest.split_whitespace();
        let number: u64 = words.next()?.parse().ok()?;
        match words.next() {
            Some("kB") => number.checked_mul(1024),
            None => Some(number),
            Some(_) => None,
        }
    })
}

/// Reads /proc/swaps: after the heading, name, type, size and use in KiB. `None`: it has not the
/// heading that the kernel always writes, so nothing follows from a list without areas.
#[must_use]
pub fn swaps(text: &str) -> Option<Vec<Swap>> {
    let mut lines = text.lines();
    let heading = lines.next()?;
    if !heading.starts_with("Filename") {
        return None;
    }
    let areas = lines
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            // The kernel writes white space within a name as an octal escape.
            let path = super::mounts::unescape(words.next()?);
            let kind = words.next()?.to_owned();
            let size: u64 = words.next()?.parse().ok()?;
            let used: u64 = words.next()?.parse().ok()?;
            Some(Swap {
                path,
                kind,
                size: size.checked_mul(1024)?,
                used: used.checked_mul(1024)?,
            })
        })
        .collect();
    Some(areas)
}

/// Page size in bytes of a directory such as `hugepages-2048kB`.
#[must_use]
pub fn hugepage_size(directory: &str) -> Option<u64> {
    directory
        .strip_prefix("hugepages-")?
        .strip_suffix("kB")?
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn memory_is_read_in_bytes_and_garbage_is_none() {
        for (text, expected) in [
            ("MemTotal:  2 kB\n", Some(2048)),
            ("Node 0 MemTotal:  2 kB\n", Some(2048)),
            ("MemTotal:  x kB\n", None),
            ("MemTotalX: 2 kB\n", None),
            ("MemTotal: 99999999999999999999 kB\n", None),
            ("MemTotal: 18446744073709551615 kB\n", None),
        ] {
            assert_eq!(meminfo_bytes(text, "MemTotal"), expected, "{text}");
        }
        assert_eq!(
            meminfo_bytes("HugePages_Total:  3\n", "HugePages_Total"),
            Some(3)
        );
    }

    #[test]
    fn swaps_are_listed_without_their_heading() {
        let text = "Filename\tType\tSize\tUsed\tPriority\n/dev/dm-1 partition 976 0 -2\n/swap\\040file file 4 4 -3\ngarbage\n";
        let found = swaps(text).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].size, 976 * 1024);
        assert_eq!(found[1].path, "/swap file");
        assert_eq!(swaps(text.lines().next().unwrap()), Some(Vec::new()));
        for noise in ["", "\u{0}\u{fffd}\n/swap file 4 4 -3\n"] {
            assert_eq!(swaps(noise), None);
        }
    }

    #[test]
    fn a_hugepage_directory_names_its_size() {
        assert_eq!(hugepage_size("hugepages-1048576kB"), Some(1 << 30));
        assert_eq!(hugepage_size("hugepages-kB"), None);
    }
}
