//! The node itself: its label and heartbeat, and the helper on its disk.

use std::fs::{File, TryLockError};
use std::num::NonZero;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use api::names::{
    CONTAINER_DISK_HELPER, CONTAINER_DISK_HOST_PATH, HEARTBEAT_ANNOTATION, PROCESSORS_ANNOTATION,
    SCHEDULABLE_LABEL,
};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use tokio::sync::watch;

use crate::Settings;

/// Time between heartbeats. virt-controller takes a node for unresponsive
/// after five minutes, as upstream does.
const BEAT: Duration = Duration::from_secs(60);
/// Time until a heartbeat that failed is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// Executable by everyone, writable by root.
const EXECUTABLE: u32 = 0o755;

/// Name of the file in our directory whose lock says that a handler works here.
const LOCK: &str = "virt-handler.lock";
/// Between tries for the lock. Only a handler that is one too many tries.
const TRY: Duration = Duration::from_secs(1);

/// Waits until no other handler works on this node: two would take each
/// other's plugin sockets away, without end. The kernel frees the lock with the
/// process, however that ends; it holds as long as the value is kept.
///
/// # Errors
/// When our directory on the node cannot be written.
pub(crate) async fn alone(settings: &Settings) -> anyhow::Result<File> {
    std::fs::create_dir_all(&settings.state_dir)
        .with_context(|| format!("making {}", settings.state_dir.display()))?;
    let path = settings.state_dir.join(LOCK);
    let mut options = File::options();
    let lock = options.create(true).truncate(false).write(true).open(&path);
    let lock = lock.with_context(|| format!("opening {}", path.display()))?;
    let mut told = false;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) if told => {}
            Err(TryLockError::WouldBlock) => {
                told = true;
                tracing::warn!(
                    node = settings.node_name,
                    "expected no other virt-handler on this node, found {} locked; waiting for the other's end",
                    path.display()
                );
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("locking {}", path.display()));
            }
        }
        tokio::time::sleep(TRY).await;
    }
}

/// Puts the containerDisk helper where the device plugin hands it out from.
/// Containers that have the old one mounted keep it.
///
/// # Errors
/// When the image has no helper or the node's directory cannot be written.
pub(crate) fn install_helper(settings: &Settings) -> anyhow::Result<()> {
    let to = Path::new(CONTAINER_DISK_HOST_PATH);
    let relative = to.strip_prefix("/var/lib/kubevirt").unwrap_or(to);
    let to = settings.state_dir.join(relative);
    let helper = std::fs::read(CONTAINER_DISK_HELPER).with_context(|| {
        format!("expected the containerDisk helper at {CONTAINER_DISK_HELPER} of the image")
    })?;
    if std::fs::read(&to).is_ok_and(|installed| installed == helper) {
        return Ok(());
    }
    if let Some(directory) = to.parent() {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("making {}", directory.display()))?;
    }
    host::files::write_atomic(&to, &helper, EXECUTABLE)
        .with_context(|| format!("writing {}", to.display()))
}

/// Tells the cluster once a minute that the node's handler lives, and whether
/// guests may be scheduled there: when the devices every guest needs are offered.
pub(crate) async fn heartbeat(
    settings: &Settings,
    client: kube::Client,
    mut offered: watch::Receiver<bool>,
) {
    let nodes: Api<Node> = Api::all(client);
    // At start the first word is worth waiting for: it makes the node usable.
    let _ = tokio::time::timeout(AGAIN, offered.wait_for(|offered| *offered)).await;
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    loop {
        let ready = *offered.borrow_and_update();
        let patch = json!({ "metadata": {
            "labels": { SCHEDULABLE_LABEL: ready.to_string() },
            "annotations": {
                HEARTBEAT_ANNOTATION: now(),
                PROCESSORS_ANNOTATION: processors.to_string(),
            },
        }});
        let wait = match nodes
            .patch_metadata(
                &settings.node_name,
                &PatchParams::default(),
                &Patch::Merge(&patch),
            )
            .await
        {
            Ok(_) => BEAT,
            Err(error) => {
                tracing::warn!(
                    node = settings.node_name,
                    "cannot write the heartbeat: {error}"
                );
                AGAIN
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            changed = offered.changed() => if changed.is_err() {
                // The plugins ended, so the process does.
                tokio::time::sleep(wait).await;
            }
        }
    }
}

/// Now, in whole seconds, as RFC 3339.
fn now() -> String {
    decide::plan::whole_seconds(jiff::Timestamp::now()).to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::ffi::OsString;

    #[tokio::test(start_paused = true)]
    async fn a_second_handler_waits_until_the_first_has_ended() {
        let root = tempfile::tempdir().unwrap();
        let args = ["--node-name", "node", "--state-dir"].map(OsString::from);
        let directory = root.path().join("state").into_os_string();
        let settings = Settings::parse(args.into_iter().chain([directory]).collect()).unwrap();
        let first = alone(&settings).await.unwrap();
        let second = alone(&settings);
        let mut second = std::pin::pin!(second);
        let early = tokio::time::timeout(Duration::from_secs(60), &mut second).await;
        assert!(early.is_err(), "two handlers work");
        drop(first);
        let _second = second.await.unwrap();
    }
}
