//! Does what a seed asks for.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Command as Process, Stdio};

use anyhow::{Context, bail};
use serde_yaml::Value;

use crate::accounts::Accounts;
use crate::config::{self, Command, Plan, Secret, User, WriteFile};
use crate::disk::{self, Seed};
use crate::network;
use crate::value::{member, texts};

const LOG: &str = "/var/log/cloud-init.log";
const HOSTNAME: &str = "cirros";
/// Scripts that `final` runs, in the order of their names.
const FINAL: &str = "/run/seed/final";

/// Writes a line into the log and onto the console.
pub(crate) fn log(line: &str) {
    for path in [LOG, "/dev/console"] {
        if let Ok(mut file) = OpenOptions::new()
            .append(true)
            .create(path == LOG)
            .open(path)
        {
            // A log that cannot be written must not stop the boot.
            let _ = writeln!(file, "seed: {line}\r");
        }
    }
}

/// All that needs no network.
pub(crate) fn local() -> anyhow::Result<()> {
    let found = disk::find();
    let seed = match found {
        Ok(seed) => seed.unwrap_or_default(),
        Err(error) => {
            log(&format!("{error:#}; ignored"));
            Seed::default()
        }
    };
    let meta: Value = serde_yaml::from_slice(&seed.meta_data).unwrap_or(Value::Null);
    let (mut plan, remarks) = config::parse(&seed.user_data);
    if !seed.source.is_empty() {
        quiet_log(&format!("reading {}", seed.source));
    }
    remarks.iter().for_each(|remark| log(remark));
    let named = plan
        .hostname
        .clone()
        .or_else(|| member(&meta, "local-hostname"))
        .or_else(|| member(&meta, "hostname"));
    step("hostname", set_hostname(named.as_deref()));
    let keys = public_keys(&meta);
    if !keys.is_empty() {
        match plan
            .users
            .iter_mut()
            .find(|user| user.name == config::DEFAULT_USER)
        {
            Some(user) => user.keys.extend(keys),
            None => plan.users.push(User {
                name: config::DEFAULT_USER.to_owned(),
                keys,
                ..User::default()
            }),
        }
    }
    if !seed.network.is_empty() {
        step(
            "network-config",
            write_network(&String::from_utf8_lossy(&seed.network)),
        );
    }
    // The archive that the root comes from makes everything root's.
    step(
        "home",
        chown("/home/cirros", Some(1000), Some(1000)).map_err(Into::into),
    );
    if !plan.users.is_empty() {
        step("users", apply_users(&plan.users));
    }
    for file in &plan.files {
        step(&file.path, write_file(file));
    }
    for command in &plan.boot {
        step("bootcmd", run(command));
    }
    step("runcmd", keep_final(&plan));
    Ok(())
}

/// User scripts and runcmd.
pub(crate) fn finish() -> anyhow::Result<()> {
    let Ok(entries) = fs::read_dir(FINAL) else {
        return Ok(());
    };
    let mut scripts: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    scripts.sort();
    for script in scripts {
        let status = Process::new(&script).stdin(Stdio::null()).status();
        let status = status.with_context(|| {
            format!(
                "{}; is the interpreter of its first line there?",
                script.display()
            )
        })?;
        if !status.success() {
            log(&format!("{} ended with {status}", script.display()));
        }
    }
    Ok(())
}

fn quiet_log(line: &str) {
    if let Ok(mut file) = OpenOptions::new().append(true).create(true).open(LOG) {
        let _ = writeln!(file, "seed: {line}");
    }
}

/// One failed step is no reason to leave out the others.
fn step(what: &str, done: anyhow::Result<()>) {
    if let Err(error) = done {
        log(&format!("{what}: {error:#}"));
    }
}

fn set_hostname(wanted: Option<&str>) -> anyhow::Result<()> {
    // Of a fully qualified name the host's own part is its name.
    let name = wanted
        .and_then(|name| name.split('.').next())
        .unwrap_or(HOSTNAME);
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if name.is_empty() || name.len() > 63 || !name.bytes().all(fits) {
        bail!("{name:?} is no host name");
    }
    fs::write("/proc/sys/kernel/hostname", name)?;
    fs::write("/etc/hostname", format!("{name}\n"))?;
    let full = wanted.unwrap_or(name);
    let hosts = format!("127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {full} {name}\n");
    fs::write("/etc/hosts", hosts)?;
    if wanted.is_some() {
        // Tells the DHCP script that the name is decided.
        fs::write("/run/seed/hostname", name)?;
    }
    Ok(())
}

/// Keys of the meta data: a list, a mapping of names to keys, or EC2's shape.
fn public_keys(meta: &Value) -> Vec<String> {
    let keys = meta.get("public-keys").or_else(|| meta.get("public_keys"));
    match keys {
        Some(Value::Mapping(mapping)) => mapping
            .values()
            .flat_map(|value| texts(Some(value)))
            .collect(),
        other => texts(other),
    }
}

fn write_network(text: &str) -> anyhow::Result<()> {
    let mut devices = BTreeMap::new();
    for entry in fs::read_dir("/sys/class/net")? {
        let entry = entry?;
        let mac = fs::read_to_string(entry.path().join("address"))?;
        devices.insert(
            mac.trim().to_ascii_lowercase(),
            entry.file_name().to_string_lossy().into_owned(),
        );
    }
    let (script, fixed) = network::script(text, &devices).map_err(anyhow::Error::msg)?;
    fs::write("/run/seed/network.sh", script)?;
    fs::set_permissions("/run/seed/network.sh", Permissions::from_mode(0o755))?;
    for name in fixed {
        fs::write(format!("/run/seed/static.{name}"), "")?;
    }
    Ok(())
}

fn apply_users(users: &[User]) -> anyhow::Result<()> {
    let mut accounts = Accounts {
        passwd: fs::read_to_string("/etc/passwd")?,
        group: fs::read_to_string("/etc/group")?,
        shadow: fs::read_to_string("/etc/shadow")?,
    };
    for user in users {
        accounts.ensure(user);
        match &user.secret {
            Some(Secret::Hash(hash)) => accounts.set_hash(&user.name, hash),
            Some(Secret::Plain(password)) => accounts.set_hash(&user.name, &hash(password)?),
            None => {}
        }
    }
    replace("/etc/passwd", &accounts.passwd, 0o644)?;
    replace("/etc/group", &accounts.group, 0o644)?;
    replace("/etc/shadow", &accounts.shadow, 0o600)?;
    for user in users {
        let Some(home) = accounts.home(&user.name) else {
            continue;
        };
        if !Path::new(&home.path).exists() {
            fs::create_dir_all(&home.path)?;
            chown(&home.path, Some(home.uid), Some(home.gid))?;
        }
        if user.keys.is_empty() {
            continue;
        }
        let dir = format!("{}/.ssh", home.path);
        fs::create_dir_all(&dir)?;
        fs::set_permissions(&dir, Permissions::from_mode(0o700))?;
        let path = format!("{dir}/authorized_keys");
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)?;
        for key in &user.keys {
            writeln!(file, "{}", key.trim())?;
        }
        chown(&dir, Some(home.uid), Some(home.gid))?;
        chown(&path, Some(home.uid), Some(home.gid))?;
    }
    Ok(())
}

fn replace(path: &str, content: &str, mode: u32) -> anyhow::Result<()> {
    let beside = format!("{path}.new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&beside)?;
    file.write_all(content.as_bytes())?;
    fs::rename(&beside, path).with_context(|| path.to_owned())
}

/// Hashes a password by busybox, which gets it over a pipe: arguments can be seen by everybody.
fn hash(password: &str) -> anyhow::Result<String> {
    let mut child = Process::new("/bin/busybox")
        .args(["mkpasswd", "-m", "sha512", "-P", "0"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("busybox mkpasswd")?;
    if let Some(mut stdin) = child.stdin.take() {
        writeln!(stdin, "{password}")?;
    }
    let output = child.wait_with_output()?;
    let hash = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !output.status.success() || !hash.starts_with("$6$") {
        bail!(
            "busybox mkpasswd ended with {} and gave no hash",
            output.status
        );
    }
    Ok(hash)
}

fn write_file(file: &WriteFile) -> anyhow::Result<()> {
    let path = Path::new(&file.path);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut open = OpenOptions::new()
        .create(true)
        .append(file.append)
        .write(true)
        .truncate(!file.append)
        .open(path)?;
    open.write_all(&file.content)?;
    fs::set_permissions(path, Permissions::from_mode(file.mode))?;
    let Some(owner) = &file.owner else {
        return Ok(());
    };
    let accounts = Accounts {
        passwd: fs::read_to_string("/etc/passwd")?,
        group: fs::read_to_string("/etc/group")?,
        shadow: String::new(),
    };
    let (user, group) = owner.split_once(':').unwrap_or((owner, owner));
    let uid = accounts
        .home(user)
        .map(|home| home.uid)
        .with_context(|| format!("owner: there is no user {user:?}"))?;
    let gid = accounts
        .group_id(group)
        .with_context(|| format!("owner: there is no group {group:?}"))?;
    chown(path, Some(uid), Some(gid)).context("owner")
}

fn run(command: &Command) -> anyhow::Result<()> {
    let mut process = match command {
        Command::Shell(line) => {
            let mut process = Process::new("/bin/sh");
            process.args(["-c", line]);
            process
        }
        Command::Exec(words) => {
            let mut process = Process::new(&words[0]);
            process.args(&words[1..]);
            process
        }
    };
    let status = process
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("{command:?}"))?;
    if status.success() {
        Ok(())
    } else {
        bail!("{command:?} ended with {status}")
    }
}

/// Keeps for later what has to wait for the network.
fn keep_final(plan: &Plan) -> anyhow::Result<()> {
    let keep = |name: &str, content: &[u8]| -> anyhow::Result<()> {
        fs::create_dir_all(FINAL)?;
        let path = format!("{FINAL}/{name}");
        fs::write(&path, content)?;
        Ok(fs::set_permissions(&path, Permissions::from_mode(0o700))?)
    };
    if !plan.run.is_empty() {
        let mut script = "#!/bin/sh\n".to_owned();
        for command in &plan.run {
            match command {
                Command::Shell(line) => script.push_str(line),
                Command::Exec(words) => {
                    let quoted: Vec<String> = words
                        .iter()
                        .map(|w| format!("'{}'", w.replace('\'', r"'\''")))
                        .collect();
                    script.push_str(&quoted.join(" "));
                }
            }
            script.push('\n');
        }
        keep("1-runcmd", script.as_bytes())?;
    }
    if let Some(script) = &plan.script {
        keep("2-user-script", script)?;
    }
    Ok(())
}
