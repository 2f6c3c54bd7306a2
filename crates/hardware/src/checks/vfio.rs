//! The driver that hands devices to guests.

use super::not_read;
use crate::catalogue::{Check, Remedy};
use crate::facts::Facts;
use crate::finding::Finding;
use crate::requirements::Requirements;
use crate::verdict::Fix;

const LOAD: &str = "modprobe vfio-pci, and list vfio-pci in a file of /etc/modules-load.d";
const INSTALL: &str = "install the distribution's full kernel (linux-image-amd64 rather than -cloud-amd64 on Debian, linux-modules-extra on Ubuntu, kernel-modules on RHEL, Rocky and Fedora) and boot it";

pub(crate) static MODULE: Check = Check {
    id: "vfio.module",
    title: "vfio-pci is in the kernel",
    reads: &[
        "/sys/bus/pci/drivers/vfio-pci",
        "/lib/modules/RELEASE/modules.builtin",
        "/lib/modules/RELEASE/modules.dep",
        "/sys/bus/pci/devices/BDF/driver_override",
        "/etc/modprobe.d/",
    ],
    why: "a device for a guest is bound to vfio-pci; no other driver hands it over",
    judged: "Passes when the driver is registered on the PCI bus, loaded or built in. Where devices are to be given to guests: warns when it is installed and not loaded, fails when the running kernel does not have it. Otherwise skipped.",
    remedies: &[
        Remedy {
            case: "not loaded",
            text: LOAD,
        },
        Remedy {
            case: "not installed",
            text: INSTALL,
        },
        Remedy {
            case: "blacklisted",
            text: "take the line out of the file of /etc/modprobe.d",
        },
    ],
    judge: module,
};

fn module(facts: &Facts, requirements: &Requirements) -> Vec<Finding> {
    let modules = &facts.modules;
    if modules
        .pci_drivers
        .iter()
        .any(|driver| driver == "vfio-pci")
    {
        let overrides = facts
            .pci
            .iter()
            .any(|device| device.driver_override == Some(false) && device.is_network());
        return if overrides && requirements.needs_vfio() {
            Finding::fail(
                "/sys/bus/pci/drivers/vfio-pci: there; /sys/bus/pci/devices/*/driver_override: missing",
                "use a kernel of 3.16 or newer",
            )
            .alone()
        } else {
            Finding::pass("/sys/bus/pci/drivers/vfio-pci: there").alone()
        };
    }
    if modules.present("vfio_pci") {
        return Finding::pass("/sys/module/vfio_pci: loaded or built in").alone();
    }
    if !requirements.needs_vfio() {
        return Finding::skip("no device is to be given to guests").alone();
    }
    let evidence = "/sys/bus/pci/drivers/vfio-pci: missing";
    if modules.disabled == Some(true) {
        return Finding::fail(
            format!("{evidence}; /proc/sys/kernel/modules_disabled: 1"),
            "list vfio-pci in a file of /etc/modules-load.d so that it loads before modules are locked, then reboot",
        )
        .alone();
    }
    let Some(directory) = &modules.directory else {
        return Finding::skip(format!(
            "{evidence}; {}",
            not_read(
                facts,
                &format!("/lib/modules/{}/modules.dep", facts.kernel.release)
            )
        ))
        .alone();
    };
    let file = modules
        .known
        .get("vfio_pci")
        .and_then(|module| module.file.as_ref());
    let Some(file) = file else {
        return Finding::fail(
            format!("{evidence}; {directory}/modules.dep: no vfio-pci"),
            INSTALL,
        )
        .alone();
    };
    let evidence = format!("{evidence}; {directory}/modules.dep: {file}");
    match modules.blacklisted.get("vfio_pci") {
        Some(by) => Finding::fail(
            format!("{evidence}; {by}: blacklisted"),
            format!("take the line for vfio-pci out of {by}, then {LOAD}"),
        )
        .alone(),
        None => Finding::warn(evidence, LOAD)
            .fixed_by(Fix::ModulesLoad {
                names: vec!["vfio-pci".to_owned()],
            })
            .alone(),
    }
}
