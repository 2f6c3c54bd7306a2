//! `cargo xtask gen`: files that are made from the table of fields and from the
//! catalogue of checks.
//!
//! `docs/compatibility.md` is `xtask/templates/compatibility.md` (written by
//! hand) with the lists of refused and of accepted fields put in;
//! `docs/preflight.md` likewise with the checks of preflight. `--crds`
//! writes the CustomResourceDefinitions as YAML, for people who want to read
//! them or apply them without the operator.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use api::schema::{KINDS, Kind, State, table};

/// Arguments of `cargo xtask gen`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Change nothing; fail when a file is out of date.
    #[arg(long)]
    check: bool,
    /// Also write the CustomResourceDefinitions as YAML to this file.
    #[arg(long, value_name = "FILE")]
    crds: Option<PathBuf>,
}

/// Documents by name: `docs/NAME.md` is `xtask/templates/NAME.md` filled in.
const DOCUMENTS: [&str; 2] = ["compatibility", "preflight"];
const CHECKS: &str = "<!-- checks -->";
const REFUSED: &str = "<!-- refused -->";
const ACCEPTED: &str = "<!-- accepted -->";

/// Writes or checks the generated files below `root`, the repository.
pub(crate) fn run(root: &Path, args: &Args) -> anyhow::Result<()> {
    for name in DOCUMENTS {
        let template = format!("xtask/templates/{name}.md");
        let document = format!("docs/{name}.md");
        let text = read(&root.join(&template))?;
        let wanted = match name {
            "preflight" => checks(&text),
            _ => fill(&text),
        }
        .with_context(|| template.clone())?;
        let path = root.join(&document);
        if !args.check {
            write(&path, &wanted)?;
        } else if std::fs::read_to_string(&path).unwrap_or_default() != wanted {
            bail!("{document} is out of date; run `cargo xtask gen` and commit the result");
        }
    }
    if let Some(path) = &args.crds {
        let mut text = String::new();
        for crd in api::schema::crds().into_iter().chain(api::cdi::crds()) {
            text.push_str("---\n");
            text.push_str(&serde_yaml::to_string(&crd)?);
        }
        write(path, &text)?;
    }
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// The page of preflight: the catalogue in the place of its marker.
fn checks(template: &str) -> anyhow::Result<String> {
    once(template, CHECKS)?;
    Ok(template.replace(CHECKS, &hardware::markdown()))
}

fn once(template: &str, marker: &str) -> anyhow::Result<()> {
    if template.matches(marker).count() != 1 {
        bail!("expected the marker {marker} once");
    }
    Ok(())
}

fn fill(template: &str) -> anyhow::Result<String> {
    once(template, REFUSED)?;
    once(template, ACCEPTED)?;
    let mut found = Vec::new();
    for kind in kinds() {
        walk(kind, String::new(), &mut found);
    }
    Ok(template
        .replace(
            REFUSED,
            &list(&found, |state| match state {
                State::Refused(why) => Some(why),
                _ => None,
            }),
        )
        .replace(
            ACCEPTED,
            &list(&found, |state| match state {
                State::Accepted(why) => Some(why),
                _ => None,
            }),
        ))
}

/// KubeVirt's kinds, then CDI's.
fn kinds() -> impl Iterator<Item = &'static str> {
    KINDS.into_iter().chain(api::cdi::KINDS)
}

/// A field that is not acted on: kind, path in it, state.
type Found = (&'static str, String, State);

/// Collects the fields of `kind` that are not acted on.
///
/// The template of a VirtualMachine is left out: it is the spec of a
/// VirtualMachineInstance, and listed there.
fn walk(kind: &'static str, prefix: String, found: &mut Vec<Found>) {
    let table = if KINDS.contains(&kind) {
        table()
    } else {
        api::cdi::table()
    };
    let mut queue = vec![(kind, prefix)];
    while let Some((name, prefix)) = queue.pop() {
        let Some(ty) = table.get(name) else {
            continue;
        };
        for field in &ty.fields {
            let path = format!("{prefix}{}", field.name);
            match field.state {
                State::Acted => {
                    let below = field.kind.type_name();
                    if let Some(below) =
                        below.filter(|_| !(kind == "VirtualMachine" && path == "spec.template"))
                    {
                        queue.push((below, format!("{path}{}.", brackets(&field.kind))));
                    }
                }
                state => found.push((kind, path, state)),
            }
        }
    }
}

/// How a path goes on inside a list or a map.
fn brackets(kind: &Kind) -> &'static str {
    match kind {
        Kind::List(..) => "[]",
        Kind::Map(_) => ".*",
        _ => "",
    }
}

/// Markdown: for each kind the reasons, for each reason the fields.
fn list(found: &[Found], pick: impl Fn(State) -> Option<&'static str>) -> String {
    let mut out = String::new();
    for kind in kinds() {
        let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (_, path, state) in found.iter().filter(|(of, ..)| *of == kind) {
            if let Some(why) = pick(*state) {
                reasons.entry(why).or_default().push(path);
            }
        }
        if reasons.is_empty() {
            continue;
        }
        // Writing to a String cannot fail.
        let _ = write!(out, "\n### {kind}\n\n| fields | why |\n|---|---|\n");
        let mut rows: Vec<(String, &str)> = reasons
            .into_iter()
            .map(|(why, mut paths)| {
                paths.sort_unstable();
                let paths: Vec<String> = paths.iter().map(|path| format!("`{path}`")).collect();
                (paths.join(", "), why)
            })
            .collect();
        rows.sort();
        for (paths, why) in rows {
            let _ = writeln!(out, "| {paths} | {why} |");
        }
    }
    out.trim().to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn refused_fields_are_listed_with_kind_path_and_reason() {
        let text = fill(&format!("a\n{REFUSED}\nb\n{ACCEPTED}\n")).unwrap();
        assert!(text.contains("### VirtualMachineInstance\n"));
        assert!(text.contains("`spec.domain.devices.interfaces[].sriov`"));
        assert!(!text.contains("spec.template.spec.domain"));
        assert!(text.contains("### DataVolume\n") && text.contains("`spec.source.vddk`"));
        assert!(fill("no markers").is_err());
    }

    #[test]
    fn the_page_of_preflight_has_every_check_once() {
        let text = checks(&format!("a\n{CHECKS}\n")).unwrap();
        for check in hardware::catalogue() {
            let heading = format!("\n### {}\n", check.id);
            assert_eq!(text.matches(&heading).count(), 1, "{}", check.id);
        }
        assert!(checks("no marker").is_err());
    }
}
