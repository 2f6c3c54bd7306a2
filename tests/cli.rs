//! The installer's command line as a new user gets it wrong. Needs no cluster.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Output};

/// Runs `edgevirt` in an empty directory with no environment but PATH and what is given.
fn edgevirt(dir: &Path, words: &[&str], env: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_edgevirt"))
        .args(words)
        .current_dir(dir)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", dir)
        .envs(env.iter().copied())
        .output()
        .unwrap()
}

/// Exit code and all of `says` on standard error, nothing on standard output.
fn refused(words: &[&str], env: &[(&str, &str)], code: i32, says: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let output = edgevirt(dir.path(), words, env);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{words:?}: {said}");
    assert!(output.stdout.is_empty(), "{words:?} printed a result");
    for word in says {
        assert!(
            said.contains(word),
            "{words:?}: expected {word:?} in {said}"
        );
    }
    assert!(!said.contains("panicked"), "{said}");
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        0,
        "left a file"
    );
}

#[test]
fn wrong_usage_is_2_with_what_there_is() {
    refused(&["deplay"], &[], 2, &["'deplay'", "deploy", "--help"]);
    refused(&["deploy", "--inventry", "x"], &[], 2, &["--inventory"]);
    refused(&["image", "add"], &[], 2, &["<NAME>", "--file"]);
    refused(&["image", "add", "A B", "--file", "x"], &[], 2, &["A B"]);
    refused(
        &["preflight", "--output", "yml"],
        &[],
        2,
        &["table", "json"],
    );
    refused(
        &["deploy", "--emulation", "maybe"],
        &[],
        2,
        &["auto", "on", "off"],
    );
    refused(&[], &[], 2, &["Usage"]);
}

#[test]
fn a_kubeconfig_that_is_not_there_is_named() {
    for verb in [&["validate"][..], &["demo"], &["deploy"]] {
        let with_flag = [verb, &["--kubeconfig", "/no/such/config"]].concat();
        let repository = env!("CARGO_MANIFEST_DIR");
        let (playbooks, inventory) = (
            format!("{repository}/playbooks"),
            format!("{repository}/inventory/local.yml"),
        );
        let place = ["--playbooks", &playbooks, "--inventory", &inventory];
        let (with_flag, bare) = if verb == ["deploy"] {
            ([&with_flag[..], &place].concat(), [verb, &place].concat())
        } else {
            (with_flag, verb.to_vec())
        };
        refused(
            &with_flag,
            &[],
            1,
            &["--kubeconfig", "found none at /no/such/config"],
        );
        let env = [("KUBECONFIG", "/no/such/config")];
        refused(
            &bare,
            &env,
            1,
            &["KUBECONFIG", "found none at /no/such/config"],
        );
    }
}

#[test]
fn an_inventory_or_playbook_that_is_not_there_is_named() {
    let repository = env!("CARGO_MANIFEST_DIR");
    let playbooks = format!("{repository}/playbooks");
    refused(
        &["deploy"],
        &[],
        1,
        &["playbooks/site.yml: no such file", "--playbooks"],
    );
    refused(
        &[
            "deploy",
            "--playbooks",
            &playbooks,
            "--inventory",
            "moon.yml",
        ],
        &[],
        1,
        &["moon.yml: no such file", "--inventory"],
    );
}

/// A kubeconfig of a cluster where nothing listens: on the discard port.
const NOBODY: &str = "apiVersion: v1\nkind: Config\ncurrent-context: a\n\
     contexts: [{name: a, context: {cluster: a, user: a}}]\n\
     clusters: [{name: a, cluster: {server: 'https://127.0.0.1:9'}}]\n\
     users: [{name: a, user: {token: x}}]\n";

#[test]
fn a_cluster_that_does_not_answer_is_told_with_its_address() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config");
    std::fs::write(&config, NOBODY).unwrap();
    let config = config.display().to_string();
    for verb in ["demo", "validate"] {
        let words = [verb, "--kubeconfig", &config];
        refused(&words, &[], 1, &["127.0.0.1:9", "Connection refused"]);
    }
    std::fs::write(&config, "no: [yaml").unwrap();
    refused(
        &["validate", "--kubeconfig", &config],
        &[],
        1,
        &["cannot read the kubeconfig", &config],
    );
}

/// An inventory with its control plane elsewhere, an `ansible-playbook` that notes its variables and fetches the
/// kubeconfig of a cluster where nothing listens, and what `deploy` does with them.
fn deployed(words: &[&str]) -> (tempfile::TempDir, String, serde_json::Value) {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(path("site"), "[control_plane]\nedge1\n").unwrap();
    std::fs::write(path("nobody"), NOBODY).unwrap();
    let here = dir.path().display();
    let script = format!(
        "#!/bin/sh\necho \"$4\" > {here}/variables\ncp {here}/nobody {here}/site.kubeconfig\n"
    );
    let program = path("ansible-playbook");
    std::fs::write(&program, script).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, mode).unwrap();
    let playbooks = format!("{}/playbooks", env!("CARGO_MANIFEST_DIR"));
    let search = format!("{here}:/usr/bin:/bin");
    let common = ["deploy", "--inventory", "site", "--playbooks", &playbooks];
    let quick = ["--timeout", "0", "--log-dir", "log"];
    let output = edgevirt(
        dir.path(),
        &[&common[..], &quick, words].concat(),
        // A cluster of the user's that has nothing to do with the inventory.
        &[("PATH", &search), ("KUBECONFIG", "/no/such/cluster")],
    );
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let variables = std::fs::read(path("variables")).unwrap();
    let variables = serde_json::from_slice(&variables).unwrap();
    (dir, said, variables)
}

#[test]
fn a_control_plane_elsewhere_is_deployed_to_and_looked_at_by_its_own_kubeconfig() {
    let (dir, said, variables) = deployed(&[]);
    let fetched = dir.path().join("site.kubeconfig").display().to_string();
    assert_eq!(variables["kubernetes_kubeconfig"], fetched.as_str());
    assert!(variables.get("kubevirt_kubeconfig").is_none());
    for word in ["127.0.0.1:9", &fetched, "edge1", "kubernetes_api_endpoint"] {
        assert!(said.contains(word), "expected {word:?} in {said}");
    }
    let words = ["validate", "--inventory", "site"];
    let output = edgevirt(dir.path(), &words, &[]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&fetched), "{said}");
}

#[test]
fn a_kubeconfig_that_is_named_wins_over_a_control_plane_elsewhere_and_is_used_here() {
    let (dir, said, variables) = deployed(&["--kubeconfig", "nobody"]);
    let named = dir.path().join("nobody").display().to_string();
    assert_eq!(variables["kubevirt_kubeconfig"], named.as_str());
    assert_eq!(variables["kubevirt_kubeconfig_here"], true);
    assert!(said.contains("address is from nobody"), "{said}");
    assert!(!said.contains("kubernetes_api_endpoint"), "{said}");
}

#[test]
fn a_doctor_without_a_cluster_says_so_and_ends_as_preflight_does() {
    let no_file = ["doctor", "cdi", "--kubeconfig", "/no/such/config"];
    refused(&no_file, &[], 2, &["found none at /no/such/config"]);
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config");
    std::fs::write(&config, "no: [yaml").unwrap();
    let words = ["doctor", "cdi", "--kubeconfig", config.to_str().unwrap()];
    refused(&words, &[], 2, &["cannot read the kubeconfig"]);
    std::fs::write(&config, NOBODY).unwrap();
    let output = edgevirt(dir.path(), &words, &[]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(3), "{said}");
    for word in [
        "127.0.0.1:9",
        "Connection refused",
        config.to_str().unwrap(),
    ] {
        assert!(said.contains(word), "expected {word:?} in {said}");
    }
}

#[test]
fn a_registry_that_wants_a_password_is_told_with_where_that_is() {
    let dir = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut heard = [0; 4096];
            let length = stream.read(&mut heard).unwrap();
            tell.send(String::from_utf8_lossy(&heard[..length]).to_lowercase())
                .unwrap();
            let answer =
                "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    let ls = ["image", "ls", "--registry", &address];
    let says = ["--password-file", "/etc/edgevirt/pki/registry.password"];
    refused(&ls, &[], 1, &says);
    let heard = told.recv().unwrap();
    assert!(!heard.contains("authorization"), "{heard}");

    let file = dir.path().join("password").display().to_string();
    let with_file = [&ls[..], &["--password-file", &file]].concat();
    refused(&with_file, &[], 1, &["cannot read --password-file", &file]);
    std::fs::write(&file, "secret\n").unwrap();
    refused(&with_file, &[], 1, &["expected a user and a password"]);
    let heard = told.recv().unwrap();
    assert!(
        heard.contains("authorization: basic zwrnzxzpcnq6c2vjcmv0"),
        "{heard}"
    );
}

#[test]
fn an_image_that_cannot_be_is_refused_before_the_registry_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let mut hostile = vec![0; 1024];
    hostile[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    hostile[15] = 104;
    std::fs::write(path("hostile.qcow2"), hostile).unwrap();
    std::fs::write(path("text"), "hello\n").unwrap();
    // A registry that cannot be reached: nobody may ask it.
    let add = |file: &str, says: &[&str]| {
        refused(
            &[
                "image",
                "add",
                "x",
                "--file",
                file,
                "--registry",
                "127.0.0.1:9",
            ],
            &[],
            1,
            says,
        );
    };
    add("/no/such/disk.qcow2", &["cannot open /no/such/disk.qcow2"]);
    add(
        &path("hostile.qcow2"),
        &["backing file", "qemu-img convert"],
    );
    add(&path("text"), &["expected a qcow2 disk", "6 bytes"]);
    add(&dir.path().display().to_string(), &["regular file"]);
    for words in [&["image", "ls"][..], &["image", "rm", "x"]] {
        let words = [words, &["--registry", "127.0.0.1:9"]].concat();
        refused(&words, &[], 1, &["127.0.0.1:9"]);
    }
}
