//! A guest of the probe: memory, one processor, and what is expected of it.

use kvm_bindings::{
    KVM_PIT_SPEAKER_DUMMY, kvm_pit_config, kvm_regs, kvm_segment, kvm_sregs,
    kvm_userspace_memory_region,
};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd};

/// Memory of the probe's guests, bytes.
const MEMORY: usize = 0x20_0000;
/// Where their code is.
const CODE: u64 = 0x1000;
/// Port on which they speak.
const PORT: u16 = 0x10;
/// Exits a guest may need; more mean that it does not get anywhere.
const MAX_EXITS: usize = 64;

/// Guest memory: anonymous, ours as long as the guest.
struct Memory {
    address: *mut std::ffi::c_void,
}

impl Memory {
    fn new() -> Result<Self, String> {
        use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
        #[allow(unsafe_code)]
        // SAFETY: a new anonymous mapping at an address of the kernel's choice
        // replaces nothing.
        let address = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                MEMORY,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        }
        .map_err(|error| format!("mapping guest memory: {error}"))?;
        Ok(Self { address })
    }

    fn write(&self, at: usize, bytes: &[u8]) -> Result<(), String> {
        if at.checked_add(bytes.len()).is_none_or(|end| end > MEMORY) {
            return Err(format!("{at:#x} is outside of guest memory"));
        }
        #[allow(unsafe_code)]
        // SAFETY: the range was just checked to lie inside of the mapping,
        // which is writable and which no Rust reference points into.
        unsafe {
            std::ptr::copy_nonoverlapping(
                bytes.as_ptr(),
                self.address.cast::<u8>().add(at),
                bytes.len(),
            );
        }
        Ok(())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        #[allow(unsafe_code)]
        // SAFETY: the mapping is ours and the guest that used it is gone: the
        // vCPU and VM descriptors are dropped before (order of the fields).
        let unmapped = unsafe { rustix::mm::munmap(self.address, MEMORY) };
        debug_assert!(unmapped.is_ok());
    }
}

/// A virtual machine with one processor.
pub(super) struct Guest {
    vcpu: VcpuFd,
    _vm: kvm_ioctls::VmFd,
    memory: Memory,
}

impl Guest {
    /// Makes it, with the code in its memory and, if wanted, an interrupt controller and a timer.
    pub(super) fn new(kvm: &Kvm, code: &[u8], interrupts: bool) -> Result<Self, String> {
        let vm = kvm
            .create_vm()
            .map_err(|error| format!("KVM_CREATE_VM: {error}"))?;
        // Intel processors without unrestricted guest need a task state segment to run real mode.
        vm.set_tss_address(0xfffb_d000)
            .map_err(|error| format!("KVM_SET_TSS_ADDR: {error}"))?;
        if interrupts {
            vm.create_irq_chip()
                .map_err(|error| format!("KVM_CREATE_IRQCHIP: {error}"))?;
            let pit = kvm_pit_config {
                flags: KVM_PIT_SPEAKER_DUMMY,
                ..kvm_pit_config::default()
            };
            vm.create_pit2(pit)
                .map_err(|error| format!("KVM_CREATE_PIT2: {error}"))?;
        }
        let memory = Memory::new()?;
        memory.write(usize::try_from(CODE).unwrap_or_default(), code)?;
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: MEMORY as u64,
            userspace_addr: memory.address as u64,
        };
        #[allow(unsafe_code)]
        // SAFETY: the region is a mapping of that size which lives as long as
        // the VM: both are fields of the guest.
        unsafe { vm.set_user_memory_region(region) }
            .map_err(|error| format!("KVM_SET_USER_MEMORY_REGION: {error}"))?;
        let vcpu = vm
            .create_vcpu(0)
            .map_err(|error| format!("KVM_CREATE_VCPU: {error}"))?;
        Ok(Self {
            vcpu,
            _vm: vm,
            memory,
        })
    }

    /// Writes into its memory.
    pub(super) fn write(&self, at: usize, bytes: &[u8]) -> Result<(), String> {
        self.memory.write(at, bytes)
    }

    /// Begins at the code in 16 bits, as a processor after its reset.
    pub(super) fn enter_real_mode(&mut self) -> Result<(), String> {
        let mut sregs = self.sregs()?;
        for segment in [
            &mut sregs.cs,
            &mut sregs.ds,
            &mut sregs.es,
            &mut sregs.ss,
            &mut sregs.fs,
            &mut sregs.gs,
        ] {
            segment.base = 0;
            segment.selector = 0;
        }
        self.begin(&sregs)
    }

    /// Begins at the code in 64 bits, under paging.
    pub(super) fn enter_long_mode(&mut self) -> Result<(), String> {
        // One entry at each level: the first 1 GiB in pages of 2 MiB (AMD64 manual 2, 5.3).
        const PRESENT_WRITE: u64 = 0b11;
        const LARGE: u64 = 1 << 7;
        let (top, upper, lower) = (0x9000_usize, 0xa000_usize, 0xb000_usize);
        self.memory
            .write(top, &(upper as u64 | PRESENT_WRITE).to_le_bytes())?;
        self.memory
            .write(upper, &(lower as u64 | PRESENT_WRITE).to_le_bytes())?;
        self.memory
            .write(lower, &(PRESENT_WRITE | LARGE).to_le_bytes())?;
        let mut sregs = self.sregs()?;
        let code = kvm_segment {
            base: 0,
            limit: 0xffff_ffff,
            selector: 8,
            type_: 11,
            present: 1,
            s: 1,
            l: 1,
            g: 1,
            ..kvm_segment::default()
        };
        let data = kvm_segment {
            selector: 16,
            type_: 3,
            l: 0,
            db: 1,
            ..code
        };
        sregs.cs = code;
        (sregs.ds, sregs.es, sregs.ss, sregs.fs, sregs.gs) = (data, data, data, data, data);
        sregs.cr3 = top as u64;
        sregs.cr4 |= 1 << 5; // PAE
        sregs.cr0 |= (1 << 31) | 1; // PG, PE
        sregs.efer |= (1 << 8) | (1 << 10); // LME, LMA
        self.begin(&sregs)
    }

    fn sregs(&self) -> Result<kvm_sregs, String> {
        self.vcpu
            .get_sregs()
            .map_err(|error| format!("KVM_GET_SREGS: {error}"))
    }

    fn begin(&self, sregs: &kvm_sregs) -> Result<(), String> {
        self.vcpu
            .set_sregs(sregs)
            .map_err(|error| format!("KVM_SET_SREGS: {error}"))?;
        // Bit 1 of the flags is always set.
        let regs = kvm_regs {
            rip: CODE,
            rsp: 0x8000,
            rflags: 2,
            ..kvm_regs::default()
        };
        self.vcpu
            .set_regs(&regs)
            .map_err(|error| format!("KVM_SET_REGS: {error}"))
    }

    /// Runs it until it speaks.
    pub(super) fn expect_said(&mut self, expected: &[u8]) -> Result<(), String> {
        for _ in 0..MAX_EXITS {
            match self.vcpu.run() {
                Ok(VcpuExit::IoOut(PORT, said)) if said == expected => return Ok(()),
                Ok(VcpuExit::IoOut(PORT, said)) => {
                    return Err(format!(
                        "expected it to say {expected:x?}, it said {said:x?}"
                    ));
                }
                // Ports that KVM leaves to us: nothing is there.
                Ok(VcpuExit::IoOut(..)) => {}
                Ok(other) => {
                    return Err(format!(
                        "expected it to say {expected:x?}, found exit {other:?}"
                    ));
                }
                Err(error) if error.errno() == nix::libc::EINTR => {}
                Err(error) => return Err(format!("KVM_RUN: {error}")),
            }
        }
        Err(format!(
            "it left the guest {MAX_EXITS} times and said nothing"
        ))
    }

    /// Runs it until it halts.
    pub(super) fn expect_halt(&mut self) -> Result<(), String> {
        match self.vcpu.run() {
            Ok(VcpuExit::Hlt) => Ok(()),
            Ok(other) => Err(format!("expected it to halt, found exit {other:?}")),
            Err(error) => Err(format!("KVM_RUN: {error}")),
        }
    }
}
