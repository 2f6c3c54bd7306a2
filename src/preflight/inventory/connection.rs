//! How to reach a host: Ansible's variables for connections become a
//! [`Target`]. What they ask for is done or refused with a reason, never passed over.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;

use super::ssh_arguments::Options;
use super::{Variable, Variables};
use crate::ssh::{Become, Endpoint, Secret, Target, Trust};

/// What the command line says; variables of the inventory win, as with Ansible.
#[derive(Clone, Debug)]
pub(crate) struct Defaults {
    /// User to log in as.
    pub(crate) user: String,
    /// Home directory, for `~` and default keys.
    pub(crate) home: PathBuf,
    /// Keys named on the command line.
    pub(crate) keys: Vec<PathBuf>,
    /// Opens keys that are encrypted.
    pub(crate) passphrase: Option<Secret>,
    /// Password to log in with.
    pub(crate) password: Option<Secret>,
    /// Become root by sudo.
    pub(crate) privilege: bool,
    /// Password for sudo.
    pub(crate) sudo_password: Option<Secret>,
    /// Files of host keys.
    pub(crate) known_hosts: Vec<PathBuf>,
    /// Believe unknown hosts.
    pub(crate) accept_new: bool,
    /// Jump hosts, `user@host:port` apart by commas.
    pub(crate) jump: Option<String>,
}

/// How a host is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// It is this machine.
    Local,
    /// Over SSH.
    Ssh(Box<Target>),
}

/// Variables that begin with `ansible_` and have no bearing on a connection, or on
/// one that needs no Python.
const IRRELEVANT: [&str; 18] = [
    "ansible_python_interpreter",
    "ansible_shell_type",
    "ansible_shell_executable",
    "ansible_ssh_pipelining",
    "ansible_pipelining",
    "ansible_ssh_executable",
    "ansible_scp_executable",
    "ansible_sftp_executable",
    "ansible_sftp_extra_args",
    "ansible_scp_extra_args",
    "ansible_ssh_transfer_method",
    "ansible_ssh_retries",
    "ansible_become_flags",
    "ansible_remote_tmp",
    "ansible_async_dir",
    "ansible_group_priority",
    "ansible_managed",
    "ansible_facts",
];

/// Makes a host's connection out of its variables.
///
/// # Errors
/// The reason why the host cannot be reached as asked, with the variable's place.
pub(crate) fn way(
    name: &str,
    variables: &Variables,
    defaults: &Defaults,
    warnings: &mut BTreeSet<String>,
) -> Result<Way, String> {
    Reader {
        variables,
        used: BTreeSet::new(),
    }
    .way(name, defaults, warnings)
}

/// Whether it is this machine.
///
/// # Errors
/// When its connection is an expression, or a kind that is not known.
pub(crate) fn is_local(variables: &Variables) -> Result<bool, String> {
    Reader {
        variables,
        used: BTreeSet::new(),
    }
    .is_local()
}

struct Reader<'a> {
    variables: &'a Variables,
    used: BTreeSet<&'static str>,
}

impl<'a> Reader<'a> {
    fn way(
        mut self,
        name: &str,
        defaults: &Defaults,
        warnings: &mut BTreeSet<String>,
    ) -> Result<Way, String> {
        if self.is_local()? {
            return Ok(Way::Local);
        }
        let host = self
            .text(&["ansible_host", "ansible_ssh_host"])?
            .unwrap_or_else(|| name.to_owned());
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let user = self.text(&["ansible_user", "ansible_ssh_user"])?;
        let user = user.unwrap_or_else(|| defaults.user.clone());
        let port = match self.text(&["ansible_port", "ansible_ssh_port"])? {
            None => 22,
            Some(text) => text.parse().map_err(|_| {
                self.place(
                    "ansible_port",
                    &format!("expected a TCP port, found {text:?}"),
                )
            })?,
        };
        let mut options = Options {
            jump: defaults.jump.clone(),
            accept_new: defaults.accept_new,
            known_hosts: None,
            keys: Vec::new(),
        };
        for variable in [
            "ansible_ssh_common_args",
            "ansible_ssh_extra_args",
            "ansible_ssh_args",
        ] {
            if let Some(text) = self.text(&[variable])? {
                options.read(&text, warnings, &|why| self.place(variable, why))?;
            }
        }
        if let Some(text) =
            self.text(&["ansible_host_key_checking", "ansible_ssh_host_key_checking"])?
            && truth(&text) == Some(false)
        {
            options.accept_new = true;
        }
        let mut keys = Vec::new();
        if let Some(key) =
            self.text(&["ansible_ssh_private_key_file", "ansible_private_key_file"])?
        {
            keys.push(expand_home(&key, defaults));
        }
        keys.extend(options.keys.iter().map(|k| expand_home(k, defaults)));
        if keys.is_empty() {
            keys.clone_from(&defaults.keys);
        }
        let agent = keys.is_empty();
        if keys.is_empty() {
            keys = default_keys(defaults);
        }
        let password = self
            .text(&[
                "ansible_password",
                "ansible_ssh_password",
                "ansible_ssh_pass",
            ])?
            .map(Secret::new)
            .or_else(|| defaults.password.clone());
        // Ansible itself takes it for keys of ansible_private_key only, which hold the key and not its file.
        let passphrase = self
            .text(&[
                "ansible_private_key_passphrase",
                "ansible_ssh_private_key_passphrase",
            ])?
            .map(Secret::new)
            .or_else(|| defaults.passphrase.clone());
        let end = Endpoint {
            host,
            port,
            user,
            keys,
            passphrase,
            agent,
            password,
        };
        let jumps = match &options.jump {
            Some(text) => jumps(text, &end, defaults)?,
            None => Vec::new(),
        };
        let privilege = self.privilege(&end.user, defaults)?;
        self.warn_about_the_rest(warnings);
        Ok(Way::Ssh(Box::new(Target {
            name: name.to_owned(),
            jumps,
            end,
            trust: Trust {
                files: match &options.known_hosts {
                    Some(files) => files.iter().map(|f| expand_home(f, defaults)).collect(),
                    None => defaults.known_hosts.clone(),
                },
                accept_new: options.accept_new,
            },
            privilege,
        })))
    }

    fn is_local(&mut self) -> Result<bool, String> {
        match self.text(&["ansible_connection"])?.as_deref() {
            Some("local" | "ansible.builtin.local") => Ok(true),
            None | Some("ssh" | "smart" | "ansible.builtin.ssh" | "paramiko" | "paramiko_ssh") => {
                Ok(false)
            }
            Some(other) => Err(self.place(
                "ansible_connection",
                &format!("expected ssh or local, found {other}"),
            )),
        }
    }

    fn privilege(&mut self, user: &str, defaults: &Defaults) -> Result<Become, String> {
        let wanted = match self.text(&["ansible_become"])? {
            Some(text) => truth(&text).ok_or_else(|| {
                self.place(
                    "ansible_become",
                    &format!("expected yes or no, found {text:?}"),
                )
            })?,
            None => defaults.privilege,
        };
        let method = self.text(&["ansible_become_method"])?;
        let whom = self.text(&["ansible_become_user"])?;
        let password = self
            .text(&[
                "ansible_become_password",
                "ansible_become_pass",
                "ansible_sudo_pass",
            ])?
            .map(Secret::new)
            .or_else(|| defaults.sudo_password.clone());
        if !wanted || user == "root" {
            return Ok(Become::No);
        }
        if let Some(method) = method
            && !matches!(method.as_str(), "sudo" | "ansible.builtin.sudo")
        {
            return Err(self.place(
                "ansible_become_method",
                &format!("expected sudo, found {method}"),
            ));
        }
        if let Some(whom) = whom
            && whom != "root"
        {
            return Err(self.place(
                "ansible_become_user",
                &format!("expected root, whose rights the checks need, found {whom}"),
            ));
        }
        Ok(match password {
            Some(password) => Become::SudoPassword(password),
            None => Become::Sudo,
        })
    }

    /// The first of these variables as text.
    fn text(&mut self, names: &[&'static str]) -> Result<Option<String>, String> {
        self.used.extend(names);
        let found = names
            .iter()
            .find_map(|name| self.variables.get(*name).map(|v| (*name, v)));
        let Some((name, variable)) = found else {
            return Ok(None);
        };
        scalar(name, variable)
    }

    /// The reason with the variable's name and place before it.
    fn place(&self, name: &str, why: &str) -> String {
        match self.variables.get(name) {
            Some(variable) => format!("{}: {name}: {why}", variable.place),
            None => format!("{name}: {why}"),
        }
    }

    fn warn_about_the_rest(&self, warnings: &mut BTreeSet<String>) {
        for (name, variable) in self.variables {
            if name.starts_with("ansible_")
                && !self.used.contains(name.as_str())
                && !IRRELEVANT.contains(&name.as_str())
            {
                warnings.insert(format!(
                    "{}: {name} is not a variable that preflight acts on; passed over",
                    variable.place
                ));
            }
        }
    }
}

/// A variable's value as text; a Jinja expression is refused.
pub(crate) fn scalar(name: &str, variable: &Variable) -> Result<Option<String>, String> {
    let text = match &variable.value {
        Value::Null => return Ok(None),
        Value::String(text) => text.clone(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => n.to_string(),
        other => {
            return Err(format!(
                "{}: {name}: expected text, found {other}",
                variable.place
            ));
        }
    };
    if text.contains("{{") || text.contains("{%") {
        return Err(format!(
            "{}: {name}: expected a plain value, found {text:?}; expressions are evaluated by Ansible only: write the value, or preflight this host with the playbook",
            variable.place
        ));
    }
    Ok(Some(text))
}

fn jumps(text: &str, end: &Endpoint, defaults: &Defaults) -> Result<Vec<Endpoint>, String> {
    text.split(',')
        .map(|one| {
            let (user, host, port) = destination(one.trim())?;
            Ok(Endpoint {
                user: user.unwrap_or_else(|| defaults.user.clone()),
                host,
                port,
                ..end.clone()
            })
        })
        .collect()
}

/// Reads `[user@]host[:port]`, also as `ssh://`, IPv6 addresses in brackets.
///
/// # Errors
/// What was expected.
pub(crate) fn destination(text: &str) -> Result<(Option<String>, String, u16), String> {
    let bad = || format!("expected [USER@]HOST[:PORT], found {text:?}");
    let rest = text.strip_prefix("ssh://").unwrap_or(text);
    let (user, rest) = match rest.rsplit_once('@') {
        Some((user, rest)) if !user.is_empty() => (Some(user.to_owned()), rest),
        Some(_) => return Err(bad()),
        None => (None, rest),
    };
    let (host, port) = if let Some(rest) = rest.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or_else(bad)?;
        (host, rest.strip_prefix(':'))
    } else {
        match rest.split_once(':') {
            Some((host, port)) if !port.contains(':') => (host, Some(port)),
            _ => (rest, None),
        }
    };
    let port = match port {
        Some(port) => port.parse().map_err(|_| bad())?,
        None => 22,
    };
    if host.is_empty() || host.starts_with('-') || host.contains(char::is_whitespace) {
        return Err(bad());
    }
    Ok((user, host.to_owned(), port))
}

fn default_keys(defaults: &Defaults) -> Vec<PathBuf> {
    ["id_ed25519", "id_ecdsa", "id_rsa"]
        .iter()
        .map(|name| defaults.home.join(".ssh").join(name))
        .filter(|path| path.exists())
        .collect()
}

fn expand_home(path: &str, defaults: &Defaults) -> PathBuf {
    match path.strip_prefix("~/") {
        Some(rest) => defaults.home.join(rest),
        None => PathBuf::from(path),
    }
}

fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "true" | "on" | "1" => Some(true),
        "no" | "false" | "off" | "0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::preflight::inventory::{Inventory, select};

    fn defaults() -> Defaults {
        Defaults {
            user: "me".into(),
            home: "/nowhere/me".into(),
            keys: Vec::new(),
            password: None,
            privilege: false,
            sudo_password: None,
            passphrase: None,
            known_hosts: vec!["/nowhere/me/.ssh/known_hosts".into()],
            accept_new: false,
            jump: None,
        }
    }

    /// The way of the host `n` whose line in an INI file ends with `line`.
    fn of(line: &str) -> (Result<Way, String>, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hosts");
        std::fs::write(&path, format!("n {line}\n")).unwrap();
        let inventory = Inventory::read(&path).unwrap();
        let host = select(&inventory, None).unwrap().remove(0);
        let mut warnings = BTreeSet::new();
        let way = way(
            &host,
            &inventory.variables(&host),
            &defaults(),
            &mut warnings,
        );
        (way, warnings.into_iter().collect())
    }

    fn target(line: &str) -> Target {
        match of(line) {
            (Ok(Way::Ssh(target)), _) => *target,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn nothing_said_means_what_it_means_to_ssh() {
        let target = target("");
        assert_eq!(target.end.to_string(), "me@n:22");
        assert_eq!(target.privilege, Become::No);
        assert!(target.end.agent && !target.trust.accept_new);
    }

    #[test]
    fn variables_of_a_connection_are_acted_on() {
        let target = target(
            "ansible_host=192.0.2.1 ansible_port=2222 ansible_user=ops ansible_ssh_private_key_file=~/k ansible_become=yes ansible_become_password=x ansible_ssh_common_args='-o ProxyJump=j@jump:23,two -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile=/dev/null -o ControlMaster=auto'",
        );
        assert_eq!(target.end.to_string(), "ops@192.0.2.1:2222");
        assert_eq!(target.end.keys, [PathBuf::from("/nowhere/me/k")]);
        assert_eq!(target.privilege, Become::SudoPassword(Secret::new("x")));
        let jumps: Vec<String> = target.jumps.iter().map(ToString::to_string).collect();
        assert_eq!(jumps, ["j@jump:23", "me@two:22"]);
        assert!(target.trust.accept_new);
        assert_eq!(target.trust.files, [PathBuf::from("/dev/null")]);
    }

    #[test]
    fn root_needs_no_sudo_and_a_proxy_command_of_ssh_is_a_jump() {
        let target = target(
            r#"ansible_user=root ansible_become=true ansible_ssh_common_args="-o ProxyCommand='ssh -q -W %h:%p -p 23 j@jump'""#,
        );
        assert_eq!(target.privilege, Become::No);
        assert_eq!(target.jumps[0].to_string(), "j@jump:23");
    }

    #[test]
    fn what_cannot_be_done_is_refused_with_its_place() {
        for (line, expected) in [
            (
                "ansible_host='{{ ip }}'",
                "hosts:1: ansible_host: expected a plain value",
            ),
            (
                "ansible_connection=winrm",
                "expected ssh or local, found winrm",
            ),
            ("ansible_port=x", "expected a TCP port"),
            (
                "ansible_become=1 ansible_become_method=su",
                "expected sudo, found su",
            ),
            ("ansible_become=1 ansible_become_user=ops", "expected root"),
            (
                "ansible_ssh_common_args='-o ProxyCommand=nc'",
                "expected ProxyCommand",
            ),
            ("ansible_ssh_common_args='-Z'", "expected -o Option=value"),
            (
                "ansible_ssh_common_args='-o ProxyJump=a@'",
                "expected [USER@]HOST[:PORT]",
            ),
        ] {
            let error = of(line).0.unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }

    #[test]
    fn a_variable_nobody_acts_on_is_a_warning_and_others_are_the_users() {
        let (_, warnings) = of("ansible_prot=22 my_own=1 ansible_python_interpreter=auto");
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(
            warnings[0].contains("hosts:1: ansible_prot"),
            "{warnings:?}"
        );
    }

    #[test]
    fn destinations_are_read() {
        let host = |text: &str| destination(text).unwrap();
        assert_eq!(host("a"), (None, "a".into(), 22));
        assert_eq!(host("u@a:2"), (Some("u".into()), "a".into(), 2));
        assert_eq!(host("u@[::1]:2"), (Some("u".into()), "::1".into(), 2));
        assert_eq!(host("::1"), (None, "::1".into(), 22));
        for bad in ["", "@a", "a:x", "-oProxyCommand=x", "a b"] {
            assert!(destination(bad).is_err(), "{bad}");
        }
    }
}
