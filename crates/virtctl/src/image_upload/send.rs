//! The bytes: sent, tried again, gone on with where they stopped.
//! Source of sentences and order: KubeVirt pkg/virtctl/imageupload/imageupload.go,
//! `uploadData`; of going on: `api::upload`.

use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use api::upload::{LENGTH_HEADER, OFFSET_HEADER, SOURCE_ANNOTATION, TOKEN_REQUESTS, VERSIONS};
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Either, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::json;

use super::args::ImageUploadArgs;
use super::door::Door;
use super::progress::Progress;
use super::reader::{self, Rest};
use crate::cluster::Cluster;
use crate::output::{err, out};

/// Tokens that are asked for anew in one upload.
const TOKENS: u32 = 3;
/// Before the second try; doubled before each further one.
const PAUSE: Duration = Duration::from_millis(500);
/// Of the server's words.
const WORDS: usize = 16 << 10;

/// Ends a try.
#[derive(Debug)]
enum Ended {
    /// The server has all.
    Done,
    /// The server had all already.
    DoneBefore(String),
    /// The token is not, or no longer, good.
    Token(String),
    /// No further try mends it.
    Refused(String),
    /// The next try may work.
    Broken(String),
}

/// What the server has of an upload that broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    offset: u64,
    length: Option<u64>,
}

/// One upload.
pub(super) struct Upload<'a> {
    cluster: &'a Cluster,
    claim: &'a str,
    door: &'a Door,
    file: File,
    length: u64,
    print: String,
    args: &'a ImageUploadArgs,
    progress: Arc<Mutex<Progress>>,
}

impl<'a> Upload<'a> {
    /// Of `file` to `claim`.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn new(
        cluster: &'a Cluster,
        claim: &'a str,
        door: &'a Door,
        file: File,
        args: &'a ImageUploadArgs,
    ) -> anyhow::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self {
            cluster,
            claim,
            door,
            length,
            print: reader::print(&file)?,
            file,
            args,
            progress: Arc::new(Mutex::new(Progress::new(length))),
        })
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the file, with as many tries as the flags allow.
    ///
    /// # Errors
    /// Why the server does not have it.
    pub(super) async fn send(self) -> anyhow::Result<()> {
        let mut token = self.token().await?;
        out("");
        let tries = self.args.retry.max(1);
        let mut tokens = TOKENS;
        // A file that this upload sent the first bytes of can be gone on with.
        let mut ours = self.args.resume && self.is_the_same().await;
        let mut pause = PAUSE;
        let mut last = String::new();
        for attempt in 0..tries {
            if attempt > 0 {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            let (ended, sent) = self.attempt(&token, ours, attempt == 0).await;
            ours |= sent;
            match ended {
                Ended::Done => return self.done(),
                // The answer to an earlier try was lost.
                Ended::DoneBefore(_) if attempt > 0 => return self.done(),
                Ended::Token(why) => {
                    if attempt == 0 || tokens == 0 {
                        self.progress().interrupt();
                        bail!("authentication failed: {why}");
                    }
                    tokens -= 1;
                    token = self.token().await.context("failed to get upload token")?;
                    last = why;
                }
                Ended::Refused(why) | Ended::DoneBefore(why) => {
                    self.progress().interrupt();
                    bail!("error uploading image: {why}");
                }
                Ended::Broken(why) => last = why,
            }
        }
        self.progress().interrupt();
        let resume = if ours {
            "; run the command again with --resume to go on where it stopped"
        } else {
            ""
        };
        bail!("error uploading image after {tries} retries: {last}{resume}")
    }

    fn done(&self) -> anyhow::Result<()> {
        self.progress().finish();
        out("");
        Ok(())
    }

    /// One try, and whether bytes of this file were sent in it.
    async fn attempt(&self, token: &str, ours: bool, first: bool) -> (Ended, bool) {
        // As upstream's clients: asynchronous, where the server knows that.
        let asynchronous = self.door.endpoint("upload-async");
        let (path, part) = match self.head(token, &asynchronous).await {
            Ok(part) => (asynchronous, part),
            Err(_) => (self.door.endpoint("upload"), None),
        };
        let part = part.filter(|part| {
            ours && part.offset > 0
                && part.offset <= self.length
                && part.length.is_none_or(|length| length == self.length)
        });
        if first && self.args.resume {
            match part {
                Some(part) => err(format!("Going on after {} bytes", part.offset)),
                None if ours => err("The server has nothing of this upload; sending all of it"),
                None => err(
                    "The last upload to this claim was of another file, or of a file that changed since; sending all of it",
                ),
            }
        }
        if part.is_none() {
            self.remember().await;
        }
        let (method, begin) = part.map_or((Method::POST, 0), |part| (Method::PATCH, part.offset));
        self.progress().begin(begin);
        let ended = self.post(token, method, &path, begin).await;
        (ended, true)
    }

    /// What the server has, if it tells.
    async fn head(&self, token: &str, path: &str) -> anyhow::Result<Option<Part>> {
        let request = self
            .request(token, Method::HEAD, path)
            .body(Either::Left(Empty::new()))?;
        let answer = self.exchange(request).await?;
        if answer.status() != StatusCode::OK {
            bail!("asynchronous uploads are not known");
        }
        let number = |name: &str| {
            let value = answer.headers().get(name)?;
            value.to_str().ok()?.parse::<u64>().ok()
        };
        Ok(number(OFFSET_HEADER).map(|offset| Part {
            offset,
            length: number(LENGTH_HEADER),
        }))
    }

    async fn post(&self, token: &str, method: Method, path: &str, begin: u64) -> Ended {
        let sent = async {
            let body = Rest::of(&self.file, begin, self.length, Arc::clone(&self.progress))?;
            let mut request = self
                .request(token, method, path)
                .header(header::CONTENT_TYPE, "application/octet-stream")
                .header(header::CONTENT_LENGTH, self.length - begin);
            if begin > 0 {
                request = request
                    .header(OFFSET_HEADER, begin)
                    .header(LENGTH_HEADER, self.length);
            }
            self.exchange(request.body(Either::Right(body))?).await
        };
        let answer = match sent.await {
            Ok(answer) => answer,
            Err(error) => return Ended::Broken(format!("{error:#}")),
        };
        let code = answer.status();
        if code == StatusCode::OK {
            return Ended::Done;
        }
        let words = Limited::new(answer.into_body(), WORDS).collect().await;
        let words = words.map_or_else(|_| Bytes::new(), |body| body.to_bytes());
        let words = String::from_utf8_lossy(&words);
        let why = format!(
            "unexpected return value {}, {}",
            code.as_u16(),
            words.trim()
        );
        match code.as_u16() {
            401 => Ended::Token(why),
            // A server that is done is not there any more: the proxy says it in words.
            409 => Ended::DoneBefore(why),
            503 if words.contains("already finished uploading") => Ended::DoneBefore(why),
            400 | 403 | 404 | 405 | 413 => Ended::Refused(why),
            _ => Ended::Broken(why),
        }
    }

    fn request(&self, token: &str, method: Method, path: &str) -> http::request::Builder {
        Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.door.authority())
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .header(
                header::USER_AGENT,
                concat!("virtctl/", env!("CARGO_PKG_VERSION")),
            )
    }

    async fn exchange(
        &self,
        request: Request<Either<Empty<Bytes>, Rest>>,
    ) -> anyhow::Result<http::Response<hyper::body::Incoming>> {
        let stream = self.door.open().await?;
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(512 * 1024)
            .handshake(TokioIo::new(stream))
            .await?;
        // It ends with the request; what went wrong the request tells.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(sender.send_request(request).await?)
    }

    /// A token for the claim.
    async fn token(&self) -> anyhow::Result<String> {
        let namespace = &self.cluster.namespace;
        let (group, version) = (api::upload::GROUP, VERSIONS[0]);
        let path = format!("/apis/{group}/{version}/namespaces/{namespace}/{TOKEN_REQUESTS}");
        let request = json!({
            "apiVersion": format!("{group}/{version}"),
            "kind": "UploadTokenRequest",
            "metadata": { "generateName": "token-for-virtctl-", "namespace": namespace },
            "spec": { "pvcName": self.claim },
        });
        let made = self.cluster.post(&path, &request).await?;
        made["status"]["token"]
            .as_str()
            .filter(|token| !token.is_empty())
            .map(str::to_owned)
            .ok_or_else(|| anyhow!("expected a token in the answer of {path}, found none"))
    }

    fn claim_path(&self) -> String {
        format!(
            "/api/v1/namespaces/{}/persistentvolumeclaims/{}",
            self.cluster.namespace, self.claim
        )
    }

    /// Whether the claim's last upload was of this file as it is.
    async fn is_the_same(&self) -> bool {
        let claim = self.cluster.find(&self.claim_path()).await.ok().flatten();
        claim
            .is_some_and(|claim| claim["metadata"]["annotations"][SOURCE_ANNOTATION] == *self.print)
    }

    /// Notes on the claim which file it gets. Who may not do that cannot resume by
    /// another run; the upload itself needs no note.
    async fn remember(&self) {
        let patch = json!({ "metadata": { "annotations": { SOURCE_ANNOTATION: self.print } } });
        let _ = self.cluster.merge(&self.claim_path(), &patch).await;
    }
}
