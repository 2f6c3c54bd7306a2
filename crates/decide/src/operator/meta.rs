//! Labels and annotations that every managed object carries.
//! Source of their names: KubeVirt (kubevirt.io/api/core/v1, types.go).

use api::names;
use serde_json::{Value, json};

use super::Config;
use crate::operate::MANAGED_BY_LABEL;

/// Value of [`MANAGED_BY_LABEL`], and the operator's field manager.
pub const MANAGER: &str = "virt-operator";

/// Adds what every managed object carries.
pub(super) fn finish(object: &mut Value, config: &Config) {
    let metadata = &mut object["metadata"];
    metadata["labels"][MANAGED_BY_LABEL] = json!(MANAGER);
    metadata["labels"]["app.kubernetes.io/component"] = json!("kubevirt");
    if metadata["labels"][names::APP_LABEL].is_null() {
        metadata["labels"][names::APP_LABEL] = json!("");
    }
    let annotations = &mut metadata["annotations"];
    annotations["kubevirt.io/install-strategy-version"] = json!(config.version);
    annotations["kubevirt.io/install-strategy-registry"] = json!(config.registry());
    annotations["kubevirt.io/install-strategy-identifier"] = json!(config.deployment_id());
}
