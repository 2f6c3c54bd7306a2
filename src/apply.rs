//! `edgevirt apply`: a directory of manifests to a cluster by server-side apply.
//!
//! The one engine behind the command line and the Ansible roles, so that both
//! agree on what changed and what would change.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use kube_kit::apply::{Applier, Id, Outcome};
use serde::Serialize;
use serde_json::Value;

use crate::cli::{ApplyArgs, Format};
use crate::output::{Output, Tone};

/// Field manager of everything the installer applies.
const MANAGER: &str = "edgevirt";
/// How long a new kind may take until the API server serves it.
const KIND_SERVED: Duration = Duration::from_secs(30);

/// The document of `--output json`; Ansible reads `changed`.
#[derive(Debug, Serialize)]
struct Report {
    changed: bool,
    objects: Vec<Line>,
}

/// What happened to one object.
#[derive(Debug, Serialize)]
struct Line {
    object: String,
    outcome: &'static str,
}

/// Applies every document of `--dir`; with `--check` only says what would change.
pub(crate) fn run(args: &ApplyArgs, out: &Output) -> anyhow::Result<ExitCode> {
    let documents = read_dir(&args.dir)?;
    if documents.is_empty() {
        bail!(
            "{}: expected at least one manifest (*.yaml), found none",
            args.dir.display()
        );
    }
    let runtime = crate::cluster::runtime()?;
    let report = runtime.block_on(async {
        let client = crate::cluster::client(&args.cluster).await?;
        apply_all(&Applier::new(client, MANAGER), &documents, args.check).await
    })?;
    match args.output {
        Format::Json => out.json(&report)?,
        Format::Table => {
            for line in &report.objects {
                let tone = if line.outcome == "unchanged" {
                    Tone::Dim
                } else {
                    Tone::Good
                };
                out.line(&format!(
                    "{} {}",
                    line.object,
                    out.paint(line.outcome, tone)
                ));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn apply_all(applier: &Applier, documents: &[Value], check: bool) -> anyhow::Result<Report> {
    let mut objects = Vec::new();
    for document in documents {
        let id = Id::of(document)?;
        let outcome = if check {
            applier.check(document).await
        } else {
            apply_one(applier, document).await
        };
        let outcome = match outcome {
            // In check mode a kind or namespace that is itself only about to be made.
            Err(error) if check && error.status_code() == Some(404) => Outcome::Created,
            other => other.with_context(|| format!("cannot apply {id}"))?,
        };
        objects.push(Line {
            object: id.to_string(),
            outcome: match outcome {
                Outcome::Created => "created",
                Outcome::Configured => "configured",
                Outcome::Unchanged => "unchanged",
            },
        });
    }
    Ok(Report {
        changed: objects.iter().any(|line| line.outcome != "unchanged"),
        objects,
    })
}

/// A 404 may mean that the kind was made a moment ago and is not served yet.
async fn apply_one(
    applier: &Applier,
    document: &Value,
) -> Result<Outcome, kube_kit::apply::ApplyError> {
    let deadline = tokio::time::Instant::now() + KIND_SERVED;
    loop {
        match applier.apply(document).await {
            Err(error)
                if error.status_code() == Some(404) && tokio::time::Instant::now() < deadline =>
            {
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
            other => return other,
        }
    }
}

/// All documents of all `*.yaml` files of `dir`, in the order of the file names.
pub(crate) fn read_dir(dir: &Path) -> anyhow::Result<Vec<Value>> {
    let mut paths: Vec<_> = std::fs::read_dir(dir)
        .with_context(|| format!("cannot list {}", dir.display()))?
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "yaml" || e == "yml"))
        .collect();
    paths.sort();
    let mut documents = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        documents.extend(
            parse(&text).with_context(|| format!("{}: expected YAML manifests", path.display()))?,
        );
    }
    Ok(documents)
}

/// The documents of a YAML stream, empty ones left out.
pub(crate) fn parse(text: &str) -> anyhow::Result<Vec<Value>> {
    use serde::Deserialize;
    let mut documents = Vec::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        let value = Value::deserialize(document)?;
        if !value.is_null() {
            documents.push(value);
        }
    }
    Ok(documents)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_stream_gives_its_documents_in_order_and_no_empty_ones() {
        let documents = parse("a: 1\n---\n---\nb: 2\n").unwrap();
        assert_eq!(documents.len(), 2);
        assert_eq!(documents[1]["b"], 2);
    }

    #[test]
    fn files_are_read_in_the_order_of_their_names_and_others_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("20-b.yaml"), "n: 2").unwrap();
        std::fs::write(dir.path().join("10-a.yaml"), "n: 1").unwrap();
        std::fs::write(dir.path().join("revision.json"), "{").unwrap();
        let documents = read_dir(dir.path()).unwrap();
        assert_eq!(documents.len(), 2);
        assert_eq!(documents[0]["n"], 1);
    }
}
