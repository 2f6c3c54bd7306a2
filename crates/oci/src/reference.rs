//! Image references: `HOST/NAME:TAG@DIGEST`, and what a short one means.
//!
//! The grammar is the distribution project's; the short forms are what container runtimes make of them:
//! `busybox` is `docker.io/library/busybox:latest`, `kubevirt/x` is `docker.io/kubevirt/x:latest`.

use std::fmt;
use std::str::FromStr;

use crate::{Digest, Error, Result};

/// The registry a short name belongs to, as every runtime has it.
const DEFAULT_HOST: &str = "docker.io";
/// The longest repository name the distribution specification allows, host included.
const NAME_MAX: usize = 255;
/// The longest tag the distribution specification allows.
const TAG_MAX: usize = 128;

/// A whole image reference: nothing is left to a default.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    host: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// The registry's host, with its port if it has one.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The name within the registry, `kubevirt/x`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; a reference by digest may have none.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if the reference pins one.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Tag or digest, as it stands in a manifest's URL: the digest if there is one.
    #[must_use]
    pub fn version(&self) -> &str {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.as_str(),
            (None, Some(tag)) => tag,
            (None, None) => "latest",
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = |reason| Error::Reference {
            reference: text.to_owned(),
            reason,
        };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>()?)),
            None => (text, None),
        };
        // A colon after the last slash is a tag's; one before it is a port's.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        let (host, repository) = match name.split_once('/') {
            Some((first, path)) if first.contains(['.', ':']) || first == "localhost" => {
                (first, path.to_owned())
            }
            Some(_) => (DEFAULT_HOST, name.to_owned()),
            None => (DEFAULT_HOST, format!("library/{name}")),
        };
        let host = if host == "index.docker.io" {
            DEFAULT_HOST
        } else {
            host
        };
        if !host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b".-:[]".contains(&b))
        {
            return Err(bad(
                "a host has letters, digits, '.', '-' and a ':PORT' only",
            ));
        }
        if name.is_empty() || !repository.split('/').all(is_component) {
            return Err(bad(
                "each part of a name is lower-case letters and digits, joined by '.', '_', '__' or '-'",
            ));
        }
        if host.len() + 1 + repository.len() > NAME_MAX {
            return Err(bad("the name is longer than 255 characters"));
        }
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(bad(
                "a tag is up to 128 letters, digits, '_', '.' and '-' and begins with none of '.', '-'",
            ));
        }
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, None) => Some("latest".to_owned()),
            (None, Some(_)) => None,
        };
        Ok(Self {
            host: host.to_owned(),
            repository,
            tag,
            digest,
        })
    }
}

/// One part of a repository's name: `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn is_component(part: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    let ends_well = |b: Option<&u8>| b.is_some_and(|b| alphanumeric(*b));
    if !ends_well(bytes.first()) || !ends_well(bytes.last()) {
        return false;
    }
    let mut separators = part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    separators.all(|s| matches!(s, "" | "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= TAG_MAX
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn short_names_become_whole_ones() {
        let sha = format!("sha256:{}", "0".repeat(64));
        for (text, whole) in [
            ("busybox", "docker.io/library/busybox:latest"),
            (
                "kubevirt/cirros-registry-disk-demo",
                "docker.io/kubevirt/cirros-registry-disk-demo:latest",
            ),
            ("centosimage:1.0", "docker.io/library/centosimage:1.0"),
            ("index.docker.io/a/b", "docker.io/a/b:latest"),
            ("localhost/x", "localhost/x:latest"),
            ("10.0.0.1:5000/a/b/c:v1", "10.0.0.1:5000/a/b/c:v1"),
            ("host.example:5000/a", "host.example:5000/a:latest"),
            (&format!("a/b@{sha}"), &format!("docker.io/a/b@{sha}")),
            (&format!("a/b:t@{sha}"), &format!("docker.io/a/b:t@{sha}")),
            ("a/b__c-d.e", "docker.io/a/b__c-d.e:latest"),
        ] {
            assert_eq!(
                text.parse::<Reference>().unwrap().to_string(),
                whole,
                "{text}"
            );
        }
    }

    #[test]
    fn malformed_references_are_refused() {
        let long = "a/".repeat(200) + "b";
        for bad in [
            "",
            "/",
            "a//b",
            "A/b",
            "a/../b",
            "a/-b",
            "a/b:",
            "a/b:.x",
            "a b",
            "a/b@sha256:1",
            ":5",
            "a/_b",
            "h.o/",
            &long,
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
    }
}
