//! Parsers of what the kernel, the firmware and disks say: bytes or text in,
//! values out.
//!
//! None does I/O and none fails: a node may hold garbage anywhere, so what does
//! not parse is left out or is `None`, and the caller says which path held it.
//! The properties that hold for any bytes at all are in `tests/parse.rs` and,
//! for a fuzzer, in `fuzz/`.

pub mod acpi;
pub mod cmdline;
pub mod cpu;
pub mod disk;
pub mod efi;
pub mod gpt;
pub mod memory;
pub mod modules;
pub mod mounts;
pub mod net;
pub mod pci;
pub mod system;
pub mod text;

/// Gives `text` to every parser of text, so that a fuzzer reaches all of them.
pub fn any_text(text: &str) {
    let _ = (
        cmdline::parameters(text),
        cmdline::last_of(text, "intel_iommu", &["on", "off"]),
        cpu::cpuinfo(text),
        cpu::interrupt_chips(text),
    );
    let _ = (
        memory::meminfo_bytes(text, "MemTotal"),
        memory::swaps(text),
        memory::hugepage_size(text),
        mounts::mountinfo(text),
    );
    let _ = (
        modules::builtin(text),
        modules::on_disk(text),
        modules::loaded(text),
        modules::load_list(text),
        modules::kept_out(text),
    );
    let routes = [net::routes_v4(text), net::routes_v6(text)].concat();
    for (own, other) in net::sockets(text).iter().map(|s| (s.local.0, s.remote.0)) {
        let _ = (net::way_to(&routes, own), net::way_to(&routes, other));
    }
    for address in net::local_addresses_v4(text) {
        let _ = net::way_to(&routes, address.into());
    }
    let _ = (
        net::addresses_v6(text),
        net::ssh_connection(text),
        pci::address(text),
    );
    let _ = (
        system::name_servers(text),
        system::search_domains(text),
        system::hosts(text, "edge"),
        system::limit(text, "Max locked memory"),
        system::cgroup_controllers(text),
        system::kernel_config(text).count(),
        system::without_password(text),
        system::parent(text),
    );
    let _ = (
        text::number(text),
        text::signed(text),
        text::flag(text),
        text::chosen(text),
        text::count_of_list(text),
        text::assignments(text).count(),
    );
}

/// Gives `bytes` to every parser of bytes, so that a fuzzer reaches all of them.
pub fn any_bytes(bytes: &[u8]) {
    let _ = (acpi::dmar(bytes), acpi::ivrs(bytes));
    let _ = (efi::secure_boot(bytes), pci::config(bytes));
    let _ = (gpt::primary(bytes), gpt::backup(bytes), gpt::mbr(bytes));
    let _ = system::environ(bytes, "SSH_CONNECTION");
    let _ = text::padded(bytes);
    let middle = bytes.len() / 2;
    let (head, tail) = bytes.split_at(middle);
    for size in [0, bytes.len() as u64, u64::MAX] {
        let _ = disk::signatures(head, tail, size);
    }
}
