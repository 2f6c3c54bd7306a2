//! Whom the client's side of a TLS connection believes.
//!
//! The library verifies a chain and a host's name together. Some of our peers prove
//! something else ([`Identity`]): a handler its role, for its address is in no certificate;
//! a proxy behind `--insecure` nothing at all. Whoever it is, the handshake's signature is
//! always checked, so that the peer has the key of the certificate it shows.

use std::fmt::Debug;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// What a server must prove by its certificate.
pub trait Identity: Debug + Send + Sync {
    /// Looks at the certificate of a server that was dialled by `name` at `now`.
    ///
    /// # Errors
    /// Why it is not believed.
    fn prove(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error>;
}

/// Asks nobody who he is.
#[derive(Clone, Copy, Debug)]
pub struct Anyone;

impl Identity for Anyone {
    fn prove(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _now: UnixTime,
    ) -> Result<(), Error> {
        Ok(())
    }
}

/// Cryptography of every connection: ring's.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A verifier for the library, which asks `identity`.
pub fn verifier(identity: impl Identity + 'static) -> Arc<dyn ServerCertVerifier> {
    Arc::new(Verifier {
        identity,
        provider: provider(),
    })
}

/// The certificates in a PEM text; what is none is passed over.
#[must_use]
pub fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .flatten()
        .collect()
}

/// Checks chain, validity and usage, and no name.
///
/// # Errors
/// What of it does not hold.
pub fn is_signed(
    certificate: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    roots: &RootCertStore,
    now: UnixTime,
) -> Result<(), Error> {
    verify_server_cert_signed_by_trust_anchor(
        &ParsedCertificate::try_from(certificate)?,
        roots,
        intermediates,
        now,
        provider().signature_verification_algorithms.all,
    )
}

/// Checks that the certificate is for `name`, and no chain.
///
/// # Errors
/// When it is for others only.
pub fn is_for(certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> Result<(), Error> {
    verify_server_name(&ParsedCertificate::try_from(certificate)?, name)
}

#[derive(Debug)]
struct Verifier<I> {
    identity: I,
    provider: Arc<CryptoProvider>,
}

impl<I: Identity> ServerCertVerifier for Verifier<I> {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.identity
            .prove(end_entity, intermediates, server_name, now)
            .map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
