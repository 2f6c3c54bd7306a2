//! Memory a launcher pod's `compute` container needs beside the guest's own.
//!
//! Every term is a measured figure with a margin; docs/memory-overhead.md has
//! the measurements and how to repeat them.
//!
//! ```text
//!   overhead = page tables of guest memory          guest / 512
//!            + QEMU itself and the launcher         BASE
//!            + each vCPU                            VCPU   (more when emulated)
//!            + each disk, interface, queue          DISK, QUEUE
//!            + VGA memory and the VNC server        GRAPHICS, unless switched off
//!            + UEFI flash                           EFI
//!            + translated code                      TCG, when emulated
//! ```

use api::vmi::VmiSpec;

use crate::quantity;

const MIB: u64 = 1 << 20;

/// QEMU's heap and the pages of its program and libraries that a run touches,
/// the launcher's, and the room xorriso needs before QEMU starts.
const BASE: u64 = 64 * MIB;
/// Stack, vCPU state and KVM's own pages for one vCPU.
const VCPU: u64 = 2 * MIB;
/// What emulation adds for one vCPU: the software TLB and its stack.
const VCPU_EMULATED: u64 = 4 * MIB;
/// Request buffers of one disk and both layers' qcow2 caches
/// ([`crate::qemu::L2_CACHE_BYTES`]).
const DISK: u64 = 3 * MIB;
/// Ring and packet buffers of one pair of network queues.
const QUEUE: u64 = MIB;
/// Adapter memory (16 MiB), the VNC server's copy of the screen and its encoders.
const GRAPHICS: u64 = 32 * MIB;
/// Two flash devices with the firmware and its variables.
const EFI: u64 = 8 * MIB;
/// Translation buffer ([`crate::qemu::TB_SIZE_MIB`]) and the tables that index it.
const TCG: u64 = (crate::qemu::TB_SIZE_MIB + 8) * MIB;

/// Bytes to add to the guest's memory for the pod's memory request.
///
/// `emulated` is true when the guest will run under TCG. A malformed quantity
/// counts as no memory: admission refused it before.
#[must_use]
pub fn memory_overhead(spec: &VmiSpec, emulated: bool) -> u64 {
    let domain = &spec.domain;
    let devices = &domain.devices;
    let vcpus = vcpus(spec);
    let queues = if devices.network_interface_multi_queue == Some(true) {
        vcpus
    } else {
        1
    };
    let efi = domain
        .firmware
        .as_ref()
        .and_then(|f| f.bootloader.as_ref())
        .is_some_and(|b| b.efi.is_some());
    let interfaces = if devices.interfaces.is_empty() {
        u64::from(devices.autoattach_pod_interface != Some(false))
    } else {
        devices.interfaces.len() as u64
    };
    let mut total = guest_memory(spec).div_ceil(512)
        + BASE
        + vcpus * VCPU
        + devices.disks.len() as u64 * DISK
        + interfaces * queues * QUEUE;
    if devices.autoattach_graphics_device != Some(false) {
        total += GRAPHICS;
    }
    if efi {
        total += EFI;
    }
    if emulated {
        total += TCG + vcpus * VCPU_EMULATED;
    }
    total
}

/// Number of vCPUs: cores x sockets x threads, each 1 when unset.
#[must_use]
pub fn vcpus(spec: &VmiSpec) -> u64 {
    spec.domain.cpu.as_ref().map_or(1, |cpu| {
        [cpu.cores, cpu.sockets, cpu.threads]
            .into_iter()
            .map(|n| u64::from(n.unwrap_or(1).max(1)))
            .product()
    })
}

/// Bytes of guest memory: `memory.guest`, else the memory request, else the limit, else 0.
#[must_use]
pub fn guest_memory(spec: &VmiSpec) -> u64 {
    let domain = &spec.domain;
    domain
        .memory
        .as_ref()
        .and_then(|m| m.guest.as_ref())
        .or_else(|| domain.resources.requests.get("memory"))
        .or_else(|| domain.resources.limits.get("memory"))
        .and_then(|q| quantity::bytes(q).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::needless_pass_by_value)]
    use super::*;
    use serde_json::json;

    fn spec(patch: serde_json::Value) -> VmiSpec {
        serde_json::from_value(json!({"domain": patch})).unwrap()
    }

    fn small() -> serde_json::Value {
        json!({
            "memory": {"guest": "256Mi"},
            "devices": {"disks": [{"name": "a"}, {"name": "b"}], "interfaces": [{"name": "n"}]},
        })
    }

    #[test]
    fn the_check_values_of_the_documentation_hold() {
        let spec = spec(small());
        assert_eq!(memory_overhead(&spec, false), 105 * MIB + MIB / 2);
        assert_eq!(memory_overhead(&spec, true), 149 * MIB + MIB / 2);
    }

    #[test]
    fn it_stays_far_below_upstreams() {
        assert!(memory_overhead(&spec(small()), true) < 200 * MIB);
    }

    #[test]
    fn the_guests_memory_comes_from_the_first_place_that_has_it() {
        let request = json!({"resources": {"requests": {"memory": "2056M"}}});
        assert_eq!(guest_memory(&spec(request)), 2_056_000_000);
        let both =
            json!({"memory": {"guest": "1Gi"}, "resources": {"requests": {"memory": "2Gi"}}});
        assert_eq!(guest_memory(&spec(both)), 1 << 30);
        assert_eq!(guest_memory(&VmiSpec::default()), 0);
    }

    #[test]
    fn what_the_guest_has_more_of_costs_more() {
        let base = memory_overhead(&spec(small()), true);
        for (path, value) in [
            ("/memory/guest", json!("4Gi")),
            ("/cpu", json!({"cores": 2})),
            ("/firmware", json!({"bootloader": {"efi": {}}})),
        ] {
            let mut more = small();
            let (parent, key) = path.rsplit_once('/').unwrap();
            more.pointer_mut(parent).unwrap()[key] = value;
            assert!(memory_overhead(&spec(more), true) > base, "{path}");
        }
        let mut less = small();
        less["devices"]["autoattachGraphicsDevice"] = json!(false);
        assert!(memory_overhead(&spec(less), true) < base);
    }
}
