//! Changes to the kernel's command line: the edit itself, and the words and the
//! command for each bootloader.

use crate::facts::{Bootloader, Facts, Sourced};
use crate::parse::cmdline;

/// `current` without the words of `remove` and with those of `add` that it lacks.
/// A word that is added replaces an earlier one of the same name; the rest keeps
/// its order and spelling.
#[must_use]
pub fn edit(current: &str, add: &[String], remove: &[String]) -> String {
    let name = |word: &str| {
        word.split_once('=')
            .map_or(word, |(name, _)| name)
            .to_owned()
    };
    let mut words: Vec<&str> = words(current)
        .into_iter()
        .filter(|word| !remove.iter().any(|gone| gone == word))
        .filter(|word| {
            add.iter().any(|new| new == word) || !add.iter().any(|new| name(new) == name(word))
        })
        .collect();
    for new in add {
        if !words.contains(&new.as_str()) {
            words.push(new);
        }
    }
    words.join(" ")
}

/// Words of a command line as they are written, quotes kept.
fn words(text: &str) -> Vec<&str> {
    let mut quoted = false;
    text.split(move |letter: char| {
        if letter == '"' {
            quoted = !quoted;
        }
        letter.is_whitespace() && !quoted
    })
    .filter(|word| !word.is_empty())
    .collect()
}

/// The file that holds the arguments and its value, as far as the facts tell.
fn source<'a>(
    bootloader: &'a Bootloader,
    remove: &[String],
) -> Option<(&'static str, &'a Sourced)> {
    let grub = [
        (
            "GRUB_CMDLINE_LINUX_DEFAULT",
            &bootloader.grub_cmdline_default,
        ),
        ("GRUB_CMDLINE_LINUX", &bootloader.grub_cmdline),
    ];
    let found = || {
        grub.iter()
            .filter_map(|(key, value)| value.as_ref().map(|value| (*key, value)))
    };
    // The variable that has what must go; else the one that every boot entry gets.
    found()
        .find(|(_, value)| {
            words(&value.value)
                .iter()
                .any(|word| remove.iter().any(|gone| gone == word))
        })
        .or_else(|| found().next_back())
        .or(bootloader.kernel_install.as_ref().map(|value| ("", value)))
}

/// What a person has to do to change the command line on this node: the command of
/// its bootloader, or the line of the file before and after.
pub(crate) fn remedy(facts: &Facts, add: &[String], remove: &[String]) -> String {
    let bootloader = &facts.bootloader;
    let change = match (add.is_empty(), remove.is_empty()) {
        (false, false) => format!(
            "put {} in place of {} on the kernel's command line",
            add.join(" "),
            remove.join(" ")
        ),
        (true, _) => format!("take {} off the kernel's command line", remove.join(" ")),
        _ => format!("add {} to the kernel's command line", add.join(" ")),
    };
    let arguments = |flag: &str, list: &[String]| {
        if list.is_empty() {
            String::new()
        } else {
            format!(" {flag}=\"{}\"", list.join(" "))
        }
    };
    let how = if bootloader.rpm_ostree.is_some() {
        let each = |flag: &str, list: &[String]| -> String {
            list.iter().map(|word| format!(" {flag}={word}")).collect()
        };
        format!(
            "rpm-ostree kargs{}{}",
            each("--delete-if-present", remove),
            each("--append-if-missing", add)
        )
    } else if bootloader.grubby.is_some() {
        format!(
            "grubby --update-kernel=ALL{}{}",
            arguments("--remove-args", remove),
            arguments("--args", add)
        )
    } else if let Some((key, value)) = source(bootloader, remove) {
        let after = edit(&value.value, add, remove);
        let run = if key.is_empty() {
            "kernel-install add-all"
        } else {
            "update-grub"
        };
        let (open, close) = if key.is_empty() {
            (String::new(), "")
        } else {
            (format!("{key}=\""), "\"")
        };
        format!(
            "in {}:\n  - {open}{}{close}\n  + {open}{after}{close}\n  then {run}",
            value.path, value.value
        )
    } else {
        "with GRUB in /etc/default/grub, then update-grub (Debian, Ubuntu) or grubby --update-kernel=ALL (RHEL, Rocky, Fedora)"
            .to_owned()
    };
    format!("{change}: {how}; then reboot")
}

/// The words of /proc/cmdline that give `name` the item `item`.
pub(crate) fn words_giving(line: &str, name: &str, item: &str) -> Vec<String> {
    words(line)
        .into_iter()
        .filter(|word| cmdline::items(word, name).iter().any(|found| found == item))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn an_edit_adds_replaces_and_removes_and_does_nothing_twice() {
        for (line, add, remove, expected) in [
            (
                "quiet",
                &["intel_iommu=on"][..],
                &[][..],
                "quiet intel_iommu=on",
            ),
            (
                "a intel_iommu=off b",
                &["intel_iommu=on"],
                &["intel_iommu=off"],
                "a b intel_iommu=on",
            ),
            (
                "a intel_iommu=sm_on",
                &["intel_iommu=on"],
                &[],
                "a intel_iommu=on",
            ),
            (
                "intel_iommu=on a",
                &["intel_iommu=on"],
                &[],
                "intel_iommu=on a",
            ),
            ("a  iommu=off", &[], &["iommu=off"], "a"),
            ("x=\"p q\" y", &["z"], &[], "x=\"p q\" y z"),
            ("", &["z"], &[], "z"),
        ] {
            let (add, remove) = (list(add), list(remove));
            let once = edit(line, &add, &remove);
            assert_eq!(once, expected, "{line}");
            assert_eq!(edit(&once, &add, &remove), once, "{line}, again");
        }
    }

    #[test]
    fn the_remedy_is_the_command_of_the_node_s_own_bootloader() {
        let mut facts = Facts::default();
        let add = list(&["intel_iommu=on"]);
        let off = list(&["intel_iommu=off"]);
        assert!(remedy(&facts, &add, &[]).contains("Debian, Ubuntu"));
        facts.bootloader.grub_cmdline = Some(Sourced {
            path: "/etc/default/grub".into(),
            value: String::new(),
        });
        facts.bootloader.grub_cmdline_default = Some(Sourced {
            path: "/etc/default/grub".into(),
            value: "quiet intel_iommu=off".into(),
        });
        let text = remedy(&facts, &add, &off);
        assert!(
            text.contains("- GRUB_CMDLINE_LINUX_DEFAULT=\"quiet intel_iommu=off\"\n")
                && text.contains("+ GRUB_CMDLINE_LINUX_DEFAULT=\"quiet intel_iommu=on\"\n"),
            "{text}"
        );
        assert!(remedy(&facts, &add, &[]).contains("+ GRUB_CMDLINE_LINUX=\"intel_iommu=on\""));
        facts.bootloader.grubby = Some("/usr/sbin/grubby".into());
        assert!(remedy(&facts, &add, &off).contains(
            "grubby --update-kernel=ALL --remove-args=\"intel_iommu=off\" --args=\"intel_iommu=on\""
        ));
        facts.bootloader.rpm_ostree = Some("/usr/bin/rpm-ostree".into());
        assert!(remedy(&facts, &add, &off).contains(
            "rpm-ostree kargs --delete-if-present=intel_iommu=off --append-if-missing=intel_iommu=on"
        ));
    }

    #[test]
    fn the_words_that_say_off_are_found_within_lists() {
        assert_eq!(
            words_giving(
                "a intel_iommu=sm_on,off intel_iommu=on",
                "intel_iommu",
                "off"
            ),
            ["intel_iommu=sm_on,off"]
        );
    }
}
