//! The layer above the components': QEMU, firmware, qemu-img and xorriso, for a guest without a display.

use oci::Tree;

use super::Workshop;
use super::root::Root;

/// Packages of the layer, with all they depend on.
const PACKAGES: [&str; 7] = [
    "libc6",
    "qemu-system-x86",
    "qemu-utils",
    "seabios",
    "ipxe-qemu",
    "ovmf",
    "xorriso",
];
/// The programs.
const PROGRAMS: [&str; 3] = [
    "usr/bin/qemu-system-x86_64",
    "usr/bin/qemu-img",
    "usr/bin/xorriso",
];
/// Data that QEMU opens for the machines we make: q35 with SeaBIOS or OVMF, VGA, virtio devices, direct kernel boot.
/// A NIC's boot ROM is for booting from the network; it is asked for whether or not that happens.
const DATA: [&str; 14] = [
    "usr/share/seabios/bios-256k.bin",
    "usr/share/seabios/vgabios-stdvga.bin",
    "usr/share/seabios/vgabios-virtio.bin",
    "usr/share/qemu/kvmvapic.bin",
    "usr/share/qemu/linuxboot.bin",
    "usr/share/qemu/linuxboot_dma.bin",
    "usr/share/qemu/multiboot.bin",
    "usr/share/qemu/multiboot_dma.bin",
    "usr/share/qemu/pvh.bin",
    "usr/lib/ipxe/qemu/efi-virtio.rom",
    "usr/lib/ipxe/qemu/efi-e1000.rom",
    "usr/lib/ipxe/qemu/efi-e1000e.rom",
    "usr/lib/ipxe/qemu/efi-rtl8139.rom",
    "usr/lib/ipxe/qemu/efi-pcnet.rom",
];
/// UEFI firmware with and without secure boot, and the variables each begins with.
const UEFI: [&str; 4] = [
    "OVMF_CODE_4M.fd",
    "OVMF_VARS_4M.fd",
    "OVMF_CODE_4M.secboot.fd",
    "OVMF_VARS_4M.ms.fd",
];
/// A VNC server wants one, whatever the client's keyboard.
const KEYMAPS: &str = "usr/share/qemu/keymaps";

/// Builds the layer, without what the base layer holds already.
pub(super) fn build(context: &mut Workshop, base: &Tree) -> anyhow::Result<Tree> {
    let root = Root::new(&context.apt.closure(&PACKAGES)?)?;
    let mut tree = Tree::owned_by(0, 0);
    root.copy_programs(&PROGRAMS, &mut tree)?;
    for path in DATA {
        root.copy(path, &mut tree)?;
    }
    for file in UEFI {
        root.copy(&format!("usr/share/OVMF/{file}"), &mut tree)?;
    }
    for path in root.below(KEYMAPS) {
        root.copy(path, &mut tree)?;
    }
    tree.subtract(base);
    Ok(tree)
}
