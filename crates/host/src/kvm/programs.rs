//! What the probe's guests run, in the processor's own words, each needing more of it.

use std::io;
use std::time::Duration;

use kvm_ioctls::{Cap, Kvm};

use super::guest::Guest;

/// Additions of the long-mode guest, three instructions each.
const ADDITIONS: u64 = 20_000;
/// In this much time of its own a processor does them with a wide margin: they are
/// 60,000 instructions, 0.06 ms at 1 GHz; QEMU's own translator needs less than 1 ms,
/// and KVM that interprets 60 ms.
const FAST: Duration = Duration::from_millis(10);

/// Says its byte and halts.
pub(super) fn real_mode(kvm: &Kvm) -> Result<(), String> {
    // mov al, 0x42; out 0x10, al; hlt
    let code = [0xb0, 0x42, 0xe6, 0x10, 0xf4];
    let mut guest = Guest::new(kvm, &code, false)?;
    guest.enter_real_mode()?;
    guest.expect_said(&[0x42])?;
    guest.expect_halt()
}

/// Adds up 1 to [`ADDITIONS`] in 64-bit registers under 4-level paging, fast.
///
/// Where the processor lends KVM no virtualization, KVM may still interpret
/// each instruction (about one in a microsecond was seen): a small guest then
/// passes and Linux seems to hang. So the processor time that it takes is measured,
/// at best of three: waiting for a busy machine does not count, but there a
/// hypervisor below may be slow once.
pub(super) fn long_mode(kvm: &Kvm) -> Result<(), String> {
    let mut best = Duration::MAX;
    for _ in 0..3 {
        best = best.min(add_up(kvm)?);
        if best <= FAST {
            return Ok(());
        }
    }
    Err(format!(
        "{} instructions took {} ms of a processor, expected at most {} ms: the guest is interpreted, not run by the processor",
        ADDITIONS * 3,
        best.as_millis(),
        FAST.as_millis()
    ))
}

fn add_up(kvm: &Kvm) -> Result<Duration, String> {
    let count = u32::try_from(ADDITIONS).unwrap_or_default().to_le_bytes();
    let code = [
        0x48, 0x31, 0xc0, // xor rax, rax
        0x48, 0xc7, 0xc1, count[0], count[1], count[2], count[3], // mov rcx, ADDITIONS
        0x48, 0x01, 0xc8, // add rax, rcx
        0x48, 0xff, 0xc9, // dec rcx
        0x75, 0xf8, // jnz to the addition
        0x48, 0xc1, 0xe8, 0x08, // shr rax, 8: needs more than 32 bits
        0xe7, 0x10, // out 0x10, eax
        0xf4, // hlt
    ];
    let sum = ADDITIONS * (ADDITIONS + 1) / 2;
    let said = u32::try_from((sum >> 8) & 0xffff_ffff).unwrap_or_default();
    let mut guest = Guest::new(kvm, &code, false)?;
    guest.enter_long_mode()?;
    let begin = processor_time()?;
    guest.expect_said(&said.to_le_bytes())?;
    let took = processor_time()?.saturating_sub(begin);
    guest.expect_halt()?;
    Ok(took)
}

/// Processor time that this thread had, that of its guests included.
fn processor_time() -> Result<Duration, String> {
    let mut time = nix::libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    #[allow(unsafe_code)]
    // SAFETY: `time` is a live timespec that the kernel fills in.
    let result =
        unsafe { nix::libc::clock_gettime(nix::libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    if result != 0 {
        return Err(format!("clock_gettime: {}", io::Error::last_os_error()));
    }
    Ok(Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    ))
}

/// Programs interrupt controller and timer as a BIOS would, halts, and is woken.
pub(super) fn timer(kvm: &Kvm) -> Result<(), String> {
    if !kvm.check_extension(Cap::Irqchip) || !kvm.check_extension(Cap::Pit2) {
        return Err("KVM has no interrupt controller or timer".to_owned());
    }
    let code = [
        0xb0, 0x11, 0xe6, 0x20, // 8259: initialise, edge-triggered, cascaded
        0xb0, 0x08, 0xe6, 0x21, // vectors from 8
        0xb0, 0x04, 0xe6, 0x21, // slave at 2
        0xb0, 0x01, 0xe6, 0x21, // 8086 mode
        0xb0, 0xfe, 0xe6, 0x21, // only line 0
        0xb0, 0x34, 0xe6, 0x43, // 8254: counter 0, rate generator
        0xb0, 0x00, 0xe6, 0x40, // every 0x1000 ticks, 3.4 ms
        0xb0, 0x10, 0xe6, 0x40, //
        0xfb, // sti
        0xf4, // hlt
        0xeb, 0xfd, // and again
    ];
    // mov al, 0x77; out 0x10, al; hlt
    let handler = [0xb0, 0x77, 0xe6, 0x10, 0xf4];
    const HANDLER: usize = 0x1100;
    let mut guest = Guest::new(kvm, &code, true)?;
    guest.write(HANDLER, &handler)?;
    // Real-mode vector 8: offset, then segment 0.
    let offset = u16::try_from(HANDLER).unwrap_or_default().to_le_bytes();
    guest.write(8 * 4, &[offset[0], offset[1], 0, 0])?;
    guest.enter_real_mode()?;
    guest.expect_said(&[0x77])
}
