//! The authorities of CDI, what they sign, and how long it lives.
//! Source of names and lives: CDI pkg/operator/resources/cert.

use api::cdi::{CDI, names};
use jiff::SignedDuration;

use super::Config;
use crate::operator::config::lifetime;
use crate::operator::{ConfigError, Lifetime};

/// An authority and what it signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// Its secret, and its common name.
    pub secret: &'static str,
    /// ConfigMap with all authorities in use; the key is [`names::CA_BUNDLE_KEY`].
    pub bundle: &'static str,
    /// How long it lives.
    pub life: Lifetime,
    /// What it signs; cdi-deployment signs upload servers' certificates itself.
    pub leaf: Option<Leaf>,
}

/// A certificate of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Its secret.
    pub secret: &'static str,
    /// The subject.
    pub common_name: String,
    /// Host names of a server; a client has none.
    pub dns_names: Vec<String>,
    /// How long it lives.
    pub life: Lifetime,
}

/// The authorities, cdi-apiserver's first, with the lives that
/// `spec.certConfig` asks for. Half of a life is left when one is renewed.
///
/// # Errors
/// When a duration is none, not positive, or not longer than its renewal; or
/// when what is signed would live longer than the authority.
pub fn authorities(config: &Config, cdi: &CDI) -> Result<[Authority; 4], ConfigError> {
    let chosen = cdi.spec.cert_config.as_ref();
    let day = SignedDuration::from_hours(24);
    let life = lifetime(
        chosen.and_then(|chosen| chosen.ca.as_ref()),
        day * 2,
        2,
        [
            "spec.certConfig.ca.duration",
            "spec.certConfig.ca.renewBefore",
        ],
    )?;
    let server = lifetime(
        chosen.and_then(|chosen| chosen.server.as_ref()),
        day,
        2,
        [
            "spec.certConfig.server.duration",
            "spec.certConfig.server.renewBefore",
        ],
    )?;
    let client = lifetime(
        chosen.and_then(|chosen| chosen.client.as_ref()),
        day,
        2,
        [
            "spec.certConfig.client.duration",
            "spec.certConfig.client.renewBefore",
        ],
    )?;
    for (path, leaf) in [
        ("spec.certConfig.server.duration", server),
        ("spec.certConfig.client.duration", client),
    ] {
        if leaf.duration > life.duration {
            return Err(ConfigError {
                path,
                expected: "at most the CA's duration",
                found: format!("{:#}", leaf.duration),
            });
        }
    }
    let namespace = &config.namespace;
    let serves = |secret, service: &str| Leaf {
        secret,
        common_name: service.to_owned(),
        dns_names: vec![
            service.to_owned(),
            format!("{service}.{namespace}"),
            format!("{service}.{namespace}.svc"),
            format!("{service}.{namespace}.svc.cluster.local"),
        ],
        life: server,
    };
    let authority = |secret, bundle, leaf| Authority {
        secret,
        bundle,
        life,
        leaf,
    };
    Ok([
        authority(
            "cdi-apiserver-signer",
            "cdi-apiserver-signer-bundle",
            Some(serves("cdi-apiserver-server-cert", "cdi-api")),
        ),
        authority(
            "cdi-uploadproxy-signer",
            names::UPLOAD_PROXY_CA_BUNDLE,
            Some(serves("cdi-uploadproxy-server-cert", names::UPLOAD_PROXY)),
        ),
        authority(
            names::UPLOAD_SERVER_SIGNER,
            "cdi-uploadserver-signer-bundle",
            None,
        ),
        authority(
            "cdi-uploadserver-client-signer",
            names::UPLOAD_CLIENT_CA_BUNDLE,
            Some(Leaf {
                secret: "cdi-uploadserver-client-cert",
                common_name: names::UPLOAD_CLIENT_NAME.to_owned(),
                dns_names: Vec::new(),
                life: client,
            }),
        ),
    ])
}
