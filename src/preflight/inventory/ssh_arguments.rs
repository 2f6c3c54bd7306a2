//! Arguments of ssh(1) in an inventory (`ansible_ssh_common_args` and its like): acted on, known to
//! change nothing, or refused.

use std::collections::BTreeSet;

use super::words;

/// Options of ssh(1) that change nothing here.
const IRRELEVANT_OPTIONS: [&str; 20] = [
    "addressfamily",
    "addkeystoagent",
    "batchmode",
    "checkhostip",
    "compression",
    "controlmaster",
    "controlpath",
    "controlpersist",
    "forwardagent",
    "forwardx11",
    "gssapiauthentication",
    "hashknownhosts",
    "loglevel",
    "numberofpasswordprompts",
    "preferredauthentications",
    "passwordauthentication",
    "serveralivecountmax",
    "serveraliveinterval",
    "tcpkeepalive",
    "updatehostkeys",
];

/// What the arguments for ssh ask for.
pub(super) struct Options {
    /// Jump hosts, as `-J` takes them.
    pub(super) jump: Option<String>,
    /// Believe unknown hosts.
    pub(super) accept_new: bool,
    /// Files of host keys; `None`: not said.
    pub(super) known_hosts: Option<Vec<String>>,
    /// Private keys.
    pub(super) keys: Vec<String>,
}

impl Options {
    /// Reads one variable's words. `place` puts its place before a reason.
    ///
    /// # Errors
    /// What cannot be done here, with its place.
    pub(super) fn read(
        &mut self,
        text: &str,
        warnings: &mut BTreeSet<String>,
        place: &dyn Fn(&str) -> String,
    ) -> Result<(), String> {
        let words = words::split(text, false).map_err(|why| place(&why))?;
        let mut words = words.iter().map(String::as_str);
        while let Some(word) = words.next() {
            match word {
                "-q" | "-C" | "-4" | "-6" | "-A" | "-a" | "-x" | "-T" | "-tt" | "-v" => {}
                "-J" => self.jump = words.next().map(str::to_owned),
                "-i" => self.keys.extend(words.next().map(str::to_owned)),
                _ if word.starts_with("-o") => {
                    let option = match word.strip_prefix("-o").filter(|o| !o.is_empty()) {
                        Some(option) => option,
                        None => words.next().unwrap_or_default(),
                    };
                    self.option(option, warnings, place)?;
                }
                _ => {
                    return Err(place(&format!(
                        "expected -o Option=value, -J or -i, found {word:?}"
                    )));
                }
            }
        }
        Ok(())
    }

    fn option(
        &mut self,
        option: &str,
        warnings: &mut BTreeSet<String>,
        place: &dyn Fn(&str) -> String,
    ) -> Result<(), String> {
        let (name, value) = option
            .split_once('=')
            .or_else(|| option.split_once(' '))
            .unwrap_or((option, ""));
        let value = value.trim();
        match name.trim().to_ascii_lowercase().as_str() {
            "proxyjump" if value.eq_ignore_ascii_case("none") => self.jump = None,
            "proxyjump" => self.jump = Some(value.to_owned()),
            "proxycommand" => self.jump = Some(proxy_command(value).map_err(|why| place(&why))?),
            "identityfile" => self.keys.push(value.to_owned()),
            "identitiesonly" => {}
            "userknownhostsfile" => {
                self.known_hosts = Some(value.split_whitespace().map(str::to_owned).collect());
            }
            "stricthostkeychecking" => match value.to_ascii_lowercase().as_str() {
                "yes" | "ask" => {}
                "accept-new" => self.accept_new = true,
                _ => {
                    self.accept_new = true;
                    warnings.insert(place(
                        "StrictHostKeyChecking=no is taken as accept-new: a changed host key is still refused",
                    ));
                }
            },
            "connecttimeout" => {
                warnings.insert(place(
                    "ConnectTimeout is given by --connect-timeout; passed over",
                ));
            }
            known if IRRELEVANT_OPTIONS.contains(&known) => {}
            _ => {
                warnings.insert(place(&format!("ssh option {name} is not acted on")));
            }
        }
        Ok(())
    }
}

/// `ssh -W %h:%p user@host`, the older way to say ProxyJump.
fn proxy_command(text: &str) -> Result<String, String> {
    let expected = || {
        format!(
            "expected ProxyCommand=\"ssh -W %h:%p [-p PORT] USER@HOST\", or ProxyJump, found {text:?}"
        )
    };
    let words = words::split(text, false)?;
    let mut words = words.iter().map(String::as_str);
    if words.next() != Some("ssh") {
        return Err(expected());
    }
    let (mut forwards, mut host, mut port) = (false, None, None);
    while let Some(word) = words.next() {
        match word {
            "-W" => forwards = words.next() == Some("%h:%p"),
            "-q" => {}
            "-p" => port = words.next(),
            _ if word.starts_with('-') || host.is_some() => return Err(expected()),
            _ => host = Some(word),
        }
    }
    match (forwards, host, port) {
        (true, Some(host), Some(port)) => Ok(format!("{host}:{port}")),
        (true, Some(host), None) => Ok(host.to_owned()),
        _ => Err(expected()),
    }
}
