//! What admission must know besides the request: the cluster's configuration
//! and who our components are.

use serde_json::Value;

use super::json::{at, strings, text};
use super::quantity::Quantity;

/// Settings of the KubeVirt object that admission uses, defaults filled in.
/// Source of defaults: pkg/virt-config/virt-config.go.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterConfig {
    /// `developerConfiguration.featureGates`.
    pub feature_gates: Vec<String>,
    /// Machine type of VMIs that name none.
    pub machine_type: String,
    /// Shell patterns of machine types that are allowed.
    pub emulated_machines: Vec<String>,
    /// Architecture of VMIs that name none: that of the control plane's nodes.
    pub architecture: String,
    /// CPU model of VMIs that name none.
    pub cpu_model: String,
    /// CPU request of VMIs that have none, when it is not the default 100m.
    pub cpu_request: Option<String>,
    /// Eviction strategy of VMIs that name none.
    pub eviction_strategy: Option<String>,
    /// Binding of the interface a VMI without any gets: `bridge` or `masquerade`.
    pub default_interface: String,
    /// Bridge binding is allowed on the pod network.
    pub bridge_on_pod_network: bool,
    /// Guests tell the host which pages they have freed.
    pub free_page_reporting: bool,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            feature_gates: Vec::new(),
            machine_type: "q35".to_owned(),
            emulated_machines: vec!["q35*".to_owned(), "pc-q35*".to_owned()],
            architecture: "amd64".to_owned(),
            cpu_model: "host-model".to_owned(),
            cpu_request: None,
            eviction_strategy: None,
            default_interface: "bridge".to_owned(),
            bridge_on_pod_network: true,
            free_page_reporting: true,
        }
    }
}

impl ClusterConfig {
    /// Reads a KubeVirt object; whatever it does not say has upstream's default.
    pub fn from_kubevirt(kubevirt: &Value) -> Self {
        let mut out = Self::default();
        let config = at(kubevirt, "spec.configuration");
        out.feature_gates = strings(at(config, "developerConfiguration.featureGates"));
        let amd64 = at(config, "architectureConfiguration.amd64");
        // The two fields below are the old places; the one by architecture wins.
        for (place, name) in [(config, "machineType"), (amd64, "machineType")] {
            set(&mut out.machine_type, text(at(place, name)));
        }
        for place in [config, amd64] {
            let machines = strings(at(place, "emulatedMachines"));
            if !machines.is_empty() {
                out.emulated_machines = machines;
            }
        }
        set(&mut out.cpu_model, text(at(config, "cpuModel")));
        // The default, written down, is as good as unset (upstream compares the values).
        let request = at(config, "cpuRequest");
        out.cpu_request = Some(Quantity::or_zero(request))
            .filter(|value| !value.is_zero() && Some(*value) != Quantity::parse("100m"))
            .map(|_| match request {
                Value::String(text) => text.clone(),
                number => number.to_string(),
            });
        out.free_page_reporting =
            at(config, "virtualMachineOptions.disableFreePageReporting").is_null();
        out.eviction_strategy = Some(text(at(config, "evictionStrategy")))
            .filter(|strategy| !strategy.is_empty())
            .map(str::to_owned);
        let network = at(config, "network");
        set(
            &mut out.default_interface,
            text(at(network, "defaultNetworkInterface")),
        );
        out.bridge_on_pod_network = at(network, "permitBridgeInterfaceOnPodNetwork")
            .as_bool()
            .unwrap_or(true);
        out
    }

    /// Whether feature gate `name` is on.
    pub fn gate(&self, name: &str) -> bool {
        self.feature_gates.iter().any(|gate| gate == name)
    }
}

fn set(target: &mut String, value: &str) {
    if !value.is_empty() {
        value.clone_into(target);
    }
}

/// What exists in the cluster, as far as a KubeVirt object's life depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Workloads {
    /// KubeVirt objects that exist already.
    pub kubevirts: usize,
    /// Any VirtualMachineInstance exists.
    pub instances: bool,
    /// Any VirtualMachine exists.
    pub machines: bool,
}

/// Everything besides the request that a verdict depends on.
#[derive(Clone, Debug)]
pub struct Context {
    /// Settings of the KubeVirt object.
    pub config: ClusterConfig,
    /// Namespace of the control plane; its service accounts are trusted.
    pub namespace: String,
    /// Time of the request, RFC 3339, for phase transition timestamps.
    pub now: String,
    /// Needed for KubeVirt objects only; the default elsewhere.
    pub workloads: Workloads,
}

impl Context {
    /// Whether `user` is one of our components that write VMIs.
    /// Source: pkg/virt-api/webhooks/serviceaccounts.go.
    pub fn is_component(&self, user: &str) -> bool {
        [
            "kubevirt-apiserver",
            "kubevirt-controller",
            "kubevirt-handler",
        ]
        .iter()
        .any(|account| user == self.account(account))
    }

    /// Whether `user` is virt-handler.
    pub fn is_handler(&self, user: &str) -> bool {
        user == self.account("kubevirt-handler")
    }

    fn account(&self, name: &str) -> String {
        format!("system:serviceaccount:{}:{name}", self.namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_empty_kubevirt_gives_the_defaults() {
        assert_eq!(
            ClusterConfig::from_kubevirt(&json!({})),
            ClusterConfig::default()
        );
    }

    #[test]
    fn settings_are_read_from_their_places() {
        let config = ClusterConfig::from_kubevirt(&json!({"spec": {"configuration": {
            "developerConfiguration": {"featureGates": ["Sidecar"]},
            "machineType": "pc-q35-8.0",
            "architectureConfiguration": {"amd64": {"machineType": "pc-q35-9.0"}},
            "cpuRequest": "200m",
            "virtualMachineOptions": {"disableFreePageReporting": {}},
            "network": {"defaultNetworkInterface": "masquerade",
                        "permitBridgeInterfaceOnPodNetwork": false},
        }}}));
        assert!(config.gate("Sidecar"));
        assert_eq!(config.machine_type, "pc-q35-9.0");
        assert_eq!(config.cpu_request.as_deref(), Some("200m"));
        assert_eq!(config.default_interface, "masquerade");
        assert!(!config.bridge_on_pod_network && !config.free_page_reporting);
    }

    #[test]
    fn a_cpu_request_may_be_a_number_and_the_default_counts_as_unset() {
        for (request, read) in [
            (json!("250m"), Some("250m")),
            (json!(2), Some("2")),
            (json!("100m"), None),
            (json!("0.1"), None),
            (json!(null), None),
        ] {
            let kubevirt = json!({"spec": {"configuration": {"cpuRequest": request}}});
            let config = ClusterConfig::from_kubevirt(&kubevirt);
            assert_eq!(config.cpu_request.as_deref(), read, "{request}");
        }
    }

    #[test]
    fn only_our_accounts_in_our_namespace_are_components() {
        let ctx = Context {
            config: ClusterConfig::default(),
            namespace: "kubevirt".to_owned(),
            now: String::new(),
            workloads: Workloads::default(),
        };
        assert!(ctx.is_component("system:serviceaccount:kubevirt:kubevirt-controller"));
        assert!(!ctx.is_component("system:serviceaccount:default:kubevirt-controller"));
        assert!(!ctx.is_component("system:serviceaccount:kubevirt:kubevirt-operator"));
        assert!(ctx.is_handler("system:serviceaccount:kubevirt:kubevirt-handler"));
    }
}
