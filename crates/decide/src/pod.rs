//! The launcher pod: what it looks like ([`render`]), and what of a pod the
//! decisions look at ([`PodFacts`]).

mod facts;
mod render;
mod resources;
mod secrets;
mod settings;
mod volumes;

pub use facts::{PodFacts, PodPhase};
pub use render::{RenderError, hostname, pod_name, render};
pub use resources::{cpu_request, memory_overhead, quantity_text};
pub(crate) use secrets::awaited_objects;
pub use settings::Settings;
