//! The launcher with a real QEMU and a real guest, outside Kubernetes.
//!
//! `tests/run` runs them with what it unpacks from the images; by hand it is
//! `cargo test -p virt-launcher --test guest -- --ignored` with
//! EDGEVIRT_LAUNCHER_TREE (a directory with usr/bin/qemu-system-x86_64, xorriso
//! and their libraries and firmware) and EDGEVIRT_GUEST_IMAGE (a qcow2 or raw
//! image whose serial console asks for a login). Emulated, without a network:
//! needs no rights, but for the one with a block device, and leaves nothing behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use api::launcher::{DomainPhase, DomainState, Message, Op, Request, Sync};
use serde_json::json;

/// A launcher in a directory of its own, and a handler's connection to it.
struct Pod {
    launcher: Child,
    dir: tempfile::TempDir,
    handler: BufReader<UnixStream>,
    next: u64,
    state: DomainState,
}

impl Pod {
    fn start() -> Self {
        Self::start_with(|_| Vec::new())
    }

    /// A pod whose directory is prepared, with further arguments of its launcher.
    fn start_with(prepare: impl Fn(&Path) -> Vec<String>) -> Self {
        let tree = PathBuf::from(std::env::var("EDGEVIRT_LAUNCHER_TREE").unwrap());
        let image = std::env::var("EDGEVIRT_GUEST_IMAGE").unwrap();
        let dir = tempfile::tempdir().unwrap();
        for sub in ["private", "disks", "ephemeral"] {
            std::fs::create_dir(dir.path().join(sub)).unwrap();
        }
        serve_image(&dir.path().join("disks/disk_0.sock"), image);
        let more = prepare(dir.path());
        let path = |p: &str| tree.join(p);
        let launcher = Command::new(env!("CARGO_BIN_EXE_launcher-under-test"))
            .env(
                "LD_LIBRARY_PATH",
                format!(
                    "{}:{}",
                    path("usr/lib/x86_64-linux-gnu").display(),
                    path("lib/x86_64-linux-gnu").display()
                ),
            )
            .arg("--private-dir")
            .arg(dir.path().join("private"))
            .arg("--container-disk-dir")
            .arg(dir.path().join("disks"))
            .arg("--ephemeral-dir")
            .arg(dir.path().join("ephemeral"))
            .arg("--qemu")
            .arg(path("usr/bin/qemu-system-x86_64"))
            .arg("--xorriso")
            .arg(path("usr/bin/xorriso"))
            .arg("--ovmf-dir")
            .arg(path("usr/share/OVMF"))
            .arg("--data-dir")
            .arg(path("usr/share/qemu"))
            .arg("--data-dir")
            .arg(path("usr/share/seabios"))
            .args(more)
            .spawn()
            .unwrap();
        let socket = dir.path().join("private/launcher.sock");
        wait_for(|| socket.exists());
        let handler = UnixStream::connect(&socket).unwrap();
        handler
            .set_read_timeout(Some(Duration::from_secs(90)))
            .unwrap();
        let mut pod = Self {
            launcher,
            dir,
            handler: BufReader::new(handler),
            next: 0,
            state: DomainState::default(),
        };
        pod.ask(Op::Watch).unwrap();
        pod
    }

    fn ask(&mut self, op: Op) -> Result<(), String> {
        self.next += 1;
        let request = Request { id: self.next, op };
        let line = serde_json::to_string(&request).unwrap();
        writeln!(self.handler.get_mut(), "{line}").unwrap();
        loop {
            if let Message::Reply(reply) = self.read().expect("the launcher answers") {
                assert_eq!(reply.id, self.next);
                return reply.error.map_or(Ok(()), Err);
            }
        }
    }

    fn read(&mut self) -> Option<Message> {
        let mut line = String::new();
        if self.handler.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let message: Message = serde_json::from_str(&line).unwrap();
        if let Message::State(state) = &message {
            self.state = (**state).clone();
        }
        Some(message)
    }

    fn until(&mut self, phase: DomainPhase) {
        while self.state.phase != phase {
            assert!(!self.state.phase.is_final(), "{:?}", self.state);
            self.read().expect("the launcher lives");
        }
    }

    fn serial(&self) -> UnixStream {
        let serial = UnixStream::connect(self.dir.path().join("private/virt-serial0")).unwrap();
        serial
            .set_read_timeout(Some(Duration::from_secs(90)))
            .unwrap();
        serial
    }

    /// The exit code and the state file.
    fn end(mut self) -> (Option<i32>, DomainState) {
        let code = self.launcher.wait().unwrap().code();
        let file = File::open(self.dir.path().join("private/state.json")).unwrap();
        (code, serde_json::from_reader(file).unwrap())
    }
}

fn wait_for(ready: impl Fn() -> bool) {
    let begin = Instant::now();
    while !ready() {
        assert!(begin.elapsed() < Duration::from_secs(10), "too late");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Stands in for the containerDisk helper.
fn serve_image(socket: &Path, image: String) {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let file = File::open(&image).unwrap();
        let message = json!({"path": image, "size": 0}).to_string();
        host::fdpass::send_fd(&stream, message.as_bytes(), file.as_fd()).unwrap();
        let _ = stream.read(&mut [0]);
    });
}

fn expect(serial: &mut UnixStream, words: &str) {
    let mut seen = Vec::new();
    let mut buffer = [0; 1024];
    while !String::from_utf8_lossy(&seen).contains(words) {
        let n = serial.read(&mut buffer).expect("the guest speaks");
        assert!(n > 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..n]);
    }
}

/// The pod of [`on_claim`]: its volumes as the kubelet mounts them, `data` from `claim`.
fn with_claim(claim: &Path) -> Pod {
    Pod::start_with(|dir| {
        let mounted = dir.join("private");
        for sub in ["vmi-disks", "config-map/files"] {
            std::fs::create_dir_all(mounted.join(sub)).unwrap();
        }
        let volume = mounted.join("vmi-disks/data");
        std::fs::create_dir(&volume).unwrap();
        // A second name, for a mount needs rights that the test has not.
        let image = claim.join("disk.img");
        if image.exists() {
            std::fs::hard_link(image, volume.join("disk.img")).unwrap();
        }
        std::fs::write(mounted.join("config-map/files/greeting"), "from a map").unwrap();
        ["--image-size", "data=1048576"].map(str::to_owned).to_vec()
    })
}

/// A guest with a claim as its third disk and a medium of files.
fn on_claim() -> Op {
    let Op::Sync(mut wish) = sync() else {
        unreachable!()
    };
    let spec = &mut wish.vmi.spec;
    for (volume, disk) in [
        (
            json!({"name": "data", "persistentVolumeClaim": {"claimName": "c"}}),
            json!({"name": "data", "disk": {"bus": "virtio"}, "serial": "abc"}),
        ),
        (
            json!({"name": "files", "configMap": {"name": "m"}}),
            json!({"name": "files", "cdrom": {"bus": "scsi"}}),
        ),
    ] {
        spec.volumes.push(serde_json::from_value(volume).unwrap());
        let disks = &mut spec.domain.devices.disks;
        disks.push(serde_json::from_value(disk).unwrap());
    }
    Op::Sync(wish)
}

#[test]
#[ignore = "needs EDGEVIRT_LAUNCHER_TREE and EDGEVIRT_GUEST_IMAGE"]
fn what_a_guest_writes_into_a_claim_stays_and_nobody_else_gets_at_it_meanwhile() {
    let claim = tempfile::tempdir().unwrap();
    let image = claim.path().join("disk.img");
    // It looks like a qcow2 with a backing file: a claim is raw all the same.
    let mut bytes = vec![0; 1 << 20];
    bytes[..4].copy_from_slice(b"QFI\xfb");
    bytes[7] = 3;
    bytes[15] = 104;
    bytes[19] = 11;
    bytes[104..115].copy_from_slice(b"/etc/passwd");
    std::fs::write(&image, bytes).unwrap();

    let mut pod = with_claim(claim.path());
    pod.ask(on_claim()).unwrap();
    pod.until(DomainPhase::Running);
    assert_eq!(pod.state.disks[2], ("data".into(), "vdc".into(), 1 << 20));
    let mut serial = pod.serial();

    let mut second = with_claim(claim.path());
    second.ask(on_claim()).unwrap();
    second.until(DomainPhase::StartFailed);
    let why = &second.state.message;
    assert!(
        why.contains("image of volume data is in use by another virtual machine"),
        "{why}"
    );
    assert_eq!(second.end().0, Some(1));

    expect(&mut serial, "login:");
    for (line, answer) in [
        ("cirros", "assword:"),
        ("gocubsgo", "$ "),
        ("sudo head -c 4 /dev/vdc; echo", "QFI"),
        ("cat /sys/block/vdc/serial", "abc"),
        (
            "sudo mount -o ro /dev/sr0 /mnt; cat /mnt/greeting",
            "from a map",
        ),
        (
            "echo written | sudo dd of=/dev/vdc conv=notrunc,fsync; echo do''ne",
            "done",
        ),
    ] {
        write!(serial, "{line}\r").unwrap();
        expect(&mut serial, answer);
    }
    // Killed, not asked: what was synced is there.
    pod.ask(Op::Shutdown {
        grace_seconds: Some(0),
    })
    .unwrap();
    pod.until(DomainPhase::Killed);
    assert_eq!(pod.end().0, Some(0));
    let bytes = std::fs::read(&image).unwrap();
    assert_eq!(&bytes[..8], b"written\n");
    assert_eq!(bytes.len(), 1 << 20);
}

/// A block device over a file, taken away when the test ends.
struct Loop(String);

impl Loop {
    fn over(file: &Path) -> Self {
        let output = Command::new("losetup")
            .args(["--find", "--show"])
            .arg(file)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        Self(String::from_utf8(output.stdout).unwrap().trim().to_owned())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.0]).status();
    }
}

#[test]
#[ignore = "needs EDGEVIRT_LAUNCHER_TREE, EDGEVIRT_GUEST_IMAGE and root, for a loop device"]
fn a_block_claim_is_one_guests_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    File::create(&file).unwrap().set_len(1 << 20).unwrap();
    let device = Loop::over(&file);
    let number = rustix::fs::stat(device.0.as_str()).unwrap().st_rdev;
    let start = || {
        Pod::start_with(|dir| {
            std::fs::create_dir_all(dir.join("private/config-map/files")).unwrap();
            std::fs::create_dir(dir.join("dev")).unwrap();
            // A node of its own, as each container has one.
            rustix::fs::mknodat(
                rustix::fs::CWD,
                dir.join("dev/data"),
                rustix::fs::FileType::BlockDevice,
                rustix::fs::Mode::from_raw_mode(0o600),
                number,
            )
            .unwrap();
            let dev = dir.join("dev").display().to_string();
            vec!["--dev-dir".to_owned(), dev]
        })
    };
    let mut pod = start();
    pod.ask(on_claim()).unwrap();
    pod.until(DomainPhase::Running);
    assert_eq!(pod.state.disks[2], ("data".into(), "vdc".into(), 1 << 20));
    let mut second = start();
    second.ask(on_claim()).unwrap();
    second.until(DomainPhase::StartFailed);
    let why = &second.state.message;
    assert!(
        why.contains("is in use: by another virtual machine"),
        "{why}"
    );
    pod.ask(Op::Shutdown {
        grace_seconds: Some(0),
    })
    .unwrap();
    pod.until(DomainPhase::Killed);
    assert_eq!(pod.end().0, Some(0));
    // It is free for the next one.
    let mut third = start();
    third.ask(on_claim()).unwrap();
    third.until(DomainPhase::Running);
    third
        .ask(Op::Shutdown {
            grace_seconds: Some(0),
        })
        .unwrap();
    third.until(DomainPhase::Killed);
    assert_eq!(third.end().0, Some(0));
}

#[test]
#[ignore = "needs EDGEVIRT_LAUNCHER_TREE and EDGEVIRT_GUEST_IMAGE"]
fn a_claim_whose_image_is_a_link_starts_no_guest() {
    let claim = tempfile::tempdir().unwrap();
    let mut pod = with_claim(claim.path());
    std::os::unix::fs::symlink(
        "/etc/passwd",
        pod.dir.path().join("private/vmi-disks/data/disk.img"),
    )
    .unwrap();
    pod.ask(on_claim()).unwrap();
    pod.until(DomainPhase::StartFailed);
    assert!(
        pod.state.message.contains("found a symbolic link"),
        "{}",
        pod.state.message
    );
}

fn sync() -> Op {
    let vmi = serde_json::from_value(json!({
        "metadata": {"name": "vm", "namespace": "ns", "uid": "u"},
        "spec": {
            "domain": {
                "memory": {"guest": "256Mi"},
                "devices": {"disks": [{"name": "root", "disk": {"bus": "virtio"}},
                                      {"name": "seed", "disk": {"bus": "virtio"}}]},
            },
            "volumes": [{"name": "root", "containerDisk": {"image": "x"}},
                        {"name": "seed", "cloudInitNoCloud": {"userDataBase64": "SGkuXG4="}}],
        },
    }))
    .unwrap();
    Op::Sync(Box::new(Sync {
        vmi,
        use_emulation: true,
        ..Sync::default()
    }))
}

#[test]
#[ignore = "needs EDGEVIRT_LAUNCHER_TREE and EDGEVIRT_GUEST_IMAGE"]
fn a_guest_boots_pauses_and_shuts_down() {
    let mut pod = Pod::start();
    pod.ask(sync()).unwrap();
    pod.until(DomainPhase::Running);
    assert!(pod.state.machine_type.starts_with("pc-q35-"));
    assert_eq!(pod.state.disks[0].1, "vda");
    let mut serial = pod.serial();
    expect(&mut serial, "login:");
    pod.ask(Op::Pause).unwrap();
    pod.until(DomainPhase::Paused);
    pod.ask(Op::Unpause).unwrap();
    pod.until(DomainPhase::Running);
    pod.ask(Op::Reset).unwrap();
    expect(&mut serial, "login:");
    pod.ask(Op::Shutdown {
        grace_seconds: Some(60),
    })
    .unwrap();
    pod.until(DomainPhase::Shutdown);
    let (code, state) = pod.end();
    assert_eq!(code, Some(0));
    assert_eq!(state.phase, DomainPhase::Shutdown);
}

#[test]
#[ignore = "needs EDGEVIRT_LAUNCHER_TREE and EDGEVIRT_GUEST_IMAGE"]
fn a_guest_that_hears_nothing_is_killed() {
    let mut pod = Pod::start();
    pod.ask(sync()).unwrap();
    pod.until(DomainPhase::Running);
    pod.ask(Op::Shutdown {
        grace_seconds: Some(0),
    })
    .unwrap();
    pod.until(DomainPhase::Killed);
    assert_eq!(pod.end().0, Some(0));
}

#[test]
#[ignore = "needs EDGEVIRT_LAUNCHER_TREE and EDGEVIRT_GUEST_IMAGE"]
fn a_machine_that_qemu_does_not_know_fails_with_its_words() {
    let mut pod = Pod::start();
    let Op::Sync(mut wish) = sync() else {
        unreachable!()
    };
    wish.vmi.spec.domain.machine = Some(api::vmi::Machine {
        type_: "pc-q35-99.0".to_owned(),
    });
    pod.ask(Op::Sync(wish)).unwrap();
    pod.until(DomainPhase::StartFailed);
    assert!(pod.state.message.contains("pc-q35-99.0"));
    assert_eq!(pod.end().0, Some(1));
}
