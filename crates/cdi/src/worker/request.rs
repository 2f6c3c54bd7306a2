//! One HTTP client for all sources: its TLS roots, its credentials, and how patient it is.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use imaging::{Error, Result};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use ureq::http::Response;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::s3::Signer;

/// Where distributions keep the public authorities.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";
/// A source that says nothing for so long has stalled.
const STALL: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(10);
/// How often a request that failed is tried, when none of it brought anything.
pub(super) const TRIES: u32 = 6;
/// The longest pause between two tries.
const PAUSE: Duration = Duration::from_secs(20);

/// Who we say we are.
#[derive(Debug, Clone, Default)]
pub(super) enum Credentials {
    /// Nobody.
    #[default]
    None,
    /// User name and password, or any other value of the `Authorization` header.
    Header(String),
    /// Every request is signed.
    Aws(Signer),
}

impl Credentials {
    pub(super) fn basic(user: &str, password: &str) -> Self {
        let both = BASE64_STANDARD.encode(format!("{user}:{password}"));
        Self::Header(format!("Basic {both}"))
    }
}

/// Client, credentials and headers.
#[derive(Debug, Clone)]
pub(super) struct Client {
    agent: Agent,
    pub(super) credentials: Credentials,
    pub(super) headers: Vec<(String, String)>,
    backoff: Duration,
}

impl Client {
    /// `ca_dir` has certificates of further authorities in PEM files. `backoff` is the first
    /// pause after a failure; it doubles.
    pub(super) fn new(ca_dir: Option<&Path>, follow: bool, backoff: Duration) -> Result<Self> {
        let tls = TlsConfig::builder().root_certs(roots(ca_dir)?).build();
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .tls_config(tls)
            .max_redirects(if follow { 10 } else { 0 })
            .max_redirects_will_error(false)
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(STALL))
            .timeout_per_read(Some(STALL))
            .user_agent(concat!("edgevirt-cdi/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self {
            agent: config.into(),
            credentials: Credentials::None,
            headers: Vec::new(),
            backoff,
        })
    }

    /// One GET, without looking at the status.
    pub(super) fn get(
        &self,
        url: &str,
        more: &[(&str, &str)],
    ) -> std::result::Result<Response<Body>, ureq::Error> {
        // What is measured and checked is the file, not what a server made of it.
        let mut request = self.agent.get(url).header("accept-encoding", "identity");
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        for (name, value) in more {
            request = request.header(*name, *value);
        }
        match &self.credentials {
            Credentials::None => {}
            Credentials::Header(value) => request = request.header("authorization", value),
            Credentials::Aws(signer) => {
                for (name, value) in signer.sign("GET", url, jiff::Timestamp::now()) {
                    request = request.header(name, value);
                }
            }
        }
        request.call()
    }

    /// Waits before try `number`, the first being 1.
    pub(super) fn pause(&self, number: u32) {
        let pause = self.backoff.saturating_mul(1 << number.min(10));
        std::thread::sleep(pause.min(PAUSE));
    }
}

/// Whether a status may be another one in a moment.
pub(super) fn passes(status: u16) -> bool {
    status >= 500 || matches!(status, 408 | 425 | 429)
}

/// What a status that was not expected says.
pub(super) fn unexpected(url: &str, response: &mut Response<Body>) -> Error {
    let status = response.status();
    let hint = match status.as_u16() {
        401 | 403 => ": look at the secret's credentials",
        404 => ": look at the path",
        _ => "",
    };
    let said = response
        .body_mut()
        .with_config()
        .limit(2048)
        .read_to_string()
        .unwrap_or_default();
    let said: String = said.chars().filter(|c| !c.is_control()).take(200).collect();
    Error::SourceForNow(format!(
        "GET {}: expected 200 or 206, found {status}{hint} {said}",
        bare(url)
    ))
}

/// A URL without credentials and query, for messages.
pub(super) fn bare(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
            let host = host.rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}/{path}")
        }
        None => url.to_owned(),
    }
}

fn roots(ca_dir: Option<&Path>) -> Result<RootCerts> {
    let system = Path::new(SYSTEM_ROOTS);
    let mut certificates = Vec::new();
    if system.exists() {
        certificates.extend(pem(system)?);
    }
    if let Some(dir) = ca_dir {
        let io = |error| Error::Source(format!("cannot read {}: {error}", dir.display()));
        for entry in std::fs::read_dir(dir).map_err(io)? {
            let path = entry.map_err(io)?.path();
            // A mounted ConfigMap has its versions in directories that begin with dots.
            if path.is_file() {
                certificates.extend(pem(&path)?);
            }
        }
    }
    if certificates.is_empty() {
        return Ok(RootCerts::WebPki);
    }
    Ok(RootCerts::Specific(Arc::new(certificates)))
}

fn pem(path: &Path) -> Result<Vec<Certificate<'static>>> {
    let bad = |reason: String| {
        Error::Source(format!(
            "{}: expected certificates in PEM form: {reason}",
            path.display()
        ))
    };
    let text = std::fs::read(path).map_err(|e| bad(e.to_string()))?;
    CertificateDer::pem_slice_iter(&text)
        .map(|one| {
            one.map(|der| Certificate::from_der(&der).to_owned())
                .map_err(|e| bad(e.to_string()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_no_credentials() {
        for (url, shown) in [
            ("https://u:p@h:1/a/b?X-Sig=1#f", "https://h:1/a/b"),
            ("http://h/a", "http://h/a"),
            ("nonsense", "nonsense"),
        ] {
            assert_eq!(bare(url), shown);
        }
    }
}
