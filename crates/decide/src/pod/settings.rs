//! What of the KubeVirt object shapes launcher pods.

use api::KubeVirt;

/// Settings of launcher pods.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Image of the launcher.
    pub launcher_image: String,
    /// Pull policy of that image.
    pub image_pull_policy: String,
    /// Guests run by emulation, so pods ask for no /dev/kvm.
    pub use_emulation: bool,
    /// vCPUs for each requested CPU; at least 1.
    pub cpu_allocation_ratio: u64,
    /// Percent of guest memory in what the pod requests for it; at least 10.
    pub memory_overcommit: u64,
    /// Factor on the computed memory overhead; at least 1.
    pub overhead_ratio: f64,
}

impl Settings {
    /// The defaults that hold when the KubeVirt object says nothing.
    ///
    /// Source of the ratios: KubeVirt, pkg/virt-config (cpuAllocationRatio 10,
    /// memoryOvercommit 100).
    #[must_use]
    pub fn new(launcher_image: &str) -> Self {
        Self {
            launcher_image: launcher_image.to_owned(),
            image_pull_policy: "IfNotPresent".to_owned(),
            use_emulation: false,
            cpu_allocation_ratio: 10,
            memory_overcommit: 100,
            overhead_ratio: 1.0,
        }
    }

    /// As the KubeVirt object says. Values out of range count as unset.
    #[must_use]
    pub fn from_kubevirt(launcher_image: &str, kubevirt: &KubeVirt) -> Self {
        let mut settings = Self::new(launcher_image);
        let configuration = &kubevirt.spec.configuration;
        let policy = configuration
            .image_pull_policy
            .as_ref()
            .or(kubevirt.spec.image_pull_policy.as_ref());
        if let Some(policy) = policy.filter(|policy| !policy.is_empty()) {
            settings.image_pull_policy.clone_from(policy);
        }
        if let Some(developer) = &configuration.developer_configuration {
            settings.use_emulation = developer.use_emulation;
            let at_least = |value: Option<i64>, least: u64| {
                value
                    .and_then(|value| u64::try_from(value).ok())
                    .filter(|value| *value >= least)
            };
            if let Some(ratio) = at_least(developer.cpu_allocation_ratio, 1) {
                settings.cpu_allocation_ratio = ratio;
            }
            if let Some(percent) = at_least(developer.memory_overcommit, 10) {
                settings.memory_overcommit = percent;
            }
        }
        let ratio = configuration
            .additional_guest_memory_overhead_ratio
            .as_ref()
            .and_then(|text| text.parse::<f64>().ok());
        if let Some(ratio) = ratio.filter(|ratio| ratio.is_finite() && *ratio >= 1.0) {
            settings.overhead_ratio = ratio;
        }
        settings
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn settings_follow_the_kubevirt_object_within_their_ranges() {
        let kubevirt: KubeVirt = serde_json::from_value(json!({
            "spec": {
                "imagePullPolicy": "Always",
                "configuration": {
                    "developerConfiguration": {
                        "useEmulation": true, "cpuAllocationRatio": 4, "memoryOvercommit": 150
                    },
                    "additionalGuestMemoryOverheadRatio": "1.5"
                }
            }
        }))
        .unwrap();
        let settings = Settings::from_kubevirt("image", &kubevirt);
        assert!(settings.use_emulation);
        assert_eq!(settings.cpu_allocation_ratio, 4);
        assert_eq!(settings.memory_overcommit, 150);
        assert_eq!(settings.image_pull_policy, "Always");
        assert!((settings.overhead_ratio - 1.5).abs() < f64::EPSILON);

        let bad: KubeVirt = serde_json::from_value(json!({
            "spec": { "configuration": {
                "developerConfiguration": { "cpuAllocationRatio": 0, "memoryOvercommit": -1 },
                "additionalGuestMemoryOverheadRatio": "x"
            } }
        }))
        .unwrap();
        assert_eq!(
            Settings::from_kubevirt("image", &bad),
            Settings::new("image")
        );
    }
}
