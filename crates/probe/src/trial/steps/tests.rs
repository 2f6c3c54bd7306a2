//! The trial against a node in memory that dies at any point.

#![allow(clippy::unwrap_used)]

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use rustix::io::Errno;

use super::*;

const PF: &str = "/sys/bus/pci/devices/0000:01:00.0";
const VF: &str = "/sys/bus/pci/devices/0000:01:10.0";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Everything that can be told apart about the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    files: BTreeMap<String, String>,
    links: BTreeMap<String, String>,
    modules: BTreeSet<String>,
}

/// A node with an SR-IOV function; changes nothing any more once `left` are made.
struct Node {
    state: RefCell<State>,
    left: Cell<usize>,
    iommu: bool,
    remapping: bool,
}

impl Node {
    fn new() -> Self {
        let files = [
            (format!("{PF}/sriov_numvfs"), "0"),
            (format!("{PF}/sriov_drivers_autoprobe"), "1"),
            (BOOT_ID.to_owned(), "this-boot"),
        ];
        Self {
            state: RefCell::new(State {
                files: files.map(|(path, value)| (path, value.to_owned())).into(),
                ..State::default()
            }),
            left: Cell::new(usize::MAX),
            iommu: true,
            remapping: true,
        }
    }

    /// One change more, if the node still lives.
    fn change(&self) -> io::Result<()> {
        match self.left.get().checked_sub(1) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => Err(io::Error::other("killed")),
        }
    }

    fn now(&self) -> State {
        self.state.borrow().clone()
    }

    fn holds(&self, path: &str, value: &str) {
        let files = &mut self.state.borrow_mut().files;
        files.insert(path.to_owned(), value.to_owned());
    }
}

fn errno(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno.raw_os_error())
}

impl System for Node {
    fn read(&self, path: &str) -> io::Result<String> {
        let found = self.state.borrow().files.get(path).cloned();
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn write(&self, path: &str, value: &str) -> io::Result<()> {
        self.change()?;
        let state = &mut *self.state.borrow_mut();
        let value = value.trim();
        if path == format!("{PF}/sriov_numvfs") {
            let current = state.files.insert(path.to_owned(), value.to_owned());
            if value == "0" {
                state.files.remove(&format!("{VF}/driver_override"));
                state
                    .links
                    .retain(|link, _| !link.starts_with(VF) && !link.contains("virtfn"));
                state
                    .files
                    .retain(|file, _| !file.starts_with("/dev/vfio/"));
            } else if current.as_deref() == Some("0") {
                let overriding = format!("{VF}/driver_override");
                state.files.insert(overriding, "(null)".to_owned());
                let function = "0000:01:10.0".to_owned();
                state.links.insert(format!("{PF}/virtfn0"), function);
                if self.iommu {
                    let group = format!("{VF}/iommu_group");
                    state.links.insert(group, "8".to_owned());
                }
            } else {
                return Err(errno(Errno::BUSY));
            }
        } else if path == "/sys/bus/pci/drivers/vfio-pci/bind" {
            if !self.iommu {
                return Err(errno(Errno::INVAL));
            }
            let driver = "vfio-pci".to_owned();
            state.links.insert(format!("{VF}/driver"), driver);
            state.files.insert("/dev/vfio/8".to_owned(), String::new());
        } else if path == "/sys/bus/pci/drivers/vfio-pci/unbind" {
            state.links.remove(&format!("{VF}/driver"));
            state.files.remove("/dev/vfio/8");
        } else {
            let shown = if value.is_empty() { "(null)" } else { value };
            if !state.files.contains_key(path) {
                return Err(io::ErrorKind::NotFound.into());
            }
            state.files.insert(path.to_owned(), shown.to_owned());
        }
        Ok(())
    }

    fn exists(&self, path: &str) -> bool {
        let state = self.state.borrow();
        match path.strip_prefix("/sys/module/") {
            Some(module) => state.modules.contains(module),
            None if path == "/sys/bus/pci/drivers/vfio-pci" => state.modules.contains("vfio_pci"),
            None => state.files.contains_key(path) || state.links.contains_key(path),
        }
    }

    fn link_name(&self, path: &str) -> Option<String> {
        self.state.borrow().links.get(path).cloned()
    }

    fn load(&self, module: &str) -> io::Result<()> {
        self.change()?;
        let names: &[&str] = match module {
            "vfio-pci" => &["vfio_pci", "vfio_pci_core", "vfio", "irqbypass"],
            _ => &["vfio_iommu_type1"],
        };
        let modules = &mut self.state.borrow_mut().modules;
        modules.extend(names.iter().map(|name| (*name).to_owned()));
        Ok(())
    }

    fn unload(&self, module: &str) -> io::Result<()> {
        self.change()?;
        self.state.borrow_mut().modules.remove(module);
        Ok(())
    }

    fn open_group(&self, path: &str) -> io::Result<bool> {
        self.change()?;
        match self.exists(path) {
            true => Ok(true),
            false => Err(errno(Errno::NOENT)),
        }
    }

    fn attach_group(&self, _: &str) -> io::Result<()> {
        self.change()?;
        match self.remapping {
            true => Ok(()),
            false => Err(errno(Errno::PERM)),
        }
    }

    fn pause(&self, _: Duration) {}
}

fn wanted() -> Wanted {
    Wanted {
        address: "0000:01:00.0".to_owned(),
        functions: 1,
    }
}

/// The steps by name, `!` before one that failed.
fn outcome(steps: &[TrialStep]) -> String {
    let words = steps.iter().map(|step| {
        let sign = if step.outcome.worked() { "" } else { "!" };
        format!("{sign}{}", step.name)
    });
    words.collect::<Vec<_>>().join(" ")
}

/// A directory with the journal of a trial that nobody undid.
fn interrupted(node: &Node) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = Journal::begin(directory.path(), node).unwrap();
    run(&wanted(), node, &mut journal);
    directory
}

fn restored(directory: &tempfile::TempDir, node: &Node) -> Option<super::super::Restored> {
    let journal = Journal::open_existing(directory.path()).unwrap();
    let restored = journal.and_then(|mut journal| journal.undo(node).unwrap());
    assert!(
        restored.iter().all(|found| found.failed.is_empty()),
        "{restored:?}"
    );
    assert!(!directory.path().join("journal").exists());
    restored
}

#[test]
fn a_trial_goes_through_every_step_and_leaves_the_node_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::new();
    let before = node.now();
    let mut journal = Journal::begin(directory.path(), &node).unwrap();
    let steps = run(&wanted(), &node, &mut journal);
    assert_eq!(outcome(&steps), "create appear bind open attach");
    let restored = journal.undo(&node).unwrap().unwrap_or_default();
    assert!(restored.failed.is_empty(), "{restored:?}");
    assert_eq!(node.now(), before);
    assert!(!directory.path().join("journal").exists());
}

#[test]
fn the_first_step_that_fails_is_the_last_and_keeps_its_errno() {
    for (iommu, remapping, expected, errno) in [
        (false, true, "create appear !bind", Errno::INVAL),
        (true, false, "create appear bind open !attach", Errno::PERM),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let node = Node {
            iommu,
            remapping,
            ..Node::new()
        };
        let before = node.now();
        let mut journal = Journal::begin(directory.path(), &node).unwrap();
        let steps = run(&wanted(), &node, &mut journal);
        assert_eq!(outcome(&steps), expected);
        let last = steps.last().map(|step| step.outcome.clone());
        let Some(Attempt::Failed { errno: found, .. }) = last else {
            unreachable!("{last:?}");
        };
        assert_eq!(found, Some(errno.raw_os_error()));
        journal.undo(&node).unwrap();
        assert_eq!(node.now(), before);
    }
}

/// As SIGKILL: nothing more is changed and the journal's descriptors close.
#[test]
fn killed_at_any_point_the_next_run_puts_everything_back() {
    for changes in 0..24 {
        let directory = tempfile::tempdir().unwrap();
        let node = Node::new();
        let before = node.now();
        let mut journal = Journal::begin(directory.path(), &node).unwrap();
        node.left.set(changes);
        run(&wanted(), &node, &mut journal);
        let _ = journal.undo(&node);
        drop(journal);
        node.left.set(usize::MAX);
        restored(&directory, &node);
        assert_eq!(node.now(), before, "killed after {changes} changes");
    }
}

#[test]
fn what_somebody_else_has_set_meanwhile_stays() {
    let node = Node::new();
    let directory = interrupted(&node);
    let numvfs = format!("{PF}/sriov_numvfs");
    node.holds(&numvfs, "4");
    restored(&directory, &node);
    assert_eq!(node.read(&numvfs).unwrap(), "4");
}

#[test]
fn after_a_reboot_there_is_nothing_to_put_back() {
    let node = Node::new();
    let directory = interrupted(&node);
    node.holds(BOOT_ID, "next-boot");
    let kept = node.now();
    assert_eq!(restored(&directory, &node), None);
    assert_eq!(node.now(), kept);
}

#[test]
fn a_line_that_was_cut_short_announces_nothing() {
    let node = Node::new();
    let before = node.now();
    let directory = interrupted(&node);
    let file = directory.path().join("journal");
    let mut text = std::fs::read_to_string(&file).unwrap();
    text.push_str("{\"undo\":\"val");
    std::fs::write(&file, text).unwrap();
    restored(&directory, &node);
    assert_eq!(node.now(), before);
}

#[test]
fn two_probes_do_not_try_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::new();
    let _journal = Journal::begin(directory.path(), &node).unwrap();
    let second = Journal::begin(directory.path(), &node);
    let busy = matches!(second, Err(super::super::Error::Busy { .. }));
    assert!(busy, "{second:?}");
}
