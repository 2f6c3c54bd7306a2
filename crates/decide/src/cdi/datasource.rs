//! Status of DataSources, and the dates of conditions.

use api::Condition;
use api::cdi::{ClaimSource, DataSourceSource, DataSourceStatus};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use super::claim::Refusal;
use crate::conditions::{beat, said};

/// The status of a DataSource that stands for `source`; times are the caller's. `found` is the
/// claim, `snapshot` whether the snapshot can be restored, if it is there.
#[must_use]
pub fn data_source(
    source: Result<&DataSourceSource, &Refusal>,
    found: Option<&PersistentVolumeClaim>,
    snapshot: Option<bool>,
) -> DataSourceStatus {
    let ready = || {
        (
            "True",
            "Ready",
            "DataSource is ready to be consumed".to_owned(),
        )
    };
    let missing = |what: &str, from: &ClaimSource| {
        let (namespace, name) = (&from.namespace, &from.name);
        let message = format!("expected a {what} {namespace}/{name}, found none");
        ("False", "NotFound", message)
    };
    let sources = source.map(|source| (source.pvc.as_ref(), source.snapshot.as_ref()));
    let (status, reason, message) = match (sources, found) {
        (Err(refusal), _) => ("False", refusal.reason, refusal.message.clone()),
        (Ok((_, Some(from))), _) => match snapshot {
            Some(true) => ready(),
            Some(false) => (
                "False",
                "SnapshotNotReady",
                "Snapshot phase is not ready".to_owned(),
            ),
            None => missing("snapshot", from),
        },
        (Ok((from, None)), None) => missing("claim", from.unwrap_or(&ClaimSource::default())),
        (Ok(_), Some(found)) => {
            use super::worker::{Job, note};
            use api::cdi::names::annotations::POD_PHASE;
            if Job::of(found).is_none() || note(found, POD_PHASE) == Some("Succeeded") {
                ready()
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
        source: source.ok().cloned(),
        conditions: vec![said("Ready", status, reason, &message)],
    }
}

/// `new` with the times of `old` where nothing else changed, and `now` elsewhere.
#[must_use]
pub fn dated(old: &[Condition], new: Vec<Condition>, now: jiff::Timestamp) -> Vec<Condition> {
    let mut list = old.to_vec();
    list.retain(|old| new.iter().any(|new| new.type_ == old.type_));
    for condition in new {
        beat(&mut list, condition, now);
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
        let from = ClaimSource {
            namespace: "ns".to_owned(),
            name: "golden".to_owned(),
        };
        let claim = DataSourceSource {
            pvc: Some(from.clone()),
            ..DataSourceSource::default()
        };
        let found = |annotations: Value| -> PersistentVolumeClaim {
            serde_json::from_value(json!({"metadata": {"annotations": annotations}})).unwrap()
        };
        let ready = |found: Option<&PersistentVolumeClaim>| {
            data_source(Ok(&claim), found, None).conditions[0]
                .status
                .clone()
        };
        assert_eq!(ready(None), "False");
        assert_eq!(ready(Some(&found(json!({})))), "True");
        let upload = json!({"cdi.kubevirt.io/storage.upload.target": ""});
        assert_eq!(ready(Some(&found(upload))), "False");
        let snapshot = DataSourceSource {
            snapshot: Some(from),
            ..DataSourceSource::default()
        };
        let reason = |is: Option<bool>| {
            data_source(Ok(&snapshot), None, is).conditions[0]
                .reason
                .clone()
        };
        assert_eq!(reason(None), "NotFound");
        assert_eq!(reason(Some(false)), "SnapshotNotReady");
        assert_eq!(reason(Some(true)), "Ready");
    }
}
