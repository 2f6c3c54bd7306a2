//! New claims that ask for something of ours: their gaps filled from the storage profile
//! (label `cdi.kubevirt.io/applyStorageProfile`), or their data from a volume source.
//!
//! A provisioner that knows nothing of data sources gives a claim an empty volume as soon
//! as somebody uses it. All of them leave claims with a selector alone, so such a claim
//! gets one that no volume fits; the volume that is bound to it by name needs to fit none.
//!
//! Source of the rules: CDI pkg/apiserver/webhooks/pvc-mutate.go; the selector is ours.

use api::cdi::names::{APPLY_STORAGE_PROFILE, GROUP, HELD_LABEL};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use serde_json::{Value, json};

use crate::admission::{Cause, Reason, Verdict};
use crate::cdi::claim::complete;
use crate::cdi::cluster::Cluster;
use crate::cdi::populator::Kind;

/// Whether the claim refers to a source of ours. The API server copies `dataSource` to
/// `dataSourceRef` after webhooks have seen it.
#[must_use]
pub fn refers(claim: &Value) -> bool {
    ["dataSourceRef", "dataSource"].into_iter().any(|field| {
        let to = &claim["spec"][field];
        to["apiGroup"] == GROUP && to["kind"].as_str().and_then(Kind::of).is_some()
    })
}

/// The claim as it shall be made; `knows_sources` says that its provisioner leaves claims
/// with sources that it does not know alone.
#[must_use]
pub fn mutate(claim: &Value, cluster: &Cluster, knows_sources: bool) -> Verdict {
    let mut wanted = claim.clone();
    if claim["metadata"]["labels"][APPLY_STORAGE_PROFILE] == "true"
        && cluster.config.webhook_pvc_rendering.as_deref() != Some("Disabled")
    {
        let typed: PersistentVolumeClaim = match serde_json::from_value(claim.clone()) {
            Ok(typed) => typed,
            Err(error) => return Verdict::bad_request(error.to_string()),
        };
        let spec = match complete(&typed, cluster) {
            Ok(spec) => json!(spec),
            Err(refusal) => {
                let cause = Cause::new(Reason::Invalid, "spec", refusal.message);
                return Verdict::from_causes(vec![cause]);
            }
        };
        for field in ["accessModes", "volumeMode", "storageClassName"] {
            if spec[field].is_null() {
                if let Some(all) = wanted["spec"].as_object_mut() {
                    all.remove(field);
                }
            } else {
                wanted["spec"][field] = spec[field].clone();
            }
        }
        wanted["spec"]["resources"]["requests"]["storage"] =
            spec["resources"]["requests"]["storage"].clone();
    }
    let spec = &wanted["spec"];
    let free = spec["selector"].is_null() && spec["volumeName"].as_str().unwrap_or("").is_empty();
    if refers(claim) && !knows_sources && free {
        wanted["spec"]["selector"] = json!({ "matchLabels": { HELD_LABEL: "true" } });
    }
    Verdict::patched(claim, &wanted)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::needless_pass_by_value)]
    use super::*;
    use crate::cdi::cluster::Class;

    fn cluster() -> Cluster {
        let class = Class {
            name: "local".to_owned(),
            provisioner: "rancher.io/local-path".to_owned(),
            default: true,
            ..Class::default()
        };
        Cluster {
            classes: [("local".to_owned(), class)].into(),
            ..Cluster::default()
        }
    }

    fn claim(label: &str, spec: Value) -> Value {
        json!({"metadata": {"name": "c", "labels": {APPLY_STORAGE_PROFILE: label}}, "spec": spec})
    }

    /// Paths and values of the patches.
    fn patches(claim: &Value, knows_sources: bool) -> Vec<(String, Value)> {
        let verdict = mutate(claim, &cluster(), knows_sources);
        assert!(verdict.allowed, "{}", verdict.message);
        let mut before = claim.clone();
        let patches: json_patch::Patch =
            serde_json::from_value(Value::Array(verdict.patches.clone())).unwrap();
        json_patch::patch(&mut before, &patches).unwrap();
        [
            "accessModes",
            "volumeMode",
            "storageClassName",
            "resources",
            "selector",
        ]
        .into_iter()
        .filter(|field| before["spec"][*field] != claim["spec"][*field])
        .map(|field| (field.to_owned(), before["spec"][field].clone()))
        .collect()
    }

    fn sized(more: Value) -> Value {
        let mut spec = json!({"resources": {"requests": {"storage": "1Gi"}}});
        json_patch::merge(&mut spec, &more);
        spec
    }

    #[test]
    fn gaps_are_filled_from_the_profile_and_the_size_grows_by_the_overhead() {
        let done = patches(
            &claim("true", sized(json!({"volumeMode": "FromStorageProfile"}))),
            true,
        );
        let fields: Vec<&str> = done.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(
            fields,
            ["accessModes", "volumeMode", "storageClassName", "resources"]
        );
        assert_eq!(done[0].1, json!(["ReadWriteOnce"]));
        assert_eq!(done[3].1["requests"]["storage"], "1142278537");
        assert!(patches(&claim("false", sized(json!({}))), true).is_empty());
        let mut off = cluster();
        off.config.webhook_pvc_rendering = Some("Disabled".to_owned());
        assert!(
            mutate(&claim("true", sized(json!({}))), &off, true)
                .patches
                .is_empty()
        );
    }

    #[test]
    fn a_claim_without_a_size_or_a_class_is_refused_with_the_reason() {
        let verdict = mutate(&claim("true", json!({})), &cluster(), true);
        assert!(!verdict.allowed && verdict.message.contains("missing storage size"));
        let verdict = mutate(&claim("true", sized(json!({}))), &Cluster::default(), true);
        assert!(!verdict.allowed && verdict.message.contains("no storageClass"));
    }

    #[test]
    fn a_provisioner_that_knows_no_sources_is_kept_off_claims_that_have_one() {
        let to = json!({"apiGroup": GROUP, "kind": "VolumeImportSource", "name": "x"});
        for field in ["dataSource", "dataSourceRef"] {
            let referring = claim("", sized(json!({(field): to})));
            assert_eq!(patches(&referring, false)[0].0, "selector");
            assert!(patches(&referring, true).is_empty());
            let own = claim(
                "",
                sized(json!({(field): to, "selector": {"matchLabels": {"a": "b"}}})),
            );
            assert!(patches(&own, false).is_empty());
        }
        let strange = json!({"apiGroup": "other", "kind": "VolumeImportSource", "name": "x"});
        assert!(patches(&claim("", sized(json!({"dataSourceRef": strange}))), false).is_empty());
    }
}
