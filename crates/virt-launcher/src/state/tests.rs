//! Lives of guests: told one by one, and made up by proptest against a model of
//! QEMU that obeys, refuses, dies and answers late.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::needless_pass_by_value
)]

use super::*;
use proptest::prelude::*;

fn ticket(request: u64) -> Ticket {
    Ticket {
        connection: 1,
        request,
    }
}

fn sync(patch: serde_json::Value) -> Op {
    let vmi = serde_json::from_value(serde_json::json!({"spec": patch})).unwrap();
    Op::Sync(Box::new(Sync {
        vmi,
        ..Sync::default()
    }))
}

/// The words of the actions, for short tables.
fn words(actions: &[Action]) -> Vec<String> {
    actions
        .iter()
        .map(|action| match action {
            Action::Prepare(_) => "prepare".to_owned(),
            Action::HurryHelpers => "hurry".to_owned(),
            Action::Launch => "launch".to_owned(),
            Action::Command(command, None) => format!("{command:?}"),
            Action::Command(command, Some(t)) => format!("{command:?} for {}", t.request),
            Action::AgentReboot(_) => "agent reboot".to_owned(),
            Action::AskAgent => "ask".to_owned(),
            Action::ForgetAgent => "forget".to_owned(),
            Action::Reply(t, Ok(())) => format!("reply {}", t.request),
            Action::Reply(t, Err(_)) => format!("refuse {}", t.request),
            Action::Arm(timer, after) => format!("arm {timer:?} {}", after.as_secs()),
            Action::Disarm(timer) => format!("disarm {timer:?}"),
            Action::Kill => "kill".to_owned(),
            Action::Publish(state) => format!("{:?}", state.phase),
            Action::Exit(code) => format!("exit {code}"),
        })
        .collect()
}

fn up() -> Input {
    Input::Up {
        machine_type: "pc-q35-10.0".to_owned(),
    }
}

fn exit(status: &str) -> Input {
    Input::Exited(Exit {
        status: status.to_owned(),
        stderr: "qemu: oops".to_owned(),
    })
}

fn shutdown(guest: bool) -> Input {
    Input::Event(Event::Shutdown {
        guest,
        panicked: false,
    })
}

/// A guest that runs.
fn running() -> Guest {
    let mut guest = Guest::new(None);
    guest.handle(Input::Request(ticket(1), sync(serde_json::json!({}))));
    guest.handle(Input::Prepared(Ok(Ready::default())));
    guest.handle(up());
    guest.handle(Input::Event(Event::Resume));
    assert_eq!(guest.state().phase, DomainPhase::Running);
    guest
}

#[test]
fn an_image_that_another_guest_has_is_told_by_its_volume() {
    let said = "qemu-system-x86_64: -blockdev {}: Failed to get \"write\" lock\nIs another process using the image [/dev/fdset/2]?";
    let mut guest = Guest::new(None);
    guest.handle(Input::Request(ticket(1), sync(serde_json::json!({}))));
    let disk = |name: &str| (name.to_owned(), "vda".to_owned(), 1);
    guest.handle(Input::Prepared(Ok(Ready {
        disks: vec![disk("seed"), disk("root")],
    })));
    guest.handle(Input::Exited(Exit {
        status: "exit code 1".to_owned(),
        stderr: said.to_owned(),
    }));
    let state = guest.state();
    assert_eq!(state.phase, DomainPhase::StartFailed);
    assert!(
        state
            .message
            .contains("image of volume root is in use by another virtual machine"),
        "{}",
        state.message
    );
}

#[test]
fn a_guest_starts_runs_and_shuts_down() {
    let mut guest = Guest::new(Some(7));
    let steps = [
        (
            Input::Request(ticket(1), sync(serde_json::json!({}))),
            vec!["Starting", "prepare", "reply 1"],
        ),
        (Input::Prepared(Ok(Ready::default())), vec!["launch"]),
        (up(), vec!["Starting", "Cont"]),
        (Input::Done(Command::Cont, None, Ok(())), vec![]),
        (Input::Event(Event::Resume), vec!["Running"]),
        (
            Input::Request(ticket(2), sync(serde_json::json!({}))),
            vec!["reply 2"],
        ),
        (Input::Request(ticket(3), Op::Pause), vec!["Stop for 3"]),
        (Input::Event(Event::Stop), vec!["Paused"]),
        (
            Input::Done(Command::Stop, Some(ticket(3)), Ok(())),
            vec!["reply 3"],
        ),
        (
            Input::Terminate,
            vec!["ShuttingDown", "Cont", "Powerdown", "arm Grace 7"],
        ),
        (Input::Event(Event::Resume), vec![]),
        (shutdown(true), vec![]),
        (exit("exit code 0"), vec!["Shutdown", "exit 0"]),
        (Input::Request(ticket(4), Op::Pause), vec!["refuse 4"]),
        (
            Input::Request(
                ticket(5),
                Op::Shutdown {
                    grace_seconds: None,
                },
            ),
            vec!["reply 5"],
        ),
    ];
    for (i, (input, expected)) in steps.into_iter().enumerate() {
        assert_eq!(words(&guest.handle(input)), expected, "step {i}");
    }
}

#[test]
fn a_guest_that_ignores_the_button_is_killed_after_the_grace_period() {
    let mut guest = running();
    let ask = Op::Shutdown {
        grace_seconds: Some(5),
    };
    let actions = guest.handle(Input::Request(ticket(2), ask));
    assert_eq!(
        words(&actions),
        ["ShuttingDown", "Powerdown", "arm Grace 5", "reply 2"]
    );
    let actions = guest.handle(Input::Deadline(Timer::Grace));
    assert_eq!(words(&actions), ["kill"]);
    let actions = guest.handle(exit("signal 9"));
    assert_eq!(words(&actions), ["Killed", "exit 0"]);
}

#[test]
fn no_grace_kills_at_once() {
    let mut guest = running();
    let ask = Op::Shutdown {
        grace_seconds: Some(0),
    };
    assert_eq!(
        words(&guest.handle(Input::Request(ticket(2), ask))),
        ["kill", "reply 2"]
    );
}

#[test]
fn what_ends_without_a_word_crashed_or_never_started() {
    let mut guest = running();
    assert_eq!(
        words(&guest.handle(exit("signal 11"))),
        ["Crashed", "exit 1"]
    );
    assert_eq!(
        guest.state().message,
        "QEMU ended with signal 11: qemu: oops"
    );

    let mut guest = Guest::new(None);
    guest.handle(Input::Request(ticket(1), sync(serde_json::json!({}))));
    guest.handle(Input::Prepared(Ok(Ready::default())));
    assert_eq!(
        words(&guest.handle(exit("exit code 1"))),
        ["StartFailed", "exit 1"]
    );

    let mut guest = Guest::new(None);
    guest.handle(Input::Request(ticket(1), sync(serde_json::json!({}))));
    let failed = Input::Prepared(Err("no image".to_owned()));
    assert_eq!(words(&guest.handle(failed)), ["StartFailed", "exit 1"]);
    assert_eq!(guest.state().message, "no image");
}

#[test]
fn a_refused_setup_command_kills_and_tells_why() {
    let mut guest = Guest::new(None);
    guest.handle(Input::Request(ticket(1), sync(serde_json::json!({}))));
    guest.handle(Input::Prepared(Ok(Ready::default())));
    let failed = Input::BringUpFailed("QEMU refused set_link: no".to_owned());
    assert_eq!(words(&guest.handle(failed)), ["Starting", "kill"]);
    guest.handle(exit("signal 9"));
    assert_eq!(guest.state().phase, DomainPhase::StartFailed);
    assert!(guest.state().message.starts_with("QEMU refused set_link"));
}

#[test]
fn a_paused_start_waits_for_unpause() {
    let mut guest = Guest::new(None);
    let spec = serde_json::json!({"startStrategy": "Paused"});
    guest.handle(Input::Request(ticket(1), sync(spec)));
    guest.handle(Input::Prepared(Ok(Ready::default())));
    assert_eq!(words(&guest.handle(up())), ["Paused"]);
    assert_eq!(
        words(&guest.handle(Input::Request(ticket(2), Op::Unpause))),
        ["Cont for 2"]
    );
    assert_eq!(
        words(&guest.handle(Input::Event(Event::Resume))),
        ["Running"]
    );
}

#[test]
fn a_guest_that_panics_crashes() {
    let mut guest = running();
    assert_eq!(
        words(&guest.handle(Input::Event(Event::Panicked))),
        ["Running", "kill"]
    );
    assert_eq!(
        words(&guest.handle(exit("signal 9"))),
        ["Crashed", "exit 1"]
    );
}

#[test]
fn a_soft_reboot_without_agent_resets_after_the_guests_shutdown() {
    let mut guest = running();
    assert_eq!(
        words(&guest.handle(Input::Request(ticket(2), Op::SoftReboot))),
        ["HoldOnShutdown", "Powerdown for 2", "arm SoftReboot 120"]
    );
    assert_eq!(
        words(&guest.handle(shutdown(true))),
        ["ExitOnShutdown", "disarm SoftReboot", "Reset", "Cont"]
    );
    assert!(guest.handle(Input::Event(Event::Stop)).is_empty());
    guest.handle(Input::Event(Event::Resume));
    assert_eq!(guest.state().phase, DomainPhase::Running);
    guest.handle(shutdown(true));
    assert_eq!(
        words(&guest.handle(exit("exit code 0"))),
        ["Shutdown", "exit 0"]
    );
}

#[test]
fn a_soft_reboot_goes_through_the_agent_when_it_answers() {
    let mut guest = running();
    assert_eq!(
        words(&guest.handle(Input::Event(Event::AgentPort(true)))),
        ["ask"]
    );
    guest.handle(Input::Agent(Some(Box::default())));
    assert!(guest.state().agent_connected);
    assert_eq!(
        words(&guest.handle(Input::Request(ticket(2), Op::SoftReboot))),
        ["agent reboot"]
    );
    assert_eq!(
        words(&guest.handle(Input::Event(Event::AgentPort(false)))),
        ["Running", "forget"]
    );
}

#[test]
fn a_stop_before_the_start_ends_at_once() {
    let mut guest = Guest::new(None);
    assert_eq!(words(&guest.handle(Input::Terminate)), ["Killed", "exit 0"]);
}

#[test]
fn a_full_disk_pauses_the_guest_and_says_so() {
    let mut guest = running();
    guest.handle(Input::Event(Event::DiskFull));
    guest.handle(Input::Event(Event::Stop));
    assert_eq!(guest.state().phase, DomainPhase::Paused);
    assert!(guest.state().message.contains("full"));
    guest.handle(Input::Event(Event::Resume));
    assert!(guest.state().message.is_empty());
}

/// What happens in a made-up life.
#[derive(Clone, Debug)]
enum Happens {
    Sync(bool),
    Pause,
    Unpause,
    Reset,
    SoftReboot,
    Shutdown(Option<i64>),
    Terminate,
    Progress,
    Deadline(bool),
    GuestOff,
    GuestPanics,
    QemuDies,
    Agent(bool),
    AgentAnswers(bool),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        2 => any::<bool>().prop_map(Happens::Sync),
        1 => Just(Happens::Pause),
        1 => Just(Happens::Unpause),
        1 => Just(Happens::Reset),
        1 => Just(Happens::SoftReboot),
        1 => prop_oneof![Just(None), Just(Some(0)), Just(Some(9)), Just(Some(-1))]
            .prop_map(Happens::Shutdown),
        1 => Just(Happens::Terminate),
        8 => Just(Happens::Progress),
        1 => any::<bool>().prop_map(Happens::Deadline),
        1 => Just(Happens::GuestOff),
        1 => Just(Happens::GuestPanics),
        1 => Just(Happens::QemuDies),
        1 => any::<bool>().prop_map(Happens::Agent),
        1 => any::<bool>().prop_map(Happens::AgentAnswers),
    ]
}

/// QEMU and the driver as far as the state machine can tell.
#[derive(Default)]
struct Model {
    pending: std::collections::VecDeque<Input>,
    asked: Vec<u64>,
    answered: Vec<u64>,
    alive: bool,
    stopped: bool,
    hold: bool,
    off: bool,
    launches: u32,
    exits: Vec<u8>,
    phases: Vec<DomainPhase>,
}

impl Model {
    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            assert!(self.exits.is_empty() || matches!(action, Action::Reply(..)));
            match action {
                Action::Prepare(_) => self
                    .pending
                    .push_back(Input::Prepared(Ok(Ready::default()))),
                Action::Launch => {
                    self.launches += 1;
                    self.alive = true;
                    self.stopped = true;
                    self.pending.push_back(up());
                }
                Action::Command(command, ticket) => self.command(command, ticket),
                Action::AgentReboot(ticket) => self.answered.push(ticket.request),
                Action::Reply(ticket, _) => self.answered.push(ticket.request),
                Action::Kill => self.die(false),
                Action::Publish(state) => self.phases.push(state.phase),
                Action::Exit(code) => {
                    assert!(!self.alive, "it leaves a QEMU behind");
                    self.exits.push(code);
                }
                Action::HurryHelpers
                | Action::AskAgent
                | Action::ForgetAgent
                | Action::Arm(..)
                | Action::Disarm(_) => {}
            }
        }
    }

    fn command(&mut self, command: Command, ticket: Option<Ticket>) {
        assert!(self.launches > 0, "a command before the launch");
        if !self.alive {
            // The driver would refuse; QEMU's end is on its way.
            let gone = Err("gone".to_owned());
            return self.pending.push_back(Input::Done(command, ticket, gone));
        }
        match command {
            Command::Stop if !self.stopped => {
                self.stopped = true;
                self.pending.push_back(Input::Event(Event::Stop));
            }
            Command::Cont if self.stopped && !self.off => {
                self.stopped = false;
                self.pending.push_back(Input::Event(Event::Resume));
            }
            Command::Reset => self.off = false,
            Command::HoldOnShutdown => self.hold = true,
            Command::ExitOnShutdown => self.hold = false,
            _ => {}
        }
        self.pending.push_back(Input::Done(command, ticket, Ok(())));
    }

    fn die(&mut self, said: bool) {
        if said {
            self.pending.push_back(shutdown(true));
        }
        if std::mem::take(&mut self.alive) || self.launches == 0 {
            self.pending.push_back(exit("signal 9"));
        }
    }

    fn input(&mut self, happens: Happens, serial: u64) -> Option<Input> {
        let mut ask = |op| {
            self.asked.push(serial);
            Some(Input::Request(ticket(serial), op))
        };
        match happens {
            Happens::Sync(paused) => {
                let strategy = if paused { "Paused" } else { "" };
                ask(sync(serde_json::json!({"startStrategy": strategy})))
            }
            Happens::Pause => ask(Op::Pause),
            Happens::Unpause => ask(Op::Unpause),
            Happens::Reset => ask(Op::Reset),
            Happens::SoftReboot => ask(Op::SoftReboot),
            Happens::Shutdown(grace_seconds) => ask(Op::Shutdown { grace_seconds }),
            Happens::Terminate => Some(Input::Terminate),
            Happens::Progress => self.pending.pop_front(),
            Happens::Deadline(true) => Some(Input::Deadline(Timer::Grace)),
            Happens::Deadline(false) => Some(Input::Deadline(Timer::SoftReboot)),
            Happens::GuestOff if self.alive && !self.stopped => {
                if self.hold {
                    self.off = true;
                    self.stopped = true;
                    self.pending.push_back(shutdown(true));
                    self.pending.push_back(Input::Event(Event::Stop));
                } else {
                    self.die(true);
                }
                None
            }
            Happens::GuestPanics if self.alive => Some(Input::Event(Event::Panicked)),
            Happens::QemuDies if self.alive => {
                self.die(false);
                None
            }
            Happens::Agent(open) if self.alive => Some(Input::Event(Event::AgentPort(open))),
            Happens::AgentAnswers(yes) if self.alive => Some(Input::Agent(yes.then(Box::default))),
            _ => None,
        }
    }
}

/// Edges of the drawing at the head of the module.
fn is_edge(from: DomainPhase, to: DomainPhase) -> bool {
    use DomainPhase::*;
    match from {
        Waiting => matches!(to, Starting | Killed),
        Starting => !matches!(to, Waiting | ShuttingDown) || to == ShuttingDown,
        Running | Paused | ShuttingDown => {
            matches!(
                to,
                Running | Paused | ShuttingDown | Shutdown | Killed | Crashed
            ) && !(from == ShuttingDown && matches!(to, Running | Paused))
        }
        _ => false,
    }
}

proptest! {
    /// Whatever happens: no illegal edge, no command to a QEMU that was never
    /// started, one launch, one exit, every request answered once.
    #[test]
    fn every_life_is_legal(life in proptest::collection::vec(happens(), 1..80)) {
        let mut guest = Guest::new(Some(3));
        let mut model = Model::default();
        let mut serial = 0;
        let mut step = |model: &mut Model, input: Input| {
            let before = guest.state().phase;
            let actions = guest.handle(input);
            let after = guest.state().phase;
            assert!(before == after || is_edge(before, after), "{before:?} -> {after:?}");
            model.perform(actions);
        };
        for happens in life {
            serial += 1;
            if let Some(input) = model.input(happens, serial) {
                step(&mut model, input);
            }
        }
        // Then everybody loses patience: it must come to an end.
        for input in [Input::Terminate, Input::Deadline(Timer::Grace)] {
            while let Some(pending) = model.pending.pop_front() {
                step(&mut model, pending);
            }
            step(&mut model, input);
        }
        while let Some(pending) = model.pending.pop_front() {
            step(&mut model, pending);
        }
        prop_assert!(guest.state().phase.is_final(), "{:?}", guest.state());
        prop_assert_eq!(model.exits.len(), 1);
        prop_assert!(model.launches <= 1);
        model.asked.sort_unstable();
        model.answered.sort_unstable();
        prop_assert_eq!(model.asked, model.answered);
    }
}
