//! The server's side.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::files::{self, Stamp};
use super::{CERTIFICATE_FILE, KEY_FILE, TlsError};

/// Stamps are not looked at more often than this.
const LOOK: Duration = Duration::from_secs(1);

/// A server's certificates, read again when their files change.
#[derive(Debug)]
pub struct ServerTls {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
    client_names: Vec<String>,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    config: Arc<ServerConfig>,
    stamps: [Stamp; 3],
    looked: Instant,
    /// CA certificates for clients that may, but need not, prove who they are.
    optional_ca: Option<Vec<u8>>,
}

impl ServerTls {
    /// Certificate and key are `tls.crt` and `tls.key` in `dir`. With
    /// `client_ca` (a PEM file, or a directory with `ca-bundle`) a client must
    /// show a certificate of one of these authorities.
    ///
    /// # Errors
    /// When a file is missing or bad.
    pub fn from_dir(dir: impl Into<PathBuf>, client_ca: Option<PathBuf>) -> Result<Self, TlsError> {
        crate::start::install_crypto_provider();
        let dir = dir.into();
        let (certificate, key) = (dir.join(CERTIFICATE_FILE), dir.join(KEY_FILE));
        let client_ca = client_ca.map(files::ca_file);
        let stamps = stamps(&certificate, &key, client_ca.as_deref());
        let config = Arc::new(build(&certificate, &key, client_ca.as_deref(), None)?);
        let current = Current {
            config,
            stamps,
            looked: Instant::now(),
            optional_ca: None,
        };
        Ok(Self {
            certificate,
            key,
            client_ca,
            client_names: Vec::new(),
            current: Mutex::new(current),
        })
    }

    /// Accepts only clients whose certificate has one of these common names.
    #[must_use]
    pub fn only_clients<I, N>(mut self, names: I) -> Self
    where
        I: IntoIterator<Item = N>,
        N: Into<String>,
    {
        self.client_names = names.into_iter().map(Into::into).collect();
        self
    }

    /// Lets clients show a certificate of the authorities in `pem` (the front
    /// proxy's, for an aggregated API), or none. May be called again when the
    /// authorities change; `None` asks for no certificate.
    ///
    /// # Errors
    /// When `pem` holds no usable certificate; the last one stays in use.
    pub fn set_optional_client_ca(&self, pem: Option<Vec<u8>>) -> Result<(), TlsError> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.optional_ca == pem {
            return Ok(());
        }
        current.config = Arc::new(build(
            &self.certificate,
            &self.key,
            self.client_ca.as_deref(),
            pem.as_deref(),
        )?);
        current.optional_ca = pem;
        Ok(())
    }

    /// The configuration as of now.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.looked.elapsed() >= LOOK {
            current.looked = Instant::now();
            let stamps = stamps(&self.certificate, &self.key, self.client_ca.as_deref());
            if stamps != current.stamps {
                let optional = current.optional_ca.as_deref();
                match build(
                    &self.certificate,
                    &self.key,
                    self.client_ca.as_deref(),
                    optional,
                ) {
                    Ok(config) => {
                        tracing::info!(certificate = %self.certificate.display(), "certificates reloaded");
                        current.config = Arc::new(config);
                        current.stamps = stamps;
                    }
                    Err(error) => {
                        tracing::warn!(
                            "keeping the old certificates: {:#}",
                            anyhow::Error::from(error)
                        );
                    }
                }
            }
        }
        Arc::clone(&current.config)
    }

    /// Negotiates TLS on an accepted connection.
    ///
    /// # Errors
    /// When the handshake fails or the client is none of those wanted.
    pub async fn accept(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, TlsError> {
        let stream = TlsAcceptor::from(self.config()).accept(stream).await?;
        if !self.client_names.is_empty() {
            let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
            let found = chain
                .first()
                .and_then(super::common_name)
                .unwrap_or_default();
            if !self.client_names.contains(&found) {
                return Err(TlsError::Name {
                    expected: self.client_names.join(" or "),
                    found,
                });
            }
        }
        Ok(stream)
    }
}

fn stamps(certificate: &Path, key: &Path, ca: Option<&Path>) -> [Stamp; 3] {
    [
        files::stamp(certificate),
        files::stamp(key),
        ca.and_then(files::stamp),
    ]
}

fn build(
    certificate: &Path,
    key: &Path,
    required_ca: Option<&Path>,
    optional_ca: Option<&[u8]>,
) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder();
    let builder = match (required_ca, optional_ca) {
        (Some(path), _) => {
            let roots = files::roots(path)?;
            builder
                .with_client_cert_verifier(WebPkiClientVerifier::builder(Arc::new(roots)).build()?)
        }
        (None, Some(pem)) => {
            let roots = files::roots_from(Path::new("the given client CA"), pem)?;
            builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder(Arc::new(roots))
                    .allow_unauthenticated()
                    .build()?,
            )
        }
        (None, None) => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(files::chain(certificate)?, files::key(key)?)?;
    // Connections between components are few and long: remembering sessions
    // would cost more memory than it saves time.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
