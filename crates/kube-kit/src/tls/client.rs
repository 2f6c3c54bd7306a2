//! The client's side.
//!
//! A node's handler is reached by its pod's address, which is in no
//! certificate; what it proves instead is its role, as the common name
//! (`kubevirt.io:system:node:virt-handler`), under the cluster's own authority.
//! A server behind a service proves the service's DNS name, as usual.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, IpAddr, Ipv4Addr, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use trust::Identity;

use super::reload::{Files, Reloaded};
use super::{TlsError, files};

/// Common names of our nodes' servers begin with this.
const NODE_PREFIX: &str = "kubevirt.io:system:node:";

/// A client's certificates, read again when their files change.
#[derive(Debug)]
pub struct ClientTls {
    peer: Peer,
    config: Reloaded<ClientConfig>,
}

/// What a server must prove.
#[derive(Debug)]
enum Peer {
    /// This common name, or one with this prefix if it ends in a colon.
    Role(String),
    /// The DNS name by which it is reached.
    Host,
}

impl ClientTls {
    /// Certificate and key are `tls.crt` and `tls.key` in `dir`; `ca` is a PEM
    /// file, or a directory with `ca-bundle`; `peer` is the common name the
    /// server must prove.
    ///
    /// # Errors
    /// When a file is missing or bad.
    pub fn from_dir(
        dir: impl Into<PathBuf>,
        ca: impl Into<PathBuf>,
        peer: &str,
    ) -> Result<Self, TlsError> {
        Self::new(&dir.into(), ca.into(), Peer::Role(peer.to_owned()))
    }

    /// As [`ClientTls::from_dir`], for servers that prove the name they are
    /// reached by; dial with [`ClientTls::connect_host`].
    ///
    /// # Errors
    /// When a file is missing or bad.
    pub fn to_hosts(dir: impl Into<PathBuf>, ca: impl Into<PathBuf>) -> Result<Self, TlsError> {
        Self::new(&dir.into(), ca.into(), Peer::Host)
    }

    fn new(dir: &Path, ca: PathBuf, peer: Peer) -> Result<Self, TlsError> {
        crate::start::install_crypto_provider();
        let files = Files::in_dir(dir, Some(ca));
        Ok(Self {
            config: Reloaded::new(files, |files| build(files, &peer))?,
            peer,
        })
    }

    /// The configuration as of now.
    #[must_use]
    pub fn config(&self) -> Arc<ClientConfig> {
        self.config.get(|files| build(files, &self.peer))
    }

    /// Negotiates TLS on a connection that we opened.
    ///
    /// # Errors
    /// When the handshake fails or the server does not prove the wanted name.
    pub async fn connect(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, TlsError> {
        // The name is not looked at (see the verifier); an address sends no SNI.
        let name = ServerName::IpAddress(IpAddr::V4(Ipv4Addr::from([127, 0, 0, 1])));
        Ok(TlsConnector::from(self.config())
            .connect(name, stream)
            .await?)
    }

    /// Negotiates TLS on a connection that we opened to `host`, a DNS name.
    ///
    /// # Errors
    /// When the handshake fails, or `host` is no DNS name or not what the server proves.
    pub async fn connect_host(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, TlsError> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidInput, error))?;
        Ok(TlsConnector::from(self.config())
            .connect(name, stream)
            .await?)
    }
}

/// A configuration, as of now, for dialling any of our nodes' servers with the
/// certificate in `dir` under the authorities in `ca` (file or directory).
///
/// # Errors
/// When a file is missing or bad.
pub fn client_config(dir: &Path, ca: &Path) -> Result<Arc<ClientConfig>, TlsError> {
    crate::start::install_crypto_provider();
    let files = Files::in_dir(dir, Some(ca.to_owned()));
    Ok(Arc::new(build(
        &files,
        &Peer::Role(NODE_PREFIX.to_owned()),
    )?))
}

fn build(of: &Files, peer: &Peer) -> Result<ClientConfig, TlsError> {
    let roots = match &of.ca {
        Some(ca) => files::roots(ca)?,
        None => RootCertStore::empty(),
    };
    let builder = match peer {
        Peer::Host => ClientConfig::builder().with_root_certificates(roots),
        Peer::Role(role) => {
            let peer = role.clone();
            ClientConfig::builder()
                .dangerous()
                .with_custom_certificate_verifier(trust::verifier(Role { roots, peer }))
        }
    };
    let mut config =
        builder.with_client_auth_cert(files::chain(&of.certificate)?, files::key(&of.key)?)?;
    config.resumption = Resumption::disabled();
    config.enable_sni = matches!(peer, Peer::Host);
    Ok(config)
}

/// A role, under our authorities: chain, validity and usage are verified as usual, and the
/// common name instead of the host's name.
#[derive(Debug)]
struct Role {
    roots: RootCertStore,
    /// A whole common name, or a prefix that ends in a colon.
    peer: String,
}

impl Identity for Role {
    fn prove(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        trust::is_signed(certificate, intermediates, &self.roots, now)?;
        let name = super::common_name(certificate).unwrap_or_default();
        if name == self.peer || (self.peer.ends_with(':') && name.starts_with(&self.peer)) {
            return Ok(());
        }
        Err(rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName,
        ))
    }
}
