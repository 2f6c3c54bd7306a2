//! Does KVM really run a guest?
//!
//! That /dev/kvm is there and opens says little: under some hypervisors
//! KVM_CREATE_VM succeeds and a guest then hangs, or crawls. So small guests are
//! run, each needing more of the processor: real mode, long mode with paging at
//! the processor's speed, and a timer interrupt that wakes a halted vCPU.
//!
//! ```text
//!   parent ──fork──► child: opens /dev/kvm, runs the guests, tells its verdict
//!      │      (a line for each guest)     │ hangs in KVM_RUN?
//!      └── waits for the verdict, at most `timeout`, then kills the child
//! ```
//! A child of its own, because a vCPU that hangs in the kernel may be stopped
//! by nothing less, and must not stop us.

mod guest;
mod programs;

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use kvm_ioctls::Kvm;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// API version of every kernel since 2.6.22 (Documentation/virt/kvm/api.rst, 4.1).
const API_VERSION: i32 = 12;
/// The time limit is prolonged by the time the guests had to wait for a processor,
/// at most to this multiple of it.
const PATIENCE: u32 = 3;
/// Begins the line that the child writes before it runs a guest.
const BEGUN: &str = "run ";
/// Begins the line that it writes after a step that worked.
const DONE: &str = "done ";
/// Begins the line that names the errno of the step that failed.
const ERRNO: &str = "errno ";
/// What is tried before guests run, and the guests, in this order.
const OPEN: &str = "open";
const CREATE_VM: &str = "KVM_CREATE_VM";
const CREATE_VCPU: &str = "KVM_CREATE_VCPU";
const REAL_MODE: &str = "a real-mode guest";
const LONG_MODE: &str = "a long-mode guest";
const TIMER: &str = "a guest that waits for a timer interrupt";

/// How each step of the probe ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examination {
    /// The whole of it.
    pub verdict: KvmVerdict,
    /// What KVM_GET_API_VERSION answered.
    pub api_version: Option<i32>,
    /// errno of the step that failed, when it was a system call.
    pub errno: Option<i32>,
    done: Vec<String>,
    failed: Option<String>,
}

/// A step of an [`Examination`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// /dev/kvm opened for reading and writing.
    Open,
    /// KVM_CREATE_VM.
    CreateVm,
    /// KVM_CREATE_VCPU.
    CreateVcpu,
    /// A guest of a few real-mode instructions.
    RealMode,
    /// A guest in long mode, at the processor's speed.
    LongMode,
    /// A guest that a timer interrupt wakes.
    Timer,
}

impl Step {
    fn word(self) -> &'static str {
        match self {
            Self::Open => OPEN,
            Self::CreateVm => CREATE_VM,
            Self::CreateVcpu => CREATE_VCPU,
            Self::RealMode => REAL_MODE,
            Self::LongMode => LONG_MODE,
            Self::Timer => TIMER,
        }
    }
}

impl Examination {
    /// How `step` ended: `None` when it was not tried, because one before it failed.
    #[must_use]
    pub fn step(&self, step: Step) -> Option<Result<(), String>> {
        if self.done.iter().any(|done| done == step.word()) {
            return Some(Ok(()));
        }
        let failed = self.failed.as_deref() == Some(step.word());
        failed.then(|| Err(self.verdict.to_string()))
    }

    /// From what the child wrote, and the verdict made of it.
    fn read(text: &str, verdict: KvmVerdict) -> Self {
        let mut done: Vec<String> = Vec::new();
        let mut begun = None;
        let (mut api_version, mut errno) = (None, None);
        for line in text.lines() {
            if let Some(step) = line.strip_prefix(DONE) {
                done.push(step.to_owned());
            } else if let Some(step) = line.strip_prefix(BEGUN) {
                begun = Some(step.to_owned());
            } else if let Some(number) = line.strip_prefix("api ") {
                api_version = number.parse().ok();
            } else if let Some(number) = line.strip_prefix(ERRNO) {
                errno = number.parse().ok();
            }
        }
        let failed = begun.filter(|step| !verdict.works() && !done.contains(step));
        Self {
            verdict,
            api_version,
            errno,
            done,
            failed,
        }
    }
}

/// What the probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvmVerdict {
    /// Guests ran.
    Works,
    /// The device opens, yet a guest does not run; why.
    OpensButCannotRun(String),
    /// There is no /dev/kvm, or the kernel has no driver behind it.
    Missing,
    /// We may not open it; why.
    Denied(String),
    /// The probe itself failed, so nothing is known; why.
    ProbeFailed(String),
}

impl KvmVerdict {
    /// Guests can run.
    #[must_use]
    pub fn works(&self) -> bool {
        *self == Self::Works
    }

    fn encode(&self) -> String {
        match self {
            Self::Works => "works\n".to_owned(),
            Self::OpensButCannotRun(why) => format!("cannot-run {why}\n"),
            Self::Missing => "missing\n".to_owned(),
            Self::Denied(why) => format!("denied {why}\n"),
            Self::ProbeFailed(why) => format!("failed {why}\n"),
        }
    }

    fn decode(line: &str) -> Option<Self> {
        let (word, why) = line
            .trim_end()
            .split_once(' ')
            .unwrap_or((line.trim_end(), ""));
        match word {
            "works" => Some(Self::Works),
            "cannot-run" => Some(Self::OpensButCannotRun(why.to_owned())),
            "missing" => Some(Self::Missing),
            "denied" => Some(Self::Denied(why.to_owned())),
            "failed" => Some(Self::ProbeFailed(why.to_owned())),
            _ => None,
        }
    }
}

impl std::fmt::Display for KvmVerdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Works => f.write_str("KVM runs guests"),
            Self::OpensButCannotRun(why) => {
                write!(f, "/dev/kvm opens but cannot run a guest: {why}")
            }
            Self::Missing => f.write_str("there is no KVM: /dev/kvm is missing or has no driver"),
            Self::Denied(why) => write!(f, "/dev/kvm may not be opened: {why}"),
            Self::ProbeFailed(why) => write!(f, "KVM could not be probed: {why}"),
        }
    }
}

/// Runs the guests and waits at most `timeout` for them, on a busy machine at most thrice as long.
#[must_use]
pub fn probe(timeout: Duration) -> KvmVerdict {
    examine(timeout).verdict
}

/// As [`probe`], and tells how each step ended.
#[must_use]
pub fn examine(timeout: Duration) -> Examination {
    let nothing = |verdict| Examination::read("", verdict);
    match rustix::fs::stat("/dev/kvm") {
        Err(rustix::io::Errno::NOENT) => return nothing(KvmVerdict::Missing),
        Err(error) => return nothing(KvmVerdict::Denied(error.to_string())),
        Ok(_) => {}
    }
    match in_child(timeout) {
        Ok((text, verdict)) => Examination::read(&text, verdict),
        Err(error) => nothing(KvmVerdict::ProbeFailed(error.to_string())),
    }
}

fn in_child(timeout: Duration) -> io::Result<(String, KvmVerdict)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    #[allow(unsafe_code)]
    // SAFETY: the child has only this thread. It takes no lock that another
    // thread may have held but the allocator's, which glibc makes usable in a
    // forked child; it never returns from this function.
    match unsafe { fork() }.map_err(io::Error::from)? {
        ForkResult::Child => {
            drop(read);
            let mut pipe = std::fs::File::from(write);
            let line = run_guests(&mut pipe).encode();
            // Nobody to tell if the pipe is gone.
            let _ = pipe.write_all(line.as_bytes());
            exit_now()
        }
        ForkResult::Parent { child } => {
            drop(write);
            let told = read_all(read, timeout, || waited(child));
            // It has ended, or hangs: both ways it is to go.
            let _ = kill(child, Signal::SIGKILL);
            reap(child);
            let (text, ended) = told?;
            let verdict = judge(&text, ended, timeout);
            Ok((text, verdict))
        }
    }
}

/// Ends the child at once, without what the parent registered for its own end.
fn exit_now() -> ! {
    #[allow(unsafe_code)]
    // SAFETY: _exit(2) takes an integer and does not come back.
    unsafe {
        nix::libc::_exit(0)
    }
}

/// Waits for the child elsewhere: a process in an uninterruptible wait is not
/// even killed.
fn reap(child: Pid) {
    let spawned = std::thread::Builder::new()
        .name("kvm-reap".to_owned())
        .spawn(move || waitpid(child, None));
    if let Err(error) = spawned {
        tracing::warn!("cannot wait for the KVM probe: {error}");
    }
}

/// How long a process was ready to run and had no processor: the second number of its
/// schedstat, nanoseconds (Documentation/scheduler/sched-stats.rst). Zero where the
/// kernel does not count it.
fn waited(process: Pid) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{process}/schedstat")).unwrap_or_default();
    let nanoseconds = text.split_whitespace().nth(1);
    Duration::from_nanos(nanoseconds.and_then(|n| n.parse().ok()).unwrap_or_default())
}

/// What the child wrote, and whether it ended by itself in time. What it waited for a
/// processor is not counted.
fn read_all(
    pipe: OwnedFd,
    timeout: Duration,
    waited: impl Fn() -> Duration,
) -> io::Result<(String, bool)> {
    let begin = Instant::now();
    let most = timeout * PATIENCE;
    let mut end = begin + timeout;
    let mut pipe = std::fs::File::from(pipe);
    let mut text = Vec::new();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let wait = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let polled = {
            let mut fds = [PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)];
            poll(&mut fds, Some(&wait))
        };
        let mut buffer = [0_u8; 512];
        let ended = match polled {
            Ok(0) => {
                end = begin + (timeout + waited()).min(most);
                (Instant::now() >= end).then_some(false)
            }
            Ok(_) => match pipe.read(&mut buffer)? {
                0 => Some(true),
                count => {
                    text.extend_from_slice(buffer.get(..count).unwrap_or_default());
                    None
                }
            },
            Err(rustix::io::Errno::INTR) => None,
            Err(error) => return Err(error.into()),
        };
        if let Some(ended) = ended {
            return Ok((String::from_utf8_lossy(&text).into_owned(), ended));
        }
    }
}

/// The verdict from what the child wrote: the guests it began, then its own verdict.
fn judge(text: &str, ended: bool, timeout: Duration) -> KvmVerdict {
    let last = text.lines().last().unwrap_or_default();
    let guest = text
        .lines()
        .filter_map(|line| line.strip_prefix(BEGUN))
        .next_back()
        .unwrap_or("the first guest");
    match (KvmVerdict::decode(last), ended) {
        (Some(verdict), true) => verdict,
        (_, true) => {
            KvmVerdict::OpensButCannotRun(format!("{guest}: the process that ran it died"))
        }
        (_, false) => {
            let seconds = timeout.as_secs_f32();
            KvmVerdict::OpensButCannotRun(format!("{guest}: did not end within {seconds:.1} s"))
        }
    }
}

/// Runs one of the probe's guests.
type GuestRun = fn(&Kvm) -> Result<(), String>;

fn run_guests(progress: &mut impl Write) -> KvmVerdict {
    let mut tell = |word: &str, step: &dyn std::fmt::Display| {
        // Nobody to tell if the pipe is gone.
        let _ = progress.write_all(format!("{word}{step}\n").as_bytes());
    };
    tell(BEGUN, &OPEN);
    let kvm = match Kvm::new() {
        Ok(kvm) => kvm,
        Err(error) => {
            tell(ERRNO, &error.errno());
            return match error.errno() {
                nix::libc::ENXIO | nix::libc::ENODEV | nix::libc::ENOENT => KvmVerdict::Missing,
                _ => KvmVerdict::Denied(error.to_string()),
            };
        }
    };
    tell(DONE, &OPEN);
    let found = kvm.get_api_version();
    tell("api ", &found);
    if found != API_VERSION {
        return KvmVerdict::OpensButCannotRun(format!(
            "expected KVM API version {API_VERSION}, found {found}"
        ));
    }
    tell(BEGUN, &CREATE_VM);
    let vm = match kvm.create_vm() {
        Ok(vm) => vm,
        Err(error) => {
            tell(ERRNO, &error.errno());
            return KvmVerdict::OpensButCannotRun(format!("KVM_CREATE_VM: {error}"));
        }
    };
    tell(DONE, &CREATE_VM);
    tell(BEGUN, &CREATE_VCPU);
    if let Err(error) = vm.create_vcpu(0) {
        tell(ERRNO, &error.errno());
        return KvmVerdict::OpensButCannotRun(format!("KVM_CREATE_VCPU: {error}"));
    }
    drop(vm);
    tell(DONE, &CREATE_VCPU);
    let guests: [(&str, GuestRun); 3] = [
        (REAL_MODE, programs::real_mode),
        (LONG_MODE, programs::long_mode),
        (TIMER, programs::timer),
    ];
    for (name, guest) in guests {
        tell(BEGUN, &name);
        if let Err(why) = guest(&kvm) {
            return KvmVerdict::OpensButCannotRun(format!("{name}: {why}"));
        }
        tell(DONE, &name);
    }
    KvmVerdict::Works
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_verdict_survives_the_pipe() {
        for verdict in [
            KvmVerdict::Works,
            KvmVerdict::Missing,
            KvmVerdict::OpensButCannotRun("a b".to_owned()),
            KvmVerdict::Denied("c".to_owned()),
            KvmVerdict::ProbeFailed("d".to_owned()),
        ] {
            assert_eq!(KvmVerdict::decode(&verdict.encode()), Some(verdict));
        }
        assert_eq!(KvmVerdict::decode(""), None);
    }

    #[test]
    fn a_child_that_hangs_or_dies_is_judged_by_the_guest_it_began() {
        let judged = |text, ended| judge(text, ended, Duration::from_secs(2)).to_string();
        assert!(judged("run a\nrun b\n", false).ends_with("b: did not end within 2.0 s"));
        assert!(judged("run a\n", true).ends_with("a: the process that ran it died"));
        assert_eq!(
            judge("run a\nworks\n", true, Duration::ZERO),
            KvmVerdict::Works
        );
    }

    #[test]
    fn each_step_is_told_up_to_the_one_that_failed() {
        let text = "run open\ndone open\napi 12\nrun KVM_CREATE_VM\nerrno 16\n";
        let verdict = KvmVerdict::OpensButCannotRun("KVM_CREATE_VM: busy".to_owned());
        let found = Examination::read(text, verdict);
        assert_eq!(found.step(Step::Open), Some(Ok(())));
        assert!(matches!(found.step(Step::CreateVm), Some(Err(_))));
        assert_eq!(found.step(Step::CreateVcpu), None);
        assert_eq!((found.api_version, found.errno), (Some(12), Some(16)));
    }

    #[test]
    fn waiting_for_a_processor_prolongs_the_time_limit_but_not_for_ever() {
        let limit = Duration::from_millis(50);
        for (waited, least, most) in [(0, 50, 149), (60, 110, 149), (5_000, 150, 2_000)] {
            let (read, _write) = rustix::pipe::pipe().unwrap();
            let begin = Instant::now();
            let told = read_all(read, limit, || Duration::from_millis(waited)).unwrap();
            let took = begin.elapsed().as_millis();
            assert_eq!(told, (String::new(), false));
            assert!(took >= least, "{waited}: {took}");
            // A busy machine may be late, but what waits no longer than the limit must not take its multiple.
            assert!(took <= most + 1_000, "{waited}: {took}");
        }
    }

    #[test]
    fn the_probe_ends_in_time() {
        let begin = Instant::now();
        let verdict = probe(Duration::from_secs(2));
        assert!(begin.elapsed() < Duration::from_secs(8), "{verdict}");
    }
}
