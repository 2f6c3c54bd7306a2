//! What the inventory asks of a node. What is not asked for is never a failure.

use serde::{Deserialize, Serialize};

/// One gibibyte.
const GIB: u64 = 1 << 30;

/// What a node must be able to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Requirements {
    /// Roles of the node; they choose ports, modules and sizes.
    pub roles: Vec<Role>,
    /// Guests may run by emulation where KVM does not work.
    pub allow_emulation: bool,
    /// Guests must be able to run guests of their own.
    pub nested_guests: bool,
    /// Logical CPUs: below it is a failure.
    pub cpus: u32,
    /// Memory in all, bytes: below it is a failure.
    pub memory: u64,
    /// Free disk, bytes: below it is a failure.
    pub disk: u64,
    /// Policies for virtual functions.
    pub sriov: Vec<SriovPolicy>,
    /// PCI addresses of whole devices that guests get.
    pub passthrough: Vec<String>,
    /// Devices may be given to guests without interrupt remapping: the risk is accepted.
    pub accept_unsafe_interrupts: bool,
    /// A physical function that carries the node's own traffic may be used all the same.
    pub force_management: bool,
    /// Kernel drivers from outside the kernel's tree will be loaded.
    pub unsigned_modules: bool,
    /// Hugepages to reserve.
    pub hugepages: Vec<HugepagesWanted>,
    /// Disks for Ceph: /dev/disk/by-id paths, their last part, serials or WWNs.
    pub ceph_disks: Vec<String>,
    /// Disks of [`Requirements::ceph_disks`] that may be wiped, each named again.
    pub wipe: Vec<String>,
    /// Modules wanted besides those the roles need.
    pub modules: Vec<String>,
    /// Address ranges and names that must not go through a proxy: pods, services, nodes, `.svc`.
    pub no_proxy: Vec<String>,
    /// Swap may stay on.
    pub allow_swap: bool,
    /// How far the clock may be from the fleet's median, milliseconds.
    pub max_skew_ms: i64,
}

/// What a node does in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// API server, etcd, controllers.
    ControlPlane,
    /// Runs pods and guests.
    Worker,
    /// Keeps Ceph OSDs or monitors.
    Storage,
}

/// Virtual functions wanted. A selector that is empty selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SriovPolicy {
    /// Its name, for messages.
    pub name: String,
    /// Interface names; `eth0#0-3` selects functions 0 to 3 of eth0.
    pub pf_names: Vec<String>,
    /// PCI addresses of physical functions.
    pub root_devices: Vec<String>,
    /// Vendor id, four hexadecimal digits.
    pub vendor: Option<String>,
    /// Device id of the physical function, four hexadecimal digits.
    pub device_id: Option<String>,
    /// Virtual functions per physical function.
    pub num_vfs: u32,
    /// What they are for.
    pub device_type: DeviceType,
    /// MTU the physical function must carry, bytes.
    pub mtu: Option<u32>,
    /// Somebody else creates the virtual functions.
    pub externally_managed: bool,
}

/// What virtual functions are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceType {
    /// Interfaces of pods.
    #[default]
    Netdevice,
    /// Devices of guests.
    VfioPci,
}

/// Hugepages wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HugepagesWanted {
    /// Size of a page, bytes.
    pub size: u64,
    /// Pages.
    pub count: u64,
    /// On this NUMA node; `None`: anywhere.
    pub node: Option<u32>,
}

impl Default for Requirements {
    /// The embedded cluster takes about 1 GiB, one guest of the walk-through 2 GiB;
    /// images, build outputs and overlays fit in 10 GiB. Ceph warns at 50 ms of skew,
    /// etcd elections suffer at far more: 500 ms unless storage is asked for.
    fn default() -> Self {
        Self {
            roles: vec![Role::ControlPlane, Role::Worker],
            allow_emulation: true,
            nested_guests: false,
            cpus: 2,
            memory: 4 * GIB,
            disk: 10 * GIB,
            sriov: Vec::new(),
            passthrough: Vec::new(),
            accept_unsafe_interrupts: false,
            force_management: false,
            unsigned_modules: false,
            hugepages: Vec::new(),
            ceph_disks: Vec::new(),
            wipe: Vec::new(),
            modules: Vec::new(),
            no_proxy: Vec::new(),
            allow_swap: false,
            max_skew_ms: 500,
        }
    }
}

impl Requirements {
    /// The node has `role`.
    #[must_use]
    pub fn has_role(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// Devices of the node are given to guests.
    #[must_use]
    pub fn needs_vfio(&self) -> bool {
        !self.passthrough.is_empty()
            || self
                .sriov
                .iter()
                .any(|policy| policy.device_type == DeviceType::VfioPci)
    }

    /// Ceph keeps something on the node.
    #[must_use]
    pub fn needs_ceph(&self) -> bool {
        self.has_role(Role::Storage) || !self.ceph_disks.is_empty()
    }
}
