//! The shell programs of `--fix`: look at files, write files and run commands, reboot.

use std::collections::BTreeMap;

use super::plan::{Plan, UNFINISHED};

/// Prints the files, each after a line with its name and size.
pub(crate) fn look(files: &[&str]) -> String {
    let mut script = "#!/bin/sh\n".to_owned();
    for file in files {
        script += &format!(
            "if [ -f {0} ]; then printf '@file %s %s\\n' {0} \"$(wc -c <{0} | tr -d ' ')\"; cat {0}; echo; fi\n",
            quoted(file)
        );
    }
    script
}

/// Reads what [`look`] printed; what is no such answer is left out.
pub(crate) fn read_answer(answer: &[u8]) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut rest = answer;
    while let Some(end) = rest.iter().position(|b| *b == b'\n') {
        let line = String::from_utf8_lossy(&rest[..end]).into_owned();
        rest = &rest[end + 1..];
        let mut words = line.split(' ');
        if words.next() != Some("@file") {
            continue;
        }
        let (Some(path), Some(Ok(size))) = (words.next(), words.next().map(str::parse::<usize>))
        else {
            continue;
        };
        let Some(text) = rest.get(..size) else { break };
        files.insert(path.to_owned(), String::from_utf8_lossy(text).into_owned());
        rest = &rest[size..];
    }
    files
}

/// Carries the plan out: every file is replaced in one step, files that were there and
/// are not ours are kept beside as `.edgevirt-before`; a command that fails ends it. Until
/// the end a file says that it is not finished.
pub(crate) fn apply(plan: &Plan) -> String {
    apply_marked(plan, UNFINISHED)
}

fn apply_marked(plan: &Plan, unfinished: &str) -> String {
    let mut script = "#!/bin/sh\nset -eu\numask 022\n".to_owned();
    if let Some((dir, _)) = unfinished.rsplit_once('/') {
        script += &format!("mkdir -p {}\n", quoted(dir));
    }
    let unfinished = quoted(unfinished);
    script += &format!(": >{unfinished}\n");
    for change in &plan.changes {
        let path = quoted(&change.path);
        if let Some((dir, _)) = change.path.rsplit_once('/') {
            script += &format!("mkdir -p {}\n", quoted(dir));
        }
        let own = change.path.contains("edgevirt");
        if change.before.is_some() && !own {
            let kept = quoted(&format!("{}.edgevirt-before", change.path));
            script += &format!("[ -e {kept} ] || cp -p {path} {kept}\n");
        }
        let new = quoted(&format!("{}.edgevirt-new", change.path));
        script += &format!(
            "printf %s {} >{new}\nchmod 644 {new}\nmv {new} {path}\n",
            quoted(&change.after)
        );
    }
    for command in &plan.commands {
        let words: Vec<String> = command.iter().map(|w| quoted(w)).collect();
        script += &format!("{} >&2 </dev/null\n", words.join(" "));
    }
    script + &format!("rm {unfinished}\necho done\n")
}

/// Prints the boot's id.
macro_rules! boot_id {
    () => {
        "#!/bin/sh\ncat /proc/sys/kernel/random/boot_id\n"
    };
}

/// Prints an id that every boot has for itself.
pub(crate) const BOOT_ID: &str = boot_id!();

/// Prints the boot's id, then reboots a moment later.
pub(crate) const REBOOT: &str = concat!(
    boot_id!(),
    "(sleep 1; systemctl reboot || reboot || reboot -f) >/dev/null 2>&1 </dev/null &\n"
);

/// A word for a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::preflight::fix::plan::Change;
    use std::process::Command;

    fn run(script: &str) -> (bool, Vec<u8>) {
        let output = Command::new("sh").args(["-c", script]).output().unwrap();
        (output.status.success(), output.stdout)
    }

    #[test]
    fn files_are_looked_at_written_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let old = "it's\n@file x 3\nno newline";
        std::fs::write(path("fstab"), old).unwrap();
        let (ok, answer) = run(&look(&[&path("fstab"), &path("absent")]));
        assert!(ok);
        let files = read_answer(&answer);
        assert_eq!(files, BTreeMap::from([(path("fstab"), old.to_owned())]));
        let plan = Plan {
            changes: vec![
                Change {
                    path: path("fstab"),
                    before: Some(old.to_owned()),
                    after: "it's $HOME `new`\n".to_owned(),
                },
                Change {
                    path: path("deep/edgevirt.conf"),
                    before: None,
                    after: "x\n".to_owned(),
                },
            ],
            commands: vec![vec!["touch".to_owned(), path("a b")]],
            ..Plan::default()
        };
        let (ok, answer) = run(&apply_marked(&plan, &path("state/unfinished")));
        assert!(ok);
        assert_eq!(answer, b"done\n");
        assert!(!std::fs::exists(path("state/unfinished")).unwrap());
        let read = |name: &str| std::fs::read_to_string(path(name)).unwrap();
        assert_eq!(read("fstab"), "it's $HOME `new`\n");
        assert_eq!(read("fstab.edgevirt-before"), old);
        assert_eq!(read("deep/edgevirt.conf"), "x\n");
        assert!(std::fs::exists(path("a b")).unwrap());
    }

    #[test]
    fn a_command_that_fails_ends_the_program_and_leaves_word_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let unfinished = dir.path().join("unfinished").display().to_string();
        let plan = Plan {
            commands: vec![vec!["false".to_owned()], vec!["true".to_owned()]],
            ..Plan::default()
        };
        assert!(!run(&apply_marked(&plan, &unfinished)).0);
        assert!(std::fs::exists(unfinished).unwrap());
    }

    #[test]
    fn a_broken_answer_is_no_harm() {
        assert!(read_answer(b"@file x 99999\nshort").is_empty());
        assert!(read_answer(b"garbage\n@file\n\xff\n").is_empty());
    }
}
