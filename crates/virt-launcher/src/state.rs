//! The guest's life as a pure state machine: inputs in, actions out.
//!
//! ```text
//!            Sync            Prepared           Up            unpause
//!  Waiting -------> Preparing -------> Booting ----> Running <-------> Paused
//!     |                 |                 |            |       pause      |
//!     | shutdown        | failed          | QEMU died  | shutdown         |
//!     | SIGTERM         | or stopped      |            v                  |
//!     |                 |                 |       ShuttingDown <----------+
//!     v                 v                 v            | guest off, deadline, or QEMU died
//!   Killed         StartFailed       StartFailed       v
//!                   or Killed         or Killed    Shutdown | Killed | Crashed
//! ```
//!
//! A guest that shuts itself down or dies goes from Running or Paused to
//! Shutdown or Crashed directly. A final state is left by nothing but the exit.
//!
//! The driver owns QEMU, the sockets and the clock; it turns whatever happens
//! into an [`Input`], and does each [`Action`] in order. Nothing here blocks,
//! reads a clock or touches a file.

use std::time::Duration;

use api::launcher::{AgentInfo, DomainPhase, DomainState, Op, Sync};

/// Grace period when neither the request nor the VMI names one; Kubernetes' own.
const DEFAULT_GRACE: i64 = 30;
/// A soft reboot is given up after this long: the guest ignored the button, and
/// a shutdown it makes later is its own.
const SOFT_REBOOT: Duration = Duration::from_secs(120);

/// Who asked: connection and request, to address the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    /// Connection.
    pub(crate) connection: u64,
    /// Request on that connection.
    pub(crate) request: u64,
}

/// What happened.
#[derive(Debug)]
pub(crate) enum Input {
    /// The handler asks.
    Request(Ticket, Op),
    /// Disks, network and command line are ready, or why not.
    Prepared(Result<Ready, String>),
    /// QEMU answers its monitor and waits for the word.
    Up {
        /// Versioned machine type.
        machine_type: String,
    },
    /// QEMU cannot be brought up: the program did not start, or a setup command failed.
    BringUpFailed(String),
    /// A command was carried out, or why not.
    Done(Command, Option<Ticket>, Result<(), String>),
    /// QEMU tells.
    Event(Event),
    /// QEMU is gone.
    Exited(Exit),
    /// The guest agent's answers; `None` when it does not answer.
    Agent(Option<Box<AgentInfo>>),
    /// SIGTERM: the kubelet wants the pod gone.
    Terminate,
    /// The timer that was set last ran out.
    Deadline(Timer),
}

/// What preparing found out.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    /// Volume, target, bytes.
    pub(crate) disks: Vec<(String, String, u64)>,
}

/// How QEMU ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    /// `exit code 1`, `signal 9`.
    pub(crate) status: String,
    /// The last it wrote to its standard error.
    pub(crate) stderr: String,
}

/// What QEMU tells unasked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// It is about to end, or stopped at the end when told to.
    Shutdown {
        /// The guest asked for it.
        guest: bool,
        /// Because it panicked.
        panicked: bool,
    },
    /// The guest was reset.
    Reset,
    /// vCPUs stopped.
    Stop,
    /// vCPUs run.
    Resume,
    /// The guest's kernel panicked.
    Panicked,
    /// The watchdog fired and ends QEMU.
    WatchdogPoweroff,
    /// A disk request failed for lack of space, which stops the vCPUs.
    DiskFull,
    /// The guest agent opened or closed its port.
    AgentPort(bool),
}

/// Commands to QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Stop the vCPUs.
    Stop,
    /// Let them run.
    Cont,
    /// Press the power button.
    Powerdown,
    /// Pull the reset line.
    Reset,
    /// Stay after the guest shut down.
    HoldOnShutdown,
    /// End when the guest shuts down.
    ExitOnShutdown,
}

/// Timers; setting one replaces the one of the same kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// The grace period.
    Grace,
    /// A soft reboot.
    SoftReboot,
}

/// What the driver shall do.
#[derive(Debug)]
pub(crate) enum Action {
    /// Prepare disks, network and command line, then answer with `Prepared`.
    Prepare(Box<Sync>),
    /// Wait for containerDisks' helpers a short time only from now on.
    HurryHelpers,
    /// Start QEMU, then answer with `Up` or `BringUpFailed`.
    Launch,
    /// Give QEMU a command, then answer with `Done`.
    Command(Command, Option<Ticket>),
    /// Let the guest agent reboot the guest; the driver replies.
    AgentReboot(Ticket),
    /// Ask the guest agent what it knows, then answer with `Agent`.
    AskAgent,
    /// Stop asking.
    ForgetAgent,
    /// Answer a request.
    Reply(Ticket, Result<(), String>),
    /// Set a timer.
    Arm(Timer, Duration),
    /// Stop a timer.
    Disarm(Timer),
    /// Kill QEMU at once.
    Kill,
    /// The state changed.
    Publish(DomainState),
    /// Write the state down and end with this code.
    Exit(u8),
}

/// Progress that the phase does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Waiting,
    Preparing,
    Booting,
    Up,
    Gone,
}

/// The state machine.
#[derive(Debug, Default)]
pub(crate) struct Guest {
    stage: Stage,
    state: DomainState,
    grace: i64,
    start_paused: bool,
    /// vCPUs are stopped.
    stopped: bool,
    /// Someone asked for the end.
    ending: bool,
    /// QEMU was killed on request.
    killed: bool,
    /// A soft reboot by the power button is under way.
    soft_reboot: bool,
    /// The guest shut down for a soft reboot and is being reset: stopped, not paused.
    restarting: bool,
    /// What the last words of QEMU mean for the exit.
    last_words: Option<DomainPhase>,
}

impl Guest {
    /// A guest that nobody asked for yet. `grace` is the pod's own grace period
    /// in seconds, used when the VMI has none.
    pub(crate) fn new(grace: Option<i64>) -> Self {
        Self {
            grace: grace.unwrap_or(DEFAULT_GRACE),
            ..Self::default()
        }
    }

    /// The state as others see it.
    #[cfg(test)]
    pub(crate) fn state(&self) -> &DomainState {
        &self.state
    }

    /// Takes in what happened and tells what to do about it.
    pub(crate) fn handle(&mut self, input: Input) -> Vec<Action> {
        let before = self.state.clone();
        let mut actions = Vec::new();
        match input {
            _ if self.stage == Stage::Gone => self.after_the_end(&input, &mut actions),
            Input::Request(ticket, op) => self.request(ticket, op, &mut actions),
            Input::Prepared(result) => self.prepared(result, &mut actions),
            Input::Up { machine_type } => self.up(machine_type, &mut actions),
            Input::BringUpFailed(why) => self.bring_up_failed(why, &mut actions),
            Input::Done(command, ticket, result) => {
                self.done(command, ticket, result, &mut actions);
            }
            Input::Event(event) => self.event(event, &mut actions),
            Input::Exited(exit) => self.exited(&exit, &mut actions),
            Input::Agent(info) => self.agent(info),
            Input::Terminate => self.end(self.grace, &mut actions),
            Input::Deadline(timer) => self.deadline(timer, &mut actions),
        }
        if self.state != before {
            // Seen before the reply and before the exit.
            actions.insert(0, Action::Publish(self.state.clone()));
        }
        actions
    }

    fn after_the_end(&self, input: &Input, actions: &mut Vec<Action>) {
        if let Input::Done(_, Some(ticket), result) = input {
            actions.push(Action::Reply(*ticket, result.clone()));
        }
        if let Input::Request(ticket, op) = input {
            let result = match op {
                Op::Watch | Op::ContainersStarted | Op::Shutdown { .. } => Ok(()),
                _ => Err(format!("the guest is gone: {}", self.state.message)),
            };
            actions.push(Action::Reply(*ticket, result));
        }
    }

    fn request(&mut self, ticket: Ticket, op: Op, actions: &mut Vec<Action>) {
        let running = self.stage == Stage::Up && self.last_words.is_none();
        let result = match op {
            Op::Watch => Ok(()),
            Op::ContainersStarted => {
                actions.push(Action::HurryHelpers);
                Ok(())
            }
            Op::Sync(sync) => {
                if self.stage == Stage::Waiting {
                    self.begin(sync, actions);
                }
                Ok(())
            }
            Op::Shutdown { grace_seconds } => {
                self.end(grace_seconds.unwrap_or(self.grace), actions);
                Ok(())
            }
            Op::Pause | Op::Unpause | Op::SoftReboot | Op::Reset if !running => Err(format!(
                "expected a running guest, found one that is {}",
                self.stage.word()
            )),
            Op::Pause | Op::Unpause | Op::SoftReboot if self.ending => {
                Err("expected a running guest, found one that is shutting down".to_owned())
            }
            Op::Pause => return actions.push(Action::Command(Command::Stop, Some(ticket))),
            Op::Unpause => return actions.push(Action::Command(Command::Cont, Some(ticket))),
            Op::Reset => return actions.push(Action::Command(Command::Reset, Some(ticket))),
            Op::SoftReboot if self.stopped => {
                Err("expected a running guest, found one that is paused".to_owned())
            }
            Op::SoftReboot if self.state.agent_connected => {
                return actions.push(Action::AgentReboot(ticket));
            }
            Op::SoftReboot => {
                // Without an agent: press the button, and when the guest has shut
                // down, reset it instead of letting QEMU end.
                self.soft_reboot = true;
                actions.push(Action::Command(Command::HoldOnShutdown, None));
                actions.push(Action::Command(Command::Powerdown, Some(ticket)));
                return actions.push(Action::Arm(Timer::SoftReboot, SOFT_REBOOT));
            }
        };
        actions.push(Action::Reply(ticket, result));
    }

    fn begin(&mut self, sync: Box<Sync>, actions: &mut Vec<Action>) {
        let spec = &sync.vmi.spec;
        if let Some(seconds) = spec.termination_grace_period_seconds {
            self.grace = seconds;
        }
        self.start_paused = spec.start_strategy.as_deref() == Some("Paused");
        self.stage = Stage::Preparing;
        self.state.phase = DomainPhase::Starting;
        actions.push(Action::Prepare(sync));
    }

    fn prepared(&mut self, result: Result<Ready, String>, actions: &mut Vec<Action>) {
        match result {
            Ok(ready) => {
                self.state.disks = ready.disks;
                self.stage = Stage::Booting;
                actions.push(Action::Launch);
            }
            Err(why) => self.finish(DomainPhase::StartFailed, why, actions),
        }
    }

    fn up(&mut self, machine_type: String, actions: &mut Vec<Action>) {
        self.stage = Stage::Up;
        self.state.machine_type = machine_type;
        if self.start_paused {
            self.stopped = true;
            self.show();
        } else {
            actions.push(Action::Command(Command::Cont, None));
        }
    }

    fn bring_up_failed(&mut self, why: String, actions: &mut Vec<Action>) {
        if self.state.message.is_empty() {
            self.state.message = why;
        }
        // The exit that follows ends it; a program that never ran has none.
        actions.push(Action::Kill);
    }

    fn done(
        &mut self,
        command: Command,
        ticket: Option<Ticket>,
        result: Result<(), String>,
        actions: &mut Vec<Action>,
    ) {
        if let (Command::Powerdown, Err(_)) = (command, &result) {
            self.give_up_soft_reboot(actions);
        }
        if let Some(ticket) = ticket {
            actions.push(Action::Reply(ticket, result));
        } else if let (Command::Cont, Err(why)) = (command, result) {
            self.bring_up_failed(why, actions);
        }
    }

    fn event(&mut self, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::Stop if self.soft_reboot && self.last_words.is_some() => {}
            Event::Stop => {
                self.stopped = !self.restarting;
                self.show();
            }
            Event::Resume => {
                self.restarting = false;
                self.stopped = false;
                self.state.message.clear();
                self.show();
            }
            Event::Shutdown { guest, .. } if guest && self.soft_reboot && !self.ending => {
                self.give_up_soft_reboot(actions);
                self.restarting = true;
                actions.push(Action::Command(Command::Reset, None));
                actions.push(Action::Command(Command::Cont, None));
            }
            Event::Shutdown { guest, panicked } => {
                self.last_words = Some(match (guest, panicked) {
                    (_, true) => DomainPhase::Crashed,
                    (true, false) => DomainPhase::Shutdown,
                    (false, false) => DomainPhase::Killed,
                });
            }
            Event::WatchdogPoweroff => self.last_words = Some(DomainPhase::Shutdown),
            Event::Panicked => {
                self.last_words = Some(DomainPhase::Crashed);
                self.state.message = "the guest's kernel panicked".to_owned();
                actions.push(Action::Kill);
            }
            Event::DiskFull => {
                self.state.message =
                    "a disk's file system on the node is full; the guest waits".to_owned();
            }
            Event::Reset => {}
            Event::AgentPort(true) => actions.push(Action::AskAgent),
            Event::AgentPort(false) => {
                self.state.agent_connected = false;
                self.state.agent = None;
                actions.push(Action::ForgetAgent);
            }
        }
    }

    fn agent(&mut self, info: Option<Box<AgentInfo>>) {
        self.state.agent_connected = info.is_some();
        self.state.agent = info.map(|i| *i);
    }

    fn exited(&mut self, exit: &Exit, actions: &mut Vec<Action>) {
        let phase = match (self.stage, self.last_words) {
            _ if self.killed => DomainPhase::Killed,
            (_, Some(phase)) => phase,
            (Stage::Up, None) => DomainPhase::Crashed,
            _ => DomainPhase::StartFailed,
        };
        let message = match phase {
            DomainPhase::Shutdown => "the guest shut down".to_owned(),
            DomainPhase::Killed => "the guest was killed".to_owned(),
            _ => {
                let mut parts = Vec::new();
                if !self.state.message.is_empty() {
                    parts.push(self.state.message.clone());
                }
                parts.push(format!("QEMU ended with {}", exit.status));
                let said = exit.stderr.trim();
                if let Some(why) = in_use(said, &self.state.disks) {
                    parts.push(why);
                }
                if !said.is_empty() {
                    parts.push(said.to_owned());
                }
                parts.join(": ")
            }
        };
        self.finish(phase, message, actions);
    }

    /// Someone wants the guest gone within `grace` seconds.
    fn end(&mut self, grace: i64, actions: &mut Vec<Action>) {
        match self.stage {
            Stage::Gone => {}
            Stage::Waiting | Stage::Preparing => {
                let message = "stopped before the guest was started".to_owned();
                self.finish(DomainPhase::Killed, message, actions);
            }
            // Nothing in the guest listens yet, or no time is given.
            Stage::Booting => self.kill(actions),
            Stage::Up if grace <= 0 => self.kill(actions),
            Stage::Up => {
                if self.soft_reboot {
                    self.give_up_soft_reboot(actions);
                }
                // A stopped guest cannot hear the button.
                if self.stopped {
                    actions.push(Action::Command(Command::Cont, None));
                }
                actions.push(Action::Command(Command::Powerdown, None));
                // A second wish may shorten the time that is left, not begin it anew:
                // the driver keeps the earlier of two deadlines.
                let seconds = u64::try_from(grace).unwrap_or(0);
                actions.push(Action::Arm(Timer::Grace, Duration::from_secs(seconds)));
                self.ending = true;
                self.show();
            }
        }
    }

    fn kill(&mut self, actions: &mut Vec<Action>) {
        self.ending = true;
        self.killed = true;
        actions.push(Action::Kill);
    }

    fn deadline(&mut self, timer: Timer, actions: &mut Vec<Action>) {
        match timer {
            Timer::Grace if self.ending => self.kill(actions),
            Timer::Grace => {}
            Timer::SoftReboot => self.give_up_soft_reboot(actions),
        }
    }

    fn give_up_soft_reboot(&mut self, actions: &mut Vec<Action>) {
        if self.soft_reboot {
            self.soft_reboot = false;
            actions.push(Action::Command(Command::ExitOnShutdown, None));
            actions.push(Action::Disarm(Timer::SoftReboot));
        }
    }

    /// The phase that the flags amount to while QEMU is up.
    fn show(&mut self) {
        if self.stage == Stage::Up {
            self.state.phase = match (self.ending, self.stopped) {
                (true, _) => DomainPhase::ShuttingDown,
                (false, true) => DomainPhase::Paused,
                (false, false) => DomainPhase::Running,
            };
        }
    }

    fn finish(&mut self, phase: DomainPhase, message: String, actions: &mut Vec<Action>) {
        self.stage = Stage::Gone;
        self.state.phase = phase;
        self.state.message = message;
        self.state.agent_connected = false;
        let code = match phase {
            DomainPhase::Shutdown | DomainPhase::Killed => 0,
            _ => 1,
        };
        actions.push(Action::Exit(code));
    }
}

impl Stage {
    fn word(self) -> &'static str {
        match self {
            Self::Waiting => "not started",
            Self::Preparing | Self::Booting => "starting",
            Self::Up => "shutting down",
            Self::Gone => "gone",
        }
    }
}

/// The plain word for an image that another QEMU has locked. Inherited images
/// are called by the number of their disk.
fn in_use(stderr: &str, disks: &[(String, String, u64)]) -> Option<String> {
    if !(stderr.contains("Failed to get") && stderr.contains("lock")) {
        return None;
    }
    let number = stderr
        .split("/dev/fdset/")
        .nth(1)
        .map(|rest| rest.trim_start_matches('0'))
        .and_then(|rest| {
            let end = rest
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(rest.len());
            rest.get(..end)?.parse::<usize>().ok()
        });
    let volume = number
        .and_then(|number| disks.get(number.checked_sub(1)?))
        .map_or("a volume", |(name, ..)| name.as_str());
    Some(format!(
        "the disk image of volume {volume} is in use by another virtual machine or program; stop that one, or make the disk shareable in both"
    ))
}

#[cfg(test)]
mod tests;
