//! Trees of machines that cannot be emulated, made by hand out of the captured one: what `--root` reads of them, and
//! the verdicts. Their facts, with more detail, are tested in crates/hardware/tests/machines.rs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use testkit::edge_node::Captured;

/// The captured NIC.
const PF: &str = "sys/devices/pci0000:00/0000:00:03.0/0000:01:00.0";

/// A tree that is changed by hand.
struct Root(PathBuf);

impl Root {
    fn path(&self, path: &str) -> PathBuf {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(path), content).unwrap();
    }

    fn replace(&self, path: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.0.join(path)).unwrap();
        assert!(text.contains(from), "{path}: {text}");
        self.write(path, text.replace(from, to));
    }

    fn link(&self, path: &str, target: &str) {
        let path = self.path(path);
        let _ = fs::remove_file(&path);
        symlink(target, path).unwrap();
    }

    /// Puts a function of the NIC's slot into a group, which both sides of sysfs say.
    fn group(&self, folder: &str, group: u32) {
        let address = folder.rsplit('/').next().unwrap();
        let groups = "sys/kernel/iommu_groups";
        let up = "../".repeat(folder.matches('/').count());
        self.link(
            &format!("{folder}/iommu_group"),
            &format!("{up}kernel/iommu_groups/{group}"),
        );
        self.write(&format!("{groups}/{group}/type"), "identity\n");
        self.link(
            &format!("{groups}/{group}/devices/{address}"),
            &format!("../../../../{}", folder.trim_start_matches("sys/")),
        );
    }

    /// A network function beside the NIC's.
    fn function(&self, address: &str, device: &str) -> String {
        let folder = format!("sys/devices/pci0000:00/0000:00:03.0/{address}");
        self.write(&format!("{folder}/class"), "0x020000\n");
        self.write(&format!("{folder}/vendor"), "0x8086\n");
        self.write(&format!("{folder}/device"), device);
        self.write(&format!("{folder}/driver_override"), "(null)\n");
        self.link(
            &format!("sys/bus/pci/devices/{address}"),
            &format!("../../../{}", folder.trim_start_matches("sys/")),
        );
        folder
    }
}

/// Makes the machine, asks for `asks`, and compares: check, status, words of its evidence.
fn machine(make: impl Fn(&Root), asks: &Value, expected: &[(&str, &str, &str)]) {
    let dir = tempfile::tempdir().unwrap();
    let root = Root(dir.path().join("tree"));
    Captured::read("full").unwrap().unpack(&root.0).unwrap();
    make(&root);
    fs::write(dir.path().join("asks"), asks.to_string()).unwrap();
    compare(dir.path(), expected);
}

fn compare(dir: &Path, expected: &[(&str, &str, &str)]) {
    let (document, _) = super::report(dir, &["--root", "tree"]);
    let verdicts = document["nodes"][0]["verdicts"].as_array().unwrap();
    for (check, status, words) in expected {
        let of_check: Vec<&Value> = verdicts.iter().filter(|v| v["id"] == *check).collect();
        let found = of_check.iter().any(|v| {
            v["status"] == *status && v["evidence"].as_str().unwrap_or_default().contains(words)
        });
        assert!(
            found,
            "{check}: expected {status}, {words:?}: {of_check:#?}"
        );
    }
}

fn sriov(functions: u32) -> Value {
    json!([{"name": "fast", "vendor": "8086", "num_vfs": functions, "device_type": "vfio-pci"}])
}

#[test]
fn two_sockets_with_the_pages_on_one_and_the_nic_on_the_other() {
    let nodes = "sys/devices/system/node";
    machine(
        |root| {
            let text = fs::read_to_string(root.path("proc/cpuinfo")).unwrap();
            let (first, second) = text.split_once("processor\t: 1\n").unwrap();
            let second = second.replace("physical id\t: 0", "physical id\t: 1");
            root.write("proc/cpuinfo", format!("{first}processor\t: 1\n{second}"));
            root.write(&format!("{nodes}/node0/cpulist"), "0\n");
            root.write(&format!("{nodes}/node1/cpulist"), "1\n");
            root.write(
                &format!("{nodes}/node1/meminfo"),
                "Node 1 MemTotal:         339132 kB\n",
            );
            for file in ["nr_hugepages", "free_hugepages"] {
                let pages = format!("{nodes}/node1/hugepages/hugepages-2048kB/{file}");
                root.write(&pages, "0\n");
            }
            root.write(&format!("{PF}/numa_node"), "1\n");
        },
        &json!({"sriov": sriov(2), "hugepages": [
            {"size": 2 << 20, "count": 16, "node": 0}, {"size": 2 << 20, "count": 16, "node": 1}]}),
        &[
            (
                "hugepages",
                "pass",
                "node0/hugepages/hugepages-2048kB/nr_hugepages: 16",
            ),
            (
                "hugepages",
                "fail",
                "node1/hugepages/hugepages-2048kB/nr_hugepages: 0",
            ),
            ("nic.numa", "pass", "numa_node: 1"),
        ],
    );
}

#[test]
fn a_board_that_puts_the_nic_and_its_neighbour_into_one_group() {
    machine(
        |root| {
            let neighbour = root.function("0000:01:00.1", "0x10c9\n");
            root.group(&neighbour, 6);
            root.write(&format!("{neighbour}/config"), [0_u8; 256]);
        },
        &json!({"passthrough": ["0000:01:00.0"]}),
        &[("iommu.group", "fail", "0000:01:00.1")],
    );
}

#[test]
fn an_iommu_that_remaps_no_interrupts() {
    machine(
        |root| root.replace("proc/interrupts", "IR-", ""),
        &json!({"sriov": sriov(2)}),
        &[
            ("iommu.active", "pass", "7 groups"),
            ("iommu.ir", "fail", "no chip named IR-"),
        ],
    );
}

#[test]
fn secure_boot_with_lockdown_and_a_module_that_nobody_signed() {
    machine(
        |root| {
            let variables = "sys/firmware/efi/efivars";
            let global = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
            // Four bytes of attributes, then the value (efivarfs).
            for (name, value) in [("SecureBoot", 1), ("SetupMode", 0)] {
                root.write(&format!("{variables}/{name}-{global}"), [6, 0, 0, 0, value]);
            }
            root.write(
                "sys/kernel/security/lockdown",
                "none [integrity] confidentiality\n",
            );
        },
        &json!({"sriov": sriov(2), "unsigned_modules": true}),
        &[
            ("secureboot", "fail", "integrity"),
            ("sriov.cap", "pass", "7"),
        ],
    );
}

#[test]
fn sixty_four_functions_that_exist_already() {
    machine(
        |root| {
            root.write(&format!("{PF}/sriov_totalvfs"), "64\n");
            root.write(&format!("{PF}/sriov_numvfs"), "64\n");
            for index in 0..64_u32 {
                let address = format!("0000:01:{:02x}.{:x}", 0x10 + index / 8, index % 8);
                let function = root.function(&address, "0x10ca\n");
                root.link(&format!("{function}/physfn"), "../0000:01:00.0");
                root.link(&format!("{PF}/virtfn{index}"), &format!("../{address}"));
                root.group(&function, 100 + index);
            }
        },
        &json!({"sriov": sriov(64)}),
        &[
            ("sriov.cap", "pass", "sriov_totalvfs: 64"),
            ("sriov.state", "pass", "sriov_numvfs: 64"),
            ("iommu.active", "pass", "71 groups"),
        ],
    );
    // Two that share a group can go to one guest only.
    machine(
        |root| {
            root.write(&format!("{PF}/sriov_totalvfs"), "64\n");
            root.write(&format!("{PF}/sriov_numvfs"), "2\n");
            for index in 0..2 {
                let address = format!("0000:01:10.{index}");
                let function = root.function(&address, "0x10ca\n");
                root.link(&format!("{function}/physfn"), "../0000:01:00.0");
                root.link(&format!("{PF}/virtfn{index}"), &format!("../{address}"));
                root.group(&function, 100);
            }
        },
        &json!({"sriov": sriov(64)}),
        &[("iommu.group", "warn", "shared with 0000:01:10.1")],
    );
}
