//! What a guest sees and who reaches it.

use testkit::{Console, Namespace};

use crate::manifest;

const USER_DATA: &str = "#cloud-config
hostname: from-cloud-init
write_files:
- path: /tmp/proof
  content: written by cloud-init
";

#[test]
fn user_data_is_applied_and_another_guest_reaches_it_over_the_pod_network() {
    let ns = Namespace::new("guest");
    let _ = ns
        .create(&manifest::vmi("server", USER_DATA))
        .expect_ok("create");
    let _ = ns
        .create(&manifest::vmi_with(
            "client",
            "#cloud-config\n",
            "masquerade",
        ))
        .expect_ok("create");
    ns.wait_for("vmi", "server", "/status/phase", "Running");
    ns.wait_for("vmi", "client", "/status/phase", "Running");

    let mut server = Console::open(ns.name(), "server");
    server.login();
    assert_eq!(server.run("hostname").trim(), "from-cloud-init");
    assert!(
        server
            .run("cat /tmp/proof")
            .contains("written by cloud-init")
    );
    let _ = server.run("mkdir -p /tmp/www; echo hello-from-server > /tmp/www/index.html; busybox httpd -p 8080 -h /tmp/www");

    let ip = ns.get("vmi", "server")["status"]["interfaces"][0]["ipAddress"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut client = Console::open(ns.name(), "client");
    client.login();
    let page = client.run(&format!("timeout 20 wget -q -O - http://{ip}:8080/"));
    assert!(page.contains("hello-from-server"), "{page}");
    let addresses = client.run("ip addr");
    assert!(
        addresses.contains("inet 10.0.2.2/"),
        "masquerade: {addresses}"
    );
}
