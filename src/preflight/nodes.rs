//! Which nodes are asked, how, and for what: arguments and inventory become [`Job`]s.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use hardware::{Facts, Requirements};
use serde_json::Value;

use super::inventory::connection::{self, Defaults, Way};
use super::inventory::{Inventory, Variables, select};
use crate::cli::PreflightArgs;
use crate::output::Output;
use crate::ssh::{Secret, Target};

/// One node.
#[derive(Clone, Debug)]
pub(super) struct Job {
    /// Its name in reports.
    pub(super) name: String,
    /// Where its facts are.
    pub(super) source: Source,
    /// What is asked of it.
    pub(super) requirements: Requirements,
}

/// Where facts are.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// On this machine, or in a tree of captured files.
    Local {
        /// `/`, or the tree.
        root: PathBuf,
    },
    /// On a node.
    Ssh(Box<Target>),
    /// Gathered earlier.
    Facts(Box<Facts>),
    /// Nowhere: the inventory asks for what cannot be done.
    Refused(String),
}

impl Job {
    /// It is reached over SSH.
    pub(super) fn is_remote(&self) -> bool {
        matches!(self.source, Source::Ssh(_))
    }

    /// `user@host:port`, or nothing.
    pub(super) fn address(&self) -> String {
        match &self.source {
            Source::Ssh(target) => target.end.to_string(),
            _ => String::new(),
        }
    }
}

/// All nodes that the arguments name.
pub(super) fn jobs(args: &PreflightArgs, out: &Output) -> anyhow::Result<Vec<Job>> {
    let base = base_requirements(args)?;
    if !args.nodes.facts.is_empty() {
        return from_facts(&args.nodes.facts, &base);
    }
    if let Some(root) = &args.nodes.root {
        if !root.is_dir() {
            bail!("--root {}: expected a directory", root.display());
        }
        let name = root
            .file_name()
            .map_or_else(|| "root".to_owned(), |n| n.to_string_lossy().into_owned());
        return Ok(vec![Job {
            name,
            source: Source::Local { root: root.clone() },
            requirements: requirements(&base)?,
        }]);
    }
    if let Some(path) = &args.nodes.inventory {
        return from_inventory(path, args, &base, out);
    }
    if !args.nodes.host.is_empty() {
        let defaults = defaults(args, out)?;
        return args
            .nodes
            .host
            .iter()
            .map(|text| one_host(text, &defaults, &base))
            .collect();
    }
    Ok(vec![Job {
        name: local_name(),
        source: Source::Local {
            root: PathBuf::from("/"),
        },
        requirements: requirements(&base)?,
    }])
}

fn local_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "localhost".to_owned(), |name| name.trim().to_owned())
}

/// What --requirements and flags ask of every node, as an object.
fn base_requirements(args: &PreflightArgs) -> anyhow::Result<Value> {
    let mut base = match &args.requirements {
        None => Value::Object(serde_json::Map::new()),
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read the requirements {}", path.display()))?;
            let value: Value = serde_yaml::from_str(&text)
                .with_context(|| format!("{}: expected YAML or JSON", path.display()))?;
            let value = if value.is_null() {
                Value::Object(serde_json::Map::new())
            } else {
                value
            };
            let _ = requirements(&value).with_context(|| path.display().to_string())?;
            value
        }
    };
    if args.require_kvm {
        base["allow_emulation"] = Value::Bool(false);
    }
    Ok(base)
}

/// The object as typed requirements.
fn requirements(value: &Value) -> anyhow::Result<Requirements> {
    serde_json::from_value(value.clone()).context("requirements")
}

fn one_host(text: &str, defaults: &Defaults, base: &Value) -> anyhow::Result<Job> {
    let (user, host, port) =
        connection::destination(text).map_err(|why| anyhow!("--host: {why}"))?;
    let defaults = Defaults {
        user: user.unwrap_or_else(|| defaults.user.clone()),
        ..defaults.clone()
    };
    let way = connection::way(&host, &Variables::new(), &defaults, &mut BTreeSet::new())
        .map_err(|why| anyhow!("--host {text}: {why}"))?;
    let Way::Ssh(mut target) = way else {
        bail!("--host {text}: expected a host to reach over SSH");
    };
    target.end.port = port;
    text.clone_into(&mut target.name);
    Ok(Job {
        name: text.to_owned(),
        source: Source::Ssh(target),
        requirements: requirements(base)?,
    })
}

fn from_inventory(
    path: &Path,
    args: &PreflightArgs,
    base: &Value,
    out: &Output,
) -> anyhow::Result<Vec<Job>> {
    let inventory = Inventory::read(path)?;
    let chosen = select(&inventory, args.nodes.limit.as_deref())?;
    let defaults = defaults(args, out)?;
    let mut warnings = BTreeSet::new();
    let mut jobs = Vec::new();
    for name in chosen {
        let variables = inventory.variables(&name);
        let source = match connection::way(&name, &variables, &defaults, &mut warnings) {
            Ok(Way::Local) => Source::Local {
                root: PathBuf::from("/"),
            },
            Ok(Way::Ssh(target)) => Source::Ssh(target),
            Err(reason) => Source::Refused(reason),
        };
        // Asked for nonsense, it is not judged by half of it; the other hosts are.
        let (requirements, source) = match asked_of(&name, &inventory, &variables, base) {
            Ok(requirements) => (requirements, source),
            Err(error) => (
                Requirements::default(),
                Source::Refused(format!("{error:#}")),
            ),
        };
        jobs.push(Job {
            name,
            source,
            requirements,
        });
    }
    for warning in inventory.warnings.iter().chain(&warnings) {
        out.note(&format!("warning: {warning}"));
    }
    Ok(jobs)
}

/// What is asked of a host: the base, its roles by its groups, and its
/// `edgevirt_requirements`, each laid over the one before.
fn asked_of(
    name: &str,
    inventory: &Inventory,
    variables: &Variables,
    base: &Value,
) -> anyhow::Result<Requirements> {
    let mut value = base.clone();
    let roles: Vec<Value> = inventory
        .groups_of(name)
        .into_iter()
        .filter_map(|group| match group {
            "control_plane" | "controller_group" => Some(Value::from("control-plane")),
            "workers" | "edgenode_group" => Some(Value::from("worker")),
            "storage" => Some(Value::from("storage")),
            _ => None,
        })
        .collect();
    if !roles.is_empty() {
        value["roles"] = Value::from(roles);
    }
    let Some(own) = variables.get("edgevirt_requirements") else {
        return requirements(&value);
    };
    let Value::Object(map) = &own.value else {
        bail!(
            "{}: edgevirt_requirements: expected a mapping, found {}",
            own.place,
            own.value
        );
    };
    if own.value.to_string().contains("{{") {
        bail!(
            "{}: edgevirt_requirements: expected plain values, found an expression, which only Ansible evaluates",
            own.place
        );
    }
    for (key, asked) in map {
        value[key] = asked.clone();
    }
    requirements(&value).with_context(|| format!("{}: edgevirt_requirements", own.place))
}

/// Facts of the probe's, or nodes of a report of `--output json`.
fn from_facts(paths: &[PathBuf], base: &Value) -> anyhow::Result<Vec<Job>> {
    let mut jobs = Vec::new();
    for path in paths {
        let text = std::fs::read(path)
            .with_context(|| format!("cannot read the facts {}", path.display()))?;
        let value: Value = serde_json::from_slice(&text)
            .with_context(|| format!("{}: expected JSON", path.display()))?;
        let stem = path
            .file_stem()
            .map_or_else(|| "facts".to_owned(), |n| n.to_string_lossy().into_owned());
        let read = |name: String, value: &Value| -> anyhow::Result<Job> {
            let facts: Facts = serde_json::from_value(value.clone())
                .with_context(|| format!("{}: expected facts", path.display()))?;
            Ok(Job {
                name,
                source: Source::Facts(Box::new(facts)),
                requirements: requirements(base)?,
            })
        };
        match value.get("nodes").and_then(Value::as_array) {
            None => jobs.push(read(stem, &value)?),
            Some(nodes) => {
                for node in nodes {
                    let name = node["node"].as_str().unwrap_or(&stem).to_owned();
                    match node.get("facts") {
                        Some(facts) if facts.is_object() => jobs.push(read(name, facts)?),
                        _ => jobs.push(Job {
                            name,
                            source: Source::Refused(
                                node["error"].as_str().unwrap_or("no facts").to_owned(),
                            ),
                            requirements: requirements(base)?,
                        }),
                    }
                }
            }
        }
    }
    Ok(jobs)
}

/// What the command line says about connections; asks for passwords once.
fn defaults(args: &PreflightArgs, out: &Output) -> anyhow::Result<Defaults> {
    let ssh = &args.ssh;
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/"), PathBuf::from);
    let user = ssh
        .user
        .clone()
        .or_else(|| std::env::var("USER").ok().filter(|user| !user.is_empty()))
        .unwrap_or_else(|| "root".to_owned());
    let password = match ssh.ask_pass {
        true => Some(ask("SSH password: ", out)?),
        false => None,
    };
    let passphrase = match ssh.ask_key_passphrase {
        true => Some(ask("passphrase of the private key: ", out)?),
        false => None,
    };
    let sudo_password = match ssh.ask_become_pass {
        true => Some(ask("sudo password: ", out)?),
        false => None,
    };
    Ok(Defaults {
        user,
        keys: ssh.private_key.clone(),
        passphrase,
        password,
        privilege: ssh.r#become || ssh.ask_become_pass,
        sudo_password,
        known_hosts: if ssh.known_hosts.is_empty() {
            vec![
                home.join(".ssh/known_hosts"),
                PathBuf::from("/etc/ssh/ssh_known_hosts"),
            ]
        } else {
            ssh.known_hosts.clone()
        },
        accept_new: ssh.accept_new_host_keys,
        jump: ssh.jump.clone(),
        home,
    })
}

/// A line of the terminal without echo, or of standard input.
fn ask(question: &str, out: &Output) -> anyhow::Result<Secret> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let stdin = std::io::stdin();
    let before = tcgetattr(&stdin).ok();
    if let Some(modes) = &before {
        out.prompt(question);
        let mut silent = modes.clone();
        silent.local_modes &= !LocalModes::ECHO;
        tcsetattr(&stdin, OptionalActions::Now, &silent).context("cannot switch echo off")?;
    }
    let mut line = String::new();
    let read = stdin.read_line(&mut line);
    if let Some(modes) = &before {
        tcsetattr(&stdin, OptionalActions::Now, modes).context("cannot switch echo on")?;
        out.prompt("\n");
    }
    let _ = read.context("cannot read the password")?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        bail!("{question}expected a password, found nothing");
    }
    Ok(Secret::new(password))
}
