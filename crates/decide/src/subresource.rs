//! What the verbs of subresources.kubevirt.io do to a VirtualMachine or its
//! instance, as pure functions: the objects and the request's body go in, a
//! [`Plan`] of JSON patches or a [`Refusal`] comes out.
//!
//! ```text
//!   VM + VMI + options --start/stop/restart--> Plan (patches) or Refusal (Status)
//!   VMI               --pause/console/vnc ...--> go ahead     or Refusal (Status)
//! ```
//!
//! Objects stay raw JSON: a `test` operation must hold what the server holds,
//! fields we do not model included.
//!
//! Source of codes and messages: KubeVirt pkg/virt-api/rest (lifecycle.go,
//! console.go, vnc.go, portforward.go, subresource.go). The one intended
//! difference: a start while the last instance is going away is queued and
//! honoured; upstream refuses it.

mod instance;
mod lifecycle;
mod object;
mod plan;
mod refusal;

pub use instance::{
    console, node, of_machine, pause, port_forward, reset_failed, soft_reboot, unpause, vnc,
};
pub use lifecycle::{restart, restart_options, start, stop};
pub use plan::{Patch, Plan, Target};
pub use refusal::{Refusal, Subject};
