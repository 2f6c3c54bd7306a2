//! What port-forward, ssh and scp are pointed at, as people write it.
//! Source of grammar and sentences: KubeVirt pkg/virtctl/{portforward,ssh,scp}.

use anyhow::{Context, bail};

/// Kinds of targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// VirtualMachine.
    Machine,
    /// VirtualMachineInstance.
    Instance,
}

impl Kind {
    /// A kind in any of its spellings.
    pub(crate) fn parse(word: &str) -> anyhow::Result<Self> {
        match word.to_lowercase().as_str() {
            "vm" | "vms" | "virtualmachine" | "virtualmachines" => Ok(Self::Machine),
            "vmi" | "vmis" | "virtualmachineinstance" | "virtualmachineinstances" => {
                Ok(Self::Instance)
            }
            _ => bail!("unsupported resource type '{word}'"),
        }
    }

    /// The word in host names and commands.
    pub(crate) fn short(self) -> &'static str {
        match self {
            Self::Machine => "vm",
            Self::Instance => "vmi",
        }
    }

    /// The word in URLs.
    pub(crate) fn plural(self) -> &'static str {
        match self {
            Self::Machine => "virtualmachines",
            Self::Instance => "virtualmachineinstances",
        }
    }
}

/// A VM or VMI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    /// The request's own when `None`.
    pub(crate) namespace: Option<String>,
}

impl Target {
    /// `type/name[/namespace]`, or the old `type/name.namespace`.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        if text.is_empty() {
            bail!("target cannot be empty");
        }
        let parts: Vec<&str> = text.split('/').collect();
        let (kind, name, namespace) = match parts.as_slice() {
            [_] => bail!("target must contain type and name separated by '/'"),
            // A namespace has no dots, so the last one divides.
            [kind, name] => match name.rsplit_once('.') {
                Some((name, namespace)) => (kind, name, Some(namespace)),
                None => (kind, *name, None),
            },
            [kind, name, namespace] => (kind, *name, Some(*namespace)),
            _ => bail!("target is not valid with more than two '/'"),
        };
        if namespace == Some("") {
            bail!("namespace cannot be empty");
        }
        let kind = Kind::parse(kind)?;
        if name.is_empty() {
            bail!("name cannot be empty");
        }
        Ok(Self {
            kind,
            name: name.to_owned(),
            namespace: namespace.map(str::to_owned),
        })
    }
}

/// Splits `[user@]target`.
pub(crate) fn with_user(text: &str) -> anyhow::Result<(Option<String>, Target)> {
    let (user, target) = match text.split_once('@') {
        Some(("", _)) => bail!("expected username before '@'"),
        Some((_, "")) => bail!("expected target after '@'"),
        Some((user, target)) => (Some(user.to_owned()), target),
        None => (None, text),
    };
    Ok((user, Target::parse(target)?))
}

/// Protocols that are forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    /// The word in URLs.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// A forwarded port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) protocol: Protocol,
    pub(crate) local: u16,
    pub(crate) remote: u16,
}

impl Port {
    /// `[protocol/]localPort[:targetPort]`.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let (protocol, ports) = text.split_once('/').unwrap_or(("tcp", text));
        let protocol = match protocol.to_lowercase().as_str() {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            other => bail!("unknown protocol: {other}"),
        };
        let number = |text: &str| -> anyhow::Result<u16> {
            text.parse()
                .with_context(|| format!("expected a port from 0 to 65535, found {text:?}"))
        };
        let mut numbers = ports.split(':').filter(|text| !text.is_empty());
        let local = number(
            numbers
                .next()
                .context("invalid port, missing local and/or remote port")?,
        )?;
        let remote = numbers.next().map_or(Ok(local), number)?;
        if remote == 0 {
            bail!("expected a target port from 1 to 65535, found 0");
        }
        Ok(Self {
            protocol,
            local,
            remote,
        })
    }
}

/// The two ends of a copy.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Copy {
    pub(crate) user: Option<String>,
    pub(crate) target: Target,
    pub(crate) remote_path: String,
    pub(crate) local_path: String,
    /// From here to there.
    pub(crate) to_remote: bool,
}

impl Copy {
    /// From the two arguments of scp; the one with a colon is remote.
    pub(crate) fn parse(from: &str, to: &str) -> anyhow::Result<Self> {
        let (remote, local, to_remote) = match (from.contains(':'), to.contains(':')) {
            (true, true) => bail!(
                "copying from a remote location to another remote location is not supported: {from:?} to {to:?}"
            ),
            (false, false) => {
                bail!(
                    "none of the two provided locations seems to be a remote location: {from:?} to {to:?}"
                )
            }
            (true, false) => (from, to, false),
            (false, true) => (to, from, true),
        };
        let (machine, path) = remote
            .split_once(':')
            .with_context(|| format!("invalid remote argument format: {remote:?}"))?;
        let (user, target) = with_user(machine)?;
        Ok(Self {
            user,
            target,
            remote_path: path.to_owned(),
            local_path: local.to_owned(),
            to_remote,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn targets_are_read_in_both_spellings() {
        let target = |kind, name: &str, namespace: Option<&str>| Target {
            kind,
            name: name.to_owned(),
            namespace: namespace.map(str::to_owned),
        };
        for (text, expected) in [
            ("vm/x", target(Kind::Machine, "x", None)),
            ("VMIs/x/ns", target(Kind::Instance, "x", Some("ns"))),
            (
                "virtualmachine/x.ns",
                target(Kind::Machine, "x", Some("ns")),
            ),
            ("vmi/a.b/ns", target(Kind::Instance, "a.b", Some("ns"))),
        ] {
            assert_eq!(Target::parse(text).unwrap(), expected, "{text}");
        }
        for (text, why) in [
            ("", "target cannot be empty"),
            ("x", "target must contain type and name separated by '/'"),
            ("pod/x", "unsupported resource type 'pod'"),
            ("vm/", "name cannot be empty"),
            ("vm/x/", "namespace cannot be empty"),
            ("vm/x/n/y", "target is not valid with more than two '/'"),
        ] {
            assert_eq!(Target::parse(text).unwrap_err().to_string(), why);
        }
    }

    #[test]
    fn users_stand_before_the_at() {
        assert_eq!(with_user("joe@vm/x").unwrap().0.as_deref(), Some("joe"));
        assert_eq!(
            with_user("@vm/x").unwrap_err().to_string(),
            "expected username before '@'"
        );
        assert_eq!(
            with_user("joe@").unwrap_err().to_string(),
            "expected target after '@'"
        );
    }

    #[test]
    fn ports_have_protocol_and_target() {
        let port = |text| Port::parse(text).unwrap();
        assert_eq!(
            port("8080"),
            Port {
                protocol: Protocol::Tcp,
                local: 8080,
                remote: 8080
            }
        );
        assert_eq!(
            port("udp/53:5353"),
            Port {
                protocol: Protocol::Udp,
                local: 53,
                remote: 5353
            }
        );
        assert_eq!(
            port("0:22"),
            Port {
                protocol: Protocol::Tcp,
                local: 0,
                remote: 22
            }
        );
        for text in ["", "sctp/1", "x", "1:x", "70000", "0"] {
            assert!(Port::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn one_end_of_a_copy_is_remote() {
        let copy = Copy::parse("file", "joe@vmi/x:dir/").unwrap();
        assert_eq!(
            (
                copy.to_remote,
                copy.remote_path.as_str(),
                copy.local_path.as_str()
            ),
            (true, "dir/", "file")
        );
        assert!(!Copy::parse("vm/x:file", ".").unwrap().to_remote);
        assert!(
            Copy::parse("a", "b")
                .unwrap_err()
                .to_string()
                .starts_with("none of the two")
        );
        assert!(
            Copy::parse("vm/a:x", "vm/b:y")
                .unwrap_err()
                .to_string()
                .starts_with("copying from a remote")
        );
    }
}
