//! Values that upstream's mutating webhooks fill in.
//!
//! Source: pkg/defaults/{defaults,amd64}.go, kubevirt.io/api/core/v1/defaults.go,
//! pkg/network/vmispec/defaults.go, pkg/util/util.go (`SetDefaultVolumeDisk`).
//! Left out on purpose: maxSockets and maxGuest (nothing is plugged into a
//! running guest), the PCI topology annotation (libvirt's).

use api::schema::{Kind, Table, table};
use serde_json::{Value, json};

use super::context::ClusterConfig;
use super::json::{at, default_at, has, is_blank, list_at, list_mut, set_at, slot, text_at};
use super::quantity::Quantity;

/// Defaults of a spec, wherever it stands: in a VMI or in a template before it
/// is checked.
///
/// # Errors
/// A sentence when the cluster's configuration contradicts itself.
pub(super) fn spec(spec: &mut Value, config: &ClusterConfig) -> Result<(), String> {
    default_at(spec, "architecture", config.architecture.as_str());
    default_at(spec, "domain.machine.type", config.machine_type.as_str());
    resources(spec, config);
    guest_memory(spec);
    topology(spec);
    pull_policies(spec);
    if let Some(strategy) = &config.eviction_strategy {
        default_at(spec, "evictionStrategy", strategy.as_str());
    }
    pod_interface(spec, config)?;
    volume_disks(spec);
    Ok(())
}

/// Defaults that only a VMI gets, after those of [`spec`].
pub(super) fn instance(spec: &mut Value, config: &ClusterConfig, uuid: &str) {
    default_at(spec, "domain.firmware.uuid", uuid);
    default_at(spec, "domain.features.acpi.enabled", true);
    for feature in ["apic", "smm"] {
        if has(spec, &format!("domain.features.{feature}")) {
            default_at(spec, &format!("domain.features.{feature}.enabled"), true);
        }
    }
    for disk in list_mut(spec, "domain.devices.disks") {
        if !["disk", "cdrom", "lun"].iter().any(|kind| has(disk, kind)) {
            set_at(disk, "disk", json!({}));
        }
        if has(disk, "cdrom") {
            default_at(disk, "cdrom.readonly", true);
            default_at(disk, "cdrom.tray", "closed");
        }
        // SATA is what every guest knows out of the box; there is no IDE on q35.
        // A lun needs SCSI (upstream's default of SATA is one that QEMU refuses).
        if has(disk, "lun") {
            default_at(disk, "lun.bus", "scsi");
        }
        for kind in ["disk", "cdrom"] {
            if has(disk, kind) {
                default_at(disk, &format!("{kind}.bus"), "sata");
            }
        }
    }
    for input in list_mut(spec, "domain.devices.inputs") {
        default_at(input, "bus", "usb");
        default_at(input, "type", "tablet");
    }
    if has(spec, "domain.devices.watchdog") && !has(spec, "domain.devices.watchdog.diag288") {
        default_at(spec, "domain.devices.watchdog.i6300esb.action", "reset");
    }
    default_at(spec, "domain.cpu.model", config.cpu_model.as_str());
}

fn resources(spec: &mut Value, config: &ClusterConfig) {
    let limit = at(spec, "domain.resources.limits.cpu").clone();
    let request = Quantity::or_zero(at(spec, "domain.resources.requests.cpu"));
    if !Quantity::or_zero(&limit).is_zero() && request.is_zero() {
        set_at(spec, "domain.resources.requests.cpu", limit);
    }
    if let Some(request) = &config.cpu_request {
        default_at(spec, "domain.resources.requests.cpu", request.as_str());
    }
}

fn guest_memory(spec: &mut Value) {
    if has(spec, "domain.memory.guest") {
        return;
    }
    let source = ["requests.memory", "limits.memory"]
        .iter()
        .map(|name| at(spec, &format!("domain.resources.{name}")))
        .find(|memory| !Quantity::or_zero(memory).is_zero())
        .cloned();
    if let Some(memory) = source {
        set_at(spec, "domain.memory.guest", memory);
    }
}

/// Without a topology the vCPUs of the limit, or else of the request, become
/// sockets; with part of one, the rest stays for the machine to count as 1.
fn topology(spec: &mut Value) {
    let unset = ["cores", "sockets", "threads"].iter().all(|part| {
        at(spec, &format!("domain.cpu.{part}"))
            .as_i64()
            .unwrap_or(0)
            == 0
    });
    if !unset {
        return;
    }
    let sockets = ["limits.cpu", "requests.cpu"]
        .iter()
        .map(|name| at(spec, &format!("domain.resources.{name}")))
        .find(|cpu| !cpu.is_null())
        .map_or(1, |cpu| Quantity::or_zero(cpu).value().max(1));
    set_at(spec, "domain.cpu.sockets", sockets);
    set_at(spec, "domain.cpu.cores", 1);
    set_at(spec, "domain.cpu.threads", 1);
}

fn pull_policies(spec: &mut Value) {
    for volume in list_mut(spec, "volumes") {
        if !has(volume, "containerDisk") {
            continue;
        }
        let image = text_at(volume, "containerDisk.image");
        // As upstream: a registry's port counts as a tag.
        let policy = if image.ends_with(":latest") || !image.contains([':', '@']) {
            "Always"
        } else {
            "IfNotPresent"
        };
        default_at(volume, "containerDisk.imagePullPolicy", policy);
    }
}

/// A VMI that names neither network nor interface gets one on the pod network.
fn pod_interface(spec: &mut Value, config: &ClusterConfig) -> Result<(), String> {
    if at(spec, "domain.devices.autoattachPodInterface").as_bool() == Some(false)
        || !list_at(spec, "networks").is_empty()
        || !list_at(spec, "domain.devices.interfaces").is_empty()
    {
        return Ok(());
    }
    let binding = match config.default_interface.as_str() {
        "masquerade" => "masquerade",
        "slirp" => return Err("slirp interface is deprecated as of v1.3".to_owned()),
        _ if !config.bridge_on_pod_network => {
            return Err("bridge interface is not enabled in kubevirt-config".to_owned());
        }
        _ => "bridge",
    };
    let mut interface = json!({ "name": "default" });
    interface[binding] = json!({});
    set_at(spec, "domain.devices.interfaces", json!([interface]));
    set_at(spec, "networks", json!([{ "name": "default", "pod": {} }]));
    Ok(())
}

/// A volume that no disk and no file system names gets a disk.
fn volume_disks(spec: &mut Value) {
    let mut shown: Vec<String> = list_at(spec, "domain.devices.disks")
        .iter()
        .chain(list_at(spec, "domain.devices.filesystems"))
        .map(|device| text_at(device, "name").to_owned())
        .collect();
    let mut missing = Vec::new();
    for volume in list_at(spec, "volumes") {
        let name = text_at(volume, "name").to_owned();
        // Of two volumes of one name upstream makes two disks; one will do for
        // the refusal that follows.
        if !shown.contains(&name) {
            missing.push(json!({ "name": name }));
            shown.push(name);
        }
    }
    if missing.is_empty() {
        return;
    }
    let Some(disks) = slot(spec, "domain.devices.disks") else {
        return;
    };
    match disks {
        Value::Array(disks) => disks.extend(missing),
        empty if is_blank(empty) => *empty = Value::Array(missing),
        _ => {}
    }
}

/// Turns quantities that are written as numbers (`memory: 1073741824`) into
/// text, as upstream's do on their way through Go: readers expect text.
pub(super) fn quantities(kind: &str, object: &mut Value) {
    quantities_of_type(table(), kind, object);
}

fn quantities_of_type(table: &Table, name: &str, value: &mut Value) {
    let (Some(ty), Some(members)) = (table.get(name), value.as_object_mut()) else {
        return;
    };
    for (name, member) in members {
        if let Some(field) = ty.field(name) {
            quantities_of_kind(table, &field.kind, member);
        }
    }
}

fn quantities_of_kind(table: &Table, kind: &Kind, value: &mut Value) {
    match kind {
        Kind::Quantity => {
            if let Value::Number(number) = value {
                *value = Value::String(number.to_string());
            }
        }
        Kind::Type(name) => quantities_of_type(table, name, value),
        Kind::List(_, inner) => {
            for element in value.as_array_mut().into_iter().flatten() {
                quantities_of_kind(table, inner, element);
            }
        }
        Kind::Map(inner) => {
            for member in value.as_object_mut().into_iter().flatten() {
                quantities_of_kind(table, inner, member.1);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn filled(mut value: Value) -> Value {
        spec(&mut value, &ClusterConfig::default()).unwrap();
        value
    }

    #[test]
    fn the_smallest_spec_gets_all_it_needs() {
        let spec = filled(
            json!({"domain": {"devices": {}, "resources": {"requests": {"memory": "64M"}}}}),
        );
        assert_eq!(
            spec,
            json!({
                "architecture": "amd64",
                "domain": {
                    "cpu": {"cores": 1, "sockets": 1, "threads": 1},
                    "machine": {"type": "q35"},
                    "memory": {"guest": "64M"},
                    "resources": {"requests": {"memory": "64M"}},
                    "devices": {"interfaces": [{"name": "default", "bridge": {}}]},
                },
                "networks": [{"name": "default", "pod": {}}],
            })
        );
    }

    #[test]
    fn what_is_given_stays() {
        let given = json!({
            "architecture": "amd64",
            "domain": {
                "cpu": {"cores": 2},
                "machine": {"type": "pc-q35-10.0"},
                "memory": {"guest": "1Gi"},
                "devices": {"disks": [], "autoattachPodInterface": false},
            },
        });
        assert_eq!(filled(given.clone()), given);
    }

    #[test]
    fn cpu_limit_becomes_request_and_sockets() {
        let spec =
            filled(json!({"domain": {"devices": {}, "resources": {"limits": {"cpu": "1500m"}}}}));
        assert_eq!(at(&spec, "domain.resources.requests.cpu"), "1500m");
        assert_eq!(at(&spec, "domain.cpu.sockets"), 2);
    }

    #[test]
    fn pull_policy_follows_the_tag() {
        for (image, policy) in [
            ("kubevirt/cirros-registry-disk-demo", "Always"),
            ("a:latest", "Always"),
            ("a:1.0", "IfNotPresent"),
            ("a@sha256:00", "IfNotPresent"),
        ] {
            let spec = filled(json!({"domain": {"devices": {}}, "volumes": [
                {"name": "a", "containerDisk": {"image": image}}]}));
            assert_eq!(
                spec["volumes"][0]["containerDisk"]["imagePullPolicy"], policy,
                "{image}"
            );
        }
    }

    #[test]
    fn volumes_without_a_disk_get_one_on_sata() {
        let mut spec = filled(
            json!({"domain": {"devices": {"disks": [{"name": "b", "cdrom": {}}]}},
            "volumes": [{"name": "a"}, {"name": "b"}]}),
        );
        instance(&mut spec, &ClusterConfig::default(), "u");
        assert_eq!(
            spec["domain"]["devices"]["disks"],
            json!([
                {"name": "b", "cdrom": {"bus": "sata", "readonly": true, "tray": "closed"}},
                {"name": "a", "disk": {"bus": "sata"}},
            ])
        );
        assert_eq!(spec["domain"]["cpu"]["model"], "host-model");
        assert_eq!(spec["domain"]["features"]["acpi"]["enabled"], true);
        assert_eq!(spec["domain"]["firmware"]["uuid"], "u");
    }

    #[test]
    fn the_default_interface_follows_the_configuration() {
        let mut value = json!({"domain": {"devices": {}}});
        let masquerade = ClusterConfig {
            default_interface: "masquerade".to_owned(),
            ..ClusterConfig::default()
        };
        spec(&mut value, &masquerade).unwrap();
        assert_eq!(
            value["domain"]["devices"]["interfaces"],
            json!([{"name": "default", "masquerade": {}}])
        );
        let no_bridge = ClusterConfig {
            bridge_on_pod_network: false,
            ..ClusterConfig::default()
        };
        assert_eq!(
            spec(&mut json!({"domain": {"devices": {}}}), &no_bridge).unwrap_err(),
            "bridge interface is not enabled in kubevirt-config"
        );
    }

    #[test]
    fn numbers_for_quantities_become_text() {
        let mut vm = json!({"spec": {"template": {"spec": {
            "domain": {"resources": {"requests": {"memory": 1_073_741_824, "cpu": 2}}},
            "volumes": [{"name": "a", "emptyDisk": {"capacity": 1024}}],
        }}}});
        quantities("VirtualMachine", &mut vm);
        let spec = &vm["spec"]["template"]["spec"];
        assert_eq!(
            spec["domain"]["resources"]["requests"],
            json!({"memory": "1073741824", "cpu": "2"})
        );
        assert_eq!(spec["volumes"][0]["emptyDisk"]["capacity"], "1024");
    }
}
