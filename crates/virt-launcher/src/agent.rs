//! The guest agent: what the guest tells about itself.
//!
//! The guest may say anything, so answers are bounded in length, number and
//! time, and are data only. It is asked when it opens its port, once more soon
//! after (addresses come late), and then rarely: an idle guest costs nothing.
//! Source of commands and members: QEMU, qga/qapi-schema.json.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::time::Duration;

use api::launcher::AgentInfo;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use crate::lines;

/// Longest answer, bytes.
const MAX_ANSWER: usize = 256 << 10;
/// Longest text taken from an answer, bytes.
const MAX_TEXT: usize = 256;
/// Most interfaces, and most addresses of one.
const MAX_ITEMS: usize = 64;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// When it is asked again after the first time.
const SOON: Duration = Duration::from_secs(10);
/// How often it is asked then.
const RARELY: Duration = Duration::from_secs(300);

/// What is wanted of the agent.
#[derive(Debug)]
pub(crate) enum Wish {
    /// Ask now, and from time to time.
    Ask,
    /// The port closed: ask no more.
    Forget,
    /// Reboot the guest.
    Reboot(oneshot::Sender<Result<(), String>>),
}

/// Serves wishes for as long as somebody may have one; tells what the agent
/// answers, or `None` when it does not.
pub(crate) async fn run(
    socket: StdUnixStream,
    mut wishes: mpsc::UnboundedReceiver<Wish>,
    tell: impl Fn(Option<Box<AgentInfo>>),
) {
    let stream = socket
        .set_nonblocking(true)
        .and_then(|()| UnixStream::from_std(socket));
    let Ok(stream) = stream else { return };
    let mut agent = Agent {
        stream: BufReader::with_capacity(4096, stream),
        serial: 0,
    };
    let mut next: Option<(Instant, Duration)> = None;
    loop {
        let due = next.map(|(at, _)| at);
        let wish = tokio::select! {
            wish = wishes.recv() => match wish {
                Some(wish) => wish,
                None => return,
            },
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Wish::Ask,
        };
        match wish {
            Wish::Ask => {
                tell(agent.info().await.map(Box::new));
                let pause = next.map_or(SOON, |_| RARELY);
                next = Some((Instant::now() + pause, pause));
            }
            Wish::Forget => next = None,
            Wish::Reboot(reply) => {
                let _ = reply.send(agent.reboot().await);
            }
        }
    }
}

struct Agent {
    stream: BufReader<UnixStream>,
    serial: u64,
}

impl Agent {
    /// All that is asked for; `None` when the agent does not answer.
    async fn info(&mut self) -> Option<AgentInfo> {
        self.sync().await?;
        let version = self.ask("guest-info", Value::Null).await?;
        // Older or restricted agents lack some of these; what they lack stays empty.
        let os = self.ask("guest-get-osinfo", Value::Null).await;
        let host = self.ask("guest-get-host-name", Value::Null).await;
        let interfaces = self.ask("guest-network-get-interfaces", Value::Null).await;
        Some(AgentInfo {
            version: text(&version["version"]),
            hostname: text(&host.unwrap_or_default()["host-name"]),
            os: os_info(&os.unwrap_or_default()),
            interfaces: interface_list(&interfaces.unwrap_or_default()),
        })
    }

    async fn reboot(&mut self) -> Result<(), String> {
        let silent = "the guest agent does not answer".to_owned();
        self.sync().await.ok_or(silent)?;
        // Success has no answer: the guest is on its way down.
        let command = json!({"execute": "guest-shutdown", "arguments": {"mode": "reboot"}});
        self.send(&command, false)
            .await
            .ok_or_else(|| "the guest agent's channel is closed".to_owned())
    }

    /// Skips whatever an earlier agent left in the channel.
    async fn sync(&mut self) -> Option<()> {
        self.serial += 1;
        let command = json!({"execute": "guest-sync-delimited", "arguments": {"id": self.serial}});
        let work = async {
            self.send(&command, true).await?;
            let mut skipped = 0;
            loop {
                let chunk = self.stream.fill_buf().await.ok()?;
                if chunk.is_empty() || skipped > MAX_ANSWER {
                    return None;
                }
                let mark = chunk.iter().position(|b| *b == 0xff);
                let used = mark.map_or(chunk.len(), |at| at + 1);
                skipped += used;
                self.stream.consume(used);
                if mark.is_none() {
                    continue;
                }
                let answer = self.answer().await?;
                if answer.as_u64() == Some(self.serial) {
                    return Some(());
                }
            }
        };
        timeout(PATIENCE, work).await.ok().flatten()
    }

    async fn ask(&mut self, name: &str, arguments: Value) -> Option<Value> {
        let mut command = json!({"execute": name});
        if !arguments.is_null() {
            command["arguments"] = arguments;
        }
        let work = async {
            self.send(&command, false).await?;
            self.answer().await
        };
        timeout(PATIENCE, work).await.ok().flatten()
    }

    async fn send(&mut self, command: &Value, flush: bool) -> Option<()> {
        let mut bytes = Vec::new();
        if flush {
            // Makes the agent's parser forget half a command.
            bytes.push(0xff);
        }
        bytes.extend_from_slice(command.to_string().as_bytes());
        bytes.push(b'\n');
        let sent = timeout(PATIENCE, self.stream.get_mut().write_all(&bytes)).await;
        sent.ok()?.ok()
    }

    async fn answer(&mut self) -> Option<Value> {
        let line = lines::next(&mut self.stream, MAX_ANSWER).await.ok()??;
        let mut answer: Value = serde_json::from_slice(&line).ok()?;
        answer.get_mut("return").map(Value::take)
    }
}

/// A text of bounded length without control characters.
fn text(value: &Value) -> String {
    let text = value.as_str().unwrap_or_default();
    let mut out = String::new();
    for c in text.chars().filter(|c| !c.is_control()) {
        if out.len() + c.len_utf8() > MAX_TEXT {
            break;
        }
        out.push(c);
    }
    out
}

/// The members that status.guestOSInfo has, under its names.
fn os_info(os: &Value) -> BTreeMap<String, String> {
    [
        ("id", "id"),
        ("name", "name"),
        ("pretty-name", "prettyName"),
        ("version", "version"),
        ("version-id", "versionId"),
        ("kernel-release", "kernelRelease"),
        ("kernel-version", "kernelVersion"),
        ("machine", "machine"),
    ]
    .into_iter()
    .map(|(from, to)| (to.to_owned(), text(&os[from])))
    .filter(|(_, value)| !value.is_empty())
    .collect()
}

fn interface_list(answer: &Value) -> Vec<(String, String, Vec<String>)> {
    let empty = Vec::new();
    answer
        .as_array()
        .unwrap_or(&empty)
        .iter()
        .take(MAX_ITEMS)
        .map(|interface| {
            let addresses = interface["ip-addresses"]
                .as_array()
                .unwrap_or(&empty)
                .iter()
                .take(MAX_ITEMS)
                // Only what is an address gets into the status.
                .filter_map(|a| a["ip-address"].as_str()?.parse::<std::net::IpAddr>().ok())
                .map(|a| a.to_string())
                .collect();
            (
                text(&interface["name"]),
                text(&interface["hardware-address"]),
                addresses,
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn interfaces_that_lie_are_cut_to_what_is_an_address() {
        let answer = json!([{"name": "eth0\u{1b}[31m", "hardware-address": "02:00:00:00:00:01",
            "ip-addresses": [{"ip-address": "10.0.0.5"}, {"ip-address": "<script>"}, 7]}, "x"]);
        let list = interface_list(&answer);
        assert_eq!(list[0].0, "eth0[31m");
        assert_eq!(list[0].2, ["10.0.0.5"]);
        assert_eq!(list[1], (String::new(), String::new(), Vec::new()));
        assert_eq!(text(&json!("x".repeat(9999))).len(), MAX_TEXT);
    }

    #[tokio::test]
    async fn an_agent_is_asked_and_leftovers_are_skipped() {
        let (ours, theirs) = StdUnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let mut guest = BufReader::new(UnixStream::from_std(theirs).unwrap());
        let fake = async {
            guest.get_mut().write_all(b"{\"half\":").await.unwrap();
            loop {
                let Ok(Some(line)) = lines::next(&mut guest, 4096).await else {
                    return;
                };
                let line = line.strip_prefix(b"\xff").unwrap_or(&line);
                let command: Value = serde_json::from_slice(line).unwrap();
                let answer: Vec<u8> = match command["execute"].as_str().unwrap() {
                    "guest-sync-delimited" => [
                        b"\xff".as_slice(),
                        json!({"return": command["arguments"]["id"]})
                            .to_string()
                            .as_bytes(),
                    ]
                    .concat(),
                    "guest-info" => br#"{"return": {"version": "8.2"}}"#.to_vec(),
                    "guest-get-osinfo" => br#"{"return": {"id": "debian"}}"#.to_vec(),
                    _ => br#"{"error": {"class": "CommandNotFound", "desc": "no"}}"#.to_vec(),
                };
                guest.get_mut().write_all(&answer).await.unwrap();
                guest.get_mut().write_all(b"\n").await.unwrap();
            }
        };
        let (wishes, inbox) = mpsc::unbounded_channel();
        let (tell, mut told) = mpsc::unbounded_channel();
        wishes.send(Wish::Ask).unwrap();
        let info = tokio::select! {
            () = fake => None,
            () = run(ours, inbox, move |info| tell.send(info).unwrap()) => None,
            info = told.recv() => info.unwrap(),
        };
        let info = info.unwrap();
        assert_eq!(info.version, "8.2");
        assert_eq!(info.os["id"], "debian");
        assert!(info.interfaces.is_empty());
    }
}
