//! Every field of KubeVirt, VirtualMachine and VirtualMachineInstance, and what
//! edgevirt does with it: acts on it, accepts it because it is harmless, or
//! refuses it with a reason.
//!
//! ```text
//!   crates/api/schema/*.tbl  (reviewed by hand, the only source)
//!            |
//!       Table::parse
//!        /   |      \
//!    crds()  |   docs/compatibility.md (xtask gen)
//!            |
//!   decide::admission::unsupported
//! ```
//!
//! Source of names, types, enums and limits: KubeVirt's API (v1 and v1alpha3
//! have the same schema), plus fields that manifests of 2021 may still carry.

mod crds;
mod openapi;
mod table;

pub use crds::crds;
pub use openapi::open_api;
pub use table::{Attrs, Field, Kind, ListKind, State, Table, TableError, Type};

use std::sync::LazyLock;

/// Texts of the tables, in the order in which they are parsed.
const SOURCES: [&str; 7] = [
    include_str!("../schema/reasons.tbl"),
    include_str!("../schema/core.tbl"),
    include_str!("../schema/cdi.tbl"),
    include_str!("../schema/kubevirt.tbl"),
    include_str!("../schema/vm.tbl"),
    include_str!("../schema/vmi.tbl"),
    include_str!("../schema/vmi_status.tbl"),
];

/// The table of all fields, parsed at first use (about a millisecond).
///
/// A malformed table would be empty, which refuses every object; a test keeps
/// that from being committed.
pub fn table() -> &'static Table {
    static TABLE: LazyLock<Table> = LazyLock::new(|| Table::parse(&SOURCES).unwrap_or_default());
    &TABLE
}

/// Kinds of which the table knows all fields.
pub const KINDS: [&str; 3] = ["KubeVirt", "VirtualMachine", "VirtualMachineInstance"];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_tables_parse() {
        let table = Table::parse(&SOURCES).unwrap();
        for kind in KINDS {
            assert!(table.get(kind).is_some(), "{kind}");
        }
    }

    #[test]
    fn every_type_is_defined_and_used() {
        let table = table();
        let mut used: BTreeSet<&str> = KINDS.into();
        for ty in table.types() {
            for field in &ty.fields {
                if let Some(name) = field.kind.type_name() {
                    assert!(
                        table.get(name).is_some(),
                        "{}.{}: {name}",
                        ty.name,
                        field.name
                    );
                    used.insert(name);
                }
            }
        }
        for ty in table.types() {
            assert!(used.contains(ty.name), "{} is not used", ty.name);
        }
    }

    /// A field has a state of its own exactly when all above it are acted on:
    /// below an accepted or refused field the parent's state holds.
    #[test]
    fn every_field_that_can_be_reached_has_a_state() {
        let table = table();
        let mut seen = BTreeSet::new();
        let mut queue: Vec<&str> = KINDS.to_vec();
        while let Some(name) = queue.pop() {
            if !seen.insert(name) {
                continue;
            }
            for field in &table.get(name).unwrap().fields {
                match field.state {
                    State::Inherited => panic!("{name}.{} has no state", field.name),
                    State::Acted => queue.extend(field.kind.type_name()),
                    State::Accepted(why) | State::Refused(why) => {
                        assert!(!why.is_empty(), "{name}.{} has no reason", field.name);
                    }
                }
            }
        }
        for ty in table.types().filter(|ty| !seen.contains(ty.name)) {
            for field in &ty.fields {
                assert_eq!(field.state, State::Inherited, "{}.{}", ty.name, field.name);
            }
        }
    }
}
