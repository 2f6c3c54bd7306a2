//! The harness itself: nothing stays behind, whatever happens to a test.

use std::path::PathBuf;
use std::time::Duration;

use testkit::edge_node::{EdgeNode, Testbed, running, stop};
use testkit::eventually_within;

#[test]
fn a_node_ends_with_the_test_that_forgot_it() {
    let start = || -> PathBuf {
        let node = EdgeNode::start(&Testbed::open().unwrap(), "full").unwrap();
        let dir = node.dir().to_owned();
        assert!(!running(&dir).is_empty());
        // As when the test's process is killed: nobody drops the value.
        std::mem::forget(node);
        dir
    };
    let dir = std::thread::spawn(start).join().unwrap();
    eventually_within(Duration::from_secs(5), "QEMU has ended", || {
        let found = running(&dir);
        if found.is_empty() {
            Ok(())
        } else {
            Err(format!("{found:?}"))
        }
    });
    // What it wrote is for `make clear`, which does this for every directory.
    assert!(dir.join("spare.raw").exists());
    stop(&dir).unwrap();
    assert!(!dir.exists());
}

#[test]
fn a_dropped_node_leaves_nothing() {
    let node = EdgeNode::start(&Testbed::open().unwrap(), "no-iommu").unwrap();
    let dir = node.dir().to_owned();
    drop(node);
    assert!(running(&dir).is_empty());
    assert!(!dir.exists());
}
