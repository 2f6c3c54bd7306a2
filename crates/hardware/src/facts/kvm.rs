//! What /dev/kvm can do, by trying.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Attempt;

/// KVM, from the device and /sys/module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kvm {
    /// /dev/kvm by ioctl.
    pub device: KvmDevice,
    /// A guest of a few real-mode instructions ran to HLT within the time limit.
    pub run: Attempt,
    /// A guest switched to long mode and ran to HLT within the time limit.
    pub long_mode: Attempt,
    /// Parameter `nested` of each loaded vendor module: /sys/module/kvm_intel/parameters/nested.
    pub nested: BTreeMap<String, String>,
}

/// /dev/kvm, step by step; a step after a failed one is not tried.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KvmDevice {
    /// The node /dev/kvm exists.
    pub present: Option<bool>,
    /// Opened for reading and writing. ENODEV: no vendor module is behind the node.
    pub open: Attempt,
    /// Answer of KVM_GET_API_VERSION; 12 since Linux 2.6.22.
    pub api_version: Option<i32>,
    /// KVM_CREATE_VM. EBUSY: another hypervisor holds VMX.
    pub create_vm: Attempt,
    /// KVM_CREATE_VCPU.
    pub create_vcpu: Attempt,
}

impl Kvm {
    /// Guests run here: the small guest ran, and the long-mode one did not fail.
    #[must_use]
    pub fn works(&self) -> bool {
        self.run.worked() && self.long_mode.error().is_none()
    }
}
