//! cdi-importer: from somewhere on the network into the claim.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, bail};
use imaging::{Checksum, Error, Result, Source, Target};
use kube_kit::args::Args;

use super::Claim;
use super::end::Done;
use super::http_source::Remote;
use super::progress::Progress;
use super::registry::Image;
use super::request::{Client, Credentials};
use super::s3::{self, Signer};

/// What the controller's clients look for.
const COMPLETE: &str = "Import Complete";

/// What to import.
#[derive(Debug)]
pub(super) struct Work {
    source: From,
    endpoint: String,
    secret: Option<PathBuf>,
    ca: Option<PathBuf>,
    checksum: Option<Checksum>,
    headers: Vec<(String, String)>,
    insecure: bool,
    region: Option<String>,
    backoff: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Http,
    S3,
    Registry,
    Blank,
}

/// Reads the importer's own options.
pub(super) fn parse(args: &mut Args) -> anyhow::Result<Work> {
    let source = match args.required::<String>("--source")?.as_str() {
        "http" | "https" => From::Http,
        "s3" => From::S3,
        "registry" => From::Registry,
        "blank" | "none" => From::Blank,
        other => {
            bail!("option --source: expected http, s3, registry or blank, found {other:?}")
        }
    };
    let endpoint: String = if source == From::Blank {
        args.or("--endpoint", String::new())?
    } else {
        args.required("--endpoint")?
    };
    let mut headers = Vec::new();
    while let Some(header) = args.option::<String>("--header")? {
        headers.push(header_line(&header).context("option --header")?);
    }
    while let Some(path) = args.option::<String>("--header-file")? {
        headers.extend(header_file(Path::new(&path))?);
    }
    Ok(Work {
        source,
        endpoint,
        secret: args.option::<String>("--secret-dir")?.map(PathBuf::from),
        ca: args.option::<String>("--ca-dir")?.map(PathBuf::from),
        checksum: args
            .option::<String>("--checksum")?
            .filter(|c| !c.is_empty())
            .map(|c| c.parse())
            .transpose()?,
        headers,
        insecure: args.flag("--insecure"),
        region: args.option("--region")?,
        backoff: Duration::from_millis(args.or("--backoff-millis", 500)?),
    })
}

fn header_line(line: &str) -> anyhow::Result<(String, String)> {
    let (name, value) = line.split_once(':').with_context(|| {
        format!(
            "expected NAME: VALUE, found {} bytes without a colon",
            line.len()
        )
    })?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// A header in each line of a file, or of all files of a mounted secret.
fn header_file(path: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let read = |path: &Path| {
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let mut text = String::new();
    if path.is_dir() {
        for entry in std::fs::read_dir(path)? {
            let path = entry?.path();
            if path.is_file() {
                text.push_str(&read(&path)?);
                text.push('\n');
            }
        }
    } else {
        text = read(path)?;
    }
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| header_line(line).with_context(|| path.display().to_string()))
        .collect()
}

impl Work {
    pub(super) fn run(self, claim: &Claim, cancel: &AtomicBool) -> Result<Done> {
        let tell = |part| claim.progress.tell(part);
        let job = claim.job(self.checksum.clone(), cancel, &tell);
        if claim.archive {
            return self.archive(claim, &job);
        }
        let target = Target::open(&claim.target)?;
        let outcome = match self.source {
            From::Blank => imaging::fill_blank(&target, &job)?,
            From::Registry => {
                let image = Image::new(
                    self.client(true, &claim.progress)?,
                    &self.endpoint,
                    self.insecure,
                )?;
                let stage = claim.stage(&target);
                image.pull(&mut |reader, length| {
                    imaging::import_stream(reader, Some(length), &target, &stage, &job)
                })?
            }
            From::Http | From::S3 => {
                let remote = self.remote(claim)?;
                if remote.has_ranges() && remote.length() > 0 {
                    let format = imaging::probe(&remote)?;
                    if !format.is_compression() && format != imaging::Format::Tar {
                        tracing::info!(%format, bytes = remote.length(), "importing by ranges");
                        let outcome = imaging::convert(&remote, format, &target, &job)?;
                        return Ok(Done::disk(COMPLETE, outcome));
                    }
                }
                let length = remote.known_length();
                tracing::info!(?length, "importing as a stream");
                let stage = claim.stage(&target);
                imaging::import_stream(remote.stream(), length, &target, &stage, &job)?
            }
        };
        Ok(Done::disk(COMPLETE, outcome))
    }

    /// Digest of the image that the endpoint names now.
    pub(super) fn look(self) -> Result<String> {
        if self.source != From::Registry {
            return Err(Error::Source(format!(
                "expected source registry, whose images have digests, found {:?}",
                self.source
            )));
        }
        let nobody_asks = Arc::new(Progress::new(String::new(), None));
        let client = self.client(true, &nobody_asks)?;
        Image::new(client, &self.endpoint, self.insecure)?.look()
    }

    fn archive(self, claim: &Claim, job: &imaging::Job<'_>) -> Result<Done> {
        match self.source {
            From::Http | From::S3 => {
                let remote = self.remote(claim)?;
                let bytes = imaging::archive::extract(remote.stream(), &claim.directory(), job)?;
                Ok(Done::archive(COMPLETE, bytes))
            }
            From::Blank => Ok(Done::archive(COMPLETE, 0)),
            From::Registry => Err(Error::Source(
                "expected a source http or s3 for content type archive, found registry".to_owned(),
            )),
        }
    }

    fn remote(&self, claim: &Claim) -> Result<Remote> {
        if self.source == From::Http {
            if !self.endpoint.starts_with("http://") && !self.endpoint.starts_with("https://") {
                return Err(Error::Source(format!(
                    "expected an endpoint http:// or https://, found {:?}",
                    self.endpoint
                )));
            }
            return Remote::open(self.client(true, &claim.progress)?, &self.endpoint);
        }
        let url = s3::normal(&self.endpoint)?;
        // A redirect would need another signature.
        let mut client = self.client(false, &claim.progress)?;
        if let Some((access, secret)) = self.keys()? {
            let signer = Signer::new(access, secret, &url, self.region.clone());
            client.credentials = Credentials::Aws(signer);
        }
        Remote::open(client, &url)
    }

    fn client(&self, follow: bool, progress: &Arc<Progress>) -> Result<Client> {
        let mut client = Client::new(
            self.ca.as_deref(),
            follow,
            self.backoff,
            Arc::clone(progress),
        )?;
        client.headers.clone_from(&self.headers);
        if self.source != From::S3
            && let Some((user, password)) = self.keys()?
        {
            client.credentials = Credentials::basic(&user, &password);
        }
        Ok(client)
    }

    /// The secret's two keys, which serve as user and password too, as upstream has it.
    fn keys(&self) -> Result<Option<(String, String)>> {
        let Some(dir) = &self.secret else {
            return Ok(None);
        };
        let read = |name: &str| match std::fs::read_to_string(dir.join(name)) {
            Ok(text) => Ok(Some(text.trim_end_matches('\n').to_owned())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::Source(format!(
                "cannot read {name} of the secret: {error}"
            ))),
        };
        match (read("accessKeyId")?, read("secretKey")?) {
            (Some(user), Some(password)) => Ok(Some((user, password))),
            (None, None) => Ok(None),
            (user, _) => Err(Error::Source(format!(
                "expected accessKeyId and secretKey in the secret, found {} only",
                if user.is_some() {
                    "accessKeyId"
                } else {
                    "secretKey"
                }
            ))),
        }
    }
}
