//! Kernel modules: what is built in, what is on disk, what is loaded.

use std::collections::{BTreeMap, BTreeSet};

/// A module's name as the kernel knows it, from a file name or a user's
/// spelling: `vfio-pci.ko.zst` and `vfio_pci` are the same module.
#[must_use]
pub fn name(file: &str) -> String {
    let file = file.rsplit('/').next().unwrap_or(file).trim();
    let stem = file.find(".ko").map_or(file, |at| &file[..at]);
    stem.replace('-', "_")
}

/// Names in modules.builtin: one path a line.
#[must_use]
pub fn builtin(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter(|line| line.contains(".ko"))
        .map(name)
        .collect()
}

/// Names in modules.dep, each with its file: `path: paths it needs`.
#[must_use]
pub fn on_disk(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(path, _)| path.contains(".ko"))
        .map(|(path, _)| (name(path), path.to_owned()))
        .collect()
}

/// Names in /proc/modules whose state is `Live`.
#[must_use]
pub fn loaded(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let name = words.next()?;
            words
                .any(|word| word == "Live")
                .then(|| name.replace('-', "_"))
        })
        .collect()
}

/// Names that the files of modules-load.d(5) ask for: one a line, comments
/// begin with `#` or `;`.
#[must_use]
pub fn load_list(text: &str) -> BTreeSet<String> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with(['#', ';']))
        .map(name)
        .collect()
}

/// Names that a file of modprobe.d(5) keeps from loading: `blacklist NAME`, or
/// `install NAME` with a command that does nothing.
#[must_use]
pub fn kept_out(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["blacklist", module, ..] => Some(name(module)),
                ["install", module, command, ..] => command
                    .rsplit('/')
                    .next()
                    .is_some_and(|program| matches!(program, "true" | "false"))
                    .then(|| name(module)),
                _ => None,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(set: BTreeSet<String>) -> String {
        set.into_iter().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn one_module_has_one_name_however_it_is_written() {
        for file in [
            "kernel/drivers/vfio/pci/vfio-pci.ko.xz",
            "vfio-pci.ko",
            "vfio_pci",
        ] {
            assert_eq!(name(file), "vfio_pci");
        }
    }

    #[test]
    fn each_list_is_read_in_its_own_form() {
        assert_eq!(
            names(builtin("kernel/fs/overlayfs/overlay.ko\njunk\n")),
            "overlay"
        );
        assert_eq!(
            on_disk(
                "kernel/net/tun.ko:\nkernel/a/kvm-amd.ko.zst: kernel/a/kvm.ko.zst\nnot a line\n"
            )
            .get("kvm_amd")
            .map(String::as_str),
            Some("kernel/a/kvm-amd.ko.zst")
        );
        assert_eq!(
            names(kept_out(
                "blacklist vfio-pci\n#blacklist a\ninstall tun /bin/false\ninstall kvm /sbin/modprobe x\n"
            )),
            "tun vfio_pci"
        );
        assert_eq!(
            names(loaded(
                "tun 1 0 - Live 0x0\nold 1 0 - Unloading 0x0\nshort\n"
            )),
            "tun"
        );
        assert_eq!(
            names(load_list("# x\nvfio-pci\n;y\n\n tun \n")),
            "tun vfio_pci"
        );
    }
}
