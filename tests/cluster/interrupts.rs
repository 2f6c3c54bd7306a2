//! Ctrl-C in the middle of an installer's verb leaves nothing half done: the same again works.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use testkit::{Background, Namespace, edgevirt_program, eventually_within, kubectl};

use crate::fixtures::{path, run};

/// What shells give a program that SIGINT ended.
const INTERRUPTED: i32 = 130;
const SOON: Duration = Duration::from_secs(20);

fn deploy(dir: &Path) -> Command {
    let mut command = Background::command(&edgevirt_program());
    command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["deploy", "--log-dir", &path(&dir.join("log"))])
        .env("TMPDIR", dir.join("tmp"))
        .stdin(Stdio::null())
        .stdout(File::create(dir.join("stdout")).unwrap())
        .stderr(File::create(dir.join("stderr")).unwrap());
    command
}

/// Every log the deploys of a directory wrote.
fn logs(dir: &Path) -> String {
    let Ok(entries) = std::fs::read_dir(dir.join("log")) else {
        return String::new();
    };
    entries
        .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect()
}

#[test]
fn an_interrupted_deploy_ends_its_playbook_and_the_next_one_completes() {
    for alone in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("tmp")).unwrap();
        let mut deploy = Background::start(&mut deploy(dir.path()));
        eventually_within(SOON, "a task of the role kubevirt", || {
            let log = logs(dir.path());
            if log.contains("TASK [kubevirt") {
                Ok(())
            } else {
                Err(log)
            }
        });
        if alone {
            deploy.interrupt()
        } else {
            deploy.interrupt_group()
        }
        let status = deploy.wait(SOON);
        let said = std::fs::read_to_string(dir.path().join("stderr")).unwrap();
        assert_eq!(status.code(), Some(INTERRUPTED), "alone: {alone}: {said}");
        assert!(
            said.contains("interrupted") && said.contains("Run deploy again"),
            "{said}"
        );
        eventually_within(SOON, "no process is left", || match deploy.left() {
            0 => Ok(()),
            left => Err(format!("{left} left")),
        });
        let left = std::fs::read_dir(dir.path().join("tmp")).unwrap().count();
        assert_eq!(left, 0, "temporary files are left");
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("tmp")).unwrap();
    let said = run(deploy(dir.path()).stdout(Stdio::piped()));
    assert!(
        said.contains("Deployed, Available") && !said.contains("not ok"),
        "{said}"
    );
}

#[test]
fn an_interrupted_demo_starts_the_vm_when_it_is_run_again() {
    let ns = Namespace::new("demo");
    let dir = tempfile::tempdir().unwrap();
    // The demo goes where the kubeconfig points.
    let config = dir.path().join("config");
    let text = kubectl(&["config", "view", "--raw", "--flatten"], None).expect_ok("config");
    std::fs::write(&config, text).unwrap();
    let _ = run(Command::new("kubectl")
        .args([
            "config",
            "set-context",
            "--current",
            "--namespace",
            ns.name(),
        ])
        .env("KUBECONFIG", &config));
    let demo = || {
        let mut command = Background::command(&edgevirt_program());
        command
            .args(["demo", "--kubeconfig", &path(&config)])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    };
    // Before the VM is there, while it is created and started, while its guest boots;
    // from a terminal, and as a script does it.
    let group: fn(&Background) = Background::interrupt_group;
    let alone: fn(&Background) = Background::interrupt;
    for (after, interrupt) in [
        (5, group),
        (60, group),
        (120, group),
        (1500, group),
        (1500, alone),
    ] {
        let mut demo = Background::start(&mut demo());
        std::thread::sleep(Duration::from_millis(after));
        interrupt(&demo);
        let status = demo.wait(SOON);
        assert!(!status.success(), "after {after} ms: {status}");
        // A virtctl that the signal reached too may end a moment after the demo.
        eventually_within(SOON, "the demo left no process", || match demo.left() {
            0 => Ok(()),
            left => Err(format!("{left} left after {after} ms")),
        });
    }
    let said = run(&mut demo());
    assert!(
        said.contains("login:") && said.contains("The virtual machine is up."),
        "{said}"
    );
    assert_eq!(ns.list("vm", "").len(), 1);
}
