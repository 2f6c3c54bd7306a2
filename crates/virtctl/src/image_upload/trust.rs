//! Whether the upload proxy is believed to be the upload proxy.

use std::sync::Arc;

use anyhow::Context;
use rustls::{ClientConfig, RootCertStore};
use trust::Anyone;

/// Trusts the machine's authorities and `more`, in PEM form; anybody when `insecure`.
///
/// # Errors
/// When no TLS can be made.
pub(super) fn config(insecure: bool, more: Option<&str>) -> anyhow::Result<Arc<ClientConfig>> {
    let builder = ClientConfig::builder_with_provider(trust::provider())
        .with_safe_default_protocol_versions()
        .context("cannot set up TLS")?;
    let builder = if insecure {
        builder
            .dangerous()
            .with_custom_certificate_verifier(trust::verifier(Anyone))
    } else {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots.add_parsable_certificates(trust::certificates(more.unwrap_or_default()));
        builder.with_root_certificates(roots)
    };
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
