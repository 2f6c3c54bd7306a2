//! Host keys as sshd(8) describes the known_hosts format: names with wildcards,
//! negation and `[host]:port`, hashed names, `@revoked` and `@cert-authority` marks.
//!
//! Pure: text in, an answer with the line it comes from out.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ring::hmac;
use sha2::Digest;

/// What the files say about a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The key is the host's.
    Known,
    /// No file knows the host.
    Unknown,
    /// The host is known by another key.
    Changed(Place),
    /// The key was withdrawn.
    Revoked(Place),
}

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The file.
    pub(crate) file: PathBuf,
    /// Its line, from 1.
    pub(crate) line: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    None,
    Revoked,
    Authority,
}

#[derive(Clone, Debug)]
struct Entry {
    mark: Mark,
    names: String,
    kind: String,
    key: Vec<u8>,
    place: Place,
}

/// The lines of some known_hosts files.
#[derive(Clone, Debug, Default)]
pub(crate) struct KnownHosts {
    entries: Vec<Entry>,
}

impl KnownHosts {
    /// Adds the lines of one file. Lines that are no host keys are passed over, as
    /// ssh does: a file may hold keys of kinds nobody knows yet.
    pub(crate) fn add(&mut self, file: &Path, text: &str) {
        for (index, line) in text.lines().enumerate() {
            let mut words = line.split_whitespace();
            let Some(first) = words.next() else { continue };
            if first.starts_with('#') {
                continue;
            }
            let (mark, names) = match first {
                "@revoked" => (Mark::Revoked, words.next()),
                "@cert-authority" => (Mark::Authority, words.next()),
                _ => (Mark::None, Some(first)),
            };
            let (Some(names), Some(kind), Some(key)) = (names, words.next(), words.next()) else {
                continue;
            };
            let Ok(key) = STANDARD.decode(key) else {
                continue;
            };
            self.entries.push(Entry {
                mark,
                names: names.to_owned(),
                kind: kind.to_owned(),
                key,
                place: Place {
                    file: file.to_owned(),
                    line: index + 1,
                },
            });
        }
    }

    fn of<'a>(&'a self, address: &'a str) -> impl Iterator<Item = &'a Entry> {
        self.entries
            .iter()
            .filter(move |entry| names_match(&entry.names, address))
    }

    /// Kinds of the keys that are known for `address`, so that the server is asked
    /// for one of these: a server with two keys else shows the one nobody knows.
    pub(crate) fn kinds<'a>(&'a self, address: &'a str) -> Vec<&'a str> {
        self.of(address)
            .filter(|entry| entry.mark == Mark::None)
            .map(|entry| entry.kind.as_str())
            .collect()
    }

    /// What the files say about `key` (the blob of RFC 4253, 6.6) of `address`.
    ///
    /// A host known by a key of another kind counts as changed: who listens in could
    /// else pass by offering a kind that was never seen.
    pub(crate) fn check(&self, address: &str, key: &[u8]) -> Answer {
        let mut other = None;
        let mut known = false;
        for entry in self.of(address) {
            match entry.mark {
                Mark::Revoked if entry.key == key => return Answer::Revoked(entry.place.clone()),
                Mark::None if entry.key == key => known = true,
                Mark::None => other = other.or(Some(&entry.place)),
                Mark::Revoked | Mark::Authority => {}
            }
        }
        match (known, other) {
            (true, _) => Answer::Known,
            (false, Some(place)) => Answer::Changed(place.clone()),
            (false, None) => Answer::Unknown,
        }
    }
}

/// `host`, or `[host]:port` for another port than 22.
pub(crate) fn address(host: &str, port: u16) -> String {
    let host = host.to_ascii_lowercase();
    if port == 22 {
        host
    } else {
        format!("[{host}]:{port}")
    }
}

/// The name of a key's kind, which the blob begins with (RFC 4253, 6.6).
pub(crate) fn kind(blob: &[u8]) -> String {
    let length = blob
        .first_chunk::<4>()
        .map_or(0, |b| u32::from_be_bytes(*b) as usize);
    blob.get(4..4 + length.min(64))
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .unwrap_or_default()
}

/// `SHA256:…` as `ssh-keygen -l` prints it.
pub(crate) fn fingerprint(blob: &[u8]) -> String {
    format!(
        "SHA256:{}",
        STANDARD_NO_PAD.encode(sha2::Sha256::digest(blob))
    )
}

/// The line that remembers a key.
pub(crate) fn line(address: &str, blob: &[u8]) -> String {
    format!("{address} {} {}\n", kind(blob), STANDARD.encode(blob))
}

/// `names` is the first field of a line: patterns apart by commas, or one hashed name.
fn names_match(names: &str, address: &str) -> bool {
    if let Some(hashed) = names.strip_prefix("|1|") {
        let Some((salted, hash)) = hashed.split_once('|') else {
            return false;
        };
        return match (STANDARD.decode(salted), STANDARD.decode(hash)) {
            (Ok(bytes), Ok(hash)) => hmac::verify(&salt(&bytes), address.as_bytes(), &hash).is_ok(),
            _ => false,
        };
    }
    let mut found = false;
    for pattern in names.split(',') {
        let pattern = pattern.to_ascii_lowercase();
        match pattern.strip_prefix('!') {
            Some(not) if glob(not, address) => return false,
            Some(_) => {}
            None => found |= glob(&pattern, address),
        }
    }
    found
}

/// `*` is any text, `?` any character; nothing else is special.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || text.get(t) == Some(c) => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|c| *c == '*')
}

/// The key with which hashed names are made: HMAC-SHA-1, from which nothing secret hangs.
fn salt(salt: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, salt)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A blob of the kind `ssh-ed25519` whose key is 32 times `fill`.
    fn blob(fill: u8) -> Vec<u8> {
        let mut blob = vec![0, 0, 0, 11];
        blob.extend(b"ssh-ed25519");
        blob.extend([0, 0, 0, 32]);
        blob.extend([fill; 32]);
        blob
    }

    fn hosts(text: &str) -> KnownHosts {
        let mut hosts = KnownHosts::default();
        hosts.add(Path::new("known_hosts"), text);
        hosts
    }

    fn entry(names: &str, fill: u8) -> String {
        line(names, &blob(fill))
    }

    fn place(line: usize) -> Place {
        Place {
            file: "known_hosts".into(),
            line,
        }
    }

    #[test]
    fn a_key_is_known_unknown_changed_or_revoked() {
        let text = format!(
            "# comment\n\n{}{}@revoked * {}",
            entry("edge1,192.0.2.1", 1),
            entry("[edge2]:2222", 2),
            entry("", 9).trim_start()
        );
        let hosts = hosts(&text);
        for (address, fill, expected) in [
            ("edge1", 1, Answer::Known),
            ("192.0.2.1", 1, Answer::Known),
            ("edge1", 2, Answer::Changed(place(3))),
            ("[edge2]:2222", 2, Answer::Known),
            ("edge2", 2, Answer::Unknown),
            ("edge3", 1, Answer::Unknown),
            ("edge3", 9, Answer::Revoked(place(5))),
        ] {
            assert_eq!(
                hosts.check(address, &blob(fill)),
                expected,
                "{address} {fill}"
            );
        }
    }

    #[test]
    fn patterns_may_have_wildcards_and_exceptions() {
        let hosts = hosts(&entry("*.lab,!bad.lab,10.0.0.?", 1));
        for (address, expected) in [
            ("a.lab", Answer::Known),
            ("bad.lab", Answer::Unknown),
            ("10.0.0.7", Answer::Known),
            ("10.0.0.70", Answer::Unknown),
        ] {
            assert_eq!(hosts.check(address, &blob(1)), expected, "{address}");
        }
    }

    #[test]
    fn hashed_names_are_found() {
        let encoded = STANDARD.encode([7u8; 20]);
        let hash = STANDARD.encode(hmac::sign(&salt(&[7u8; 20]), b"edge1"));
        let hosts = hosts(&entry(&format!("|1|{encoded}|{hash}"), 1));
        assert_eq!(hosts.check("edge1", &blob(1)), Answer::Known);
        assert_eq!(hosts.check("edge2", &blob(1)), Answer::Unknown);
    }

    /// Test case 2 of RFC 2202: what ssh-keygen -H writes is this hash.
    #[test]
    fn the_hash_is_the_standards() {
        let digest = hmac::sign(&salt(b"Jefe"), b"what do ya want for nothing?");
        assert_eq!(digest.as_ref()[..4], [0xef, 0xfc, 0xdf, 0x6a]);
    }

    #[test]
    fn garbage_lines_are_passed_over() {
        let text = format!(
            "edge1\nedge1 ssh-ed25519 not*base64\n\u{0}\n{}",
            entry("edge1", 1)
        );
        assert_eq!(hosts(&text).check("edge1", &blob(1)), Answer::Known);
    }

    #[test]
    fn names_kinds_and_fingerprints_are_written_as_ssh_does() {
        assert_eq!(address("Edge1", 22), "edge1");
        assert_eq!(address("::1", 2222), "[::1]:2222");
        assert_eq!(kind(&blob(0)), "ssh-ed25519");
        assert_eq!(kind(&[0, 0]), "");
        assert_eq!(kind(&[0xff; 8]), "");
        assert!(fingerprint(&blob(0)).starts_with("SHA256:"));
        assert_eq!(hosts(&entry("edge1", 1)).kinds("edge1"), ["ssh-ed25519"]);
    }
}
