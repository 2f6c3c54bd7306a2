//! User data -> what is to be done. Pure: bytes in, a [`Plan`] and remarks out.
//!
//! Of cloud-init's `#cloud-config` these keys are acted on: hostname, fqdn, password, chpasswd, users,
//! ssh_authorized_keys, write_files, bootcmd, runcmd. Others are remarked on, so that nobody waits for them.

use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_yaml::Value;

use crate::value::{items, member, text, texts, truth};

/// The longest user data that is looked at, unpacked; cloud-init's own limit is far lower.
const USER_DATA_MAX: u64 = 16 << 20;
/// The user whom `password` and `ssh_authorized_keys` are for.
pub(crate) const DEFAULT_USER: &str = "cirros";
/// Keys that are acted on, or that are harmless to pass over in silence.
const KNOWN: [&str; 12] = [
    "hostname",
    "fqdn",
    "password",
    "chpasswd",
    "users",
    "ssh_authorized_keys",
    "write_files",
    "bootcmd",
    "runcmd",
    "preserve_hostname",
    "ssh_pwauth",
    "manage_etc_hosts",
];

/// A user to make or change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) gecos: Option<String>,
    pub(crate) home: Option<String>,
    pub(crate) shell: Option<String>,
    pub(crate) uid: Option<u32>,
    pub(crate) groups: Vec<String>,
    pub(crate) sudo: bool,
    pub(crate) secret: Option<Secret>,
    pub(crate) keys: Vec<String>,
}

/// A password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Secret {
    /// To be hashed.
    Plain(String),
    /// As it stands in /etc/shadow.
    Hash(String),
}

/// A file to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WriteFile {
    pub(crate) path: String,
    pub(crate) content: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) owner: Option<String>,
    pub(crate) append: bool,
}

/// One command of bootcmd or runcmd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// For the shell.
    Shell(String),
    /// A program and its arguments.
    Exec(Vec<String>),
}

/// All that user data asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) hostname: Option<String>,
    pub(crate) users: Vec<User>,
    pub(crate) files: Vec<WriteFile>,
    pub(crate) boot: Vec<Command>,
    pub(crate) run: Vec<Command>,
    /// A user script with its `#!` line.
    pub(crate) script: Option<Vec<u8>>,
}

impl Plan {
    /// The user of this name, new if there is none yet.
    fn user(&mut self, name: &str) -> &mut User {
        let at = self
            .users
            .iter()
            .position(|user| user.name == name)
            .unwrap_or_else(|| {
                self.users.push(User {
                    name: name.to_owned(),
                    ..User::default()
                });
                self.users.len() - 1
            });
        &mut self.users[at]
    }
}

/// Reads user data of any kind.
pub(crate) fn parse(raw: &[u8]) -> (Plan, Vec<String>) {
    let data = match unpack(raw) {
        Ok(data) => data,
        Err(remark) => return (Plan::default(), vec![remark]),
    };
    let trimmed = data.trim_ascii();
    if trimmed.is_empty() {
        return (Plan::default(), Vec::new());
    }
    if data.starts_with(b"#!") {
        return (
            Plan {
                script: Some(data),
                ..Plan::default()
            },
            Vec::new(),
        );
    }
    if !data.starts_with(b"#cloud-config") {
        let head = String::from_utf8_lossy(&data[..data.len().min(24)]).into_owned();
        let remark = format!(
            "user-data is neither #cloud-config nor a script (it begins with {head:?}); ignored"
        );
        return (Plan::default(), vec![remark]);
    }
    let text = String::from_utf8_lossy(&data);
    match serde_yaml::from_str::<Value>(&text) {
        Ok(Value::Null) => (Plan::default(), Vec::new()),
        Ok(document @ Value::Mapping(_)) => cloud_config(&document),
        Ok(_) => (
            Plan::default(),
            vec!["#cloud-config is no mapping; ignored".to_owned()],
        ),
        Err(error) => (
            Plan::default(),
            vec![format!("#cloud-config is no YAML: {error}; ignored")],
        ),
    }
}

fn unpack(raw: &[u8]) -> Result<Vec<u8>, String> {
    if !raw.starts_with(&[0x1f, 0x8b]) {
        return Ok(raw.to_vec());
    }
    let mut data = Vec::new();
    let unpacked = flate2::read::GzDecoder::new(raw)
        .take(USER_DATA_MAX)
        .read_to_end(&mut data);
    unpacked
        .map(|_| data)
        .map_err(|error| format!("user-data looks like gzip and is none: {error}; ignored"))
}

fn cloud_config(document: &Value) -> (Plan, Vec<String>) {
    let mut plan = Plan::default();
    let mut remarks = Vec::new();
    if let Value::Mapping(mapping) = document {
        for key in mapping
            .keys()
            .filter_map(text)
            .filter(|key| !KNOWN.contains(&key.as_str()))
        {
            remarks.push(format!("{key} is not supported by this guest; ignored"));
        }
    }
    plan.hostname = member(document, "hostname").or_else(|| member(document, "fqdn"));
    for entry in items(document.get("users")) {
        user(&mut plan, entry, &mut remarks);
    }
    let keys = texts(document.get("ssh_authorized_keys"));
    if !keys.is_empty() {
        plan.user(DEFAULT_USER).keys.extend(keys);
    }
    if let Some(password) = member(document, "password") {
        plan.user(DEFAULT_USER).secret = Some(secret(password));
    }
    if let Some(chpasswd) = document.get("chpasswd") {
        passwords(&mut plan, chpasswd, &mut remarks);
    }
    for (at, entry) in items(document.get("write_files")).iter().enumerate() {
        match write_file(entry) {
            Ok(file) => plan.files.push(file),
            Err(reason) => remarks.push(format!("write_files[{at}]: {reason}; ignored")),
        }
    }
    plan.boot = commands(document.get("bootcmd"));
    plan.run = commands(document.get("runcmd"));
    (plan, remarks)
}

fn user(plan: &mut Plan, entry: &Value, remarks: &mut Vec<String>) {
    let name = text(entry).or_else(|| member(entry, "name"));
    let Some(name) = name.filter(|name| name != "default") else {
        plan.user(DEFAULT_USER);
        return;
    };
    if name.is_empty() || name.contains([':', '/', '\n', ' ']) {
        remarks.push(format!("users: {name:?} is no user name; ignored"));
        return;
    }
    let user = plan.user(&name);
    user.gecos = member(entry, "gecos");
    user.home = member(entry, "homedir").or_else(|| member(entry, "home"));
    user.shell = member(entry, "shell");
    user.uid = member(entry, "uid").and_then(|uid| uid.parse().ok());
    user.groups = match entry.get("groups") {
        Some(Value::String(list)) => list
            .split(',')
            .map(|group| group.trim().to_owned())
            .collect(),
        other => texts(other),
    };
    user.groups.extend(member(entry, "primary_group"));
    // `sudo: false` and `sudo: null` take nothing away here; they just give nothing.
    user.sudo = texts(entry.get("sudo")).iter().any(|rule| rule != "false");
    user.keys = texts(entry.get("ssh_authorized_keys"));
    user.keys.extend(texts(entry.get("ssh-authorized-keys")));
    let hash = member(entry, "hashed_passwd").or_else(|| member(entry, "passwd"));
    user.secret = match (
        hash,
        member(entry, "plain_text_passwd").or_else(|| member(entry, "password")),
    ) {
        (Some(hash), _) => Some(Secret::Hash(hash)),
        (None, Some(plain)) => Some(secret(plain)),
        (None, None) => None,
    };
}

fn passwords(plan: &mut Plan, chpasswd: &Value, remarks: &mut Vec<String>) {
    let lines = match chpasswd.get("list") {
        Some(Value::String(block)) => block.lines().map(str::to_owned).collect(),
        other => texts(other),
    };
    for line in lines {
        match line.trim().split_once(':') {
            Some((name, password)) => plan.user(name).secret = Some(secret(password.to_owned())),
            None if line.trim().is_empty() => {}
            None => remarks
                .push("chpasswd: expected USER:PASSWORD in each line; one was ignored".to_owned()),
        }
    }
    for entry in items(chpasswd.get("users")) {
        match (
            member(entry, "name"),
            member(entry, "password"),
            member(entry, "type").as_deref(),
        ) {
            (Some(name), Some(password), Some("hash")) => {
                plan.user(&name).secret = Some(Secret::Hash(password))
            }
            (Some(name), Some(password), Some("text")) => {
                plan.user(&name).secret = Some(Secret::Plain(password))
            }
            (Some(name), Some(password), None) => plan.user(&name).secret = Some(secret(password)),
            _ => remarks
                .push("chpasswd.users: expected name and password; one was ignored".to_owned()),
        }
    }
}

/// A password that looks like a hash is one, as cloud-init takes it.
fn secret(password: String) -> Secret {
    let hashed = ["$1$", "$2a$", "$2y$", "$5$", "$6$", "$y$"]
        .iter()
        .any(|prefix| password.starts_with(prefix));
    if hashed {
        Secret::Hash(password)
    } else {
        Secret::Plain(password)
    }
}

fn write_file(entry: &Value) -> Result<WriteFile, String> {
    let path = member(entry, "path").ok_or("path is missing")?;
    if !path.starts_with('/') {
        return Err(format!("path {path:?} is not absolute"));
    }
    let content = member(entry, "content").unwrap_or_default();
    let encoding = member(entry, "encoding")
        .unwrap_or_default()
        .to_ascii_lowercase();
    let decode = |text: &str| {
        let packed: String = text.split_whitespace().collect();
        STANDARD
            .decode(packed)
            .map_err(|error| format!("content is no base64: {error}"))
    };
    let content = match encoding.as_str() {
        "" | "text/plain" => content.into_bytes(),
        "b64" | "base64" => decode(&content)?,
        "gz+b64" | "gz+base64" | "gzip+b64" | "gzip+base64" => unpack(&decode(&content)?)?,
        other => return Err(format!("encoding {other:?} is none of b64, gz+b64")),
    };
    let mode = match member(entry, "permissions") {
        Some(octal) => u32::from_str_radix(octal.trim_start_matches("0o"), 8)
            .map_err(|_| format!("permissions {octal:?} are not octal"))?,
        None => 0o644,
    };
    let append = truth(entry.get("append")).unwrap_or(false);
    Ok(WriteFile {
        path,
        content,
        mode: mode & 0o7777,
        owner: member(entry, "owner"),
        append,
    })
}

fn commands(value: Option<&Value>) -> Vec<Command> {
    let command = |entry: &Value| match entry {
        Value::Sequence(_) => {
            Some(Command::Exec(texts(Some(entry)))).filter(|c| *c != Command::Exec(Vec::new()))
        }
        one => text(one).map(Command::Shell),
    };
    match value {
        Some(Value::Sequence(entries)) => entries.iter().filter_map(command).collect(),
        Some(one) => command(one).into_iter().collect(),
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn plan(text: &str) -> Plan {
        let (plan, remarks) = parse(text.as_bytes());
        assert_eq!(remarks, Vec::<String>::new());
        plan
    }

    #[test]
    fn what_is_no_user_data_is_remarked_on_and_ignored() {
        let (plan, remarks) = parse(b"Hi.\\n");
        assert_eq!(plan, Plan::default());
        assert!(
            remarks[0].contains("neither #cloud-config nor a script"),
            "{remarks:?}"
        );
        for text in [
            "#cloud-config\n- a",
            "#cloud-config\n: : :\n\t",
            "#cloud-config\npackages: [git]",
        ] {
            assert_eq!(parse(text.as_bytes()).1.len(), 1, "{text}");
        }
        assert_eq!(parse(b""), (Plan::default(), vec![]));
    }

    #[test]
    fn passwords_come_by_every_way_cloud_init_knows() {
        let text = "#cloud-config\npassword: 1234\nchpasswd:\n  expire: False\n  list: |-\n    root:toor\n    a:$6$x$y\n  users:\n  - {name: b, password: c, type: text}\n";
        let plan = plan(text);
        let secrets: Vec<_> = plan
            .users
            .iter()
            .map(|u| (u.name.as_str(), u.secret.clone().unwrap()))
            .collect();
        let plain = |s: &str| Secret::Plain(s.to_owned());
        let expected = [
            ("cirros", plain("1234")),
            ("root", plain("toor")),
            ("a", Secret::Hash("$6$x$y".into())),
            ("b", plain("c")),
        ];
        assert_eq!(secrets, expected);
    }

    #[test]
    fn users_keep_their_groups_keys_and_sudo() {
        let text = "#cloud-config\nusers:\n- default\n- name: ann\n  groups: sudo, wheel\n  sudo: ALL=(ALL) NOPASSWD:ALL\n  password: root\n  ssh_authorized_keys: [ssh-ed25519 AAAA ann]\n";
        let plan = plan(text);
        assert_eq!(plan.users[0].name, "cirros");
        let ann = &plan.users[1];
        assert_eq!(
            (ann.groups.clone(), ann.sudo, ann.keys.len()),
            (vec!["sudo".into(), "wheel".into()], true, 1)
        );
        assert_eq!(ann.secret, Some(Secret::Plain("root".into())));
    }

    #[test]
    fn files_are_decoded_and_bad_ones_remarked_on() {
        let text = "#cloud-config\nwrite_files:\n- {path: /a, content: aGVsbG8=, encoding: b64, permissions: '0600', owner: 'cirros:cirros'}\n- path: /b\n  content: |\n    two\n    lines\n- {path: rel}\n- {path: /c, encoding: b64, content: '!'}\n";
        let (plan, remarks) = parse(text.as_bytes());
        assert_eq!(
            (plan.files[0].content.as_slice(), plan.files[0].mode),
            (b"hello".as_slice(), 0o600)
        );
        assert_eq!(plan.files[1].content, b"two\nlines\n");
        assert_eq!((plan.files.len(), remarks.len()), (2, 2));
    }

    #[test]
    fn commands_are_shell_lines_or_argument_lists() {
        let plan =
            plan("#cloud-config\nruncmd:\n- echo a | cat\n- [touch, /x, 5]\nbootcmd: [[]]\n");
        let exec = Command::Exec(vec!["touch".into(), "/x".into(), "5".into()]);
        assert_eq!(plan.run, [Command::Shell("echo a | cat".into()), exec]);
        assert_eq!(plan.boot, []);
    }

    #[test]
    fn a_script_is_kept_whole_and_gzip_is_unpacked() {
        use std::io::Write;
        let script = b"#!/bin/sh\necho hi\n";
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(script).unwrap();
        assert_eq!(parse(&packer.finish().unwrap()).0.script.unwrap(), script);
    }
}
