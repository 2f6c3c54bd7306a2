//! Requests and limits of the launcher's `compute` container.
//!
//! ```text
//!   cpu      the user's request, else vCPUs / cpuAllocationRatio
//!   memory   the user's request, else the limit, else guest memory / overcommit;
//!            plus the overhead, unless overcommitGuestOverhead
//!   limits   the user's, memory plus the overhead; one of each device needed
//! ```
//! Source of the rules: KubeVirt, pkg/virt-controller/services/renderresources.go.

use std::collections::BTreeMap;

use api::names::{KVM_RESOURCE, TUN_RESOURCE, VHOST_NET_RESOURCE};
use api::vmi::VmiSpec;
use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use machine::overhead::{guest_memory, vcpus};
use machine::quantity;

use super::Settings;
use super::render::RenderError;

/// Local storage of logs and small files that every launcher pod may use, bytes.
const EPHEMERAL_STORAGE: u64 = 50_000_000;

/// Bytes the pod needs beside the guest's memory, the configured factor included.
#[must_use]
pub fn memory_overhead(spec: &VmiSpec, settings: &Settings) -> u64 {
    let bytes = machine::memory_overhead(spec, settings.use_emulation);
    if settings.overhead_ratio <= 1.0 {
        return bytes;
    }
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an overhead is far below 2^52 bytes and the ratio is finite and above 1"
    )]
    let scaled = (bytes as f64 * settings.overhead_ratio).ceil() as u64;
    scaled
}

/// CPU request of a guest that has none of its own: `200m` for 2 vCPUs at ratio 10.
#[must_use]
pub fn cpu_request(vcpus: u64, ratio: u64) -> String {
    let millis = (vcpus * 1000).div_ceil(ratio.max(1)).max(1);
    if millis.is_multiple_of(1000) {
        format!("{}", millis / 1000)
    } else {
        format!("{millis}m")
    }
}

/// The shortest exact notation of a number of bytes: `288Mi`, `2056000000`.
#[must_use]
pub fn quantity_text(bytes: u64) -> String {
    let units = [(1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")];
    units
        .into_iter()
        .find(|(unit, _)| bytes > 0 && bytes.is_multiple_of(*unit))
        .map_or_else(
            || bytes.to_string(),
            |(unit, suffix)| format!("{}{suffix}", bytes / unit),
        )
}

/// Requests and limits of `compute`.
///
/// # Errors
/// When huge pages are asked for, or a quantity is malformed.
pub(super) fn compute(
    spec: &VmiSpec,
    settings: &Settings,
) -> Result<ResourceRequirements, RenderError> {
    let asked = &spec.domain.resources;
    for (field, list) in [("requests", &asked.requests), ("limits", &asked.limits)] {
        if let Some(name) = list.keys().find(|name| name.starts_with("hugepages-")) {
            return Err(RenderError::HugePages {
                path: format!("spec.domain.resources.{field}.{name}"),
            });
        }
    }
    let overhead = memory_overhead(spec, settings);
    let mut requests = asked.requests.clone();
    let mut limits = asked.limits.clone();

    requests
        .entry("cpu".to_owned())
        .or_insert_with(|| Quantity(cpu_request(vcpus(spec), settings.cpu_allocation_ratio)));
    let memory = match asked.requests.get("memory").or(asked.limits.get("memory")) {
        Some(quantity) => bytes("spec.domain.resources", quantity)?,
        None => guest_memory(spec).saturating_mul(100) / settings.memory_overcommit.max(1),
    };
    let request = if asked.overcommit_guest_overhead {
        memory
    } else {
        memory.saturating_add(overhead)
    };
    requests.insert("memory".to_owned(), Quantity(quantity_text(request)));
    add(&mut requests, "ephemeral-storage", EPHEMERAL_STORAGE, true)?;
    add(&mut limits, "memory", overhead, false)?;
    add(&mut limits, "ephemeral-storage", EPHEMERAL_STORAGE, false)?;

    for device in devices(spec, settings) {
        limits.insert(device.to_owned(), Quantity("1".to_owned()));
    }
    Ok(ResourceRequirements {
        requests: Some(requests),
        limits: (!limits.is_empty()).then_some(limits),
        ..ResourceRequirements::default()
    })
}

/// Devices of the node that the guest needs. vhost-net goes with KVM: a node
/// that emulates may have none, and an emulated guest gains nothing from it.
fn devices(spec: &VmiSpec, settings: &Settings) -> Vec<&'static str> {
    let interfaces = &spec.domain.devices.interfaces;
    let networked =
        !interfaces.is_empty() || spec.domain.devices.autoattach_pod_interface != Some(false);
    let virtio = interfaces.is_empty()
        || interfaces
            .iter()
            .any(|i| i.model.as_deref().is_none_or(|model| model == "virtio"));
    let mut devices = Vec::new();
    if !settings.use_emulation {
        devices.push(KVM_RESOURCE);
    }
    if networked {
        devices.push(TUN_RESOURCE);
        if virtio && !settings.use_emulation {
            devices.push(VHOST_NET_RESOURCE);
        }
    }
    devices
}

/// Adds `more` bytes to an entry; to a missing one only when `create` is set.
fn add(
    list: &mut BTreeMap<String, Quantity>,
    name: &str,
    more: u64,
    create: bool,
) -> Result<(), RenderError> {
    match list.get_mut(name) {
        Some(quantity) => {
            let sum = bytes("spec.domain.resources", quantity)?.saturating_add(more);
            *quantity = Quantity(quantity_text(sum));
        }
        None if create => {
            list.insert(name.to_owned(), Quantity(decimal_text(more)));
        }
        None => {}
    }
    Ok(())
}

/// `50M` for fifty million.
fn decimal_text(bytes: u64) -> String {
    if bytes > 0 && bytes.is_multiple_of(1_000_000) {
        format!("{}M", bytes / 1_000_000)
    } else {
        bytes.to_string()
    }
}

fn bytes(path: &str, quantity: &Quantity) -> Result<u64, RenderError> {
    quantity::bytes(quantity).map_err(|source| RenderError::Quantity {
        path: path.to_owned(),
        found: quantity.0.clone(),
        source,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::needless_pass_by_value)]
    use super::*;
    use serde_json::{Value, json};

    fn spec(domain: Value) -> VmiSpec {
        serde_json::from_value(json!({ "domain": domain })).unwrap()
    }

    fn rendered(domain: Value, settings: &Settings) -> Value {
        serde_json::to_value(compute(&spec(domain), settings).unwrap()).unwrap()
    }

    fn kvm() -> Settings {
        Settings::new("image")
    }

    fn emulated() -> Settings {
        Settings {
            use_emulation: true,
            ..kvm()
        }
    }

    fn total(domain: &Value, settings: &Settings, guest: u64) -> String {
        quantity_text(guest + memory_overhead(&spec(domain.clone()), settings))
    }

    #[test]
    fn cpu_is_a_tenth_of_the_vcpus_unless_the_user_says_otherwise() {
        for (vcpus, ratio, text) in [
            (1, 10, "100m"),
            (2, 10, "200m"),
            (12, 10, "1200m"),
            (20, 10, "2"),
            (3, 1, "3"),
            (1, 3, "334m"),
            (1, 100_000, "1m"),
        ] {
            assert_eq!(cpu_request(vcpus, ratio), text);
        }
        let domain = json!({"cpu": {"cores": 2}, "resources": {"requests": {"cpu": "10m"}}});
        assert_eq!(rendered(domain, &kvm())["requests"]["cpu"], "10m");
        let domain = json!({"cpu": {"cores": 2, "sockets": 2}});
        assert_eq!(rendered(domain, &kvm())["requests"]["cpu"], "400m");
    }

    #[test]
    fn the_memory_request_is_the_guest_and_the_overhead() {
        let domain = json!({"resources": {"requests": {"memory": "2056M"}}});
        let resources = rendered(domain.clone(), &kvm());
        assert_eq!(
            resources["requests"]["memory"],
            total(&domain, &kvm(), 2_056_000_000)
        );
        assert_eq!(resources["limits"].get("memory"), None);

        let domain = json!({"memory": {"guest": "1Gi"}});
        let half = Settings {
            memory_overcommit: 200,
            ..kvm()
        };
        assert_eq!(
            rendered(domain.clone(), &half)["requests"]["memory"],
            total(&domain, &half, 1 << 29)
        );

        let domain = json!({
            "memory": {"guest": "1Gi"},
            "resources": {"requests": {"memory": "1Gi"}, "overcommitGuestOverhead": true}
        });
        assert_eq!(rendered(domain, &kvm())["requests"]["memory"], "1Gi");

        let domain = json!({"resources": {"limits": {"memory": "1Gi"}}});
        let resources = rendered(domain.clone(), &kvm());
        assert_eq!(
            resources["requests"]["memory"],
            total(&domain, &kvm(), 1 << 30)
        );
        assert_eq!(
            resources["limits"]["memory"],
            total(&domain, &kvm(), 1 << 30)
        );
    }

    #[test]
    fn the_overhead_grows_by_the_configured_ratio() {
        let spec = spec(json!({"memory": {"guest": "1Gi"}}));
        let doubled = Settings {
            overhead_ratio: 2.0,
            ..kvm()
        };
        assert_eq!(
            memory_overhead(&spec, &doubled),
            2 * memory_overhead(&spec, &kvm())
        );
    }

    #[test]
    fn devices_follow_emulation_and_interfaces() {
        let bridge = json!({"devices": {"interfaces": [{"name": "default", "bridge": {}}]}});
        let e1000 =
            json!({"devices": {"interfaces": [{"name": "a", "model": "e1000", "bridge": {}}]}});
        let none = json!({"devices": {"autoattachPodInterface": false}});
        for (domain, settings, expected) in [
            (
                &bridge,
                kvm(),
                vec![KVM_RESOURCE, TUN_RESOURCE, VHOST_NET_RESOURCE],
            ),
            (&bridge, emulated(), vec![TUN_RESOURCE]),
            (&e1000, kvm(), vec![KVM_RESOURCE, TUN_RESOURCE]),
            (&none, kvm(), vec![KVM_RESOURCE]),
            (&none, emulated(), vec![]),
        ] {
            assert_eq!(
                devices(&spec(domain.clone()), &settings),
                expected,
                "{domain}"
            );
        }
    }

    #[test]
    fn huge_pages_and_bad_quantities_are_refused_with_their_path() {
        let refused = |domain: Value| compute(&spec(domain), &kvm()).unwrap_err().to_string();
        let text = refused(json!({"resources": {"requests": {"hugepages-2Mi": "1Gi"}}}));
        assert!(
            text.contains("spec.domain.resources.requests.hugepages-2Mi"),
            "{text}"
        );
        let text = refused(json!({"resources": {"requests": {"memory": "1GB"}}}));
        assert!(text.contains("1GB"), "{text}");
    }

    #[test]
    fn quantities_are_written_short_and_exact() {
        for (bytes, text) in [
            (0, "0"),
            (1 << 30, "1Gi"),
            (288 << 20, "288Mi"),
            (2_056_000_000, "2056000000"),
            (1023, "1023"),
        ] {
            assert_eq!(quantity_text(bytes), text);
        }
    }
}
