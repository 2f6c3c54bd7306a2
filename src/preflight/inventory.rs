//! Ansible's inventory, read as it is: INI and YAML, groups and their children, ranges
//! of hosts, `group_vars` and `host_vars` beside it.
//!
//! Nothing is evaluated: a variable that we need and that holds a Jinja expression is
//! refused for its host, with its place. Every variable knows file and line.
//!
//! ```text
//! files ─▶ ini / yaml ─▶ Inventory { hosts, groups } ─▶ pattern (--limit)
//!                                                  └──▶ variables of a host ─▶ connection
//! ```

pub(crate) mod connection;
mod ini;
mod pattern;
mod range;
mod ssh_arguments;
mod words;
mod yaml;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use serde_json::Value;

pub(crate) use pattern::select;

/// File and line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    file: Arc<Path>,
    line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// A variable.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Variable {
    /// Its value.
    pub(crate) value: Value,
    /// Where it stands.
    pub(crate) place: Place,
}

/// Variables by name.
pub(crate) type Variables = BTreeMap<String, Variable>;

/// A group: hosts, groups in it, variables.
#[derive(Clone, Debug, Default)]
struct Group {
    hosts: BTreeSet<String>,
    children: BTreeSet<String>,
    variables: Variables,
    /// From `group_vars`.
    outer: Variables,
}

/// What the files say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inventory {
    /// Hosts in the order of the files, each with the variables on its line.
    order: Vec<String>,
    hosts: BTreeMap<String, (Variables, Variables)>,
    groups: BTreeMap<String, Group>,
    /// Things that were passed over, each with its place.
    pub(crate) warnings: Vec<String>,
}

/// Ends of file names that Ansible passes over in a directory
/// (INVENTORY_IGNORE_EXTS in its configuration reference).
const IGNORED: [&str; 12] = [
    ".pyc", ".pyo", ".swp", ".bak", "~", ".rpm", ".md", ".txt", ".rst", ".orig", ".cfg", ".retry",
];

impl Inventory {
    /// Reads a file, or every file of a directory.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let mut inventory = Self::default();
        let meta = std::fs::metadata(path)
            .with_context(|| format!("cannot read the inventory {}", path.display()))?;
        let base = if meta.is_dir() {
            for file in directory(path)? {
                let name = file.file_name().unwrap_or_default().to_string_lossy();
                if name == "group_vars" || name == "host_vars" || file.is_dir() {
                    continue;
                }
                if IGNORED.iter().any(|end| name.ends_with(end)) {
                    continue;
                }
                inventory.add_file(&file)?;
            }
            path
        } else {
            inventory.add_file(path)?;
            path.parent().unwrap_or(Path::new("."))
        };
        inventory.read_vars(base)?;
        inventory.check_loops()?;
        Ok(inventory)
    }

    fn add_file(&mut self, path: &Path) -> anyhow::Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the inventory {}", path.display()))?;
        let mode = std::fs::metadata(path).map_or(0, |m| m.permissions().mode());
        if mode & 0o111 != 0 && text.starts_with("#!") {
            bail!(
                "{}: expected an inventory, found a program; give what `ansible-inventory -i {0} --list --yaml` prints",
                path.display()
            );
        }
        let yaml = path
            .extension()
            .is_some_and(|e| e == "yml" || e == "yaml" || e == "json");
        self.add_text(path, &text, yaml)
    }

    /// Adds the text of one file.
    fn add_text(&mut self, path: &Path, text: &str, yaml: bool) -> anyhow::Result<()> {
        let file: Arc<Path> = path.into();
        if yaml {
            yaml::inventory(&file, text, self)
        } else {
            ini::inventory(&file, text, self)
        }
    }

    fn group(&mut self, name: &str) -> &mut Group {
        self.groups.entry(name.to_owned()).or_default()
    }

    fn host(&mut self, name: &str) -> &mut Variables {
        if !self.hosts.contains_key(name) {
            self.order.push(name.to_owned());
        }
        &mut self.hosts.entry(name.to_owned()).or_default().0
    }

    /// `group_vars/NAME`, `NAME.yml`, `NAME/*.yml`, and the same for hosts.
    fn read_vars(&mut self, base: &Path) -> anyhow::Result<()> {
        for (kind, dir) in [("group", "group_vars"), ("host", "host_vars")] {
            let dir = base.join(dir);
            if !dir.is_dir() {
                continue;
            }
            for path in directory(&dir)? {
                let Some(name) = path.file_stem().map(|s| s.to_string_lossy().into_owned()) else {
                    continue;
                };
                let full = path.file_name().unwrap_or_default().to_string_lossy();
                let name = match path.extension().and_then(|e| e.to_str()) {
                    Some("yml" | "yaml" | "json") => name,
                    _ if path.is_dir() || path.extension().is_none() => full.clone().into_owned(),
                    _ => continue,
                };
                let mut variables = Variables::new();
                for file in files_of(&path)? {
                    let text = std::fs::read_to_string(&file)
                        .with_context(|| format!("cannot read {}", file.display()))?;
                    variables.extend(yaml::variables(&file.into(), &text)?);
                }
                if kind == "group" {
                    if name == "all" || name == "ungrouped" || self.groups.contains_key(&name) {
                        self.group(&name).outer.extend(variables);
                    } else {
                        self.warnings.push(format!(
                            "{}: no group {name} in the inventory; passed over",
                            path.display()
                        ));
                    }
                } else if let Some((_, outer)) = self.hosts.get_mut(&name) {
                    outer.extend(variables);
                } else {
                    self.warnings.push(format!(
                        "{}: no host {name} in the inventory; passed over",
                        path.display()
                    ));
                }
            }
        }
        Ok(())
    }

    /// A group that contains itself would never end.
    fn check_loops(&self) -> anyhow::Result<()> {
        for name in self.groups.keys() {
            let mut open: Vec<&String> = self.children(name).collect();
            let mut seen = BTreeSet::new();
            while let Some(child) = open.pop() {
                if child == name {
                    bail!("group {name}: contains itself through its children");
                }
                if seen.insert(child) {
                    open.extend(self.children(child));
                }
            }
        }
        Ok(())
    }

    fn children(&self, name: &str) -> impl Iterator<Item = &String> {
        self.groups.get(name).into_iter().flat_map(|g| &g.children)
    }

    /// Names of all hosts in the order of the files.
    pub(crate) fn hosts(&self) -> &[String] {
        &self.order
    }

    /// Hosts of a group and of the groups in it; `None` if there is no such group.
    fn members(&self, name: &str) -> Option<BTreeSet<&str>> {
        if name == "all" {
            return Some(self.order.iter().map(String::as_str).collect());
        }
        let mut hosts = BTreeSet::new();
        let mut open = vec![self.groups.get_key_value(name)?.0];
        let mut seen = BTreeSet::new();
        while let Some(group) = open.pop() {
            if !seen.insert(group) {
                continue;
            }
            if let Some(group) = self.groups.get(group) {
                hosts.extend(group.hosts.iter().map(String::as_str));
                open.extend(&group.children);
            }
        }
        Some(hosts)
    }

    /// The first host of a group in the order of the files.
    pub(crate) fn first_of(&self, group: &str) -> Option<&str> {
        let members = self.members(group)?;
        let mut hosts = self.order.iter().map(String::as_str);
        hosts.find(|host| members.contains(host))
    }

    /// Groups of a host with their depth below `all`, `all` first, the deepest last;
    /// groups of one depth by name. That is Ansible's order of precedence.
    pub(crate) fn groups_of(&self, host: &str) -> Vec<&str> {
        let mut depths: BTreeMap<&str, usize> = BTreeMap::new();
        let mut open: Vec<(&str, usize)> = self
            .groups
            .iter()
            .filter(|(_, g)| g.hosts.contains(host))
            .map(|(name, _)| (name.as_str(), 0))
            .collect();
        let mut above = BTreeSet::new();
        while let Some((name, _)) = open.pop() {
            if !above.insert(name) {
                continue;
            }
            for (parent, group) in &self.groups {
                if group.children.contains(name) {
                    open.push((parent, 0));
                }
            }
        }
        for name in above {
            depths.insert(name, self.depth(name));
        }
        let mut names: Vec<&str> = depths.keys().copied().filter(|n| *n != "all").collect();
        names.sort_by_key(|name| (depths.get(name).copied(), *name));
        names.insert(0, "all");
        names
    }

    /// Longest way from a group without parents.
    fn depth(&self, name: &str) -> usize {
        self.groups
            .iter()
            .filter(|(parent, g)| *parent != "all" && g.children.contains(name))
            .map(|(parent, _)| 1 + self.depth(parent))
            .max()
            .unwrap_or(0)
    }

    /// Variables of a host as Ansible lays them over one another: groups in the
    /// inventory, `group_vars`, the host in the inventory, `host_vars`.
    pub(crate) fn variables(&self, host: &str) -> Variables {
        let groups = self.groups_of(host);
        let found = || groups.iter().filter_map(|name| self.groups.get(*name));
        let mut variables = Variables::new();
        for group in found() {
            variables.extend(group.variables.clone());
        }
        for group in found() {
            variables.extend(group.outer.clone());
        }
        if let Some((own, outer)) = self.hosts.get(host) {
            variables.extend(own.clone());
            variables.extend(outer.clone());
        }
        variables
    }
}

/// Entries of a directory without hidden ones, by name.
fn directory(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut entries = Vec::new();
    for entry in
        std::fs::read_dir(path).with_context(|| format!("cannot list {}", path.display()))?
    {
        let path = entry
            .with_context(|| format!("cannot list {}", path.display()))?
            .path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !hidden {
            entries.push(path);
        }
    }
    entries.sort();
    Ok(entries)
}

/// The file itself, or the YAML files below a directory.
fn files_of(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in directory(path)? {
        let known = match entry.extension().and_then(|e| e.to_str()) {
            Some("yml" | "yaml" | "json") | None => true,
            Some(_) => entry.is_dir(),
        };
        if known {
            files.extend(files_of(&entry)?);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn text<'a>(variables: &'a Variables, name: &str) -> &'a str {
        variables.get(name).unwrap().value.as_str().unwrap()
    }

    #[test]
    fn variables_are_laid_over_one_another_as_ansible_does() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write(
            "hosts",
            "[inner]\nedge1 own=host both=host\n[outer:children]\ninner\n[outer:vars]\na=outer\nb=outer\n[inner:vars]\nb=inner\nc=inner\n",
        );
        write("group_vars/all.yml", "z: all\nb: all\n");
        write("group_vars/inner/one.yml", "c: dir\n");
        write("host_vars/edge1.yaml", "both: host_vars\n");
        write("host_vars/ghost.yml", "x: 1\n");
        let inventory = Inventory::read(&dir.path().join("hosts")).unwrap();
        let variables = inventory.variables("edge1");
        for (name, expected) in [
            ("a", "outer"),
            // group_vars/all lies over the inventory's groups.
            ("b", "all"),
            ("c", "dir"),
            ("own", "host"),
            ("both", "host_vars"),
            ("z", "all"),
        ] {
            assert_eq!(text(&variables, name), expected, "{name}");
        }
        assert_eq!(inventory.groups_of("edge1"), ["all", "outer", "inner"]);
        assert_eq!(inventory.warnings.len(), 1, "{:?}", inventory.warnings);
        assert!(inventory.warnings[0].contains("no host ghost"));
    }

    #[test]
    fn a_directory_is_all_its_files() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), "edge1\n").unwrap();
        std::fs::write(dir.path().join("b.yml"), "all: {hosts: {edge2: }}\n").unwrap();
        std::fs::write(dir.path().join("c.orig"), "edge3\n").unwrap();
        std::fs::create_dir(dir.path().join("group_vars")).unwrap();
        let inventory = Inventory::read(dir.path()).unwrap();
        assert_eq!(inventory.hosts(), ["edge1", "edge2"]);
    }

    #[test]
    fn a_group_that_contains_itself_and_a_program_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hosts");
        std::fs::write(&path, "[a:children]\nb\n[b:children]\na\n").unwrap();
        let error = Inventory::read(&path).unwrap_err().to_string();
        assert!(error.contains("contains itself"), "{error}");
        std::fs::write(&path, "#!/bin/sh\n").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&path, mode).unwrap();
        let error = Inventory::read(&path).unwrap_err().to_string();
        assert!(error.contains("found a program"), "{error}");
    }

    #[test]
    fn an_inventory_that_is_not_there_is_named() {
        let error = Inventory::read(Path::new("/nowhere/hosts")).unwrap_err();
        assert!(error.to_string().contains("/nowhere/hosts"));
    }
}
