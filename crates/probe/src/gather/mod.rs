//! One module for each group of facts; each fills in what it can read.

mod cpu;
mod disk;
mod firmware;
mod iommu;
mod kernel;
mod kvm;
mod memory;
mod modules;
mod network;
mod pci;
mod process;
mod resolver;
mod ssh;
mod system;

use std::io;
use std::time::Instant;

use hardware::Facts;

use crate::Options;
use crate::tree::Tree;

/// Every fact that can be read below the root.
///
/// # Errors
/// Only when the root itself cannot be opened. What else cannot be read is in
/// [`Facts::unread`].
pub fn gather(options: &Options) -> io::Result<Facts> {
    let tree = Tree::new(&options.root)?;
    Ok(gather_from(&tree, options))
}

/// As [`gather`], from a tree that is open already.
pub(crate) fn gather_from(tree: &Tree, options: &Options) -> Facts {
    let begin = Instant::now();
    // Asked first and answered while everything else is read.
    let question = resolver::ask(tree, options.dns_time_limit);
    let processes = process::all(tree);
    let pci = pci::devices(tree);
    let drivers: Vec<String> = pci.iter().filter_map(|d| d.driver.clone()).collect();
    let kernel = kernel::kernel(tree);
    let mut facts = Facts {
        schema: hardware::facts::SCHEMA,
        gatherer: env!("CARGO_PKG_VERSION").to_owned(),
        root: options.root.display().to_string(),
        uid: tree.live().then(|| rustix::process::geteuid().as_raw()),
        os: kernel::os(tree),
        bootloader: kernel::bootloader(tree),
        modules: modules::modules(tree, &drivers, &kernel.config),
        kernel,
        cgroup: kernel::cgroup(tree),
        cpu: cpu::cpu(tree),
        kvm: kvm::kvm(tree, options),
        firmware: firmware::firmware(tree),
        iommu: iommu::iommu(tree),
        pci,
        network: network::network(tree, &processes, options),
        memory: memory::memory(tree),
        space: memory::space(tree, &options.space),
        swaps: memory::swaps(tree),
        devices: system::devices(tree),
        clock: system::clock(tree, &processes),
        names: system::names(tree),
        proxy: system::proxy(tree),
        ..Facts::default()
    };
    interfaces_of_functions(&mut facts);
    facts.disks = disk::disks(tree, facts.swaps.as_deref(), options.disk_time_limit);
    facts.ceph = disk::ceph(tree, &facts.disks, &processes);
    facts.names.answered = resolver::answer(question);
    facts.unread = tree.unread();
    if tree.live() {
        crate::stamp(&mut facts, begin);
    } else {
        facts.elapsed_ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
    }
    facts
}

/// Interfaces that are not in a function's own folder but behind it (virtio).
fn interfaces_of_functions(facts: &mut Facts) {
    for interface in &facts.network.interfaces {
        let device = facts
            .pci
            .iter_mut()
            .find(|device| Some(&device.address) == interface.pci.as_ref());
        if let Some(device) = device
            && !device.interfaces.contains(&interface.name)
        {
            device.interfaces.push(interface.name.clone());
        }
    }
}
