//! One test for each variant.

use std::collections::BTreeMap;

use hardware::Status;
use testkit::edge_node::{EdgeNode, Testbed, Variant};

use crate::{attempt, preflight};

/// How often a node may be asked again whether KVM runs a guest.
const RUNS: u32 = 3;

/// Boots the variant and compares each verdict with the one it must get.
fn gets_its_verdicts(name: &str) {
    let testbed = Testbed::open().unwrap();
    let variant = testbed.variant(name).unwrap();
    attempt::on(name, |node| compare(name, variant, node));
}

fn compare(name: &str, variant: &Variant, node: &EdgeNode) {
    let ask = || {
        let hosts = [(name, preflight::host(node, &variant.asks))];
        preflight::run(node.dir(), &hosts, &[])
    };
    let mut report = ask();
    // A guest in an emulated processor's KVM has its time limit too, which a busy machine can break: asked again, a
    // node that cannot run one says the same.
    let expected = variant.verdicts.get("kvm.run").map(String::as_str);
    for _ in 0..RUNS {
        if expected != Some("pass") || report.worst(name).get("kvm.run") == Some(&Status::Pass) {
            break;
        }
        report = ask();
    }
    let found = report.worst(name);
    let words = found
        .iter()
        .map(|(check, status)| (check.clone(), status.word().to_owned()))
        .collect();
    let wrong = variant.wrong(&words, &[]);
    let evidence: BTreeMap<String, String> = report
        .verdicts(name)
        .into_iter()
        .filter(|verdict| {
            wrong
                .iter()
                .any(|w| w.starts_with(&format!("{}:", verdict.id)))
        })
        .map(|v| {
            (
                format!("{} {}", v.id, v.subject),
                format!("{} {}", v.status.word(), v.evidence),
            )
        })
        .collect();
    assert!(wrong.is_empty(), "{name}: {wrong:#?}, said {evidence:#?}");
    let code = match found.values().max() {
        Some(Status::Fail) => 3,
        Some(Status::Warn) => 4,
        _ => 0,
    };
    assert_eq!(report.code, Some(code), "{name}");
}

macro_rules! variants {
    ($($test:ident: $name:literal,)*) => {
        $(#[test]
        fn $test() {
            gets_its_verdicts($name);
        })*

        #[test]
        fn every_variant_of_the_table_has_a_test() {
            let table = Testbed::open().unwrap();
            let tested = [$($name),*];
            let missing: Vec<&String> = table
                .variants()
                .keys()
                .filter(|name| !tested.contains(&name.as_str()))
                .collect();
            assert!(missing.is_empty(), "{missing:?}");
        }
    };
}

variants! {
    a_node_with_all_it_needs_passes: "full",
    no_iommu_in_the_firmware_is_told_from_the_kernels: "no-iommu",
    an_iommu_that_the_kernel_was_told_to_leave_is_found: "kernel-off",
    an_iommu_that_works_unasked_is_no_fault: "kernel-untold",
    missing_interrupt_remapping_is_found: "no-remapping",
    a_nic_without_sriov_is_found: "no-sriov",
    two_functions_in_one_group_are_found: "shared-group",
    a_processor_without_virtualization_is_found: "no-svm",
    an_amd_iommu_is_known: "amd",
    the_nic_of_the_connection_is_refused: "ssh-over-pf",
    a_missing_vfio_module_is_found: "no-vfio",
    missing_huge_pages_are_found: "no-hugepages",
    an_empty_disk_is_for_ceph: "empty-disk",
    a_disk_of_an_older_ceph_is_found: "ceph-disk",
    a_disk_of_lvm_is_found: "lvm-disk",
    a_kernel_told_off_by_its_bootloader_is_found: "grub",
}
