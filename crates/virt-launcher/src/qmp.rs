//! QEMU's monitor protocol: what is sent, what comes, and which is which.
//!
//! ```text
//!   QEMU                     launcher
//!   greeting  ------------->
//!             <-------------  qmp_capabilities, setup commands, qom-get type
//!   returns   ------------->  Up
//!             <-------------  cont, stop, system_powerdown …
//!   returns, events ------->
//! ```
//! Commands are told from one another by `id`, so events may come in between.
//! Source: QEMU, docs/interop/qmp-spec.rst and qapi/.

use std::collections::HashMap;

use machine::qemu::Setup;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::state::{Command, Event, Input, Ticket};

/// Longest line taken from QEMU, bytes.
pub(crate) const MAX_LINE: usize = 1 << 20;

/// A line from QEMU.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Line {
    #[serde(rename = "QMP")]
    greeting: Option<Value>,
    #[serde(rename = "return")]
    returned: Option<Value>,
    error: Option<ErrorBody>,
    id: Option<u64>,
    event: Option<String>,
    data: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ErrorBody {
    desc: String,
}

/// What a command was for.
#[derive(Debug)]
enum Pending {
    Setup(&'static str),
    MachineType,
    Command(Command, Option<Ticket>),
}

/// The conversation with one QEMU.
#[derive(Debug)]
pub(crate) struct Monitor {
    setup: Vec<Setup>,
    pending: HashMap<u64, Pending>,
    next: u64,
}

impl Monitor {
    /// A conversation that begins with these commands.
    pub(crate) fn new(setup: Vec<Setup>) -> Self {
        Self {
            setup,
            pending: HashMap::new(),
            next: 0,
        }
    }

    /// The line that gives a command.
    pub(crate) fn command(&mut self, command: Command, ticket: Option<Ticket>) -> String {
        let (name, arguments) = match command {
            Command::Stop => ("stop", Value::Null),
            Command::Cont => ("cont", Value::Null),
            Command::Powerdown => ("system_powerdown", Value::Null),
            Command::Reset => ("system_reset", Value::Null),
            Command::HoldOnShutdown => ("set-action", json!({"shutdown": "pause"})),
            Command::ExitOnShutdown => ("set-action", json!({"shutdown": "poweroff"})),
        };
        self.line(name, arguments, Pending::Command(command, ticket))
    }

    /// Takes in a line: lines to send in answer, and what it means.
    pub(crate) fn receive(&mut self, line: &[u8]) -> (Vec<String>, Vec<Input>) {
        let Ok(line) = serde_json::from_slice::<Line>(line) else {
            return (Vec::new(), Vec::new());
        };
        if line.greeting.is_some() {
            return (self.hello(), Vec::new());
        }
        if let Some(event) = &line.event {
            let input = event_of(event, &line.data).map(Input::Event);
            return (Vec::new(), input.into_iter().collect());
        }
        let Some(pending) = line.id.and_then(|id| self.pending.remove(&id)) else {
            return (Vec::new(), Vec::new());
        };
        let result = match (line.returned, line.error) {
            (_, Some(error)) => Err(error.desc),
            (value, None) => Ok(value.unwrap_or_default()),
        };
        (Vec::new(), meaning(pending, result).into_iter().collect())
    }

    /// QEMU is gone: what was asked of it and not answered has failed.
    pub(crate) fn hang_up(&mut self) -> Vec<Input> {
        let pending = self.pending.drain();
        let gone = || Err("QEMU ended before it answered".to_owned());
        pending
            .filter_map(|(_, pending)| match pending {
                Pending::Command(command, Some(ticket)) => {
                    Some(Input::Done(command, Some(ticket), gone()))
                }
                _ => None,
            })
            .collect()
    }

    fn hello(&mut self) -> Vec<String> {
        let mut lines = vec![self.line(
            "qmp_capabilities",
            Value::Null,
            Pending::Setup("qmp_capabilities"),
        )];
        for setup in std::mem::take(&mut self.setup) {
            lines.push(self.line(
                setup.command,
                setup.arguments,
                Pending::Setup(setup.command),
            ));
        }
        lines.push(self.line(
            "qom-get",
            json!({"path": "/machine", "property": "type"}),
            Pending::MachineType,
        ));
        lines
    }

    fn line(&mut self, name: &str, arguments: Value, pending: Pending) -> String {
        self.next += 1;
        self.pending.insert(self.next, pending);
        let mut command = json!({"execute": name, "id": self.next});
        if !arguments.is_null() {
            command["arguments"] = arguments;
        }
        format!("{command}\n")
    }
}

fn meaning(pending: Pending, result: Result<Value, String>) -> Option<Input> {
    match (pending, result) {
        (Pending::Setup(_), Ok(_)) => None,
        (Pending::Setup(name), Err(why)) => {
            Some(Input::BringUpFailed(format!("QEMU refused {name}: {why}")))
        }
        (Pending::MachineType, result) => {
            let type_ = result.ok().and_then(|v| v.as_str().map(str::to_owned));
            let type_ = type_.unwrap_or_default();
            Some(Input::Up {
                machine_type: type_.strip_suffix("-machine").unwrap_or(&type_).to_owned(),
            })
        }
        (Pending::Command(command, ticket), result) => {
            Some(Input::Done(command, ticket, result.map(|_| ())))
        }
    }
}

/// The events that matter; the others are none of the launcher's business.
fn event_of(name: &str, data: &Value) -> Option<Event> {
    Some(match name {
        "SHUTDOWN" => Event::Shutdown {
            guest: data["guest"].as_bool().unwrap_or(false),
            panicked: data["reason"].as_str() == Some("guest-panic"),
        },
        "RESET" => Event::Reset,
        "STOP" => Event::Stop,
        "RESUME" => Event::Resume,
        "GUEST_PANICKED" => Event::Panicked,
        "WATCHDOG" if data["action"].as_str() == Some("poweroff") => Event::WatchdogPoweroff,
        "BLOCK_IO_ERROR" if data["nospace"].as_bool() == Some(true) => Event::DiskFull,
        "VSERPORT_CHANGE" if data["id"].as_str() == Some("channel0") => {
            Event::AgentPort(data["open"].as_bool().unwrap_or(false))
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn the_greeting_is_answered_with_setup_and_the_type_means_up() {
        let mut monitor = Monitor::new(vec![Setup {
            command: "set_link",
            arguments: json!({"name": "net0", "up": false}),
        }]);
        let (lines, inputs) = monitor.receive(br#"{"QMP": {"version": {}, "capabilities": []}}"#);
        assert!(inputs.is_empty());
        assert_eq!(lines.len(), 3);
        assert!(lines[1].contains("set_link"));
        for id in 1..=2 {
            let line = format!(r#"{{"return": {{}}, "id": {id}}}"#);
            assert!(monitor.receive(line.as_bytes()).1.is_empty());
        }
        let (_, inputs) = monitor.receive(br#"{"return": "pc-q35-10.0-machine", "id": 3}"#);
        let [Input::Up { machine_type }] = inputs.as_slice() else {
            panic!("{inputs:?}");
        };
        assert_eq!(machine_type, "pc-q35-10.0");
    }

    #[test]
    fn a_refused_setup_command_fails_the_start() {
        let mut monitor = Monitor::new(Vec::new());
        monitor.receive(br#"{"QMP": {}}"#);
        let (_, inputs) =
            monitor.receive(br#"{"error": {"class": "GenericError", "desc": "no"}, "id": 1}"#);
        assert!(matches!(inputs.as_slice(), [Input::BringUpFailed(_)]));
    }

    #[test]
    fn events_are_told_apart_and_noise_is_ignored() {
        let cases: [(&str, Option<Event>); 6] = [
            (
                r#"{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}}"#,
                Some(Event::Shutdown {
                    guest: true,
                    panicked: false,
                }),
            ),
            (r#"{"event": "STOP"}"#, Some(Event::Stop)),
            (
                r#"{"event": "VSERPORT_CHANGE", "data": {"open": true, "id": "channel0"}}"#,
                Some(Event::AgentPort(true)),
            ),
            (
                r#"{"event": "BLOCK_IO_ERROR", "data": {"nospace": true}}"#,
                Some(Event::DiskFull),
            ),
            (r#"{"event": "RTC_CHANGE", "data": {"offset": 0}}"#, None),
            ("not json", None),
        ];
        for (line, expected) in cases {
            let (_, inputs) = Monitor::new(Vec::new()).receive(line.as_bytes());
            match (inputs.as_slice(), expected) {
                ([], None) => {}
                ([Input::Event(event)], Some(expected)) => assert_eq!(*event, expected),
                other => panic!("{line}: {other:?}"),
            }
        }
    }
}
