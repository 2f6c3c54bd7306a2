//! Kernel modules: those named in /etc/modules of the guest, and what they need.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, bail};
use oci::Tree;

use super::super::root::Root;

/// Copies modules into the tree and writes the modules.dep that modprobe reads.
pub(super) fn copy(root: &Root, names: &str, into: &mut Tree) -> anyhow::Result<()> {
    copy_all(root, names, into).map(drop)
}

/// Does what [`copy`] does, and writes besides what a node has more than the demo guest: modules.alias, by which a
/// device finds its driver, and the list of what is built into the kernel. Gives the kernel's release.
pub(crate) fn copy_with_aliases(
    root: &Root,
    names: &str,
    into: &mut Tree,
) -> anyhow::Result<String> {
    let (release, copied) = copy_all(root, names, into)?;
    let mut aliases = String::new();
    for path in copied {
        for pattern in modinfo(&fs::read(root.find(&path)?)?, "alias")? {
            // Writing into a String cannot fail.
            let name = name_of(path.trim_end_matches(".ko"));
            let _ = writeln!(aliases, "alias {pattern} {name}");
        }
    }
    let top = format!("usr/lib/modules/{release}");
    into.file(&format!("{top}/modules.alias"), aliases.as_str(), 0o644)?;
    for name in [
        "modules.builtin",
        "modules.builtin.modinfo",
        "modules.order",
    ] {
        root.copy(&format!("{top}/{name}"), into)?;
    }
    Ok(release)
}

/// Gives the kernel's release and the paths copied.
fn copy_all(root: &Root, names: &str, into: &mut Tree) -> anyhow::Result<(String, Vec<String>)> {
    let paths = root.below("usr/lib/modules");
    let release = paths
        .first()
        .and_then(|path| path.split('/').nth(3))
        .context("the kernel's package has no /lib/modules")?;
    let top = format!("usr/lib/modules/{release}/");
    let by_name: BTreeMap<String, &str> = paths
        .iter()
        .filter_map(|path| Some((name_of(path.strip_suffix(".ko")?), *path)))
        .collect();
    let builtin = fs::read_to_string(root.find(&format!("{top}modules.builtin"))?)?;
    let builtin: Vec<String> = builtin
        .lines()
        .filter_map(|line| Some(name_of(line.strip_suffix(".ko")?)))
        .collect();

    let mut open: Vec<String> = names.split_whitespace().map(name_of).collect();
    let mut depends: BTreeMap<String, Vec<String>> = BTreeMap::new();
    while let Some(name) = open.pop() {
        if depends.contains_key(&name) || builtin.contains(&name) {
            continue;
        }
        let Some(path) = by_name.get(&name) else {
            bail!("the kernel {release} has no module {name}")
        };
        let needs = needs(&fs::read(root.find(path)?)?).with_context(|| (*path).to_owned())?;
        open.extend(needs.iter().cloned());
        depends.insert(name, needs);
    }

    let mut index = String::new();
    for name in depends.keys() {
        let path = by_name[name];
        root.copy(path, into)?;
        // A module's line names all it needs, the nearest first.
        let mut all: Vec<&str> = Vec::new();
        let mut open: Vec<&String> = depends[name].iter().rev().collect();
        while let Some(need) = open.pop() {
            let Some(path) = by_name.get(need).filter(|_| depends.contains_key(need)) else {
                continue;
            };
            let relative = path.trim_start_matches(&top);
            all.retain(|known| *known != relative);
            all.push(relative);
            open.extend(depends[need].iter().rev());
        }
        // Writing into a String cannot fail.
        let _ = writeln!(
            index,
            "{}: {}",
            path.trim_start_matches(&top),
            all.join(" ")
        );
    }
    into.file(&format!("{top}modules.dep"), index.as_str(), 0o644)?;
    let copied = depends
        .keys()
        .map(|name| by_name[name].to_owned())
        .collect();
    Ok((release.to_owned(), copied))
}

/// A module's name: its file's, with '_' for '-'.
fn name_of(path: &str) -> String {
    path.rsplit('/').next().unwrap_or(path).replace('-', "_")
}

/// The modules that a module names in `depends=`.
fn needs(bytes: &[u8]) -> anyhow::Result<Vec<String>> {
    let depends = modinfo(bytes, "depends")?;
    Ok(depends
        .iter()
        .flat_map(|value| value.split(','))
        .filter(|name| !name.is_empty())
        .map(name_of)
        .collect())
}

/// Every value of a key in a module's section .modinfo.
fn modinfo(bytes: &[u8], key: &str) -> anyhow::Result<Vec<String>> {
    let elf = goblin::elf::Elf::parse(bytes)?;
    let section = elf
        .section_headers
        .iter()
        .find(|header| elf.shdr_strtab.get_at(header.sh_name) == Some(".modinfo"))
        .and_then(|header| header.file_range())
        .and_then(|range| bytes.get(range))
        .context("it has no section .modinfo")?;
    let prefix = format!("{key}=");
    Ok(section
        .split(|byte| *byte == 0)
        .filter_map(|entry| entry.strip_prefix(prefix.as_bytes()))
        .map(|value| String::from_utf8_lossy(value).into_owned())
        .collect())
}
