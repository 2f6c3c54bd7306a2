//! A configuration made of certificate files, made again when they change. No
//! polling: files are looked at when the configuration is wanted.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::files::{self, Stamp};
use super::{CERTIFICATE_FILE, KEY_FILE, TlsError};

/// Stamps are not looked at more often than this.
const LOOK: Duration = Duration::from_secs(1);

/// Where certificate, key and authorities are.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    pub(super) ca: Option<PathBuf>,
}

impl Files {
    /// `tls.crt` and `tls.key` in `dir`; `ca` is a PEM file, or a directory
    /// with `ca-bundle`.
    pub(super) fn in_dir(dir: &Path, ca: Option<PathBuf>) -> Self {
        Self {
            certificate: dir.join(CERTIFICATE_FILE),
            key: dir.join(KEY_FILE),
            ca: ca.map(files::ca_file),
        }
    }

    fn stamps(&self) -> [Stamp; 3] {
        [
            files::stamp(&self.certificate),
            files::stamp(&self.key),
            self.ca.as_deref().and_then(files::stamp),
        ]
    }
}

/// The configuration `C` of [`Files`].
#[derive(Debug)]
pub(super) struct Reloaded<C> {
    files: Files,
    current: Mutex<Current<C>>,
}

#[derive(Debug)]
struct Current<C> {
    config: Arc<C>,
    stamps: [Stamp; 3],
    looked: Instant,
}

impl<C: Debug> Reloaded<C> {
    /// Made by `build`, which [`Reloaded::get`] is given again.
    pub(super) fn new(
        files: Files,
        build: impl FnOnce(&Files) -> Result<C, TlsError>,
    ) -> Result<Self, TlsError> {
        let stamps = files.stamps();
        let current = Current {
            config: Arc::new(build(&files)?),
            stamps,
            looked: Instant::now(),
        };
        Ok(Self {
            files,
            current: Mutex::new(current),
        })
    }

    /// As of now. Files that make no configuration leave the last one in use.
    pub(super) fn get(&self, build: impl FnOnce(&Files) -> Result<C, TlsError>) -> Arc<C> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.looked.elapsed() >= LOOK {
            current.looked = Instant::now();
            let stamps = self.files.stamps();
            if stamps != current.stamps {
                match build(&self.files) {
                    Ok(config) => {
                        tracing::info!(certificate = %self.files.certificate.display(), "certificates reloaded");
                        current.config = Arc::new(config);
                        current.stamps = stamps;
                    }
                    Err(error) => {
                        tracing::warn!(
                            "keeping the old certificates: {:#}",
                            anyhow::Error::from(error)
                        );
                    }
                }
            }
        }
        Arc::clone(&current.config)
    }

    /// Makes it anew for a reason that is in no file.
    pub(super) fn rebuild(
        &self,
        build: impl FnOnce(&Files) -> Result<C, TlsError>,
    ) -> Result<(), TlsError> {
        let config = Arc::new(build(&self.files)?);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.config = config;
        Ok(())
    }
}
