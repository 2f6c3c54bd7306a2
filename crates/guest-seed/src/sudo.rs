//! `sudo` for the demo guest: members of the group sudo run a command as root, without a password.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use nix::unistd::{Gid, Group, Uid, User, getgroups, setgid, setgroups, setuid};

/// The group whose members may.
const GROUP: &str = "sudo";

/// Replaces this process by the command.
pub(crate) fn run(args: &[String]) -> ExitCode {
    match prepare(args) {
        Ok(mut command) => {
            let error = command.exec();
            fail(&format!("cannot run {:?}: {error}", command.get_program()))
        }
        Err(reason) => fail(&reason),
    }
}

/// Says what is wrong.
pub(crate) fn fail(reason: &str) -> ExitCode {
    use std::io::Write;
    // Nothing is to be done if even the error cannot be told.
    let _ = writeln!(std::io::stderr(), "sudo: {reason}");
    ExitCode::FAILURE
}

fn prepare(args: &[String]) -> Result<Command, String> {
    if !may() {
        return Err(format!(
            "you are not in the group {GROUP}; log in as a user who is"
        ));
    }
    let mut user = "root".to_owned();
    let mut shell = false;
    let mut rest = args.iter();
    let mut words: Vec<&String> = Vec::new();
    while let Some(word) = rest.next() {
        match word.as_str() {
            "-i" | "-s" | "--login" | "--shell" => shell = true,
            "-n" | "-E" | "-H" | "-S" | "--non-interactive" => {}
            "-u" => user = rest.next().cloned().ok_or("-u needs a user")?,
            "--" => break,
            option if option.starts_with('-') => {
                return Err(format!(
                    "option {option} is not known; expected [-i] [-u USER] COMMAND…"
                ));
            }
            _ => {
                words.push(word);
                break;
            }
        }
    }
    words.extend(rest);
    let target = User::from_name(&user)
        .ok()
        .flatten()
        .ok_or_else(|| format!("there is no user {user}"))?;
    let mut command = match words.split_first() {
        Some((program, rest)) if !shell => {
            let mut command = Command::new(program);
            command.args(rest);
            command
        }
        Some(_) => {
            let mut command = Command::new("/bin/sh");
            let line: Vec<&str> = words.iter().map(|word| word.as_str()).collect();
            command.args(["-c", &line.join(" ")]);
            command
        }
        None if shell => Command::new("/bin/sh"),
        None => return Err("expected [-i] [-u USER] COMMAND…".to_owned()),
    };
    let no = |what: &'static str| {
        move |error: nix::Error| format!("{what}: {error}; is sudo set-user-ID root?")
    };
    setgroups(&[target.gid]).map_err(no("setgroups"))?;
    setgid(target.gid).map_err(no("setgid"))?;
    setuid(target.uid).map_err(no("setuid"))?;
    // A caller's environment is not root's: only what a terminal needs is kept.
    let terminal = std::env::var("TERM").unwrap_or_else(|_| "vt100".to_owned());
    command
        .env_clear()
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .env("TERM", terminal)
        .env("HOME", &target.dir)
        .env("USER", &user)
        .env("LOGNAME", &user)
        .env("PS1", if target.uid.is_root() { "# " } else { "$ " });
    Ok(command)
}

fn may() -> bool {
    if Uid::current().is_root() {
        return true;
    }
    let Ok(Some(group)) = Group::from_name(GROUP) else {
        return false;
    };
    let listed = User::from_uid(Uid::current())
        .ok()
        .flatten()
        .is_some_and(|user| group.mem.contains(&user.name));
    listed
        || Gid::current() == group.gid
        || getgroups().is_ok_and(|groups| groups.contains(&group.gid))
}
