//! One inventory with every way to log in and every way to fail: what can be asked is asked, and every other host
//! gets one clear line.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::edge_node::{EdgeNode, Testbed};

use crate::{attempt, preflight};

/// The password of the accounts that have one; with a space and a quote, which shells read.
const PASSWORD: &str = "it's secret";
/// Seconds a node may take in all.
const TIMEOUT: &str = "45";

/// Accounts, keys that are forced to misbehave, a second sshd that takes passwords. The host's key is everywhere the
/// same. `$key` is the good key; those of the misbehaving accounts are its copies.
const PREPARE: &str = r#"set -e
chmod 4755 /usr/bin/sudo; chmod 440 /etc/sudoers
printf 'auth required pam_unix.so\naccount required pam_permit.so\nsession required pam_permit.so\n' >/etc/pam.d/sudo
printf 'asked ALL=(ALL:ALL) ALL\nfree ALL=(ALL:ALL) NOPASSWD: ALL\n' >/etc/sudoers.d/ops
chmod 440 /etc/sudoers.d/ops
key=$(head -n1 /root/.ssh/authorized_keys)
hash=$(mkpasswd -m sha512 "$password")
id=2000
account() { # name, whether it has the key, with options
  id=$((id + 1))
  echo "$1:x:$id:$id::/home/$1:/bin/sh" >>/etc/passwd; echo "$1:x:$id:" >>/etc/group
  echo "$1:$hash:19000:0:99999:7:::" >>/etc/shadow
  mkdir -p "/home/$1/.ssh"; chmod 755 "/home/$1"; chmod 700 "/home/$1/.ssh"
  [ "$2" = no ] || echo "$3$key" >"/home/$1/.ssh/authorized_keys"
  chown -R "$id:$id" "/home/$1"
}
account asked no
account free yes
account outsider yes
account hangs yes 'command="/bin/hangs" '
for name in full garbage; do
  echo "$name:x:0:0::/home/$name:/bin/sh" >>/etc/passwd; echo "$name:$hash:19000:0:99999:7:::" >>/etc/shadow
  mkdir -p "/home/$name/.ssh"; chmod 700 "/home/$name/.ssh"
  echo "command=\"unshare -m /bin/$name\" $key" >"/home/$name/.ssh/authorized_keys"
done
# What is unpacked there says half of its answer and hangs.
mkdir /usr/lib/hangs
cat >/usr/lib/hangs/gzip <<'END'
#!/bin/sh
/usr/bin/gzip "$@" >/dev/null
printf '#!/bin/sh\nprintf "{"\nexec sleep 600\n'
END
cat >/bin/hangs <<'END'
#!/bin/sh
PATH=/usr/lib/hangs:$PATH
eval "$SSH_ORIGINAL_COMMAND"
END
cat >/bin/full <<'END'
#!/bin/sh
for dir in /tmp /run /var/tmp /dev/shm /home/full; do mkdir -p $dir; mount -t tmpfs -o size=64k x $dir; done
eval "$SSH_ORIGINAL_COMMAND"
END
# A processor that is noise, numbers that are none, and folders of sysfs that have gone.
cat >/bin/garbage <<'END'
#!/bin/sh
head -c 5000 /dev/urandom >/run/noise
for file in /proc/cpuinfo /proc/meminfo /proc/cmdline /proc/swaps /sys/bus/pci/devices/*/sriov_totalvfs /sys/bus/pci/devices/*/config; do
  mount --bind /run/noise "$file"
done
for dir in /sys/class/net /sys/class/iommu /sys/kernel/mm/hugepages; do mount -t tmpfs x "$dir"; done
eval "$SSH_ORIGINAL_COMMAND"
END
chmod 755 /usr/lib/hangs/gzip /bin/hangs /bin/full /bin/garbage
cat "$public" >>/root/.ssh/authorized_keys
dropbear -R -E -p 2200 2>/var/log/dropbear-passwords.log"#;

/// An agent with one key, which ends with the test.
struct Agent {
    child: Child,
    socket: PathBuf,
}

impl Agent {
    fn with(dir: &Path, key: &Path) -> Self {
        let socket = dir.join("agent");
        let child = Command::new("ssh-agent")
            .arg("-D")
            .arg("-a")
            .arg(&socket)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let agent = Self { child, socket };
        testkit::eventually_within(Duration::from_secs(10), "the agent has the key", || {
            let added = Command::new("ssh-add")
                .arg("-q")
                .arg(key)
                .env("SSH_AUTH_SOCK", &agent.socket)
                .output()
                .unwrap();
            match added.status.success() {
                true => Ok(()),
                false => Err(String::from_utf8_lossy(&added.stderr).into_owned()),
            }
        });
        agent
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn keygen(path: &Path, passphrase: &str) {
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", passphrase, "-f"])
        .arg(path)
        .status()
        .unwrap();
    assert!(made.success());
}

/// A port of this machine on which nothing listens.
fn closed_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// What must come of a host: verdicts, or a line with all these words.
enum Comes {
    Verdicts,
    Line(&'static [&'static str]),
}
use Comes::{Line, Verdicts};

#[test]
fn every_way_in_is_taken_and_every_fault_is_a_line_that_holds_up_nobody() {
    let testbed = Testbed::open().unwrap();
    // Nothing is asked of the nodes here: who is reached is the subject.
    let asks = std::collections::BTreeMap::new();
    attempt::on("grub", |node| {
        let dir = node.dir();
        for (name, passphrase) in [("in-agent", ""), ("locked", PASSWORD), ("stranger", "")] {
            let _ = fs::remove_file(dir.join(name));
            keygen(&dir.join(name), passphrase);
        }
        let public = |name: &str| fs::read_to_string(dir.join(name).with_extension("pub")).unwrap();
        prepare(node, &(public("in-agent") + &public("locked")));
        let agent = Agent::with(dir, &dir.join("in-agent"));
        // The agent alone has it now, and the file is another's.
        fs::remove_file(dir.join("in-agent")).unwrap();

        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let known = fs::read_to_string(node.known_hosts()).unwrap();
        let port = node.port();
        let hosts_file = |name: &str, text: String| {
            let path = dir.join(name);
            fs::write(&path, text).unwrap();
            format!("-o UserKnownHostsFile={}", path.display())
        };
        let both = hosts_file(
            "both_hosts",
            known.clone() + &known.replace(&format!(":{port} "), ":2200 "),
        );
        let other = "AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";
        let changed = hosts_file(
            "changed_hosts",
            format!("[127.0.0.1]:{port} ssh-ed25519 {other}\n"),
        );
        let nobody = hosts_file("no_hosts", String::new());

        let good = preflight::host(node, &asks);
        let with = |changes: Value| {
            let mut host = good.clone();
            change(&mut host, &changes);
            host
        };
        let jump = format!("{both} -o ProxyJump=root@127.0.0.1:{port}");
        let inside = |more: Value| {
            let mut host = with(json!({
                "ansible_port": 2200, "ansible_user": "asked", "ansible_password": PASSWORD,
                "ansible_ssh_common_args": jump, "ansible_become": true, "ansible_become_password": PASSWORD,
            }));
            change(&mut host, &more);
            host
        };
        let key = |name: &str| dir.join(name).display().to_string();
        let expected: Vec<(&str, Value, Comes)> = vec![
            ("good", good.clone(), Verdicts),
            (
                "agent",
                with(json!({"ansible_ssh_private_key_file": null})),
                Verdicts,
            ),
            (
                "locked",
                with(
                    json!({"ansible_ssh_private_key_file": key("locked"), "ansible_private_key_passphrase": PASSWORD}),
                ),
                Verdicts,
            ),
            (
                "locked-no-passphrase",
                with(json!({"ansible_ssh_private_key_file": key("locked")})),
                Line(&["refused to log us in", "--ask-key-passphrase"]),
            ),
            (
                "locked-wrong-passphrase",
                with(
                    json!({"ansible_ssh_private_key_file": key("locked"), "ansible_private_key_passphrase": "x"}),
                ),
                Line(&["cannot be read with this passphrase"]),
            ),
            ("jump-password-sudo", inside(json!({})), Verdicts),
            (
                "wrong-password",
                inside(json!({"ansible_password": "guess"})),
                Line(&[
                    "asked@127.0.0.1:2200 refused to log us in",
                    "password: refused",
                ]),
            ),
            (
                "wrong-sudo-password",
                inside(json!({"ansible_become_password": "guess"})),
                Line(&["no root rights through sudo", "did not take the password"]),
            ),
            (
                "sudo-wants-password",
                inside(json!({"ansible_become_password": null})),
                Line(&["no root rights through sudo", "--ask-become-pass"]),
            ),
            (
                "sudo-free",
                with(json!({"ansible_user": "free", "ansible_become": true})),
                Verdicts,
            ),
            (
                "no-sudo",
                with(
                    json!({"ansible_user": "outsider", "ansible_become": true, "ansible_become_password": PASSWORD}),
                ),
                Line(&["no root rights through sudo", "not in the sudoers file"]),
            ),
            (
                "wrong-key",
                with(json!({"ansible_ssh_private_key_file": key("stranger")})),
                Line(&["refused to log us in", "stranger: refused"]),
            ),
            (
                "changed-host-key",
                with(json!({"ansible_ssh_common_args": changed})),
                Line(&["CHANGED", "changed_hosts:1", "ssh-keygen -R"]),
            ),
            (
                "unknown-host-key",
                with(json!({"ansible_ssh_common_args": nobody})),
                Line(&["is not known", "SHA256:", "--accept-new-host-keys"]),
            ),
            (
                "down",
                with(json!({"ansible_port": closed_port()})),
                Line(&["cannot connect"]),
            ),
            (
                "silent",
                with(json!({"ansible_port": silent.local_addr().unwrap().port()})),
                Line(&["no answer within", "SSH handshake"]),
            ),
            (
                "dead-jump-host",
                with(
                    json!({"ansible_ssh_common_args": format!("-J root@127.0.0.1:{}", closed_port())}),
                ),
                Line(&["jump host root@127.0.0.1", "cannot connect"]),
            ),
            (
                "dead-behind-jump-host",
                inside(json!({"ansible_port": 2201})),
                Line(&["jump host root@127.0.0.1", "cannot reach 127.0.0.1:2201"]),
            ),
            (
                "hangs",
                with(json!({"ansible_user": "hangs"})),
                Line(&["no answer within 45 s while running the probe"]),
            ),
            (
                "full-disk",
                with(json!({"ansible_user": "full"})),
                Line(&["no place on the node for the probe", "/tmp: full"]),
            ),
            (
                "garbage",
                with(json!({"ansible_user": "garbage"})),
                Verdicts,
            ),
            ("mistyped", with(json!({"ansible_prot": 22})), Verdicts),
            (
                "asks-nonsense",
                with(json!({"edgevirt_requirements": {"hugepags": []}})),
                Line(&["inventory.json:", "edgevirt_requirements", "hugepags"]),
            ),
        ];
        let hosts: Vec<(&str, Value)> = expected
            .iter()
            .map(|(name, host, _)| (*name, host.clone()))
            .collect();
        let start = Instant::now();
        let report = preflight::run_with(
            dir,
            &hosts,
            // All of them are one sshd, which drops some of more than ten that have not logged in.
            &["--timeout", TIMEOUT, "--forks", "8", "--skip", "kvm.run"],
            &[
                ("SSH_AUTH_SOCK", agent.socket.as_os_str()),
                ("HOME", dir.as_os_str()),
            ],
        );
        assert!(
            start.elapsed() < Duration::from_secs(90),
            "{:?}",
            start.elapsed()
        );
        assert_eq!(report.code, Some(3), "{}", report.stderr);
        let mut wrong = Vec::new();
        for (name, _, comes) in &expected {
            let said = report.node(name);
            let error = said["error"].as_str().unwrap_or_default();
            match comes {
                Verdicts if error.is_empty() && !report.verdicts(name).is_empty() => {}
                Verdicts => wrong.push(format!("{name}: expected verdicts, found {error:?}")),
                Line(words) => {
                    let missing: Vec<_> = words.iter().filter(|w| !error.contains(**w)).collect();
                    if !missing.is_empty() || error.contains('\n') || error.contains(PASSWORD) {
                        wrong.push(format!("{name}: expected {missing:?} in {error:?}"));
                    }
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}\n{}", report.stderr);
        let warned = report.stderr.lines().any(|line| {
            line.contains("inventory.json:") && line.contains("ansible_prot is not a variable")
        });
        assert!(warned, "{}", report.stderr);

        // Noise is never taken for a fact, and what could not be read is named.
        let garbage = report.worst("garbage");
        for check in ["cpu.virt", "resources", "swap"] {
            assert_ne!(
                garbage.get(check),
                Some(&hardware::Status::Pass),
                "{check}: {:#?}",
                report.verdicts("garbage")
            );
        }
        let unread = report.node("garbage")["facts"]["unread"].to_string();
        for file in [
            "/proc/cpuinfo",
            "/proc/meminfo",
            "/proc/swaps",
            "sriov_totalvfs",
        ] {
            assert!(unread.contains(file), "{file}: {unread}");
        }
        // Nothing of ours stays on the node, also where the probe was stopped.
        testkit::eventually_within(Duration::from_secs(20), "the node is clean", || {
            let left = node
                .ssh("ls -d /tmp/.edgevirt.* /run/.edgevirt.* 2>/dev/null")
                .stdout;
            match left.is_empty() {
                true => Ok(()),
                false => Err(left),
            }
        });
    });
    drop(testbed);
}

/// Sets these variables of a host; null takes one away.
fn change(host: &mut Value, changes: &Value) {
    let host = host.as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => host.remove(name),
            value => host.insert(name.clone(), value.clone()),
        };
    }
}

fn prepare(node: &EdgeNode, public: &str) {
    let quoted = PASSWORD.replace('\'', r"'\''");
    let script = format!("public=/run/public; cat >$public; password='{quoted}'\n{PREPARE}");
    let said = node.ssh_with(&script, Some(public));
    assert!(said.ok, "{}", said.stderr);
}
