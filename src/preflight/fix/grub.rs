//! The drop-in of /etc/default/grub.d, which update-grub reads as shell.

use std::collections::BTreeSet;

use super::plan::HEADER;

/// The drop-in: shell, which update-grub reads after /etc/default/grub. `old` is the
/// drop-in that is there; what it did, the new one does too.
pub(super) fn drop_in(old: &str, add: &[String], remove: &[String]) -> String {
    let listed = |mark: &str| -> Vec<String> {
        old.lines()
            .filter_map(|line| line.strip_prefix(mark))
            .flat_map(str::split_whitespace)
            .map(str::to_owned)
            .collect()
    };
    let name = |word: &str| word.split('=').next().unwrap_or_default().to_owned();
    let gone: BTreeSet<String> = listed("# remove:")
        .into_iter()
        .chain(remove.iter().cloned())
        .filter(|word| !add.contains(word))
        .collect();
    // A new value replaces an older one of ours; hugepagesz and hugepages are pairs.
    let pairs = add.iter().any(|w| w.starts_with("hugepagesz="));
    let mut words: Vec<String> = listed("# add:")
        .into_iter()
        .filter(|old| !gone.contains(old))
        .filter(|old| {
            let same = add.iter().any(|new| name(new) == name(old));
            !same || (add.contains(old) && !(pairs && name(old).starts_with("hugepages")))
        })
        .collect();
    for word in add {
        let of_pair = pairs && name(word).starts_with("hugepages");
        if of_pair || !words.contains(word) {
            words.push(word.clone());
        }
    }
    let mut text = HEADER.to_owned();
    if !words.is_empty() {
        text += &format!("# add: {}\n", words.join(" "));
    }
    if !gone.is_empty() {
        let list: Vec<&str> = gone.iter().map(String::as_str).collect();
        text += &format!("# remove: {}\n", list.join(" "));
        for variable in ["GRUB_CMDLINE_LINUX", "GRUB_CMDLINE_LINUX_DEFAULT"] {
            let pattern = list.join("\" | \"");
            text += &format!(
                "edgevirt_kept=\nfor edgevirt_word in ${variable}; do\n  case \"$edgevirt_word\" in \"{pattern}\") ;; *) edgevirt_kept=\"$edgevirt_kept $edgevirt_word\" ;; esac\ndone\n{variable}=\"${{edgevirt_kept# }}\"\n"
            );
        }
    }
    if !words.is_empty() {
        text += &format!(
            "GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX {}\"\n",
            words.join(" ")
        );
    }
    text
}
