//! Certificate files and their stamps.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::{CA_FILE, TlsError};

/// What tells that a file was replaced: kubelet swaps a symbolic link, so the
/// inode changes; an editor changes time or size.
pub(super) type Stamp = Option<(SystemTime, u64, u64)>;

/// The stamp of a file as it is now; `None` when it cannot be looked at.
pub(super) fn stamp(path: &Path) -> Stamp {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.len(), meta.ino()))
}

/// `path` itself, or the bundle in it when it is a directory.
pub(super) fn ca_file(path: PathBuf) -> PathBuf {
    if path.is_dir() {
        path.join(CA_FILE)
    } else {
        path
    }
}

/// The certificate chain in `path`; at least one.
pub(super) fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain = certificates(path, &read(path)?)?;
    if chain.is_empty() {
        return Err(pem(path, "a certificate", "found none".to_owned()));
    }
    Ok(chain)
}

/// The private key in `path`.
pub(super) fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(path)?)
        .map_err(|error| pem(path, "a private key", error.to_string()))
}

/// The CA certificates in `path`; at least one.
pub(super) fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    roots_from(path, &read(path)?)
}

/// The CA certificates in `text`; `path` is for the error only.
pub(super) fn roots_from(path: &Path, text: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, text)? {
        roots.add(certificate)?;
    }
    if roots.is_empty() {
        return Err(pem(path, "CA certificates", "found none".to_owned()));
    }
    Ok(roots)
}

fn certificates(path: &Path, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_slice_iter(text)
        .collect::<Result<_, _>>()
        .map_err(|error| pem(path, "certificates", error.to_string()))
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read {
        path: path.to_owned(),
        source,
    })
}

fn pem(path: &Path, expected: &'static str, reason: String) -> TlsError {
    TlsError::Pem {
        path: path.to_owned(),
        expected,
        reason,
    }
}
