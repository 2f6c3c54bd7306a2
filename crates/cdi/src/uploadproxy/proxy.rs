//! The way of a request through the proxy.
//! Source of paths, codes and texts: CDI pkg/uploadproxy/uploadproxy.go.

use std::path::PathBuf;

use anyhow::Context;
use api::upload::{ARCHIVE_ENDPOINT, ENDPOINTS, PATH_VERSIONS};
use http::{HeaderMap, Request, Response, header};
use http_body_util::{Either, Full};
use hyper::body::{Body, Bytes, Incoming};
use kube_kit::answer::{self, Answer};
use kube_kit::health::Health;

use super::claim::{self, Content, NotReady};
use super::cors;
use super::forward::{self, Servers};
use crate::token::VerifyingKey;

/// Our own answer, or the upload server's.
pub(super) type Passed = Response<Either<Full<Bytes>, Incoming>>;

/// Environment variable of the public key in PEM form.
const KEY_VARIABLE: &str = "APISERVER_PUBLIC_KEY";

/// What all requests share.
pub(super) struct Proxy {
    client: kube::Client,
    signing_key: PathBuf,
    servers: Servers,
    pub(super) health: Health,
}

impl Proxy {
    pub(super) fn new(client: kube::Client, signing_key: PathBuf, servers: Servers) -> Self {
        Self {
            client,
            signing_key,
            servers,
            health: Health::new(),
        }
    }

    /// The tokens' public key as of now: the file is small and uploads are few.
    pub(super) fn key(&self) -> anyhow::Result<VerifyingKey> {
        let path = &self.signing_key;
        match std::fs::read(path) {
            Ok(pem) => {
                VerifyingKey::from_pem(&pem).with_context(|| format!("reading {}", path.display()))
            }
            Err(error) => match std::env::var(KEY_VARIABLE) {
                Ok(pem) => VerifyingKey::from_pem(pem.as_bytes())
                    .with_context(|| format!("reading variable {KEY_VARIABLE}")),
                Err(_) => Err(error).with_context(|| {
                    format!(
                        "expected a file {} or variable {KEY_VARIABLE}",
                        path.display()
                    )
                }),
            },
        }
    }

    /// Answers one request. Never fails: what goes wrong is an answer too.
    pub(super) async fn answer<B>(&self, request: Request<B>) -> Passed
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if let Some(answer) = cors::preflight(&request) {
            return own(answer);
        }
        let origin = request.headers().contains_key(header::ORIGIN);
        let path = request.uri().path();
        let mut answer = if path == "/healthz" {
            own(answer::text(200, "OK"))
        } else if let Some(answer) = self.health.answer(path) {
            own(answer)
        } else if is_upload(path) {
            self.upload(request).await
        } else {
            own(answer::text(404, "404 page not found\n"))
        };
        cors::allow(origin, answer.headers_mut());
        answer
    }

    async fn upload<B>(&self, request: Request<B>) -> Passed
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let Some(token) = bearer(request.headers()) else {
            return own(answer::text(
                400,
                "expected a header \"Authorization: Bearer <token>\" with the token of an \
                 UploadTokenRequest",
            ));
        };
        let key = match self.key() {
            Ok(key) => key,
            Err(error) => {
                tracing::error!("no key to check tokens with: {error:#}");
                return own(answer::text(
                    500,
                    "the upload proxy has no key to check tokens with",
                ));
            }
        };
        let target = match key.verify(token, jiff::Timestamp::now().as_second()) {
            Ok(target) => target,
            Err(error @ crate::token::Refused::Invalid(_)) => {
                return own(answer::text(401, error.to_string()));
            }
            Err(error @ crate::token::Refused::Other) => {
                return own(answer::text(400, error.to_string()));
            }
        };
        let ready = match claim::ready(&self.client, &target).await {
            Ok(ready) => ready,
            Err(error @ NotReady::Another(_)) => {
                return own(answer::text(401, error.to_string()));
            }
            // Not a status that clients take for one that passes.
            Err(error @ NotReady::Failed { .. }) => {
                return own(answer::text(400, error.to_string()));
            }
            Err(error @ NotReady::Rejected(_)) => {
                tracing::info!(namespace = target.namespace, claim = target.name, "{error}");
                return own(answer::text(503, error.to_string()));
            }
        };
        let host = format!(
            "{}.{}.svc",
            api::upload::server_name(&ready.name),
            ready.namespace
        );
        let path = server_path(request.uri().path(), ready.content);
        tracing::info!(
            namespace = ready.namespace,
            claim = ready.name,
            method = %request.method(),
            path,
            "upload"
        );
        match self.servers.send(&host, &path, request).await {
            Ok(answer) => {
                let (mut parts, body) = answer.into_parts();
                parts.headers = forward::answer_headers(parts.headers);
                tracing::info!(
                    namespace = ready.namespace,
                    claim = ready.name,
                    status = parts.status.as_u16(),
                    "upload answered"
                );
                Response::from_parts(parts, Either::Right(body))
            }
            Err(error) => {
                tracing::warn!(namespace = ready.namespace, claim = ready.name, "{error}");
                own(answer::text(502, format!("error in upload-proxy: {error}")))
            }
        }
    }
}

fn own(answer: Answer) -> Passed {
    answer.map(Either::Left)
}

/// `/{version}/{endpoint}` of uploads.
fn is_upload(path: &str) -> bool {
    path.strip_prefix('/')
        .and_then(|path| path.split_once('/'))
        .is_some_and(|(version, endpoint)| {
            PATH_VERSIONS.contains(&version) && ENDPOINTS.contains(&endpoint)
        })
}

/// Where the upload server takes what was posted to `path`: archives have their own
/// place, wherever the client posts them.
fn server_path(path: &str, content: Content) -> String {
    match content {
        Content::Disk => path.to_owned(),
        Content::Archive => {
            let alpha = path.starts_with("/v1alpha1/");
            let version = PATH_VERSIONS[usize::from(alpha)];
            format!("/{version}/{ARCHIVE_ENDPOINT}")
        }
    }
}

/// The token, of the characters that RFC 6750, section 2.1, allows.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = text.split_at_checked("Bearer".len())?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    let token = token
        .starts_with(|first: char| first.is_ascii_whitespace())
        .then(|| token.trim_ascii_start())?;
    (scheme.eq_ignore_ascii_case("Bearer") && !token.is_empty() && token.bytes().all(allowed))
        .then_some(token)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn paths_of_today_and_of_2021_are_uploads() {
        for path in [
            "/v1beta1/upload",
            "/v1beta1/upload-async",
            "/v1beta1/upload-form",
            "/v1beta1/upload-form-async",
            "/v1alpha1/upload",
            "/v1alpha1/upload-async",
            "/v1alpha1/upload-form",
            "/v1alpha1/upload-form-async",
        ] {
            assert!(is_upload(path), "{path}");
            assert_eq!(server_path(path, Content::Disk), path);
        }
        for path in [
            "/",
            "/v1beta1",
            "/v1/upload",
            "/v1beta1/upload-archive",
            "/v1beta1/upload/x",
        ] {
            assert!(!is_upload(path), "{path}");
        }
    }

    #[test]
    fn archives_go_to_their_own_place() {
        for (path, expected) in [
            ("/v1beta1/upload-async", "/v1beta1/upload-archive"),
            ("/v1beta1/upload", "/v1beta1/upload-archive"),
            ("/v1alpha1/upload", "/v1alpha1/upload-archive"),
        ] {
            assert_eq!(server_path(path, Content::Archive), expected);
        }
    }

    #[test]
    fn a_bearer_token_is_read_as_upstream_reads_it() {
        for (value, expected) in [
            ("Bearer a.b-c_d~e+f/g", Some("a.b-c_d~e+f/g")),
            ("bearer   a", Some("a")),
            ("Bearer", None),
            ("Bearer ", None),
            ("Bearera", None),
            ("Basic a", None),
            ("Bearer a b", None),
            ("Bearer a=", None),
        ] {
            let headers = [(header::AUTHORIZATION, value.parse().unwrap())];
            assert_eq!(bearer(&headers.into_iter().collect()), expected, "{value}");
        }
    }
}
