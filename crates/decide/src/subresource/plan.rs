//! What is to be patched.

use serde_json::{Value, json};

/// Patches to send one after the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// In order; when one fails, those before it are undone by their `undo`.
    pub patches: Vec<Patch>,
}

/// One JSON patch (RFC 6902).
#[derive(Clone, Debug, PartialEq)]
pub struct Patch {
    /// What it is sent to.
    pub target: Target,
    /// Its operations; `test` operations make it fail when somebody was faster.
    pub ops: Vec<Value>,
    /// What takes it back; empty when nothing follows it.
    pub undo: Vec<Value>,
}

/// What a [`Patch`] is sent to. VM and VMI have the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The VirtualMachine.
    Machine,
    /// The VirtualMachine through its status subresource.
    MachineStatus,
    /// The VirtualMachineInstance.
    Instance,
}

impl Plan {
    /// The one patch `ops` on `target`.
    pub(super) fn one(target: Target, ops: Vec<Value>) -> Self {
        Self {
            patches: vec![Patch {
                target,
                ops,
                undo: Vec::new(),
            }],
        }
    }

    /// The same after `first`, if there is one.
    pub(super) fn after(mut self, first: Option<Patch>) -> Self {
        if let Some(first) = first {
            self.patches.insert(0, first);
        }
        self
    }
}

/// Fails the patch unless `path` holds `value` (null: is missing).
pub(super) fn test(path: &str, value: &Value) -> Value {
    json!({ "op": "test", "path": path, "value": value })
}

/// Sets `path`, whether it exists or not.
pub(super) fn set(path: &str, value: impl Into<Value>) -> Value {
    json!({ "op": "add", "path": path, "value": value.into() })
}

/// Removes `path`, which exists.
pub(super) fn remove(path: &str) -> Value {
    json!({ "op": "remove", "path": path })
}
