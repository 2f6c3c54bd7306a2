//! Whatever a node holds, no parser panics: random text and bytes, and real
//! ones with bytes changed or cut off.

use hardware::parse::{any_bytes, any_text};

/// Beginnings that lead a parser past its first question.
const TEXTS: [&str; 8] = [
    "processor\t: 0\nflags\t\t: fpu vmx\nphysical id\t: 0\ncore id\t\t: 0\n\n",
    "           CPU0 CPU1\n  0:   11 0 IR-IO-APIC    2-edge  timer\n",
    "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\neth0\t00000000\t0202000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n",
    "27 1 254:0 / / rw shared:2 - ext4 /dev/v\\040da rw\n",
    "  sl  local_address rem_address   st\n   0: 0F02000A:0016 0202000A:C350 01 0:0 0:0 0 0 0 123 1\n",
    "Filename\tType\tSize\tUsed\tPriority\n/dev/dm-1 partition 976 0 -2\n",
    "kernel/net/tun.ko:\nkernel/a/kvm-amd.ko.zst: kernel/a/kvm.ko.zst\n",
    "GRUB_CMDLINE_LINUX=\"quiet intel_iommu=on,sm_on\"\nMemTotal:  2 kB\n",
];

const BYTES: [&[u8]; 6] = [
    b"DMAR\x30\0\0\0\x01\0BOCHS BXPC    ",
    b"IVRS\x30\0\0\0\x01\0BOCHS BXPC    ",
    b"\x86\x80\xc9\x10\0\0\x10\0",
    b"bluestore block device\n",
    b"LABELONE",
    b"EFI PART",
];

/// A generator that needs nothing: xorshift, the same numbers in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.next() & 0xff).unwrap_or(0)
    }

    /// `seed` with some bytes changed, added or cut off.
    fn damaged(&mut self, seed: &[u8]) -> Vec<u8> {
        let mut bytes = seed.to_vec();
        for _ in 0..self.below(12) {
            let at = self.below(bytes.len() + 1);
            let byte = self.byte();
            match self.below(4) {
                0 => bytes.insert(at, byte),
                1 => bytes.truncate(at),
                2 => bytes.resize(bytes.len() + self.below(6000), byte),
                _ => {
                    if let Some(place) = bytes.get_mut(at) {
                        *place = byte;
                    }
                }
            }
        }
        bytes
    }
}

#[test]
fn no_text_of_a_kernel_makes_a_parser_panic() {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for _ in 0..400 {
        let seed = TEXTS[numbers.below(TEXTS.len())];
        let text = seed.repeat(1 + numbers.below(3));
        let damaged = numbers.damaged(text.as_bytes());
        any_text(&String::from_utf8_lossy(&damaged));
    }
}

#[test]
fn no_bytes_of_firmware_or_a_disk_make_a_parser_panic() {
    let mut numbers = Numbers(0xd1b5_4a32_d192_ed03);
    for _ in 0..200 {
        let seed = BYTES[numbers.below(BYTES.len())];
        // At the beginning and where a second block begins.
        let mut bytes = vec![0; [0, 512, 4096][numbers.below(3)]];
        bytes.extend(seed);
        bytes.resize(bytes.len() + numbers.below(5000), 0);
        let damaged = numbers.damaged(&bytes);
        any_bytes(&damaged);
    }
}
