//! Bad input: each is refused with upstream's field path, reason and sentence.

use decide::admission::Verdict;
use serde_json::{Value, json};

use super::{context, create, create_with, vm, vmi, with};

/// Asserts that `verdict` refuses with a cause at `field` that is `reason` and
/// says `message`.
fn assert_cause(verdict: &Verdict, case: &str, field: &str, reason: &str, message: &str) {
    assert!(!verdict.allowed, "{case}: allowed");
    assert_eq!(verdict.code, 422, "{case}");
    let causes: Vec<Value> = verdict.causes.iter().map(|cause| cause.to_json()).collect();
    let found = causes.iter().any(|cause| {
        cause["field"].as_str().unwrap_or_default() == field
            && cause["reason"] == reason
            && cause["message"].as_str().unwrap().contains(message)
    });
    assert!(
        found,
        "{case}: no {reason} at {field} with '{message}' in {causes:#?}"
    );
}

const INVALID: &str = "FieldValueInvalid";
const REQUIRED: &str = "FieldValueRequired";
const DUPLICATE: &str = "FieldValueDuplicate";
const NOT_SUPPORTED: &str = "FieldValueNotSupported";

/// Pointer into the VMI's spec, value there, then what the cause must be: field
/// below the spec, reason, part of the message.
type Case = (
    &'static str,
    Value,
    &'static str,
    &'static str,
    &'static str,
);

fn cases() -> Vec<Case> {
    vec![
        // disks
        (
            "/domain/devices/disks/0/disk/bus",
            json!("floppy"),
            "domain.devices.disks[0].disk.bus",
            INVALID,
            "disks[0] is set with an unrecognized bus floppy, must be one of: [virtio scsi sata usb]",
        ),
        (
            "/domain/devices/disks/0/disk/bus",
            json!("ide"),
            "domain.devices.disks[0].disk.bus",
            INVALID,
            "IDE bus is not supported",
        ),
        (
            "/domain/devices/disks/1/name",
            json!("root"),
            "domain.devices.disks[1].name",
            INVALID,
            "disks[1] and spec.domain.devices.disks[0] must not have the same Name.",
        ),
        (
            "/domain/devices/disks/2",
            json!({"name": "ghost", "disk": {}}),
            "domain.devices.disks[2].name",
            INVALID,
            "spec.domain.devices.disks[2].Name 'ghost' not found.",
        ),
        (
            "/domain/devices/disks/2",
            json!({"name": "empty", "cdrom": {}}),
            "domain.devices.disks[2].name",
            INVALID,
            "DeclarativeHotplugVolumes feature gate not enabled, cannot define an empty CD-ROM disk",
        ),
        (
            "/domain/devices/disks/0",
            json!({"name": "root", "disk": {}, "cdrom": {}}),
            "domain.devices.disks[0]",
            INVALID,
            "can only have a single target type defined",
        ),
        (
            "/domain/devices/disks/1",
            json!({"name": "init", "cdrom": {"bus": "virtio"}}),
            "domain.devices.disks[1].cdrom.bus",
            INVALID,
            "Bus type virtio is invalid for CD-ROM device",
        ),
        (
            "/domain/devices/disks/0/disk",
            json!({"bus": "sata", "readonly": true}),
            "domain.devices.disks[0].disk.bus",
            INVALID,
            "sata hard-disks do not support read-only.",
        ),
        (
            "/domain/devices/disks/0/disk",
            json!({"bus": "sata", "pciAddress": "0000:81:01.0"}),
            "domain.devices.disks[0].disk.pciAddress",
            INVALID,
            "setting a PCI address is only possible with bus type virtio",
        ),
        (
            "/domain/devices/disks/0/disk/pciAddress",
            json!("81:01.0"),
            "domain.devices.disks[0].disk.pciAddress",
            INVALID,
            "has malformed PCI address (81:01.0).",
        ),
        (
            "/domain/devices/disks/0/bootOrder",
            json!(0),
            "domain.devices.disks[0].bootOrder",
            INVALID,
            "must have a boot order > 0, if supplied",
        ),
        (
            "/domain/devices/disks/0/serial",
            json!("a b"),
            "domain.devices.disks[0].serial",
            INVALID,
            "must be made up of the following characters [A-Za-z0-9_.+-]",
        ),
        (
            "/domain/devices/disks/0/serial",
            json!("x".repeat(257)),
            "domain.devices.disks[0].serial",
            INVALID,
            "must be less than or equal to 256 in length",
        ),
        (
            "/domain/devices/disks/0/cache",
            json!("unsafe"),
            "domain.devices.disks[0].cache",
            INVALID,
            "disks[0].cache has invalid value unsafe",
        ),
        (
            "/domain/devices/disks/0/io",
            json!("uring"),
            "domain.devices.disks[0].io",
            NOT_SUPPORTED,
            "Supported modes are: native, threads.",
        ),
        // volumes
        (
            "/volumes/1/name",
            json!("root"),
            "volumes[1].name",
            INVALID,
            "spec.volumes[1] and spec.volumes[0] must not have the same Name.",
        ),
        (
            "/volumes/0",
            json!({"name": "root"}),
            "volumes[0]",
            INVALID,
            "spec.volumes[0] must have exactly one source type set",
        ),
        (
            "/volumes/0",
            json!({"name": "root", "emptyDisk": {"capacity": "1Gi"}, "containerDisk": {"image": "a"}}),
            "volumes[0]",
            INVALID,
            "must have exactly one source type set",
        ),
        (
            "/volumes/0",
            json!({"name": "root", "emptyDisk": {"capacity": "0"}}),
            "volumes[0].emptyDisk.capacity",
            INVALID,
            "must be greater than 0",
        ),
        (
            "/volumes/0/containerDisk/path",
            json!("/"),
            "volumes[0].containerDisk",
            INVALID,
            "must not point to root",
        ),
        (
            "/volumes/0/containerDisk/path",
            json!("disk/a.img"),
            "volumes[0].containerDisk",
            INVALID,
            "must be an absolute path to a file without relative components",
        ),
        (
            "/volumes/0/containerDisk/path",
            json!("/disk/../a.img"),
            "volumes[0].containerDisk",
            INVALID,
            "must be an absolute path to a file without relative components",
        ),
        (
            "/volumes/0/containerDisk/image",
            json!(""),
            "volumes[0].containerDisk.image",
            INVALID,
            "must name an image",
        ),
        (
            "/volumes/0/containerDisk/imagePullPolicy",
            json!("Sometimes"),
            "volumes[0].containerDisk.imagePullPolicy",
            INVALID,
            "is not one of",
        ),
        // cloud-init
        (
            "/volumes/1/cloudInitNoCloud",
            json!({"userDataBase64": "#####garbage"}),
            "volumes[1].cloudInitNoCloud.userDataBase64",
            INVALID,
            "spec.volumes[1].cloudInitNoCloud.userDataBase64.cloudInitNoCloud.userDataBase64 is not a valid base64 value.",
        ),
        (
            "/volumes/1/cloudInitNoCloud/networkDataBase64",
            json!("#####garbage"),
            "volumes[1].cloudInitNoCloud.networkDataBase64",
            INVALID,
            "is not a valid base64 value.",
        ),
        (
            "/volumes/1/cloudInitNoCloud/userDataBase64",
            json!("SGkuXG4="),
            "volumes[1].cloudInitNoCloud",
            INVALID,
            "must have only one userdatasource set.",
        ),
        (
            "/volumes/1/cloudInitNoCloud",
            json!({"networkData": "a", "networkDataSecretRef": {"name": "s"}}),
            "volumes[1].cloudInitNoCloud",
            INVALID,
            "must have only one networkdata source set.",
        ),
        (
            "/volumes/1/cloudInitNoCloud/userData",
            json!("x".repeat(2049)),
            "volumes[1].cloudInitNoCloud",
            INVALID,
            "userdata exceeds 2048 byte limit. Should use UserDataSecretRef for larger data.",
        ),
        (
            "/volumes/1/cloudInitNoCloud/networkData",
            json!("x".repeat(2049)),
            "volumes[1].cloudInitNoCloud",
            INVALID,
            "networkdata exceeds 2048 byte limit. Should use NetworkDataSecretRef for larger data.",
        ),
        (
            "/volumes/1/cloudInitNoCloud",
            json!({}),
            "volumes[1].cloudInitNoCloud",
            INVALID,
            "must have at least one userdatasource or one networkdatasource set.",
        ),
        // memory and CPU
        (
            "/domain/resources/requests/memory",
            json!("-1"),
            "domain.resources.requests.memory",
            INVALID,
            "must be greater than or equal to 0.",
        ),
        (
            "/domain/resources/requests/memory",
            json!("64m"),
            "domain.resources.requests.memory",
            INVALID,
            "'64m': must be greater than or equal to 1M.",
        ),
        (
            "/domain/resources/limits",
            json!({"memory": "63M"}),
            "domain.resources.requests.memory",
            INVALID,
            "spec.domain.resources.requests.memory '64M' is greater than spec.domain.resources.limits.memory '63M'",
        ),
        (
            "/domain/resources/limits",
            json!({"memory": "-1"}),
            "domain.resources.limits.memory",
            INVALID,
            "must be greater than or equal to 0.",
        ),
        (
            "/domain/resources",
            json!({"requests": {"cpu": "2", "memory": "64M"}, "limits": {"cpu": "1"}}),
            "domain.resources.requests.cpu",
            INVALID,
            "spec.domain.resources.requests.cpu '2' is greater than spec.domain.resources.limits.cpu '1'",
        ),
        (
            "/domain/resources/requests/cpu",
            json!("-1"),
            "domain.resources.requests.cpu",
            INVALID,
            "must be greater than or equal to 0.",
        ),
        (
            "/domain/memory",
            json!({"guest": "0"}),
            "domain.memory.guest",
            INVALID,
            "must be greater than 0",
        ),
        (
            "/domain/cpu",
            json!({"cores": -1}),
            "domain.cpu.cores",
            INVALID,
            "must not be negative",
        ),
        (
            "/domain/cpu",
            json!({"features": [{"name": "vmx", "policy": "maybe"}]}),
            "domain.cpu.features[0].policy",
            NOT_SUPPORTED,
            "CPU feature vmx uses policy maybe that is not supported.",
        ),
        (
            "/domain/machine",
            json!({"type": "pc-i440fx"}),
            "domain.machine.type",
            INVALID,
            "spec.domain.machine.type is not supported: pc-i440fx (allowed values: [q35* pc-q35*])",
        ),
        (
            "/architecture",
            json!("arm64"),
            "architecture",
            INVALID,
            "unsupported architecture: arm64",
        ),
        // network
        (
            "/networks",
            json!([{"name": "other", "pod": {}}]),
            "networks[0].name",
            REQUIRED,
            "spec.networks[0].name 'other' not found.",
        ),
        (
            "/networks",
            json!([{"name": "other", "pod": {}}]),
            "domain.devices.interfaces[0].name",
            INVALID,
            "spec.domain.devices.interfaces[0].name 'default' not found.",
        ),
        (
            "/networks/1",
            json!({"name": "default", "pod": {}}),
            "networks[1].name",
            DUPLICATE,
            "Network with name \"default\" already exists",
        ),
        (
            "/networks/1",
            json!({"name": "b", "pod": {}}),
            "interfaces",
            DUPLICATE,
            "more than one interface is connected to a pod network in spec.interfaces",
        ),
        (
            "/networks/0",
            json!({"name": "default"}),
            "networks[0]",
            REQUIRED,
            "should have a network type",
        ),
        (
            "/networks/0",
            json!({"name": "default", "pod": {}, "multus": {"networkName": "a"}}),
            "networks[0]",
            REQUIRED,
            "should have only one network type",
        ),
        (
            "/networks/0/pod",
            json!({"vmNetworkCIDR": "10.0.0.0/33"}),
            "networks[0].pod.vmNetworkCIDR",
            INVALID,
            "must be an IPv4 network",
        ),
        (
            "/domain/devices/interfaces/1",
            json!({"name": "default", "bridge": {}}),
            "domain.devices.interfaces[1].name",
            DUPLICATE,
            "Only one interface can be connected to one specific network",
        ),
        (
            "/domain/devices/interfaces/0",
            json!({"name": "default"}),
            "domain.devices.interfaces[0]",
            INVALID,
            "logical default interface must have exactly one binding method",
        ),
        (
            "/domain/devices/interfaces/0/bridge",
            json!({}),
            "domain.devices.interfaces[0]",
            INVALID,
            "must have exactly one binding method or binding plugin",
        ),
        (
            "/domain/devices/interfaces/0/name",
            json!("bad.name"),
            "domain.devices.interfaces[0].name",
            INVALID,
            "Network interface name can only contain",
        ),
        (
            "/domain/devices/interfaces/0/model",
            json!("tulip"),
            "domain.devices.interfaces[0].model",
            NOT_SUPPORTED,
            "uses model tulip that is not supported.",
        ),
        (
            "/domain/devices/interfaces/0/macAddress",
            json!("de:ad:00:00:be"),
            "domain.devices.interfaces[0].macAddress",
            INVALID,
            "has malformed MAC address (de:ad:00:00:be).",
        ),
        (
            "/domain/devices/interfaces/0/macAddress",
            json!("de:ad:00:00:be:af:be:af"),
            "domain.devices.interfaces[0].macAddress",
            INVALID,
            "has too long MAC address",
        ),
        (
            "/domain/devices/interfaces/0/macAddress",
            json!("02:00:00:00:00:00"),
            "domain.devices.interfaces[0].macAddress",
            INVALID,
            "The requested MAC address is reserved for the in-pod bridge.",
        ),
        (
            "/domain/devices/interfaces/0/pciAddress",
            json!("0000:81:01"),
            "domain.devices.interfaces[0].pciAddress",
            INVALID,
            "has malformed PCI address (0000:81:01).",
        ),
        (
            "/domain/devices/interfaces/0/ports",
            json!([{"name": "http"}]),
            "domain.devices.interfaces[0].ports[0].port",
            REQUIRED,
            "Port field is mandatory.",
        ),
        (
            "/domain/devices/interfaces/0/ports",
            json!([{"port": 80000}]),
            "domain.devices.interfaces[0].ports[0].port",
            INVALID,
            "Port field must be in range 0 < x < 65536.",
        ),
        (
            "/domain/devices/interfaces/0/ports",
            json!([{"port": 80, "protocol": "bad"}]),
            "domain.devices.interfaces[0].ports[0].protocol",
            INVALID,
            "Unknown protocol, only TCP or UDP allowed",
        ),
        (
            "/domain/devices/interfaces/0/ports",
            json!([{"port": 80, "name": "a"}, {"port": 81, "name": "a"}]),
            "domain.devices.interfaces[0].ports[1].name",
            DUPLICATE,
            "Duplicate name of the port: a",
        ),
        (
            "/domain/devices/interfaces/0/ports",
            json!([{"port": 80, "name": "Fifteen-letters!"}]),
            "domain.devices.interfaces[0].ports[0].name",
            INVALID,
            "Invalid name of the port",
        ),
        (
            "/domain/devices/interfaces/0/state",
            json!("sleepy"),
            "domain.devices.interfaces[0].state",
            INVALID,
            "logical default interface state value is unsupported: sleepy",
        ),
        (
            "/domain/devices/interfaces/0/state",
            json!("absent"),
            "domain.devices.interfaces[0].state",
            INVALID,
            "is supported only for bridge binding",
        ),
        (
            "/domain/devices/interfaces/0/bootOrder",
            json!(0),
            "domain.devices.interfaces[0].bootOrder",
            INVALID,
            "must have a boot order > 0",
        ),
        (
            "/domain/devices/interfaces/0/dhcpOptions",
            json!({"ntpServers": ["::1", "x"]}),
            "domain.devices.interfaces[0].dhcpOptions.ntpServers[0]",
            INVALID,
            "NTP servers must be a list of valid IPv4 addresses.",
        ),
        (
            "/domain/devices/interfaces/0/dhcpOptions",
            json!({"privateOptions": [{"option": 223, "value": "a"}]}),
            "",
            INVALID,
            "must be in range 224 to 254",
        ),
        (
            "/domain/devices/interfaces/0/dhcpOptions",
            json!({"privateOptions": [{"option": 240, "value": "a"}, {"option": 240, "value": "b"}]}),
            "",
            INVALID,
            "Found Duplicates",
        ),
        // the rest of the guest
        (
            "/domain/devices/inputs",
            json!([{"name": "a", "bus": "ps2", "type": "tablet"}]),
            "domain.devices.inputs[0].bus",
            INVALID,
            "Input device can have only virtio or usb bus.",
        ),
        (
            "/domain/devices/inputs",
            json!([{"name": "a", "bus": "usb", "type": "mouse"}]),
            "domain.devices.inputs[0].type",
            INVALID,
            "Input device can have only tablet type.",
        ),
        (
            "/domain/firmware",
            json!({"bootloader": {"efi": {"secureBoot": false}, "bios": {}}}),
            "domain.firmware.bootloader",
            INVALID,
            "has both EFI and BIOS configured, but they are mutually exclusive.",
        ),
        (
            "/domain/firmware",
            json!({"bootloader": {"efi": {}}}),
            "domain",
            INVALID,
            "spec.domain has EFI SecureBoot enabled. SecureBoot requires SMM, which is currently disabled.",
        ),
        (
            "/domain/devices/watchdog",
            json!({"name": "a", "i6300esb": {"action": "explode"}}),
            "domain.devices.watchdog.i6300esb.action",
            INVALID,
            "is not one of poweroff, reset, shutdown",
        ),
        // names, placement, DNS
        (
            "/hostname",
            json!("bad+hostname"),
            "hostname",
            INVALID,
            "spec.hostname does not conform to the kubernetes DNS_LABEL rules : ",
        ),
        (
            "/subdomain",
            json!("bad+domain"),
            "subdomain",
            INVALID,
            "spec.subdomain does not conform to the kubernetes DNS_SUBDOMAIN rules : ",
        ),
        (
            "/startStrategy",
            json!("Slowly"),
            "startStrategy",
            INVALID,
            "spec.startStrategy is set with an unrecognized option: Slowly",
        ),
        (
            "/evictionStrategy",
            json!("Fantasy"),
            "evictionStrategy",
            INVALID,
            "spec.evictionStrategy is set with an unrecognized option: Fantasy",
        ),
        (
            "/dnsPolicy",
            json!("Fantasy"),
            "dnsPolicy",
            NOT_SUPPORTED,
            "DNSPolicy: Fantasy is not supported",
        ),
        (
            "/dnsPolicy",
            json!("None"),
            "dnsConfig",
            REQUIRED,
            "must provide `dnsConfig` when `dnsPolicy` is None",
        ),
        (
            "/affinity",
            json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}),
            "nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms",
            INVALID,
            "Required value: must have at least one node selector term",
        ),
        (
            "/affinity",
            json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Like", "values": ["b"]}]}]}}}),
            "nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].operator",
            INVALID,
            "not a valid selector operator",
        ),
        (
            "/affinity",
            json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": ""}]}}),
            "podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey",
            INVALID,
            "can not be empty",
        ),
        (
            "/affinity",
            json!({"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 101, "podAffinityTerm": {"topologyKey": "a"}}]}}),
            "podAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight",
            INVALID,
            "must be in the range 1-100",
        ),
        (
            "/topologySpreadConstraints",
            json!([{"maxSkew": 0, "topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule"}]),
            "topologySpreadConstraints[0].maxSkew",
            INVALID,
            "must be greater than zero",
        ),
        // refused values
        (
            "/evictionStrategy",
            json!("LiveMigrate"),
            "evictionStrategy",
            NOT_SUPPORTED,
            "live migration is not implemented yet",
        ),
        // refused fields
        (
            "/domain/devices/hostDevices",
            json!([{"name": "a", "deviceName": "b"}]),
            "domain.devices.hostDevices[0]",
            NOT_SUPPORTED,
            "devices of the node cannot be passed to a guest yet",
        ),
        (
            "/domain/devices/interfaces/0/slirp",
            json!({}),
            "domain.devices.interfaces[0].slirp",
            NOT_SUPPORTED,
            "Slirp interface support has been discontinued since v1.3",
        ),
        (
            "/domain/memory",
            json!({"hugepages": {"pageSize": "2Mi"}}),
            "domain.memory.hugepages",
            NOT_SUPPORTED,
            "huge pages",
        ),
        (
            "/domain/cpu",
            json!({"dedicatedCpuPlacement": true}),
            "domain.cpu.dedicatedCpuPlacement",
            NOT_SUPPORTED,
            "pinned",
        ),
        (
            "/readinessProbe",
            json!({"tcpSocket": {"port": 22}}),
            "readinessProbe",
            NOT_SUPPORTED,
            "probes",
        ),
    ]
}

#[test]
fn of_an_instance() {
    for (pointer, value, field, reason, message) in cases() {
        let case = format!("{pointer} = {value}");
        let (_, verdict) = create(&with(vmi(), &format!("/spec{pointer}"), value));
        let field = format!("spec.{field}");
        assert_cause(
            &verdict,
            &case,
            field.trim_end_matches('.'),
            reason,
            message,
        );
    }
}

#[test]
fn of_a_template_has_the_path_of_the_template() {
    for (pointer, value, field, reason, message) in cases() {
        let case = format!("{pointer} = {value}");
        let (_, verdict) = create(&with(vm(), &format!("/spec/template/spec{pointer}"), value));
        let field = format!("spec.template.spec.{field}");
        let message = message.replace("spec.", "spec.template.spec.");
        assert_cause(
            &verdict,
            &case,
            field.trim_end_matches('.'),
            reason,
            &message,
        );
    }
}

#[test]
fn dns_settings_have_paths_of_their_own() {
    for (config, field, message) in [
        (
            json!({"nameservers": ["1.1.1.1", "2.2.2.2", "3.3.3.3", "4.4.4.4"]}),
            "nameservers",
            "must not have more than 3 nameservers",
        ),
        (
            json!({"nameservers": ["x"]}),
            "nameservers",
            "must be valid IP address: x",
        ),
        (
            json!({"searches": ["a", "b", "c", "d", "e", "f", "g"]}),
            "searchDomains",
            "must not have more than 6 search paths",
        ),
        (
            json!({"searches": ["B@d"]}),
            "searchDomains",
            "RFC 1123 subdomain",
        ),
        (
            json!({"options": [{"value": "1"}]}),
            "options",
            "Option.Name must not be empty",
        ),
    ] {
        let (_, verdict) = create(&with(vmi(), "/spec/dnsConfig", config.clone()));
        assert_cause(&verdict, &config.to_string(), field, INVALID, message);
    }
}

#[test]
fn boot_orders_are_unique_across_disks_and_interfaces() {
    let vmi = with(vmi(), "/spec/domain/devices/disks/0/bootOrder", json!(1));
    let vmi = with(vmi, "/spec/domain/devices/interfaces/0/bootOrder", json!(1));
    assert_cause(
        &create(&vmi).1,
        "boot order",
        "spec.domain.devices.interfaces[0].bootOrder",
        INVALID,
        "Boot order for spec.domain.devices.interfaces[0].bootOrder already set for a different device.",
    );
}

#[test]
fn an_instance_must_ask_for_memory_and_a_template_need_not() {
    let (_, verdict) = create(&with(vmi(), "/spec/domain/resources", json!({})));
    assert_cause(
        &verdict,
        "no memory",
        "",
        REQUIRED,
        "no memory requested, at least one of 'spec.domain.memory.guest', 'spec.domain.memory.hugepages.pageSize' or 'spec.domain.resources.requests.memory' must be set",
    );
    let (_, verdict) = create(&with(
        vm(),
        "/spec/template/spec/domain/resources",
        json!({}),
    ));
    assert!(verdict.allowed, "{}", verdict.message);
}

#[test]
fn guest_memory_fits_the_limit() {
    let vmi = with(
        vmi(),
        "/spec/domain/resources",
        json!({"limits": {"memory": "64Mi"}}),
    );
    let vmi = with(vmi, "/spec/domain/memory", json!({"guest": "65Mi"}));
    assert_cause(
        &create(&vmi).1,
        "guest over limit",
        "spec.domain.memory.guest",
        INVALID,
        "spec.domain.memory.guest '65Mi' must be equal to or less than the memory limit spec.domain.resources.limits.memory '64Mi'",
    );
}

#[test]
fn a_volume_without_a_disk_gets_one() {
    let mut vmi = vmi();
    vmi["spec"]["domain"]["devices"]["disks"]
        .as_array_mut()
        .unwrap()
        .pop();
    let (stored, verdict) = create(&vmi);
    assert!(verdict.allowed, "{}", verdict.message);
    assert_eq!(
        stored["spec"]["domain"]["devices"]["disks"][1],
        json!({"name": "init", "disk": {"bus": "sata"}})
    );
}

#[test]
fn masquerade_needs_the_pod_network() {
    let vmi = with(
        vmi(),
        "/spec/networks/0",
        json!({"name": "default", "multus": {"networkName": "a"}}),
    );
    assert_cause(
        &create(&vmi).1,
        "masquerade",
        "spec.domain.devices.interfaces[0].name",
        INVALID,
        "Masquerade interface only implemented with pod network",
    );
}

#[test]
fn bridge_on_the_pod_network_may_be_forbidden() {
    let vmi = with(
        vmi(),
        "/spec/domain/devices/interfaces/0",
        json!({"name": "default", "bridge": {}}),
    );
    assert!(create(&vmi).1.allowed);
    let mut ctx = context();
    ctx.config.bridge_on_pod_network = false;
    let (_, verdict) = create_with(&vmi, &ctx, super::ALICE);
    assert_cause(
        &verdict,
        "bridge",
        "spec.domain.devices.interfaces[0].name",
        INVALID,
        "Bridge on pod network configuration is not enabled under kubevirt-config",
    );
}

#[test]
fn reserved_labels_and_gated_annotations() {
    let mut reserved = vmi();
    reserved["metadata"]["labels"] = json!({"kubevirt.io/nodeName": "edge1"});
    let message =
        "creation of the following reserved kubevirt.io/ labels on a VMI object is prohibited";
    assert_cause(
        &create(&reserved).1,
        "label",
        "metadata.labels",
        NOT_SUPPORTED,
        message,
    );
    assert!(
        create_with(&reserved, &context(), super::CONTROLLER)
            .1
            .allowed
    );

    let mut vm = vm();
    vm["spec"]["template"]["metadata"]["labels"] = json!({"kubevirt.io/nodeName": "edge1"});
    assert_cause(
        &create(&vm).1,
        "label",
        "spec.template.metadata.labels",
        NOT_SUPPORTED,
        message,
    );

    let mut hooked = vmi();
    hooked["metadata"]["annotations"] = json!({"hooks.kubevirt.io/hookSidecars": "[]"});
    assert_cause(
        &create(&hooked).1,
        "sidecar",
        "metadata.annotations",
        INVALID,
        "sidecar feature gate is not enabled in kubevirt-config, invalid entry metadata.annotations.hooks.kubevirt.io/hookSidecars",
    );
    let mut ctx = context();
    ctx.config.feature_gates = vec!["Sidecar".to_owned()];
    let (_, verdict) = create_with(&hooked, &ctx, super::ALICE);
    assert_cause(
        &verdict,
        "sidecar",
        "metadata.annotations",
        INVALID,
        "hook sidecars are not implemented",
    );
}

#[test]
fn run_strategies() {
    for (spec, field, message) in [
        (
            json!({"running": true, "runStrategy": "Always"}),
            "spec.running",
            "Running and RunStrategy are mutually exclusive. Note that Running is deprecated, please use RunStrategy instead",
        ),
        (json!({}), "spec.running", "RunStrategy must be specified"),
        (
            json!({"runStrategy": "Sometimes"}),
            "spec.runStrategy",
            "Invalid RunStrategy (Sometimes)",
        ),
        (
            json!({"runStrategy": "WaitAsReceiver"}),
            "spec.runStrategy",
            "DecentralizedLiveMigration feature gate is not enabled",
        ),
    ] {
        let mut object = vm();
        let template = object["spec"]["template"].take();
        object["spec"] = spec.clone();
        object["spec"]["template"] = template;
        assert_cause(
            &create(&object).1,
            &spec.to_string(),
            field,
            INVALID,
            message,
        );
    }
    for strategy in ["Always", "Halted", "Manual", "RerunOnFailure", "Once"] {
        let (_, verdict) = create(&with(vm(), "/spec/runStrategy", json!(strategy)));
        assert!(verdict.allowed, "{strategy}: {}", verdict.message);
    }
}

#[test]
fn a_vm_without_a_template() {
    let mut object = vm();
    object["spec"].as_object_mut().unwrap().remove("template");
    assert_cause(
        &create(&object).1,
        "no template",
        "spec.template",
        REQUIRED,
        "missing virtual machine template.",
    );
}

#[test]
fn several_mistakes_are_told_at_once() {
    let vmi = with(vmi(), "/spec/hostname", json!("-"));
    let vmi = with(
        vmi,
        "/spec/domain/devices/disks/0/disk/bus",
        json!("floppy"),
    );
    let (_, verdict) = create(&vmi);
    assert_eq!(verdict.causes.len(), 2, "{:#?}", verdict.causes);
    assert!(verdict.message.contains(", "));
}

#[test]
fn malformed_objects_are_left_to_the_schema() {
    for (pointer, value) in [
        ("/spec/domain", json!("text")),
        ("/spec/volumes", json!({"a": 1})),
        ("/spec/domain/devices/disks", json!(7)),
        ("/spec/domain/cpu", json!([])),
    ] {
        let (stored, _) = create(&with(vmi(), pointer, value.clone()));
        assert_eq!(stored.pointer(pointer), Some(&value), "{pointer}");
    }
}
