//! Many unpacked packages seen as one file tree, and what a program needs of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use oci::Tree;

/// Where shared libraries are, in the order in which the loader of Debian's amd64 looks.
const LIBRARY_DIRS: [&str; 3] = ["usr/lib/x86_64-linux-gnu", "usr/lib", "usr/lib64"];
/// How many symbolic links may follow one another, as in the kernel.
const LINKS_MAX: usize = 40;

enum Node {
    File(PathBuf),
    Link(String),
}

/// The merged tree. `/bin`, `/sbin`, `/lib` and `/lib64` are the ones below `/usr`, whatever a package says.
pub(crate) struct Root {
    nodes: BTreeMap<String, Node>,
}

impl Root {
    /// Merges trees; of two files of one path the later one stays.
    pub(crate) fn new(trees: &[PathBuf]) -> anyhow::Result<Self> {
        let mut root = Self {
            nodes: BTreeMap::new(),
        };
        for tree in trees {
            root.add(tree, tree)?;
        }
        Ok(root)
    }

    fn add(&mut self, top: &Path, dir: &Path) -> anyhow::Result<()> {
        let entries = fs::read_dir(dir).with_context(|| dir.display().to_string())?;
        for entry in entries {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            if kind.is_dir() {
                self.add(top, &path)?;
                continue;
            }
            let name = merged(&path.strip_prefix(top)?.to_string_lossy());
            if kind.is_symlink() {
                let target = fs::read_link(&path)?;
                self.nodes
                    .insert(name, Node::Link(target.to_string_lossy().into_owned()));
            } else if kind.is_file() {
                self.nodes.insert(name, Node::File(path));
            }
        }
        Ok(())
    }

    /// The file on this machine that a path of the tree is, through symbolic links.
    pub(crate) fn find(&self, path: &str) -> anyhow::Result<&Path> {
        let mut at = merged(path);
        for _ in 0..LINKS_MAX {
            match self.nodes.get(&at) {
                Some(Node::File(file)) => return Ok(file),
                Some(Node::Link(target)) => at = join(&at, target),
                None => bail!("/{path} is in none of the unpacked packages (looked for /{at})"),
            }
        }
        bail!("/{path}: too many symbolic links")
    }

    /// Whether a path is there.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.find(path).is_ok()
    }

    /// The paths of all files below a directory.
    pub(crate) fn below(&self, dir: &str) -> Vec<&str> {
        let prefix = format!("{}/", merged(dir));
        self.nodes
            .keys()
            .filter(|path| path.starts_with(&prefix))
            .map(String::as_str)
            .collect()
    }

    /// Copies one file under its own path, its content in place of a link.
    pub(crate) fn copy(&self, path: &str, into: &mut Tree) -> anyhow::Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let file = self.find(path)?;
        let mode = if fs::metadata(file)?.permissions().mode() & 0o111 == 0 {
            0o644
        } else {
            0o755
        };
        Ok(into.file(&merged(path), file.to_owned(), mode)?)
    }

    /// Copies everything, links as links.
    pub(crate) fn copy_all(&self, into: &mut Tree) -> anyhow::Result<()> {
        for (path, node) in &self.nodes {
            match node {
                Node::Link(target) => into.symlink(path, target)?,
                Node::File(_) => self.copy(path, into)?,
            }
        }
        Ok(())
    }

    /// Copies programs with the loader and every library that they need.
    pub(crate) fn copy_programs(&self, programs: &[&str], into: &mut Tree) -> anyhow::Result<()> {
        let mut seen = BTreeSet::new();
        let mut open: Vec<String> = programs.iter().map(|path| merged(path)).collect();
        while let Some(path) = open.pop() {
            if !seen.insert(path.clone()) {
                continue;
            }
            match self.nodes.get(&path) {
                // The loader is named by a path of its own; it need not be there twice.
                Some(Node::Link(target)) if target.starts_with('/') => {
                    into.symlink(&path, target)?;
                    open.push(join(&path, target));
                    continue;
                }
                _ => self.copy(&path, into)?,
            }
            let file = self.find(&path)?;
            let bytes = fs::read(file).with_context(|| file.display().to_string())?;
            let elf = goblin::elf::Elf::parse(&bytes)
                .with_context(|| format!("/{path} is no program"))?;
            open.extend(elf.interpreter.map(merged));
            for library in elf.libraries {
                let found = LIBRARY_DIRS
                    .iter()
                    .map(|dir| format!("{dir}/{library}"))
                    .find(|at| self.has(at));
                open.push(found.with_context(|| {
                    format!("/{path} needs {library}, which no unpacked package has")
                })?);
            }
        }
        Ok(())
    }
}

/// A path as it is where /bin, /sbin and /lib are links into /usr; without a leading slash.
pub(crate) fn merged(path: &str) -> String {
    let path = path.trim_start_matches('/');
    let top = path.split('/').next().unwrap_or_default();
    if matches!(top, "bin" | "sbin" | "lib" | "lib64") {
        format!("usr/{path}")
    } else {
        path.to_owned()
    }
}

/// What a link at `at` leads to.
fn join(at: &str, target: &str) -> String {
    let mut parts: Vec<&str> = if target.starts_with('/') {
        Vec::new()
    } else {
        at.split('/').collect()
    };
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    merged(&parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_within_the_merged_tree() {
        assert_eq!(
            join("usr/lib64/ld.so", "/lib/x86_64-linux-gnu/ld.so"),
            "usr/lib/x86_64-linux-gnu/ld.so"
        );
        assert_eq!(join("usr/lib/a/b.so", "../c.so.1"), "usr/lib/c.so.1");
        assert_eq!(merged("/bin/busybox"), "usr/bin/busybox");
        assert_eq!(merged("binary/x"), "binary/x");
    }
}
