//! TLS between components, with certificates that change under our feet.
//!
//! The operator renews certificates every day; the kubelet writes them into the
//! mounted directories. [`ServerTls`] and [`ClientTls`] look at the files'
//! stamps when a connection begins (at most once a second) and read them again
//! when they changed. Nothing polls, nothing restarts, and a half-written or
//! bad file keeps the last good certificates in use.

mod client;
mod files;
mod reload;
mod server;
#[cfg(test)]
mod tests;

pub use client::{ClientTls, client_config};
pub use server::ServerTls;

use std::path::PathBuf;
use std::sync::Arc;

use rustls_pki_types::CertificateDer;

/// The file name of a certificate (chain), as in a `kubernetes.io/tls` secret.
pub const CERTIFICATE_FILE: &str = "tls.crt";
/// The file name of a private key, as in a `kubernetes.io/tls` secret.
pub const KEY_FILE: &str = "tls.key";
/// The file name of the CA certificates, the key in ConfigMap `kubevirt-ca`.
pub const CA_FILE: &str = "ca-bundle";

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{path}: expected {expected} in PEM form: {reason}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        expected: &'static str,
        /// What was found instead.
        reason: String,
    },
    /// Certificate and key do not fit, or a CA certificate cannot be used.
    #[error("certificates cannot be used for TLS")]
    Unusable(#[from] rustls::Error),
    /// The CA certificates cannot verify clients.
    #[error("cannot verify client certificates")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// The network or the other side failed.
    #[error("TLS handshake failed")]
    Handshake(#[from] std::io::Error),
    /// The other side proved another name than it should have.
    #[error("expected a peer named {expected}, found {found}")]
    Name {
        /// Accepted common names.
        expected: String,
        /// The certificate's common name.
        found: String,
    },
}

/// [`ServerTls::from_dir`] under a short name.
///
/// # Errors
/// As [`ServerTls::from_dir`].
pub fn load(
    dir: impl Into<PathBuf>,
    client_ca: Option<PathBuf>,
) -> Result<Arc<ServerTls>, TlsError> {
    Ok(Arc::new(ServerTls::from_dir(dir, client_ca)?))
}

/// The common name of a certificate's subject.
#[must_use]
pub fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next()?;
    name.as_str().ok().map(str::to_owned)
}
