//! What was found and decided about a pod's network, kept on the node's disk:
//! after the change, nothing else knows the pod's address any more.

use std::io;
use std::path::{Path, PathBuf};

use api::launcher::Nic;
use decide::handler::NicFacts;
use serde::{Deserialize, Serialize};

use super::uplink::Uplink;
use super::{NetworkError, Networks, UPLINK};

/// Readable by root only.
const MODE: u32 = 0o600;

/// The record of one pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The pod's interface before it was changed.
    pub(super) uplink: Uplink,
    /// What the guest got.
    pub(super) nic: Nic,
    /// The guest is behind the pod's address.
    pub(super) translated: bool,
}

impl Record {
    pub(super) fn networks(self) -> Networks {
        let facts = NicFacts {
            network: self.nic.network.clone(),
            mac: self.nic.mac.clone(),
            pod_interface: UPLINK.to_owned(),
            pod_addresses: vec![self.uplink.address.to_string()],
            translated: self.translated,
            queues: self.nic.queues,
        };
        Networks {
            nics: vec![self.nic],
            facts: vec![facts],
        }
    }
}

pub(super) fn path(directory: &Path, pod_uid: &str) -> PathBuf {
    directory.join(format!("{pod_uid}.json"))
}

/// The record, if there is a whole one.
pub(super) fn read(path: &Path) -> Option<Record> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(path = %path.display(), "cannot read: {error}");
            return None;
        }
    };
    serde_json::from_slice(&bytes)
        .inspect_err(|error| tracing::warn!(path = %path.display(), "not a record: {error}"))
        .ok()
}

pub(super) fn write(path: &Path, record: &Record) -> Result<(), NetworkError> {
    let told = |source: io::Error| NetworkError::Record {
        path: path.to_owned(),
        source,
    };
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(told)?;
    }
    let bytes = serde_json::to_vec(record).map_err(|error| told(error.into()))?;
    host::files::write_atomic(path, &bytes, MODE).map_err(told)
}

/// What a guest got that was joined before; nothing if it was not.
pub(crate) fn load(directory: &Path, pod_uid: &str) -> Networks {
    read(&path(directory, pod_uid))
        .map(Record::networks)
        .unwrap_or_default()
}

/// The pod is gone.
pub(crate) fn forget(directory: &Path, pod_uid: &str) {
    let path = path(directory, pod_uid);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), "cannot remove: {error}");
        }
        _ => {}
    }
}
