//! A client of a registry's HTTP API (distribution specification 1.1): push, list, look at and delete images.
//!
//! Plain HTTP only: the registry it is for is the cluster's own, on an address of the node. Blobs are streamed; one
//! that the registry holds already is not sent again.

use std::io::Read;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use ureq::http::header::AUTHORIZATION;
use ureq::http::{HeaderValue, Request, Response, StatusCode};
use ureq::middleware::MiddlewareNext;
use ureq::{Agent, Body, SendBody};

use crate::spec::{Manifest, MediaType};
use crate::{ArchiveReader, Descriptor, Digest, Error, Image, Result};

/// How long to wait for a connection, and for an answer after a request was sent.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest manifest read; registries refuse longer ones.
const MANIFEST_MAX: u64 = 4 << 20;
/// What we can read, for `Accept`.
const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json";

/// A registry at HOST:PORT.
#[derive(Debug, Clone)]
pub struct Registry {
    address: String,
    agent: Agent,
}

/// A manifest as the registry holds it.
#[derive(Debug, Clone)]
pub struct RemoteManifest {
    /// The image's identity.
    pub digest: Digest,
    /// What the answer said it is.
    pub media_type: String,
    /// The document; none if it is an index of several.
    pub manifest: Option<Manifest>,
}

#[derive(Deserialize)]
struct Catalog {
    repositories: Vec<String>,
}

#[derive(Deserialize)]
struct Tags {
    // The registry answers null for a repository whose tags are all gone.
    tags: Option<Vec<String>>,
}

impl Registry {
    /// A client that shows `login`, a user and a password, if there is one; nothing is contacted yet.
    ///
    /// # Errors
    /// An address that is no HOST:PORT.
    pub fn new(address: &str, login: Option<(&str, &str)>) -> Result<Self> {
        let address = address
            .strip_prefix("http://")
            .unwrap_or(address)
            .trim_end_matches('/');
        let fits = |b: u8| b.is_ascii_alphanumeric() || b".-:[]".contains(&b);
        if address.is_empty() || !address.bytes().all(fits) {
            let reason = "a registry's address is HOST:PORT, reached over plain HTTP";
            return Err(Error::Reference {
                reference: address.to_owned(),
                reason,
            });
        }
        let shown = login.and_then(|(user, password)| {
            let both = BASE64_STANDARD.encode(format!("{user}:{password}"));
            let mut value = HeaderValue::from_str(&format!("Basic {both}")).ok()?;
            value.set_sensitive(true);
            Some(value)
        });
        let config = Agent::config_builder()
            .middleware(
                move |mut request: Request<SendBody<'_>>, next: MiddlewareNext<'_>| {
                    if let Some(shown) = &shown {
                        request.headers_mut().insert(AUTHORIZATION, shown.clone());
                    }
                    next.handle(request)
                },
            )
            .http_status_as_error(false)
            // Never through a proxy of the environment: the registry is a neighbour.
            .proxy(None)
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE * 10))
            .max_redirects(3)
            .build();
        Ok(Self {
            address: address.to_owned(),
            agent: config.into(),
        })
    }

    /// HOST:PORT.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Pushes an image made here under `repository:tag`. `progress` hears of the bytes as they are sent or found
    /// to be there.
    ///
    /// # Errors
    /// A registry that cannot be reached or refuses, a file that cannot be read.
    pub fn push(
        &self,
        repository: &str,
        tag: &str,
        image: &Image,
        mut progress: impl FnMut(u64),
    ) -> Result<()> {
        for layer in image.layers() {
            self.push_blob(
                repository,
                layer.descriptor(),
                || layer.open(),
                &mut progress,
            )?;
        }
        let config = Descriptor::of(MediaType::CONFIG, image.config());
        self.push_blob(repository, &config, || Ok(image.config()), &mut progress)?;
        self.put_manifest(repository, tag, MediaType::MANIFEST, image.manifest())
    }

    /// Pushes an archive's image as it is under `repository:tag`.
    ///
    /// # Errors
    /// As [`Self::push`], and content that is not what its digest says.
    pub fn push_archive(
        &self,
        repository: &str,
        tag: &str,
        archive: &ArchiveReader,
        mut progress: impl FnMut(u64),
    ) -> Result<()> {
        let image = archive.image()?;
        for blob in image.blobs() {
            self.push_blob(repository, blob, || archive.blob(blob), &mut progress)?;
        }
        self.put_manifest(repository, tag, image.media_type(), &image.manifest_bytes)
    }

    /// Every repository's name, sorted.
    ///
    /// # Errors
    /// A registry that cannot be reached.
    pub fn repositories(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        let mut path = "/v2/_catalog?n=500".to_owned();
        loop {
            let mut answer = self.get(&path, "application/json")?;
            self.expect(&mut answer, "GET", &path, StatusCode::OK, "200 OK")?;
            let next = next_page(&answer);
            let page: Catalog = self.json(&mut answer, "the registry's catalog")?;
            names.extend(page.repositories);
            match next {
                Some(next) => path = next,
                None => break,
            }
        }
        names.sort();
        Ok(names)
    }

    /// A repository's tags, sorted; none if there is no such repository.
    ///
    /// # Errors
    /// A registry that cannot be reached.
    pub fn tags(&self, repository: &str) -> Result<Vec<String>> {
        let path = format!("/v2/{repository}/tags/list");
        let mut answer = self.get(&path, "application/json")?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(Vec::new());
        }
        self.expect(&mut answer, "GET", &path, StatusCode::OK, "200 OK")?;
        let mut tags = self
            .json::<Tags>(&mut answer, "the registry's tags")?
            .tags
            .unwrap_or_default();
        tags.sort();
        Ok(tags)
    }

    /// A manifest by tag or digest; none if there is none.
    ///
    /// # Errors
    /// A registry that cannot be reached or answers nonsense.
    pub fn manifest(&self, repository: &str, version: &str) -> Result<Option<RemoteManifest>> {
        let path = format!("/v2/{repository}/manifests/{version}");
        let mut answer = self.get(&path, ACCEPT)?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        self.expect(&mut answer, "GET", &path, StatusCode::OK, "200 OK")?;
        let media_type = header(&answer, "content-type")
            .unwrap_or(MediaType::MANIFEST)
            .to_owned();
        let bytes = self.body(&mut answer, &path)?;
        let is_index = MediaType::is_index(&media_type);
        let manifest = if is_index {
            None
        } else {
            Some(serde_json::from_slice(&bytes).map_err(Error::json(path))?)
        };
        Ok(Some(RemoteManifest {
            digest: Digest::of(&bytes),
            media_type,
            manifest,
        }))
    }

    /// Deletes a manifest and with it all its tags; the registry frees the blobs when it collects garbage.
    ///
    /// # Errors
    /// No such manifest; a registry that does not delete.
    pub fn delete_manifest(&self, repository: &str, digest: &Digest) -> Result<()> {
        let path = format!("/v2/{repository}/manifests/{digest}");
        let answer = self.agent.delete(self.url(&path)).call();
        let mut answer = answer.map_err(|e| self.transport("DELETE", &path, e))?;
        match answer.status() {
            StatusCode::METHOD_NOT_ALLOWED => Err(Error::DeletionDisabled(self.address.clone())),
            StatusCode::NOT_FOUND => Err(Error::NotFound {
                registry: self.address.clone(),
                image: format!("{repository}@{digest}"),
            }),
            _ => self.expect(
                &mut answer,
                "DELETE",
                &path,
                StatusCode::ACCEPTED,
                "202 Accepted",
            ),
        }
    }

    fn push_blob<R: Read>(
        &self,
        repository: &str,
        blob: &Descriptor,
        open: impl FnOnce() -> Result<R>,
        progress: &mut impl FnMut(u64),
    ) -> Result<()> {
        let path = format!("/v2/{repository}/blobs/{}", blob.digest);
        let known = self
            .agent
            .head(self.url(&path))
            .call()
            .map_err(|e| self.transport("HEAD", &path, e))?;
        if known.status() == StatusCode::OK {
            progress(blob.size);
            return Ok(());
        }
        let start = format!("/v2/{repository}/blobs/uploads/");
        let answer = self
            .agent
            .post(self.url(&start))
            .content_type("application/octet-stream")
            .send_empty();
        let mut answer = answer.map_err(|e| self.transport("POST", &start, e))?;
        self.expect(
            &mut answer,
            "POST",
            &start,
            StatusCode::ACCEPTED,
            "202 Accepted",
        )?;
        let location = header(&answer, "location").unwrap_or_default().to_owned();
        let joint = if location.contains('?') { '&' } else { '?' };
        let path = format!(
            "{}{joint}digest={}",
            self.local(&location, &start)?,
            blob.digest
        );
        let mut content = Telling {
            inner: open()?,
            tell: progress,
        };
        let answer = self
            .agent
            .put(self.url(&path))
            .content_type("application/octet-stream")
            .header("content-length", blob.size.to_string())
            .send(SendBody::from_reader(&mut content));
        let mut answer = answer.map_err(|e| self.transport("PUT", &path, e))?;
        self.expect(
            &mut answer,
            "PUT",
            &path,
            StatusCode::CREATED,
            "201 Created",
        )
    }

    fn put_manifest(
        &self,
        repository: &str,
        tag: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<()> {
        let path = format!("/v2/{repository}/manifests/{tag}");
        let answer = self
            .agent
            .put(self.url(&path))
            .content_type(media_type)
            .send(bytes);
        let mut answer = answer.map_err(|e| self.transport("PUT", &path, e))?;
        self.expect(
            &mut answer,
            "PUT",
            &path,
            StatusCode::CREATED,
            "201 Created",
        )
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The path of a location the registry gave. One on another host is not followed.
    fn local(&self, location: &str, asked: &str) -> Result<String> {
        let own = location
            .strip_prefix(&format!("http://{}", self.address))
            .unwrap_or(location);
        if own.starts_with('/') {
            return Ok(own.to_owned());
        }
        Err(Error::Status {
            registry: self.address.clone(),
            method: "POST",
            path: asked.to_owned(),
            expected: "a Location on the same registry",
            status: 202,
            detail: format!(": {location:?}"),
        })
    }

    fn get(&self, path: &str, accept: &str) -> Result<Response<Body>> {
        let answer = self
            .agent
            .get(self.url(path))
            .header("accept", accept)
            .call();
        answer.map_err(|e| self.transport("GET", path, e))
    }

    fn expect(
        &self,
        answer: &mut Response<Body>,
        method: &'static str,
        path: &str,
        status: StatusCode,
        expected: &'static str,
    ) -> Result<()> {
        if answer.status() == status {
            return Ok(());
        }
        if answer.status() == StatusCode::UNAUTHORIZED {
            return Err(Error::Login(self.address.clone()));
        }
        let said = answer
            .body_mut()
            .with_config()
            .limit(2048)
            .read_to_string()
            .unwrap_or_default();
        let detail = if said.trim().is_empty() {
            String::new()
        } else {
            format!(": {}", said.trim())
        };
        Err(Error::Status {
            registry: self.address.clone(),
            method,
            path: path.to_owned(),
            expected,
            status: answer.status().as_u16(),
            detail,
        })
    }

    fn body(&self, answer: &mut Response<Body>, path: &str) -> Result<Vec<u8>> {
        let read = answer
            .body_mut()
            .with_config()
            .limit(MANIFEST_MAX)
            .read_to_vec();
        read.map_err(|e| self.transport("GET", path, e))
    }

    fn json<T: for<'de> Deserialize<'de>>(
        &self,
        answer: &mut Response<Body>,
        what: &str,
    ) -> Result<T> {
        let bytes = self.body(answer, what)?;
        serde_json::from_slice(&bytes).map_err(Error::json(what))
    }

    fn transport(&self, method: &'static str, path: &str, source: ureq::Error) -> Error {
        Error::Transport {
            registry: self.address.clone(),
            method,
            path: path.to_owned(),
            source: Box::new(source),
        }
    }
}

struct Telling<'a, R, F> {
    inner: R,
    tell: &'a mut F,
}

impl<R: Read, F: FnMut(u64)> Read for Telling<'_, R, F> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buffer)?;
        (self.tell)(n as u64);
        Ok(n)
    }
}

fn header<'a>(answer: &'a Response<Body>, name: &str) -> Option<&'a str> {
    answer
        .headers()
        .get(name)
        .and_then(|value| value.to_str().ok())
}

/// The path of the next page, from `Link: </v2/_catalog?last=x&n=500>; rel="next"`.
fn next_page(answer: &Response<Body>) -> Option<String> {
    let link = header(answer, "link")?;
    let path = link.strip_prefix('<')?.split_once('>')?.0;
    path.starts_with("/v2/").then(|| path.to_owned())
}
