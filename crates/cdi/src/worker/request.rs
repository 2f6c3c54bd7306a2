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

use super::progress::Progress;
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
/// Redirects that are followed in a row.
const REDIRECTS: usize = 10;
/// Bytes of a redirect's body that are read so that its connection serves again.
const REDIRECT_BODY: u64 = 64 << 10;
/// Said of a file that was exchanged.
pub(super) const CHANGED: &str = " changed while it was read";
/// Said of a certificate that nobody we trust has signed, or of another name or time.
const UNTRUSTED: &str = "the server's certificate is not accepted";

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
    follow: bool,
    backoff: Duration,
    progress: Arc<Progress>,
}

impl Client {
    /// `ca_dir` has certificates of further authorities in PEM files. `backoff` is the first
    /// pause after a failure; it doubles. `progress` is told why it pauses.
    pub(super) fn new(
        ca_dir: Option<&Path>,
        follow: bool,
        backoff: Duration,
        progress: Arc<Progress>,
    ) -> Result<Self> {
        let tls = TlsConfig::builder().root_certs(roots(ca_dir)?).build();
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .tls_config(tls)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(STALL))
            .timeout_per_read(Some(STALL))
            .user_agent(concat!("edgevirt-cdi/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self {
            agent: config.into(),
            credentials: Credentials::None,
            headers: Vec::new(),
            follow,
            backoff,
            progress,
        })
    }

    /// One GET, without looking at the status but for redirects. Those lead to HTTP only, and
    /// to whom they lead beside the host that was asked gets neither credentials nor headers:
    /// secrets may be in both.
    pub(super) fn get(
        &self,
        url: &str,
        more: &[(&str, &str)],
    ) -> std::result::Result<Response<Body>, ureq::Error> {
        let mut at = url.to_owned();
        for _ in 0..=REDIRECTS {
            let mut response = self.get_once(&at, more, origin(&at) == origin(url))?;
            let next = Some(&response)
                .filter(|_| self.follow)
                .filter(|response| matches!(response.status().as_u16(), 301..=303 | 307 | 308))
                .and_then(|response| response.headers().get("location")?.to_str().ok())
                .and_then(|location| join(&at, location));
            let Some(next) = next else {
                return Ok(response);
            };
            let body = response.body_mut().with_config().limit(REDIRECT_BODY);
            // Only so that the connection can be used again.
            let _ = body.read_to_vec();
            at = next;
        }
        Err(ureq::Error::TooManyRedirects)
    }

    fn get_once(
        &self,
        url: &str,
        more: &[(&str, &str)],
        ours: bool,
    ) -> std::result::Result<Response<Body>, ureq::Error> {
        // What is measured and checked is the file, not what a server made of it.
        let mut request = self.agent.get(url).header("accept-encoding", "identity");
        for (name, value) in self.headers.iter().filter(|_| ours) {
            request = request.header(name, value);
        }
        for (name, value) in more {
            request = request.header(*name, *value);
        }
        match &self.credentials {
            _ if !ours => {}
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

    /// Tells why, and waits before try `number`, the first being 1.
    pub(super) fn pause(&self, number: u32, error: &Error) {
        tracing::warn!(number, "{error}; trying again");
        self.progress.retrying(Some(error.to_string()));
        let pause = self.backoff.saturating_mul(1 << number.min(10));
        std::thread::sleep(pause.min(PAUSE));
    }

    /// The source answers as it should.
    pub(super) fn works(&self) {
        self.progress.retrying(None);
    }
}

/// Scheme, host and port of a URL, in one form.
fn origin(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = host.rsplit('@').next().unwrap_or_default();
    let (scheme, host) = (scheme.to_ascii_lowercase(), host.to_ascii_lowercase());
    let usual = if scheme == "https" { ":443" } else { ":80" };
    format!("{scheme}://{}", host.strip_suffix(usual).unwrap_or(&host))
}

/// Where a `Location` in an answer from `base` leads, if it is HTTP.
fn join(base: &str, location: &str) -> Option<String> {
    let location = location.split('#').next()?;
    let (scheme, rest) = base.split_once("://")?;
    let rest = rest.split(['?', '#']).next()?;
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let scheme_end = location.find(|c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c));
    if let Some(end) = scheme_end.filter(|end| location[*end..].starts_with(':')) {
        let known = matches!(
            location[..end].to_ascii_lowercase().as_str(),
            "http" | "https"
        );
        return known.then(|| location.to_owned());
    }
    Some(if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{host}{location}")
    } else if location.starts_with('?') {
        format!("{scheme}://{host}{path}{location}")
    } else {
        let dir = path.rfind('/').map_or("/", |end| &path[..=end]);
        format!("{scheme}://{host}{dir}{location}")
    })
}

/// A request that brought no answer.
pub(super) fn failed(url: &str, error: &ureq::Error) -> Error {
    let text = error.to_string();
    let Some((_, reason)) = text.split_once("invalid peer certificate: ") else {
        let text = text.strip_prefix("io: ").unwrap_or(&text);
        return Error::SourceForNow(format!("GET {}: {text}", bare(url)));
    };
    let hint = if reason.contains("UnknownIssuer") {
        ": put its authority into a ConfigMap and name that in certConfigMap"
    } else {
        ""
    };
    Error::SourceForNow(format!("GET {}: {UNTRUSTED}: {reason}{hint}", bare(url)))
}

/// Whether a failure may be over in a moment. A certificate, and the authorities it is held
/// against, are another one at most when the worker starts again.
pub(super) fn again(error: &Error) -> bool {
    matches!(error, Error::SourceForNow(text) if !text.contains(CHANGED) && !text.contains(UNTRUSTED))
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
    fn a_redirect_leads_to_http_only() {
        let base = "https://u:p@h:8443/a/b.img?x=1";
        for (location, leads) in [
            ("http://other/c", Some("http://other/c")),
            ("HTTPS://other/c#f", Some("HTTPS://other/c")),
            ("//other/c", Some("https://other/c")),
            ("/c?d", Some("https://u:p@h:8443/c?d")),
            ("c:d", None),
            ("./c:d", Some("https://u:p@h:8443/a/./c:d")),
            ("?y=2", Some("https://u:p@h:8443/a/b.img?y=2")),
            ("file:///etc/passwd", None),
            ("gopher://h/1", None),
        ] {
            assert_eq!(join(base, location).as_deref(), leads, "{location}");
        }
    }

    #[test]
    fn one_origin_has_many_forms() {
        assert_eq!(origin("https://u:p@H:443/a"), origin("HTTPS://h?x"));
        for other in ["http://h/a", "https://h:444/a", "https://h.evil/a"] {
            assert_ne!(origin("https://h/a"), origin(other));
        }
        assert_ne!(origin("https://h/"), origin("https://h@evil/"));
    }

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
