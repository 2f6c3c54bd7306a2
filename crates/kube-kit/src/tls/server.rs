//! The server's side.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::reload::{Files, Reloaded};
use super::{TlsError, files};

/// A server's certificates, read again when their files change.
#[derive(Debug)]
pub struct ServerTls {
    client_names: Vec<String>,
    config: Reloaded<ServerConfig>,
    /// CA certificates for clients that may, but need not, prove who they are.
    optional_ca: Mutex<Option<Vec<u8>>>,
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
        let files = Files::in_dir(&dir.into(), client_ca);
        Ok(Self {
            client_names: Vec::new(),
            config: Reloaded::new(files, |files| build(files, None))?,
            optional_ca: Mutex::default(),
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
        let mut optional_ca = self.optional_ca();
        if *optional_ca != pem {
            self.config.rebuild(|files| build(files, pem.as_deref()))?;
            *optional_ca = pem;
        }
        Ok(())
    }

    /// The configuration as of now.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        let optional_ca = self.optional_ca();
        self.config
            .get(|files| build(files, optional_ca.as_deref()))
    }

    fn optional_ca(&self) -> MutexGuard<'_, Option<Vec<u8>>> {
        self.optional_ca
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
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

fn build(of: &Files, optional_ca: Option<&[u8]>) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder();
    let builder = match (&of.ca, optional_ca) {
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
    let mut config =
        builder.with_single_cert(files::chain(&of.certificate)?, files::key(&of.key)?)?;
    // Connections between components are few and long: remembering sessions
    // would cost more memory than it saves time.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
