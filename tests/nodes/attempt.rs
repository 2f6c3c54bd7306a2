//! A test on a node, tried once more with a fresh node when the emulator failed.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use testkit::edge_node::{EdgeNode, Testbed};

/// How often a test may meet a node that dies.
const ATTEMPTS: u32 = 2;

/// Boots the variant and gives it to the test. A test that failed counts when its node still answers: nested
/// virtualization under emulation now and then takes the node down, and that is not what is tested.
pub(crate) fn on(variant: &str, test: impl Fn(&EdgeNode)) {
    let testbed = Testbed::open().unwrap();
    for attempt in 1..=ATTEMPTS {
        let mut node = EdgeNode::boot(&testbed, variant).unwrap();
        let Err(failure) = catch_unwind(AssertUnwindSafe(|| test(&node))) else {
            return;
        };
        if attempt == ATTEMPTS || node.answers() {
            resume_unwind(failure);
        }
        // Not captured, as a print would be: it is said also when the second try passes.
        let _ = writeln!(
            std::io::stderr(),
            "{variant}: the emulated node died, which is the emulator's failure; once more, with a fresh one. Its last words:\n{}",
            node.console()
        );
    }
}
