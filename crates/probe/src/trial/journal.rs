//! The journal: what to put back, written and synced before each change.
//!
//! One JSON object a line. The first names the boot: after a reboot sysfs is
//! new and there is nothing to put back. A last line that is cut short
//! announces a change that was not made. A value is put back only where ours
//! still stands: what somebody else has set meanwhile is theirs.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::system::System;

/// The journal's name in its directory.
const FILE: &str = "journal";
/// Held by the probe at work.
const LOCK: &str = "lock";
/// Changes at every boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Longest journal that is read, bytes; one trial writes some hundreds.
const LIMIT: u64 = 1 << 20;

/// How to undo one change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "undo")]
pub(super) enum Undo {
    /// The boot all that follows belongs to.
    Boot {
        /// /proc/sys/kernel/random/boot_id.
        id: String,
    },
    /// Write a file of sysfs.
    Value {
        /// The file.
        path: String,
        /// What we wrote.
        ours: String,
        /// What stood there before.
        before: String,
    },
    /// Take a device from a driver.
    Unbind {
        /// Its address.
        device: String,
        /// The driver.
        driver: String,
    },
    /// Take modules out of the kernel, first to last.
    Unload {
        /// Those that were not there before.
        modules: Vec<String>,
    },
}

/// What stands in the way of a journal.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another probe holds the lock.
    #[error("another probe is at work: {path} is locked; wait until it has ended")]
    Busy {
        /// The lock.
        path: PathBuf,
    },
    /// The journal cannot be kept, so nothing may be changed.
    #[error(
        "the journal {path} cannot be written or read ({reason}); make room or remove the cause, then try again"
    )]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// What an earlier trial changed could not be put back.
    #[error("an earlier trial is not undone: {reasons}; undo it by hand, then remove {path}")]
    NotRestored {
        /// The journal.
        path: PathBuf,
        /// What failed.
        reasons: String,
    },
}

/// What was put back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Each thing that was put back, in words.
    pub done: Vec<String>,
    /// Each thing that could not be, with the reason.
    pub failed: Vec<String>,
}

/// An open journal; holds the lock.
#[derive(Debug)]
pub(super) struct Journal {
    directory: PathBuf,
    file: File,
    _lock: File,
}

impl Journal {
    /// A journal for a new trial; what an earlier one left is put back first.
    pub(super) fn begin(directory: &Path, system: &impl System) -> Result<Self, Error> {
        let error = |reason| Error::Io {
            path: directory.to_owned(),
            reason,
        };
        std::fs::create_dir_all(directory).map_err(error)?;
        let mut journal = Self::open(directory)?;
        if let Some(restored) = journal.undo(system)?
            && !restored.failed.is_empty()
        {
            return Err(Error::NotRestored {
                path: directory.join(FILE),
                reasons: restored.failed.join("; "),
            });
        }
        // That took the file out of its directory.
        journal.file = open(&directory.join(FILE))?;
        let id = system.read(BOOT_ID).map_err(error)?;
        journal.announce(&Undo::Boot { id })?;
        Ok(journal)
    }

    /// The journal that an earlier trial left, if any.
    pub(super) fn open_existing(directory: &Path) -> Result<Option<Self>, Error> {
        match std::fs::metadata(directory.join(FILE)) {
            Ok(_) => Self::open(directory).map(Some),
            Err(_) => Ok(None),
        }
    }

    fn open(directory: &Path) -> Result<Self, Error> {
        let path = directory.join(LOCK);
        let lock = open(&path)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(Error::Busy { path }),
            Err(errno) => {
                return Err(Error::Io {
                    path,
                    reason: errno.into(),
                });
            }
        }
        Ok(Self {
            file: open(&directory.join(FILE))?,
            directory: directory.to_owned(),
            _lock: lock,
        })
    }

    /// Writes what will undo a change, and waits until it is on the disk; only
    /// then may the change be made.
    pub(super) fn announce(&mut self, undo: &Undo) -> Result<(), Error> {
        let mut line = serde_json::to_vec(undo).unwrap_or_default();
        line.push(b'\n');
        self.file
            .write_all(&line)
            .and_then(|()| self.file.sync_all())
            .and_then(|()| File::open(&self.directory)?.sync_all())
            .map_err(|reason| Error::Io {
                path: self.directory.join(FILE),
                reason,
            })
    }

    /// Puts everything back, the last change first, and removes the journal
    /// when all of it worked; `None` when nothing was announced.
    pub(super) fn undo(&mut self, system: &impl System) -> Result<Option<Restored>, Error> {
        let path = self.directory.join(FILE);
        let error = |reason| Error::Io {
            path: path.clone(),
            reason,
        };
        let mut text = String::new();
        File::open(&path)
            .and_then(|file| file.take(LIMIT).read_to_string(&mut text))
            .map_err(error)?;
        let records: Vec<Undo> = text
            .lines()
            .map_while(|line| serde_json::from_str(line).ok())
            .collect();
        let boot = system.read(BOOT_ID).ok();
        let ours = match records.first() {
            Some(Undo::Boot { id }) => Some(id) == boot.as_ref(),
            _ => false,
        };
        let mut restored = Restored::default();
        if ours {
            for record in records.iter().rev() {
                match put_back(record, system) {
                    Ok(None) => {}
                    Ok(Some(done)) => restored.done.push(done),
                    Err(failed) => restored.failed.push(failed),
                }
            }
        }
        if restored.failed.is_empty() {
            std::fs::remove_file(&path).map_err(error)?;
            File::open(&self.directory)
                .and_then(|directory| directory.sync_all())
                .map_err(error)?;
        }
        Ok((ours && records.len() > 1).then_some(restored))
    }
}

fn open(path: &Path) -> Result<File, Error> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(|reason| Error::Io {
            path: path.to_owned(),
            reason,
        })
}

/// One change undone: what was done, or `None` when there was nothing to do.
fn put_back(undo: &Undo, system: &impl System) -> Result<Option<String>, String> {
    match undo {
        Undo::Boot { .. } => Ok(None),
        Undo::Value { path, ours, before } => {
            // Gone with its device, never written, or somebody else's by now.
            match system.read(path) {
                Ok(found) if found == *ours => {}
                _ => return Ok(None),
            }
            // driver_override is cleared by an empty line.
            let value = if before.is_empty() { "\n" } else { before };
            system
                .write(path, value)
                .map_err(|error| format!("write {before:?} to {path}: {error}"))?;
            Ok(Some(format!("{path} is {before:?} again")))
        }
        Undo::Unbind { device, driver } => {
            let link = format!("/sys/bus/pci/devices/{device}/driver");
            if system.link_name(&link).as_ref() != Some(driver) {
                return Ok(None);
            }
            let path = format!("/sys/bus/pci/drivers/{driver}/unbind");
            system
                .write(&path, device)
                .map_err(|error| format!("write {device} to {path}: {error}"))?;
            Ok(Some(format!("{device} left {driver}")))
        }
        Undo::Unload { modules } => unload(modules, system),
    }
}

fn unload(modules: &[String], system: &impl System) -> Result<Option<String>, String> {
    let mut done = Vec::new();
    for module in modules {
        if !system.exists(&format!("/sys/module/{module}")) {
            continue;
        }
        match system.unload(module) {
            Ok(()) => done.push(module.as_str()),
            Err(error) => match error.raw_os_error().map(Errno::from_raw_os_error) {
                // In use by now, so no longer ours; or built in.
                Some(Errno::WOULDBLOCK | Errno::BUSY | Errno::NOENT) => {}
                _ => return Err(format!("unload {module}: {error}")),
            },
        }
    }
    Ok((!done.is_empty()).then(|| format!("unloaded {}", done.join(", "))))
}
