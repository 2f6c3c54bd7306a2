//! The checks, and how a verdict is made.

use hardware::{Status, Verdict};

/// A check: its stable name, and why it matters.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// For programs, and for people who look it up.
    pub id: &'static str,
    /// Why it matters.
    pub why: &'static str,
}

/// All checks, in the order of their verdicts.
pub const CHECKS: &[Check] = &[
    Check {
        id: "cdi.object",
        why: "the CDI object asks for the programs that fill claims; its conditions say how they are",
    },
    Check {
        id: "cdi.programs",
        why: "without each of these programs no upload or import comes to its end",
    },
    Check {
        id: "upload.api",
        why: "virtctl asks this API for the token of an upload",
    },
    Check {
        id: "proxy.service",
        why: "uploads enter the cluster by this service",
    },
    Check {
        id: "proxy.address",
        why: "the client sends the image to this address, so it must be reached from where the client runs",
    },
    Check {
        id: "proxy.url",
        why: "a client that is given no --uploadproxy-url takes the address from the CDIConfig object",
    },
    Check {
        id: "proxy.certificate",
        why: "a client that cannot verify the proxy refuses to upload, or needs --insecure",
    },
    Check {
        id: "policy",
        why: "a network policy that selects CDI's pods shuts out whom no policy lets in",
    },
    Check {
        id: "token",
        why: "the proxy takes an upload only with a token that cdi-apiserver signed for its claim",
    },
    Check {
        id: "storage.class",
        why: "a claim gets its storage from a class, or stays Pending",
    },
    Check {
        id: "storage.profile",
        why: "a DataVolume that names no access mode takes it from the class's StorageProfile",
    },
    Check {
        id: "storage.space",
        why: "an image that does not fit fails when the disk is full, not before",
    },
    Check {
        id: "stuck",
        why: "what waits for something that will not come waits forever",
    },
];

/// A verdict on `subject`, which is empty for the cluster as a whole.
pub(crate) fn verdict(
    id: &str,
    subject: impl Into<String>,
    status: Status,
    evidence: impl Into<String>,
    remedy: impl Into<String>,
) -> Verdict {
    let why = CHECKS.iter().find(|check| check.id == id);
    Verdict {
        id: id.to_owned(),
        subject: subject.into(),
        status,
        evidence: evidence.into(),
        why: why.map_or("", |check| check.why).to_owned(),
        remedy: remedy.into(),
        fix: None,
    }
}

pub(crate) fn pass(id: &str, subject: impl Into<String>, evidence: impl Into<String>) -> Verdict {
    verdict(id, subject, Status::Pass, evidence, "")
}

pub(crate) fn skip(id: &str, subject: impl Into<String>, evidence: impl Into<String>) -> Verdict {
    verdict(id, subject, Status::Skip, evidence, "")
}

pub(crate) fn warn(
    id: &str,
    subject: impl Into<String>,
    evidence: impl Into<String>,
    remedy: impl Into<String>,
) -> Verdict {
    verdict(id, subject, Status::Warn, evidence, remedy)
}

pub(crate) fn fail(
    id: &str,
    subject: impl Into<String>,
    evidence: impl Into<String>,
    remedy: impl Into<String>,
) -> Verdict {
    verdict(id, subject, Status::Fail, evidence, remedy)
}

/// A check whose object could not be read.
pub(crate) fn unread(id: &str, what: &str, error: &str) -> Vec<Verdict> {
    vec![skip(id, "", format!("{what} cannot be read: {error}"))]
}

/// A time for people: `40 s`, `12 min`, `26 h`.
pub(crate) fn span(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}

/// Bytes for people, in units of 1024.
pub(crate) fn size(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;
    if bytes < 10 * GIB {
        format!("{} MiB", bytes / MIB)
    } else {
        format!("{} GiB", bytes / GIB)
    }
}
