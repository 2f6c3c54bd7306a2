//! Verbs of upstream's virtctl that this version does not have.

use std::ffi::OsString;

const VERBS: [&str; 20] = [
    "addvolume",
    "adm",
    "create",
    "credentials",
    "evacuate-cancel",
    "expand",
    "expose",
    "fslist",
    "guestfs",
    "guestosinfo",
    "memory-dump",
    "migrate",
    "migrate-cancel",
    "objectgraph",
    "permitted-devices",
    "removevolume",
    "template",
    "usbredir",
    "userlist",
    "vmexport",
];

/// Why a verb that is none of ours is refused.
pub(crate) fn why(words: &[OsString], program: &str) -> anyhow::Error {
    let verb = words
        .first()
        .map(|word| word.to_string_lossy().into_owned())
        .unwrap_or_default();
    if VERBS.contains(&verb.as_str()) {
        anyhow::anyhow!("\"{verb}\" is not in this version of {program}")
    } else {
        anyhow::anyhow!(
            "unknown command \"{verb}\" for \"{program}\"\nRun '{program} --help' for usage."
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_from_what_is_mistyped() {
        assert_eq!(
            why(&["migrate".into(), "x".into()], "virtctl").to_string(),
            "\"migrate\" is not in this version of virtctl"
        );
        assert!(
            why(&["strat".into()], "kubectl virt")
                .to_string()
                .starts_with("unknown command \"strat\" for \"kubectl virt\"")
        );
    }
}
