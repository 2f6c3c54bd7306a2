//! The lowest layer: a root that has what our binary and nft need, and nothing else. No shell.

use oci::Tree;

use super::Workshop;
use super::root::Root;

/// Packages of the layer, with all they depend on.
const PACKAGES: [&str; 3] = ["libc6", "libgcc-s1", "nftables"];
/// What our binary is linked to; it is in a layer of its own, so its needs are named here.
const LIBRARIES: [&str; 3] = [
    "usr/lib/x86_64-linux-gnu/libc.so.6",
    "usr/lib/x86_64-linux-gnu/libm.so.6",
    "usr/lib/x86_64-linux-gnu/libgcc_s.so.1",
];

/// Builds the layer.
pub(super) fn build(context: &mut Workshop) -> anyhow::Result<Tree> {
    let root = Root::new(&context.apt.closure(&PACKAGES)?)?;
    let mut tree = Tree::owned_by(0, 0);
    skeleton(&mut tree)?;
    root.copy_programs(&LIBRARIES, &mut tree)?;
    root.copy_programs(&["usr/sbin/nft"], &mut tree)?;
    Ok(tree)
}

/// Directories, the links into /usr and the few files that libc reads.
pub(crate) fn skeleton(tree: &mut Tree) -> anyhow::Result<()> {
    for dir in [
        "dev",
        "etc",
        "proc",
        "root",
        "run",
        "sys",
        "usr/bin",
        "usr/sbin",
        "usr/lib64",
        "var/lib",
        "var/log",
    ] {
        tree.dir(dir, 0o755)?;
    }
    tree.dir("tmp", 0o1777)?;
    tree.dir("var/tmp", 0o1777)?;
    for dir in ["bin", "sbin", "lib", "lib64"] {
        tree.symlink(dir, &format!("usr/{dir}"))?;
    }
    tree.symlink("var/run", "/run")?;
    // 107 is the user that owns disk images and runs QEMU, by KubeVirt's convention.
    tree.file(
        "etc/passwd",
        "root:x:0:0:root:/root:/sbin/nologin\nqemu:x:107:107:qemu:/:/sbin/nologin\n\
         nobody:x:65534:65534:nobody:/:/sbin/nologin\n",
        0o644,
    )?;
    tree.file(
        "etc/group",
        "root:x:0:\nqemu:x:107:\nnogroup:x:65534:\n",
        0o644,
    )?;
    tree.file(
        "etc/nsswitch.conf",
        "passwd: files\ngroup: files\nhosts: files dns\n",
        0o644,
    )?;
    Ok(())
}
