//! Manifests the tests create.

/// A VMI of 128 MiB with the demo guest, bridged to the pod network.
pub(crate) fn vmi(name: &str, user_data: &str) -> String {
    vmi_with(name, user_data, "bridge")
}

/// As [`vmi`], with another binding of the interface.
pub(crate) fn vmi_with(name: &str, user_data: &str, binding: &str) -> String {
    format!(
        r"apiVersion: kubevirt.io/v1
kind: VirtualMachineInstance
metadata:
  name: {name}
  labels: {{app: {name}}}
spec:
{}",
        indent(&spec(user_data, binding), 2)
    )
}

/// A VM with the spec of [`vmi`]; `strategy` is a line such as `runStrategy: Always`.
pub(crate) fn vm(name: &str, strategy: &str) -> String {
    format!(
        r"apiVersion: kubevirt.io/v1
kind: VirtualMachine
metadata:
  name: {name}
spec:
  {strategy}
  template:
    metadata:
      labels: {{app: {name}}}
    spec:
{}",
        indent(&spec("#cloud-config\n", "bridge"), 6)
    )
}

/// A VMI of 64 MiB whose whole disk is `image`, without a network.
pub(crate) fn tiny(name: &str, image: &str) -> String {
    format!(
        r"apiVersion: kubevirt.io/v1
kind: VirtualMachineInstance
metadata:
  name: {name}
  labels: {{app: {name}}}
spec:
  terminationGracePeriodSeconds: 0
  domain:
    devices:
      autoattachPodInterface: false
      disks:
      - name: rootfs
        disk: {{bus: virtio}}
    resources:
      requests: {{memory: 64Mi, cpu: 10m}}
  volumes:
  - name: rootfs
    containerDisk:
      image: {image}
"
    )
}

fn spec(user_data: &str, binding: &str) -> String {
    format!(
        r"terminationGracePeriodSeconds: 20
domain:
  devices:
    disks:
    - name: rootfs
      disk: {{bus: virtio}}
    - name: cloudinit
      disk: {{bus: virtio}}
    interfaces:
    - name: default
      {binding}: {{}}
  resources:
    requests: {{memory: 192Mi, cpu: 50m}}
networks:
- name: default
  pod: {{}}
volumes:
- name: rootfs
  containerDisk:
    image: kubevirt/cirros-registry-disk-demo
- name: cloudinit
  cloudInitNoCloud:
    userData: |
{}",
        indent(user_data, 6)
    )
}

fn indent(text: &str, by: usize) -> String {
    let pad = " ".repeat(by);
    let lines: Vec<String> = text.lines().map(|line| format!("{pad}{line}")).collect();
    lines.join("\n")
}
