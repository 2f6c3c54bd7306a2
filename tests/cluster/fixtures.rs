//! Disks and images that the tests make themselves.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use oci::{ArchiveReader, Image, Layer, ProcessConfig, Tree};
use testkit::{Namespace, edgevirt};

/// The user that runs QEMU, whom disks belong to.
const OWNER: u64 = 107;

/// An image of the embedded registry, taken out again when the test ends.
pub(crate) struct Added {
    name: String,
}

impl Added {
    /// `edgevirt image add`, under a name that no other test has: it goes with all its tags.
    pub(crate) fn new(what: &str, file: &Path) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("test-{}-{count}/{what}", std::process::id());
        let _ = edgevirt(&["image", "add", &name, "--file", &path(file)]).expect_ok(what);
        Self { name }
    }

    /// As a manifest names it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Added {
    fn drop(&mut self) {
        // A test may have removed it.
        let _ = edgevirt(&["image", "rm", &self.name, "--all-tags"]);
    }
}

/// Makes the secret `registry` with the user and password that the cluster's registry knows.
pub(crate) fn registry_secret(ns: &Namespace) {
    let password = fs::read_to_string("/etc/edgevirt/pki/registry.password").unwrap();
    let secret = serde_json::json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "registry"},
        "stringData": {"accessKeyId": "edgevirt", "secretKey": password.trim()},
    });
    let _ = ns.create(&secret.to_string()).expect_ok("secret");
}

/// A disk whose boot sector prints a line on the serial port about every second, for ever. It needs no memory to speak
/// of and no time to boot.
pub(crate) fn tiny_disk(line: &str) -> Vec<u8> {
    let code = [
        0x31, 0xC0, // xor ax, ax
        0x8E, 0xD8, // mov ds, ax
        0xFB, // sti
        0xFC, // cld
        0xBE, 0x1C, 0x7C, // again: mov si, line
        0xAC, // next: lodsb
        0x84, 0xC0, // test al, al
        0x74, 0x06, // jz wait
        0xBA, 0xF8, 0x03, // mov dx, 0x3f8
        0xEE, // out dx, al
        0xEB, 0xF5, // jmp next
        0xB9, 0x12, 0x00, // wait: mov cx, 18
        0xF4, // tick: hlt
        0xE2, 0xFD, // loop tick
        0xEB, 0xEA, // jmp again
    ];
    let mut disk = vec![0; 1 << 20];
    disk[..code.len()].copy_from_slice(&code);
    let text = format!("{line}\r\n\0");
    disk[code.len()..code.len() + text.len()].copy_from_slice(text.as_bytes());
    disk[510..512].copy_from_slice(&[0x55, 0xAA]);
    disk
}

fn image(disk: Vec<u8>) -> Image {
    let mut tree = Tree::owned_by(OWNER, OWNER);
    tree.file("disk/tiny.img", disk, 0o440).unwrap();
    Image::new(vec![Layer::new(tree).unwrap()], ProcessConfig::default()).unwrap()
}

/// What `buildah push IMAGE oci-archive:FILE` writes of an image with this disk.
pub(crate) fn oci_archive(dir: &Path, disk: Vec<u8>) -> PathBuf {
    let file = dir.join("oci.tar");
    oci::write_archive(&file, &"any/name:1".parse().unwrap(), &image(disk)).unwrap();
    file
}

/// What `docker save` writes of an image with this disk.
pub(crate) fn docker_archive(dir: &Path, disk: Vec<u8>) -> PathBuf {
    let image = image(disk);
    let top = dir.join("docker");
    fs::create_dir_all(top.join("layer")).unwrap();
    fs::write(top.join("config.json"), image.config()).unwrap();
    let mut layer = fs::File::create(top.join("layer/layer.tar")).unwrap();
    std::io::copy(&mut image.layers()[0].open().unwrap(), &mut layer).unwrap();
    fs::write(
        top.join("manifest.json"),
        r#"[{"Config":"config.json","RepoTags":["any/name:1"],"Layers":["layer/layer.tar"]}]"#,
    )
    .unwrap();
    let file = dir.join("docker.tar");
    run(Command::new("tar")
        .args(["--create", "--file"])
        .arg(&file)
        .arg("--directory")
        .arg(&top)
        .args(["manifest.json", "config.json", "layer"]));
    file
}

/// The qcow2 of the demo guest, which plays the image that a user downloaded.
pub(crate) fn guest_disk(dir: &Path) -> PathBuf {
    let archive = concat!(env!("CARGO_MANIFEST_DIR"), "/target/images/guest.tar");
    let archive = ArchiveReader::open(Path::new(archive)).unwrap();
    let image = archive.image().unwrap();
    let layer = image.blobs().max_by_key(|blob| blob.size).unwrap();
    let tar = dir.join("layer.tar");
    let mut file = fs::File::create(&tar).unwrap();
    std::io::copy(&mut archive.blob(layer).unwrap(), &mut file).unwrap();
    run(Command::new("tar")
        .args(["--extract", "--file"])
        .arg(&tar)
        .arg("--directory")
        .arg(dir)
        .arg("disk/guest.qcow2"));
    dir.join("disk/guest.qcow2")
}

/// An image with busybox, for a plain pod.
pub(crate) fn tools_archive(dir: &Path) -> PathBuf {
    let mut tree = Tree::owned_by(0, 0);
    tree.file("bin/busybox", busybox(), 0o755).unwrap();
    for applet in ["sh", "wget", "nc", "ping", "httpd", "sleep"] {
        tree.symlink(&format!("bin/{applet}"), "busybox").unwrap();
    }
    tree.dir("www", 0o755).unwrap();
    tree.file("www/index.html", b"hello-from-pod\n".to_vec(), 0o644)
        .unwrap();
    tree.dir("tmp", 0o1777).unwrap();
    let image = Image::new(vec![Layer::new(tree).unwrap()], ProcessConfig::default()).unwrap();
    let file = dir.join("tools.tar");
    oci::write_archive(&file, &"any/tools:1".parse().unwrap(), &image).unwrap();
    file
}

/// Debian's static busybox, unpacked where the demo guest was built.
fn busybox() -> PathBuf {
    let cache = std::env::var("EDGEVIRT_CACHE").unwrap_or_else(|_| "/var/cache/edgevirt".into());
    let unpacked = Path::new(&cache).join("unpacked");
    fs::read_dir(&unpacked)
        .unwrap()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("busybox-static_")
        })
        .map(|path| path.join("bin/busybox"))
        .find(|path| path.exists())
        .unwrap_or_else(|| {
            panic!(
                "no busybox-static below {}; `make images`",
                unpacked.display()
            )
        })
}

/// A path as an argument.
pub(crate) fn path(path: &Path) -> String {
    path.display().to_string()
}

/// Runs a program that must succeed.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
