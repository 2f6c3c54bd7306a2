//! Debian packages without installing any: apt with a state of its own, so the machine's apt is not touched.
//!
//! The mirror and the keyring are those the machine is configured with; backports are added from the same mirror,
//! because bookworm's own QEMU is too old. What is resolved stays resolved until `--refresh`, which is what makes
//! two runs give the same images.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use serde::Serialize;

use super::manifest::write_json;

/// Source packages that come from backports, with all that is built from them.
const FROM_BACKPORTS: &str = "src:qemu src:seabios src:ipxe-qemu src:edk2";

/// A private apt.
pub(crate) struct Apt {
    config: PathBuf,
    debs: PathBuf,
    unpacked: PathBuf,
    used: BTreeMap<String, Package>,
}

/// A package as the mirror offered it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Package {
    name: String,
    version: String,
    #[serde(skip)]
    file: String,
    sum: String,
}

impl Package {
    /// NAME=VERSION, by which apt takes no other.
    fn exact(&self) -> String {
        format!("{}={}", self.name, self.version)
    }
}

impl Apt {
    /// Writes the configuration and fetches the lists if there are none yet.
    pub(crate) fn prepare(cache: &Path, refresh: bool) -> anyhow::Result<Self> {
        let dir = cache.join("apt");
        for sub in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(dir.join(sub))
                .with_context(|| dir.join(sub).display().to_string())?;
        }
        let (debs, unpacked) = (cache.join("debs"), cache.join("unpacked"));
        fs::create_dir_all(&debs)?;
        fs::create_dir_all(&unpacked)?;
        let os = fs::read_to_string("/etc/os-release").context("/etc/os-release")?;
        let codename = os
            .lines()
            .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
            .context("/etc/os-release names no VERSION_CODENAME; expected Debian 12 or later")?;
        fs::write(
            dir.join("sources.list"),
            sources(&machine_sources()?, codename)?,
        )?;
        let pin = format!(
            "Package: {FROM_BACKPORTS}\nPin: release n={codename}-backports\nPin-Priority: 990\n"
        );
        fs::write(dir.join("preferences"), pin)?;
        fs::write(dir.join("state/status"), "")?;
        let config = dir.join("apt.conf");
        let at = dir.display();
        fs::write(
            &config,
            format!(
                "Dir::Etc::sourcelist \"{at}/sources.list\";\nDir::Etc::sourceparts \"/dev/null\";\n\
                 Dir::Etc::preferences \"{at}/preferences\";\nDir::Etc::preferencesparts \"/dev/null\";\n\
                 Dir::State \"{at}/state\";\nDir::State::status \"{at}/state/status\";\nDir::Cache \"{at}/cache\";\n\
                 APT::Sandbox::User \"root\";\nAPT::Install-Recommends \"false\";\nAPT::Architecture \"amd64\";\n"
            ),
        )?;
        let apt = Self {
            config,
            debs,
            unpacked,
            used: BTreeMap::new(),
        };
        let lists = fs::read_dir(dir.join("state/lists"))?.count();
        // `partial` and `lock` alone are no lists.
        if refresh || lists < 4 {
            apt.run("apt-get", &["-q", "update"], Path::new("/"))?;
        }
        Ok(apt)
    }

    /// Downloads and unpacks packages with all they depend on; gives their trees.
    pub(crate) fn closure(&mut self, names: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
        let mut args = vec!["-q", "install", "-y", "--print-uris"];
        args.extend(names);
        let text = self.run("apt-get", &args, Path::new("/"))?;
        let all: Vec<String> = text
            .lines()
            .filter_map(parse_uri)
            .map(|package| package.exact())
            .collect();
        // `install` prints MD5 sums, `download` SHA-256.
        self.exactly(&all.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Downloads and unpacks these packages alone.
    pub(crate) fn exactly(&mut self, names: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
        let mut args = vec!["-q", "download", "--print-uris"];
        args.extend(names);
        let text = self.run("apt-get", &args, Path::new("/"))?;
        let packages: BTreeSet<Package> = text.lines().filter_map(parse_uri).collect();
        if packages.is_empty() {
            bail!("apt-get resolved {} to no package", names.join(" "));
        }
        self.fetch(&packages.into_iter().collect::<Vec<_>>())
    }

    /// The package a metapackage depends on whose name begins so.
    pub(crate) fn dependency(&self, of: &str, prefix: &str) -> anyhow::Result<String> {
        let text = self.run("apt-cache", &["depends", "--important", of], Path::new("/"))?;
        text.lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .find(|name| name.starts_with(prefix))
            .map(str::to_owned)
            .with_context(|| format!("{of} depends on no package {prefix}*"))
    }

    /// Writes packages.json: every package used, with version and digest.
    pub(crate) fn record(&self, out: &Path) -> anyhow::Result<()> {
        write_json(
            &out.join("packages.json"),
            &self.used.values().collect::<Vec<_>>(),
        )
    }

    fn fetch(&mut self, packages: &[Package]) -> anyhow::Result<Vec<PathBuf>> {
        let missing: Vec<String> = packages
            .iter()
            .filter(|package| !self.debs.join(&package.file).exists())
            .map(Package::exact)
            .collect();
        if !missing.is_empty() {
            let mut args = vec!["-q", "download"];
            args.extend(missing.iter().map(String::as_str));
            // apt checks the digests while it downloads.
            self.run("apt-get", &args, &self.debs)?;
        }
        let mut trees = Vec::new();
        for package in packages {
            self.used.insert(package.file.clone(), package.clone());
            trees.push(self.unpack(package)?);
        }
        Ok(trees)
    }

    fn unpack(&self, package: &Package) -> anyhow::Result<PathBuf> {
        let tree = self.unpacked.join(package.file.trim_end_matches(".deb"));
        if tree.is_dir() {
            return Ok(tree);
        }
        let partial = tree.with_extension("partial");
        if partial.exists() {
            fs::remove_dir_all(&partial)?;
        }
        let deb = self.debs.join(&package.file);
        let (deb, to) = (deb.display().to_string(), partial.display().to_string());
        self.run("dpkg-deb", &["-x", &deb, &to], Path::new("/"))?;
        fs::rename(&partial, &tree)?;
        Ok(tree)
    }

    fn run(&self, program: &str, args: &[&str], dir: &Path) -> anyhow::Result<String> {
        let output = Command::new(program)
            .args(args)
            .current_dir(dir)
            .env("APT_CONFIG", &self.config)
            .env("LC_ALL", "C.UTF-8")
            .output()
            .with_context(|| format!("{program} is not there; this needs Debian's apt and dpkg"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!(
                "{program} {} ended with {}: {}",
                args.join(" "),
                output.status,
                said.trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// `'URI' NAME_VERSION_ARCH.deb SIZE ALGORITHM:HEX`, as `--print-uris` prints.
fn parse_uri(line: &str) -> Option<Package> {
    let mut words = line.strip_prefix('\'')?.split_whitespace().skip(1);
    // There is no sum where the repository gives none of the kind that is printed.
    let (file, _, sum) = (
        words.next()?,
        words.next()?,
        words.next().unwrap_or_default(),
    );
    let mut parts = file.strip_suffix(".deb")?.split('_');
    let (name, version) = (parts.next()?, parts.next()?);
    Some(Package {
        name: name.to_owned(),
        version: version.replace("%3a", ":"),
        file: file.to_owned(),
        sum: sum.to_owned(),
    })
}

/// One line of sources: options, URI and suite of a `deb` entry with component main.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SourceLine {
    options: String,
    uri: String,
    suite: String,
}

/// The machine's sources, in both forms that apt reads.
fn machine_sources() -> anyhow::Result<Vec<SourceLine>> {
    let mut lines = Vec::new();
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(entries.filter_map(|entry| Some(entry.ok()?.path())));
    }
    files.sort();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else {
            continue;
        };
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("sources") => lines.extend(deb822(&text)),
            Some("list") => lines.extend(one_line(&text)),
            _ => {}
        }
    }
    Ok(lines)
}

fn one_line(text: &str) -> Vec<SourceLine> {
    let parse = |line: &str| {
        let rest = line.trim().strip_prefix("deb ")?.trim();
        let (options, rest) = match rest.strip_prefix('[') {
            Some(rest) => rest
                .split_once(']')
                .map(|(options, rest)| (options.trim().to_owned(), rest))?,
            None => (String::new(), rest),
        };
        let mut words = rest.split_whitespace();
        let (uri, suite) = (words.next()?, words.next()?);
        let main = words.any(|component| component == "main");
        main.then(|| SourceLine {
            options,
            uri: uri.to_owned(),
            suite: suite.to_owned(),
        })
    };
    text.lines().filter_map(parse).collect()
}

fn deb822(text: &str) -> Vec<SourceLine> {
    let text: String = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| format!("{line}\n"))
        .collect();
    let mut lines = Vec::new();
    for stanza in text.split("\n\n") {
        let field = |name: &str| {
            stanza
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .map(str::trim)
                .unwrap_or_default()
        };
        let enabled = field("Enabled") != "no";
        let has = |name: &str, word: &str| field(name).split_whitespace().any(|w| w == word);
        if !enabled || !has("Types", "deb") || !has("Components", "main") {
            continue;
        }
        let key = field("Signed-By");
        // A key that stands in the stanza itself begins on its own lines; apt's trusted keys serve then.
        let options = if key.starts_with('/') {
            format!("signed-by={key}")
        } else {
            String::new()
        };
        for uri in field("URIs").split_whitespace() {
            for suite in field("Suites").split_whitespace() {
                lines.push(SourceLine {
                    options: options.clone(),
                    uri: uri.to_owned(),
                    suite: suite.to_owned(),
                });
            }
        }
    }
    lines
}

/// Our sources: the distribution's suites as the machine has them, and backports from the mirror of the main suite.
fn sources(machine: &[SourceLine], codename: &str) -> anyhow::Result<String> {
    let backports = format!("{codename}-backports");
    let suites = [
        codename.to_owned(),
        format!("{codename}-updates"),
        format!("{codename}-security"),
        backports.clone(),
    ];
    let mut lines: Vec<SourceLine> = machine
        .iter()
        .filter(|line| suites.contains(&line.suite))
        .cloned()
        .collect();
    let main = lines.iter().find(|line| line.suite == codename).cloned();
    let main = main.with_context(|| {
        format!("no source of suite {codename} with component main in /etc/apt; expected one in sources.list or sources.list.d")
    })?;
    if !lines.iter().any(|line| line.suite == backports) {
        lines.push(SourceLine {
            suite: backports,
            ..main
        });
    }
    let line = |line: &SourceLine| {
        let options = if line.options.is_empty() {
            String::new()
        } else {
            format!("[{}] ", line.options)
        };
        format!("deb {options}{} {} main\n", line.uri, line.suite)
    };
    let mut text: Vec<String> = lines.iter().map(line).collect();
    text.dedup();
    Ok(text.concat())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn both_forms_of_sources_give_the_same_with_backports_added() {
        let list = "# deb x\ndeb [signed-by=/k] http://mirror.test/debian bookworm main contrib\n\
                    deb-src http://mirror.test/debian bookworm main\ndeb http://other.test/x stable main\n";
        let sources822 = "Types: deb\n# snapshot\nURIs: http://mirror.test/debian\nSuites: bookworm\nComponents: main\nSigned-By: /k\n\n\
                          Types: deb\nURIs: http://off.test\nSuites: bookworm\nComponents: main\nEnabled: no\n";
        let expected = "deb [signed-by=/k] http://mirror.test/debian bookworm main\n\
                        deb [signed-by=/k] http://mirror.test/debian bookworm-backports main\n";
        assert_eq!(sources(&one_line(list), "bookworm").unwrap(), expected);
        assert_eq!(sources(&deb822(sources822), "bookworm").unwrap(), expected);
        assert!(sources(&[], "bookworm").is_err());
    }

    #[test]
    fn a_printed_uri_is_a_package() {
        let line =
            "'http://m.test/pool/q_10.0.2_amd64.deb' q_1%3a10.0.2+ds-2_amd64.deb 123 SHA256:abcd";
        let package = parse_uri(line).unwrap();
        assert_eq!(
            (
                package.name.as_str(),
                package.version.as_str(),
                package.sum.as_str()
            ),
            ("q", "1:10.0.2+ds-2", "SHA256:abcd")
        );
        assert_eq!(parse_uri("Reading package lists..."), None);
    }
}
