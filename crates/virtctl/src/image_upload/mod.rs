//! image-upload: a local disk image, or an archive, into a claim of the cluster.
//! Source of the steps and sentences: KubeVirt pkg/virtctl/imageupload/imageupload.go.
//!
//! ```text
//!  claim: find or create, wait ──► door: how to reach the upload proxy ──► send: token, bytes
//!                                   URL, or a tunnel through the API server   tried again, gone on
//! ```

mod args;
mod claim;
mod door;
mod progress;
mod reader;
mod send;
mod trust;

pub(crate) use args::ImageUploadArgs;

use std::fs::File;

use anyhow::{Context, bail};

use crate::cli::Connection;
use crate::cluster::Cluster;
use crate::output::out;

use claim::Claim;
use door::Door;

/// Uploads as the flags say.
///
/// # Errors
/// What is in the way, in upstream's words where it has some.
pub(crate) async fn run(connection: &Connection, args: &ImageUploadArgs) -> anyhow::Result<()> {
    let plan = args.plan()?;
    let shown = plan.path.display();
    // Before anything is created: a mistyped path is the commonest mistake.
    let file = File::open(&plan.path).with_context(|| format!("cannot open {shown}"))?;
    if !file.metadata()?.is_file() {
        bail!("expected a file, found something else at {shown}");
    }
    let cluster = Cluster::connect(connection).await?;
    let claim = Claim {
        cluster: &cluster,
        plan: &plan,
        args,
    };
    claim.prepare().await?;
    claim.wait_ready().await?;
    let door = Door::find(&cluster, args).await?;
    out(format!("Uploading data to {}", door.url()));
    send::Upload::new(&cluster, &plan.name, &door, file, args)?
        .send()
        .await?;
    if args.datasource {
        claim.data_source().await?;
    }
    out(
        "Uploading data completed successfully, waiting for processing to complete, you can hit ctrl-c without interrupting the progress",
    );
    claim.wait_processed().await?;
    out(format!("Uploading {shown} completed successfully"));
    Ok(())
}

#[cfg(test)]
mod tests;
