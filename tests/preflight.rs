//! `edgevirt preflight` as a user calls it: exit codes, and errors with their place.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::process::Command;

/// Exit code, standard output, standard error.
fn preflight(dir: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_edgevirt"))
        .arg("preflight")
        .args(arguments)
        .current_dir(dir)
        .env("HOME", dir)
        .env_remove("SSH_AUTH_SOCK")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn bad_usage_ends_with_2_and_says_where() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("hosts"), "[edge]\nn1 what\n").unwrap();
    std::fs::write(dir.path().join("good"), "n1\n").unwrap();
    std::fs::write(dir.path().join("asks"), "bogus: 1\n").unwrap();
    for (arguments, expected) in [
        (vec!["--inventory", "hosts"], "hosts:2: expected NAME=VALUE"),
        (vec!["--inventory", "absent"], "absent"),
        (vec!["-i", "good", "--limit", "n2"], "n2: no such host"),
        (vec!["--skip", "nothing.such"], "no such check"),
        (vec!["--requirements", "asks"], "bogus"),
        (vec!["--host", "a:b"], "expected [USER@]HOST[:PORT]"),
        (vec!["explain", "nothing.such"], "no such check"),
        (vec!["--no-such-flag"], "unexpected argument"),
        (vec!["--yes"], "--fix"),
    ] {
        let (code, _, stderr) = preflight(dir.path(), &arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
    }
}

#[test]
fn facts_are_judged_again_and_the_worst_verdict_is_the_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let fact = r#"{"schema":1,"swaps":[{"path":"/dev/sda2"}]}"#;
    std::fs::write(dir.path().join("edge1.json"), fact).unwrap();
    let ask = |more: &[&str]| {
        let mut arguments = vec!["--facts", "edge1.json", "--output", "json"];
        arguments.extend(more);
        let (code, stdout, stderr) = preflight(dir.path(), &arguments);
        let document: serde_json::Value =
            serde_json::from_str(&stdout).unwrap_or_else(|e| panic!("{e}: {stderr}"));
        (code, document)
    };
    let (code, document) = ask(&[]);
    assert_eq!(document["nodes"][0]["node"], "edge1");
    let status = document["status"].as_str().unwrap().to_owned();
    let expected = match status.as_str() {
        "warn" => 4,
        "fail" => 3,
        other => panic!("swap is on, and the status is {other}"),
    };
    assert_eq!(code, Some(expected));
    assert_eq!(ask(&["--strict"]).0, Some(3));
    let (_, document) = ask(&["--skip", "swap"]);
    let verdicts = document["nodes"][0]["verdicts"].as_array().unwrap();
    assert!(verdicts.iter().all(|v| v["id"] != "swap"));
}

#[test]
fn a_host_that_needs_an_expression_and_one_that_is_down_do_not_hold_up_the_report() {
    let dir = tempfile::tempdir().unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    std::fs::write(
        dir.path().join("hosts"),
        format!(
            "down ansible_host=127.0.0.1 ansible_port={closed}\njinja ansible_host='{{{{ ip }}}}'\n"
        ),
    )
    .unwrap();
    std::fs::write(dir.path().join("probe"), "#!/bin/sh\n").unwrap();
    let (code, stdout, stderr) = preflight(
        dir.path(),
        &[
            "-i",
            "hosts",
            "--probe-program",
            "probe",
            "--output",
            "json",
        ],
    );
    assert_eq!(code, Some(3), "{stderr}");
    let document: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    let error = |index: usize| {
        document["nodes"][index]["error"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert!(error(0).contains("cannot connect"), "{}", error(0));
    assert!(error(1).contains("hosts:2: ansible_host"), "{}", error(1));
}

#[test]
fn a_host_that_is_asked_for_nonsense_gets_its_line_and_the_others_are_asked() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("asks.yml"),
        "all:\n  hosts:\n    n1:\n      edgevirt_requirements: {bogus: 1}\n    n2:\n      ansible_connection: local\n",
    )
    .unwrap();
    let (code, stdout, stderr) = preflight(dir.path(), &["-i", "asks.yml", "--output", "json"]);
    let document: serde_json::Value =
        serde_json::from_str(&stdout).unwrap_or_else(|e| panic!("{e}: {stderr}"));
    assert_eq!(code, Some(3), "{stderr}");
    let error = document["nodes"][0]["error"].as_str().unwrap();
    assert!(
        error.contains("asks.yml:4: edgevirt_requirements") && error.contains("bogus"),
        "{error}"
    );
    assert!(document["nodes"][1]["verdicts"].is_array(), "{document}");
}

#[test]
fn on_a_terminal_a_table_moves_while_nodes_are_asked_and_goes_before_the_report() {
    let dir = tempfile::tempdir().unwrap();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    std::fs::write(
        dir.path().join("hosts"),
        format!(
            "gone ansible_host=127.0.0.1 ansible_port=1\nsilent ansible_host=127.0.0.1 ansible_port={}\n",
            silent.local_addr().unwrap().port()
        ),
    )
    .unwrap();
    std::fs::write(dir.path().join("probe"), "#!/bin/sh\n").unwrap();
    let command = format!(
        "stty cols 120 rows 30; {} preflight -i hosts --probe-program probe --connect-timeout 2",
        env!("CARGO_BIN_EXE_edgevirt")
    );
    let output = Command::new("script")
        .args(["-q", "-e", "-c", &command, "/dev/null"])
        .current_dir(dir.path())
        .env("HOME", dir.path())
        .env("TERM", "xterm")
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    let (moving, report) = text.split_once("NODE  ").expect(&text);
    // One node is done while the other, with its time, is still waited for.
    assert!(moving.contains("gone: "), "{text}");
    let after = moving.split_once("gone: ").unwrap().1;
    assert!(
        after.contains("1/2 nodes") && after.contains("silent 1s"),
        "{text}"
    );
    assert!(!report.contains("/2 nodes"), "{text}");
}
