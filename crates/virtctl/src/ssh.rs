//! ssh and scp: the local clients, with port-forward as their way to the VM.

use std::ffi::OsString;
use std::path::Path;
use std::process::{ExitCode, Stdio};

use anyhow::{Context, bail};

use crate::cli::{Connection, ScpArgs, SshArgs, SshOptions};
use crate::cluster::Cluster;
use crate::target::{self, Copy, Target};

pub(crate) async fn ssh(connection: &Connection, args: &SshArgs) -> anyhow::Result<ExitCode> {
    let (user, target) = target::with_user(&args.target)?;
    let namespace = namespace(connection, &target).await?;
    let host = host(user.as_deref(), &args.options, &target, &namespace);
    let mut words: Vec<OsString> = vec![host.into()];
    words.extend(args.command.iter().map(OsString::from));
    run("ssh", connection, &args.options, &target, &namespace, words).await
}

pub(crate) async fn scp(connection: &Connection, args: &ScpArgs) -> anyhow::Result<ExitCode> {
    let copy = Copy::parse(&args.from, &args.to)?;
    let namespace = namespace(connection, &copy.target).await?;
    let host = host(
        copy.user.as_deref(),
        &args.options,
        &copy.target,
        &namespace,
    );
    let remote = OsString::from(format!("{host}:{}", copy.remote_path));
    let local = OsString::from(&copy.local_path);
    let mut words: Vec<OsString> = Vec::new();
    words.extend(args.recursive.then(|| "-r".into()));
    words.extend(args.preserve.then(|| "-p".into()));
    words.extend(if copy.to_remote {
        [local, remote]
    } else {
        [remote, local]
    });
    run(
        "scp",
        connection,
        &args.options,
        &copy.target,
        &namespace,
        words,
    )
    .await
}

async fn namespace(connection: &Connection, target: &Target) -> anyhow::Result<String> {
    match &target.namespace {
        Some(namespace) => Ok(namespace.clone()),
        None => Ok(Cluster::connect(connection).await?.namespace),
    }
}

/// What known_hosts remembers: `[user@]kind.name.namespace`.
fn host(user: Option<&str>, options: &SshOptions, target: &Target, namespace: &str) -> String {
    let login = ["USER", "USERNAME", "LOGNAME"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|v| !v.is_empty()));
    let user = user
        .map(str::to_owned)
        .or_else(|| options.username.clone())
        .or(login);
    let user = user.map(|user| format!("{user}@")).unwrap_or_default();
    format!("{user}{}.{}.{namespace}", target.kind.short(), target.name)
}

/// Runs the local client with our stdin, stdout and stderr; its exit code is
/// ours.
async fn run(
    client: &str,
    connection: &Connection,
    options: &SshOptions,
    target: &Target,
    namespace: &str,
    words: Vec<OsString>,
) -> anyhow::Result<ExitCode> {
    if !options.local_ssh {
        bail!(
            "--local-ssh=false: the ssh client built into older versions is gone; the local one is used"
        );
    }
    let program = std::env::current_exe().context("the path of this program")?;
    let mut arguments = arguments(&program, connection, options, target, namespace)?;
    arguments.extend(words);
    let status = tokio::process::Command::new(client)
        .args(arguments)
        .stdin(Stdio::inherit())
        .status()
        .await
        .with_context(|| format!("starting the local {client} client"))?;
    // A client ended by a signal has no code.
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from))
}

fn arguments(
    program: &Path,
    connection: &Connection,
    options: &SshOptions,
    target: &Target,
    namespace: &str,
) -> anyhow::Result<Vec<OsString>> {
    let mut arguments: Vec<OsString> = vec![
        "-o".into(),
        format!(
            "ProxyCommand={}",
            proxy(program, connection, options, target, namespace)?
        )
        .into(),
    ];
    if let Some(path) = &options.known_hosts {
        let mut option = OsString::from("UserKnownHostsFile=");
        option.push(path);
        arguments.extend(["-o".into(), option]);
    }
    for option in &options.local_ssh_opts {
        // People write "-o X=Y" in one word; an option and its value are two.
        arguments.extend(option.split_whitespace().map(OsString::from));
    }
    if let Some(path) = &options.identity_file {
        arguments.extend(["-i".into(), path.into()]);
    }
    Ok(arguments)
}

/// The command by which the client reaches the VM, with the flags that say
/// which cluster; ssh gives it to a shell and expands `%`.
fn proxy(
    program: &Path,
    connection: &Connection,
    options: &SshOptions,
    target: &Target,
    namespace: &str,
) -> anyhow::Result<String> {
    let path = |path: &Path| -> anyhow::Result<String> {
        path.to_str()
            .map(str::to_owned)
            .with_context(|| format!("expected a path in UTF-8, found {}", path.display()))
    };
    let mut words = vec![path(program)?];
    for (flag, file) in [
        ("--kubeconfig", &connection.kubeconfig),
        ("--certificate-authority", &connection.certificate_authority),
        ("--client-certificate", &connection.client_certificate),
        ("--client-key", &connection.client_key),
    ] {
        if let Some(file) = file {
            words.push(format!("{flag}={}", path(file)?));
        }
    }
    for (flag, value) in [
        ("--context", &connection.context),
        ("--cluster", &connection.cluster),
        ("--user", &connection.user),
        ("--server", &connection.server),
        ("--as", &connection.impersonate),
        ("--tls-server-name", &connection.tls_server_name),
        // As kubectl's own plugins do; a kubeconfig keeps it from the process list.
        ("--token", &connection.token),
    ] {
        if let Some(value) = value {
            words.push(format!("{flag}={value}"));
        }
    }
    words.extend(
        connection
            .impersonate_group
            .iter()
            .map(|group| format!("--as-group={group}")),
    );
    if connection.insecure_skip_tls_verify {
        words.push("--insecure-skip-tls-verify=true".to_owned());
    }
    words.extend([
        "port-forward".to_owned(),
        "--stdio=true".to_owned(),
        format!("{}/{}/{namespace}", target.kind.short(), target.name),
        options.port.to_string(),
    ]);
    let quoted: Vec<String> = words
        .iter()
        .map(|word| quote(word).replace('%', "%%"))
        .collect();
    Ok(quoted.join(" "))
}

/// A word as the shell reads it back.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::target::Kind;

    fn options() -> SshOptions {
        SshOptions {
            username: Some("joe".to_owned()),
            identity_file: Some("/k".into()),
            known_hosts: None,
            port: 2222,
            local_ssh_opts: vec!["-o StrictHostKeyChecking=no".to_owned()],
            local_ssh: true,
        }
    }

    fn target() -> Target {
        Target {
            kind: Kind::Instance,
            name: "x".to_owned(),
            namespace: None,
        }
    }

    #[test]
    fn the_client_is_told_the_way_with_the_flags_that_say_which_cluster() {
        let connection = Connection {
            kubeconfig: Some("/a b/conf".into()),
            context: Some("c%".to_owned()),
            ..Connection::default()
        };
        let arguments = arguments(
            Path::new("/bin/virtctl"),
            &connection,
            &options(),
            &target(),
            "ns",
        )
        .unwrap();
        assert_eq!(
            arguments,
            [
                "-o",
                "ProxyCommand=/bin/virtctl '--kubeconfig=/a b/conf' '--context=c%%' port-forward --stdio=true vmi/x/ns 2222",
                "-o",
                "StrictHostKeyChecking=no",
                "-i",
                "/k",
            ]
        );
    }

    #[test]
    fn the_target_names_the_user_first() {
        assert_eq!(
            host(Some("ann"), &options(), &target(), "ns"),
            "ann@vmi.x.ns"
        );
        assert_eq!(host(None, &options(), &target(), "ns"), "joe@vmi.x.ns");
    }

    #[test]
    fn words_survive_the_shell() {
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(quote(""), "''");
    }
}
