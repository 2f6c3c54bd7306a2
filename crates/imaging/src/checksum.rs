//! Checksums as a DataVolume gives them: `sha256:…`.

use std::fmt::{self, Write};
use std::str::FromStr;

use md5::Digest;

use crate::{Error, Result};

/// A hash function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// MD5, 32 digits.
    Md5,
    /// SHA-1, 40 digits.
    Sha1,
    /// SHA-256, 64 digits.
    Sha256,
    /// SHA-512, 128 digits.
    Sha512,
}

impl Algorithm {
    const ALL: [(Self, &str, usize); 4] = [
        (Self::Md5, "md5", 32),
        (Self::Sha1, "sha1", 40),
        (Self::Sha256, "sha256", 64),
        (Self::Sha512, "sha512", 128),
    ];

    fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(one, ..)| *one == self)
            .map_or("", |(_, name, _)| name)
    }
}

/// What a source's bytes must hash to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checksum {
    /// The function.
    pub algorithm: Algorithm,
    /// Its value in lower-case hexadecimal digits.
    pub hex: String,
}

impl FromStr for Checksum {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::ChecksumForm(text.to_owned());
        let (name, hex) = text.split_once(':').ok_or_else(bad)?;
        let (algorithm, _, digits) = Algorithm::ALL
            .into_iter()
            .find(|(_, known, _)| name.eq_ignore_ascii_case(known))
            .ok_or_else(bad)?;
        if hex.len() != digits || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(bad());
        }
        Ok(Self {
            algorithm,
            hex: hex.to_ascii_lowercase(),
        })
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.hex)
    }
}

/// A running checksum.
pub struct Hasher(State);

enum State {
    Md5(md5::Md5),
    Sha1(Box<sha1_smol::Sha1>),
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher")
    }
}

impl Hasher {
    /// Begins.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Md5 => State::Md5(md5::Md5::new()),
            Algorithm::Sha1 => State::Sha1(Box::new(sha1_smol::Sha1::new())),
            Algorithm::Sha256 => State::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => State::Sha512(sha2::Sha512::new()),
        })
    }

    /// Goes on.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Md5(state) => state.update(bytes),
            State::Sha1(state) => state.update(bytes),
            State::Sha256(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
        }
    }

    /// The checksum.
    #[must_use]
    pub fn finish(self) -> Checksum {
        let (algorithm, hex) = match self.0 {
            State::Md5(state) => (Algorithm::Md5, hex(&state.finalize())),
            State::Sha1(state) => (Algorithm::Sha1, hex(&state.digest().bytes())),
            State::Sha256(state) => (Algorithm::Sha256, hex(&state.finalize())),
            State::Sha512(state) => (Algorithm::Sha512, hex(&state.finalize())),
        };
        Checksum { algorithm, hex }
    }

    /// The checksum, if it is `expected`.
    ///
    /// # Errors
    /// When it is not.
    pub fn verify(self, expected: &Checksum) -> Result<Checksum> {
        let found = self.finish();
        if &found == expected {
            return Ok(found);
        }
        Err(Error::Checksum {
            expected: expected.to_string(),
            found: found.to_string(),
        })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_four_functions_give_the_known_values_of_abc() {
        for text in [
            "md5:900150983cd24fb0d6963f7d28e17f72",
            "sha1:a9993e364706816aba3e25717850c26c9cd0d89d",
            "SHA256:BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD",
            "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        ] {
            let expected: Checksum = text.parse().unwrap();
            let mut hasher = Hasher::new(expected.algorithm);
            hasher.update(b"a");
            hasher.update(b"bc");
            hasher.verify(&expected).unwrap();
            let other = Hasher::new(expected.algorithm).verify(&expected);
            assert!(other.unwrap_err().to_string().contains(&expected.hex));
        }
    }

    #[test]
    fn other_forms_are_refused() {
        for bad in [
            "",
            "sha256",
            "sha256:12",
            "crc32:12345678",
            "md5:zz0150983cd24fb0d6963f7d28e17f72",
        ] {
            assert!(bad.parse::<Checksum>().is_err(), "{bad}");
        }
    }
}
