//! A disk in a container image: the one file under `/disk`, as containerDisks have it.

use std::io::{self, Read};
use std::path::Path;

use imaging::{Error, Outcome, Result};
use oci::{Digest, HashingReader, Reference};
use serde::Deserialize;

use super::http_source::Remote;
use super::request::{Client, Credentials, TRIES, again, bare, failed, passes, unexpected};

/// What we can read, for `Accept`.
const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json";
/// The longest manifest read; registries refuse longer ones.
const MANIFEST_MAX: u64 = 4 << 20;

/// A manifest or an index of several.
#[derive(Debug, Deserialize)]
struct Document {
    #[serde(default)]
    layers: Vec<Layer>,
    #[serde(default)]
    manifests: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
struct Layer {
    digest: String,
}

#[derive(Debug, Deserialize)]
struct Entry {
    digest: String,
    platform: Option<Platform>,
}

#[derive(Debug, Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

#[derive(Debug, Deserialize)]
struct Token {
    #[serde(alias = "access_token")]
    token: String,
}

/// An image in a registry.
#[derive(Debug)]
pub(super) struct Image {
    client: Client,
    base: String,
    reference: Reference,
}

impl Image {
    /// `docker://HOST/NAME:TAG`; plain HTTP only when `insecure` allows it.
    pub(super) fn new(client: Client, endpoint: &str, insecure: bool) -> Result<Self> {
        let name = endpoint.strip_prefix("docker://").ok_or_else(|| {
            Error::Source(format!(
                "expected a registry's endpoint docker://HOST/NAME:TAG, found {endpoint:?}"
            ))
        })?;
        let reference: Reference = name
            .parse()
            .map_err(|error| Error::Source(format!("{endpoint}: {error}")))?;
        // The hub's API is not at the host of its names.
        let host = match reference.host() {
            "docker.io" => "registry-1.docker.io",
            host => host,
        };
        let scheme = if insecure { "http" } else { "https" };
        Ok(Self {
            base: format!("{scheme}://{host}/v2/{}", reference.repository()),
            client,
            reference,
        })
    }

    /// Finds the disk and gives it to `import`. The layer's digest is verified: what was
    /// imported is what the manifest names.
    pub(super) fn pull(
        mut self,
        import: &mut dyn FnMut(&mut dyn Read, u64) -> Result<Outcome>,
    ) -> Result<Outcome> {
        let document = self.manifest()?;
        // A file of a later layer hides one of an earlier.
        for layer in document.layers.iter().rev() {
            if let Some(outcome) = self.layer(&layer.digest, import)? {
                return Ok(outcome);
            }
        }
        Err(Error::Source(format!(
            "{}: expected a file under /disk in one of its {} layers, found none",
            self.reference,
            document.layers.len()
        )))
    }

    /// Digest of what the reference names now: a manifest or an index.
    pub(super) fn look(mut self) -> Result<String> {
        let version = self.reference.version().to_owned();
        let bytes = self.bytes(&version)?;
        // What is no manifest is nothing to import.
        let document = read(&self.reference, &bytes)?;
        if document.manifests.is_empty() && document.layers.is_empty() {
            return Err(Error::Source(format!(
                "{}: expected a manifest with layers, found none",
                self.reference
            )));
        }
        Ok(Digest::of(&bytes).to_string())
    }

    fn manifest(&mut self) -> Result<Document> {
        let version = self.reference.version().to_owned();
        let document = self.document(&version)?;
        if document.manifests.is_empty() {
            return Ok(document);
        }
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let fits = |entry: &&Entry| {
            entry
                .platform
                .as_ref()
                .is_some_and(|p| p.os == "linux" && p.architecture == architecture)
        };
        let entry = document.manifests.iter().find(fits).ok_or_else(|| {
            Error::Source(format!(
                "{}: expected an image for linux/{architecture}, found none in its index",
                self.reference
            ))
        })?;
        self.document(&entry.digest)
    }

    fn document(&mut self, version: &str) -> Result<Document> {
        let bytes = self.bytes(version)?;
        read(&self.reference, &bytes)
    }

    /// A manifest, by tag or by digest; what comes by digest must have it.
    fn bytes(&mut self, version: &str) -> Result<Vec<u8>> {
        let url = format!("{}/manifests/{version}", self.base);
        let mut number = 0;
        let mut asked = false;
        loop {
            number += 1;
            let error = match self.client.get(&url, &[("accept", ACCEPT)]) {
                Ok(mut response) => match response.status().as_u16() {
                    200 => {
                        let bytes = response
                            .body_mut()
                            .with_config()
                            .limit(MANIFEST_MAX)
                            .read_to_vec()
                            .map_err(|e| Error::SourceForNow(format!("GET {url}: {e}")))?;
                        let found = Digest::of(&bytes);
                        if version.starts_with("sha256:") && found.as_str() != version {
                            return Err(Error::Source(format!(
                                "GET {url}: expected that digest, found {found}"
                            )));
                        }
                        return Ok(bytes);
                    }
                    401 if !asked => {
                        asked = true;
                        let challenge = response
                            .headers()
                            .get("www-authenticate")
                            .and_then(|v| v.to_str().ok())
                            .unwrap_or_default()
                            .to_owned();
                        self.token(&challenge)?;
                        continue;
                    }
                    status => {
                        let error = unexpected(&url, &mut response);
                        if !passes(status) {
                            return Err(error);
                        }
                        error
                    }
                },
                Err(error) => failed(&url, &error),
            };
            if number >= TRIES || !again(&error) {
                return Err(error);
            }
            self.client.pause(number, &error);
        }
    }

    /// Answers `Bearer realm="…",service="…",scope="…"` with a token, anonymously or with the
    /// credentials there are. To `Basic` they were sent already.
    fn token(&mut self, challenge: &str) -> Result<()> {
        let Some(fields) = challenge.strip_prefix("Bearer ") else {
            return Err(Error::SourceForNow(format!(
                "{}: the registry wants other credentials ({challenge})",
                self.reference
            )));
        };
        let field = |name: &str| {
            let at = fields.find(&format!("{name}=\""))? + name.len() + 2;
            fields[at..].split('"').next()
        };
        let realm = field("realm").unwrap_or_default();
        let scope = format!("repository:{}:pull", self.reference.repository());
        let mut url = format!("{realm}?scope={scope}");
        if let Some(service) = field("service") {
            url.push_str(&format!("&service={}", service.replace(' ', "%20")));
        }
        let mut response = self
            .client
            .get(&url, &[])
            .map_err(|error| failed(&url, &error))?;
        if response.status() != 200 {
            return Err(unexpected(&url, &mut response));
        }
        let bytes = response
            .body_mut()
            .with_config()
            .limit(MANIFEST_MAX)
            .read_to_vec()
            .map_err(|e| Error::SourceForNow(format!("GET {}: {e}", bare(&url))))?;
        let token: Token = serde_json::from_slice(&bytes)
            .map_err(|e| Error::Source(format!("GET {}: expected a token: {e}", bare(&url))))?;
        self.client.credentials = Credentials::Header(format!("Bearer {}", token.token));
        Ok(())
    }

    /// Imports the disk in a layer, if it has one.
    fn layer(
        &self,
        digest: &str,
        import: &mut dyn FnMut(&mut dyn Read, u64) -> Result<Outcome>,
    ) -> Result<Option<Outcome>> {
        let url = format!("{}/blobs/{digest}", self.base);
        let remote = Remote::open(self.client.clone(), &url)?;
        let mut blob = HashingReader::new(remote.stream());
        let outcome = disk(&mut blob, import)?;
        if outcome.is_none() {
            // Nothing of it was used.
            return Ok(None);
        }
        let (found, _) = blob.finish().map_err(Error::from_read)?;
        if found.as_str() != digest {
            return Err(Error::Source(format!(
                "GET {}: expected that digest, found {found}",
                bare(&url)
            )));
        }
        Ok(outcome)
    }
}

fn read(reference: &Reference, bytes: &[u8]) -> Result<Document> {
    serde_json::from_slice(bytes)
        .map_err(|error| Error::Source(format!("{reference}: expected a manifest: {error}")))
}

/// The one regular file under `disk/` of a layer, compressed or not.
fn disk(
    layer: &mut impl Read,
    import: &mut dyn FnMut(&mut dyn Read, u64) -> Result<Outcome>,
) -> Result<Option<Outcome>> {
    let mut found: Option<(String, Outcome)> = None;
    let (layer, bound) = imaging::archive::bounded(imaging::decompress(layer)?);
    let mut archive = tar::Archive::new(layer);
    for entry in archive.entries().map_err(Error::from_read)? {
        let mut entry = entry.map_err(Error::from_read)?;
        bound.contents();
        let path = entry.path().map_err(Error::from_read)?.into_owned();
        let path = path.strip_prefix(".").unwrap_or(&path);
        let path = path.strip_prefix("/").unwrap_or(path);
        let hidden = path
            .file_name()
            .is_none_or(|name| name.as_encoded_bytes().starts_with(b".wh."));
        let wanted = entry.header().entry_type().is_file()
            && path.parent() == Some(Path::new("disk"))
            && !hidden;
        if wanted {
            if let Some((first, _)) = &found {
                return Err(Error::Source(format!(
                    "expected one file under /disk, found {first} and {}",
                    path.display()
                )));
            }
            let length = entry.size();
            let outcome = import(&mut entry, length)?;
            found = Some((path.display().to_string(), outcome));
        }
        // What the import left, so that the next entry is found.
        io::copy(&mut entry, &mut io::sink()).map_err(Error::from_read)?;
        bound.headers();
    }
    Ok(found.map(|(_, outcome)| outcome))
}
