//! A VM from an image of the user's own, and every way to it: from pods, to pods, and through virtctl.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use testkit::{Background, Console, Namespace, eventually, eventually_within, virtctl_program};

use crate::fixtures::{self, Added, path, run};
use crate::manifest;
use crate::web::HOST;

const SOON: Duration = Duration::from_secs(15);

/// A plain pod that serves a page on 8080, and services in front of the pod and of the VM.
fn neighbours(image: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: tools, labels: {{app: tools}}}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: tools
    image: {image}
    command: [/bin/busybox, httpd, -f, -p, '8080', -h, /www]
---
apiVersion: v1
kind: Service
metadata: {{name: tools}}
spec: {{selector: {{app: tools}}, ports: [{{port: 80, targetPort: 8080}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: guest}}
spec: {{selector: {{app: guest}}, ports: [{{port: 80, targetPort: 8080}}]}}
"
    )
}

#[test]
fn a_vm_from_an_added_qcow2_is_reached_from_pods_and_through_virtctl() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    let _ =
        run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &path(&key)]));
    let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
    let disk = Added::new("centosimage", &fixtures::guest_disk(dir.path()));
    let tools = Added::new("tools:1", &fixtures::tools_archive(dir.path()));

    let ns = Namespace::new("reach");
    let user_data = format!("#cloud-config\nssh_authorized_keys:\n- {public}");
    let vmi = manifest::vmi("guest", &user_data)
        .replace("kubevirt/cirros-registry-disk-demo", disk.name());
    let _ = ns.create(&vmi).expect_ok("the VM");
    let _ = ns
        .create(&neighbours(tools.name()))
        .expect_ok("pods and services");
    ns.wait_for("vmi", "guest", "/status/phase", "Running");
    let mut console = Console::open(ns.name(), "guest");
    console.login();

    pods_and_guest_reach_one_another(&ns, &mut console);
    the_registry_takes_and_gives_nothing(&ns);
    drop(console);
    ssh_and_scp(&ns, &key, dir.path());
    port_forward(&ns);
    vnc(&ns);
    interrupted_console(&ns);
}

/// Pods reach its address, so it asks who they are: one tenant's image is no other's to exchange, nor to read.
fn the_registry_takes_and_gives_nothing(ns: &Namespace) {
    for asked in [
        "POST /v2/kubevirt/cirros-registry-disk-demo/blobs/uploads/",
        "DELETE /v2/kubevirt/cirros-registry-disk-demo/manifests/latest",
        "GET /v2/_catalog",
    ] {
        let script = format!(
            "printf '{asked} HTTP/1.0\\r\\nContent-Length: 0\\r\\n\\r\\n' | nc -w 10 {HOST} 5000"
        );
        let answer = ns.kubectl(&["exec", "tools", "--", "sh", "-c", &script]);
        let first = answer.stdout.lines().next().unwrap_or_default();
        assert!(first.contains(" 401 "), "{asked}: {answer:?}");
    }
}

fn pods_and_guest_reach_one_another(ns: &Namespace, console: &mut Console) {
    ns.wait_for("pod", "tools", "/status/phase", "Running");
    // From the guest: the pod, by its service's name, short and full.
    for name in ["tools", &format!("tools.{}.svc.cluster.local", ns.name())] {
        // The login prompt does not wait for DHCP.
        eventually_within(SOON, name, || {
            let page = console.run(&format!("wget -q -O - http://{name}/"));
            if page.contains("hello-from-pod") {
                Ok(())
            } else {
                Err(page)
            }
        });
    }
    // From the pod: the guest, by its address and by its service's name.
    let _ = console.run(
        "mkdir -p /tmp/www; echo hello-from-guest > /tmp/www/index.html; busybox httpd -p 8080 -h /tmp/www",
    );
    let vmi = ns.get("vmi", "guest");
    let ip = vmi["status"]["interfaces"][0]["ipAddress"]
        .as_str()
        .unwrap()
        .to_owned();
    for url in [format!("http://{ip}:8080/"), "http://guest/".to_owned()] {
        // A service's rules follow its endpoints a moment later.
        eventually_within(SOON, &url, || {
            let got = ns.kubectl(&["exec", "tools", "--", "wget", "-q", "-O", "-", &url]);
            if got.stdout.contains("hello-from-guest") {
                Ok(())
            } else {
                Err(got.stderr)
            }
        });
    }
    let _ = ns
        .kubectl(&["exec", "tools", "--", "ping", "-c", "1", "-w", "10", &ip])
        .expect_ok("ping");
}

fn ssh_and_scp(ns: &Namespace, key: &Path, dir: &Path) {
    let key = path(key);
    let options = [
        "-i",
        &key,
        "-t",
        "-o StrictHostKeyChecking=no",
        "-t",
        "-o UserKnownHostsFile=/dev/null",
        "-t",
        "-o BatchMode=yes",
    ];
    let ssh = |command: &str| {
        let words = [&["ssh", "cirros@vmi/guest", "-c", command], &options[..]].concat();
        ns.virtctl(&words)
    };
    // dropbear makes its key when the first client comes, which takes a moment.
    let said = eventually("ssh", || {
        let output = ssh("whoami; hostname");
        if output.ok {
            Ok(output.stdout)
        } else {
            Err(output.stderr)
        }
    });
    assert_eq!(said, "cirros\nguest\n");
    let failed = ssh("exit 7");
    assert!(!failed.ok, "the remote command's failure is lost");

    let (there, back) = (dir.join("there"), dir.join("back"));
    std::fs::write(&there, "carried by scp\n").unwrap();
    for (from, to) in [
        (path(&there), "cirros@vmi/guest:/tmp/carried".to_owned()),
        ("cirros@vmi/guest:/tmp/carried".to_owned(), path(&back)),
    ] {
        let words = [&["scp", &from, &to], &options[..]].concat();
        let _ = ns.virtctl(&words).expect_ok("scp");
    }
    assert_eq!(std::fs::read_to_string(&back).unwrap(), "carried by scp\n");
}

/// A port nobody listens on.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn virtctl(ns: &Namespace, words: &[&str]) -> Command {
    let mut command = Background::command(&virtctl_program());
    command.args(["--namespace", ns.name()]).args(words);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn connect(port: u16) -> TcpStream {
    let stream = eventually_within(SOON, "virtctl listens", || {
        TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string())
    });
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

fn port_forward(ns: &Namespace) {
    let port = free_port();
    let ports = format!("{port}:8080");
    let mut forward = Background::start(&mut virtctl(ns, &["port-forward", "vmi/guest", &ports]));
    // Two connections, one after the other, through one tunnel program.
    for _ in 0..2 {
        let mut stream = connect(port);
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut page = String::new();
        let _ = stream.read_to_string(&mut page).unwrap();
        assert!(page.contains("hello-from-guest"), "{page}");
    }
    forward.interrupt_group();
    let _ = forward.wait(SOON);
}

fn vnc(ns: &Namespace) {
    let port = free_port().to_string();
    let mut proxy = Background::start(&mut virtctl(
        ns,
        &["vnc", "guest", "--proxy-only", "--port", &port],
    ));
    let mut line = String::new();
    let stdout = proxy.child().stdout.take().unwrap();
    let _ = BufReader::new(stdout).read_line(&mut line).unwrap();
    assert_eq!(line.trim(), format!("{{\"port\":{port}}}"));
    let mut banner = [0; 12];
    connect(port.parse().unwrap())
        .read_exact(&mut banner)
        .unwrap();
    assert_eq!(&banner, b"RFB 003.008\n");
    // It ends with its one client.
    let _ = proxy.wait(SOON);
}

/// Ctrl-C leaves the console, and only that: no raw terminal matters to a pipe, the guest goes on, the next one opens.
fn interrupted_console(ns: &Namespace) {
    let mut console = Background::start(&mut virtctl(ns, &["console", "guest"]));
    let mut line = String::new();
    let stderr = console.child().stderr.take().unwrap();
    let mut stderr = BufReader::new(stderr);
    while !line.contains("Successfully connected") {
        assert_ne!(
            stderr.read_line(&mut line).unwrap(),
            0,
            "the console ended: {line}"
        );
    }
    console.interrupt_group();
    let status = console.wait(SOON);
    assert!(status.success(), "{status}");
    let mut again = Console::open(ns.name(), "guest");
    again.send("\r");
    again.expect("$ ", Duration::from_secs(60));
    assert!(
        again
            .run("cat /tmp/www/index.html")
            .contains("hello-from-guest")
    );
}
