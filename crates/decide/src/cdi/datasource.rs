//! Status of DataSources, and the dates of conditions.

use api::cdi::{ClaimSource, Condition, DataSourceSource, DataSourceStatus};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use super::claim::Refusal;

/// The status of a DataSource that stands for `claim`; times are the caller's.
#[must_use]
pub fn data_source(
    claim: Result<&ClaimSource, &Refusal>,
    found: Option<&PersistentVolumeClaim>,
) -> DataSourceStatus {
    let (status, reason, message) = match (claim, found) {
        (Err(refusal), _) => ("False", refusal.reason, refusal.message.clone()),
        (Ok(claim), None) => (
            "False",
            "NotFound",
            format!(
                "expected a claim {}/{}, found none",
                claim.namespace, claim.name
            ),
        ),
        (Ok(_), Some(found)) => {
            use super::worker::{Job, note};
            use api::cdi::names::annotations::POD_PHASE;
            if Job::of(found).is_none() || note(found, POD_PHASE) == Some("Succeeded") {
                (
                    "True",
                    "Ready",
                    "DataSource is ready to be consumed".to_owned(),
                )
            } else {
                (
                    "False",
                    "ImportInProgress",
                    "the claim is not filled yet".to_owned(),
                )
            }
        }
    };
    DataSourceStatus {
        source: claim.ok().map(|claim| DataSourceSource {
            pvc: Some(claim.clone()),
            ..DataSourceSource::default()
        }),
        conditions: vec![Condition {
            type_: "Ready".to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message,
            ..Condition::default()
        }],
    }
}

/// `new` with the times of `old` where nothing else changed, and `now` elsewhere.
#[must_use]
pub fn dated(old: &[Condition], new: Vec<Condition>, now: jiff::Timestamp) -> Vec<Condition> {
    let mut list = old.to_vec();
    list.retain(|old| new.iter().any(|new| new.type_ == old.type_));
    for condition in new {
        super::status::set(&mut list, condition, now);
    }
    list
}

#[cfg(test)]
mod tests {
    #![allow(clippy::needless_pass_by_value, clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_data_source_is_ready_when_its_claim_is_full() {
        let claim = ClaimSource {
            namespace: "ns".to_owned(),
            name: "golden".to_owned(),
        };
        let found = |annotations: Value| -> PersistentVolumeClaim {
            serde_json::from_value(json!({"metadata": {"annotations": annotations}})).unwrap()
        };
        let ready = |found: Option<&PersistentVolumeClaim>| {
            data_source(Ok(&claim), found).conditions[0].status.clone()
        };
        assert_eq!(ready(None), "False");
        assert_eq!(ready(Some(&found(json!({})))), "True");
        let upload = json!({"cdi.kubevirt.io/storage.upload.target": ""});
        assert_eq!(ready(Some(&found(upload))), "False");
    }
}
