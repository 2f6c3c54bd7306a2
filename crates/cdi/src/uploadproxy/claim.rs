//! Whether a claim waits for an upload.
//! Source of annotations and sentences: CDI pkg/uploadproxy/uploadproxy.go,
//! pkg/controller/common/util.go.

use std::collections::BTreeMap;
use std::time::Duration;

use api::cdi::names;
use api::cdi::names::annotations::{
    CONTENT_TYPE, FATAL_ERROR, POD_PHASE, POD_READY, PVC_PRIME, RUNNING_MESSAGE, UPLOAD_TARGET,
};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::Api;
use tokio::time::Instant;

use crate::token::Target;

/// How long a claim's server is waited for.
pub(super) const WAIT: Duration = Duration::from_secs(10);
/// Between two looks at the claim.
const LOOK: Duration = Duration::from_secs(1);

/// What the claim holds after the upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// A disk.
    Disk,
    /// Files out of an archive.
    Archive,
}

/// A claim whose upload server is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ready {
    pub(super) namespace: String,
    /// Name of the claim that the server writes to.
    pub(super) name: String,
    pub(super) content: Content,
}

/// Why nothing can be uploaded to a claim.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotReady {
    /// It will not become ready, or took too long.
    #[error("{0}")]
    Rejected(String),
    /// The token is for a claim that is gone; this one only has its name.
    #[error(
        "the upload token is for a PersistentVolumeClaim {0} that was deleted; ask for a new token"
    )]
    Another(String),
    /// An upload failed in a way that no other one mends.
    #[error(
        "PVC {name} can take no upload since one failed: {why}; delete it, with its DataVolume, and upload again"
    )]
    Failed {
        /// The claim.
        name: String,
        /// What was wrong with the upload.
        why: String,
    },
}

/// One look at a claim.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    Ready(Content),
    /// Not yet, for this reason.
    Wait(String),
    /// The claim to look at instead.
    Prime(String),
}

/// Waits until the token's claim can be uploaded to.
///
/// # Errors
/// The sentence for the client when it cannot, or not within ten seconds.
pub(super) async fn ready(client: &kube::Client, target: &Target) -> Result<Ready, NotReady> {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &target.namespace);
    let until = Instant::now() + WAIT;
    loop {
        let mut name = target.name.clone();
        let mut found = get(&claims, &name).await?.ok_or_else(|| {
            NotReady::Rejected(format!(
                "rejecting Upload Request for PVC {name} that doesn't exist"
            ))
        })?;
        if found.metadata.uid.as_deref() != Some(target.uid.as_str()) {
            return Err(NotReady::Another(name));
        }
        let mut seen = look(&name, &found)?;
        if let Look::Prime(prime) = seen {
            found = get(&claims, &prime).await?.ok_or_else(|| {
                NotReady::Rejected(format!(
                    "rejecting Upload Request for PVC {name}, PVC' wasn't created yet"
                ))
            })?;
            seen = look(&prime, &found)?;
            name = prime;
        }
        let why = match seen {
            Look::Ready(content) => {
                return Ok(Ready {
                    namespace: target.namespace.clone(),
                    name,
                    content,
                });
            }
            Look::Wait(why) => why,
            Look::Prime(_) => {
                format!("PVC {name} is populated by a claim that is itself populated")
            }
        };
        if Instant::now() >= until {
            return Err(NotReady::Rejected(format!(
                "timed out waiting {} s for PVC {}/{} to be ready for an upload: {why}",
                WAIT.as_secs(),
                target.namespace,
                target.name
            )));
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn get(
    claims: &Api<PersistentVolumeClaim>,
    name: &str,
) -> Result<Option<PersistentVolumeClaim>, NotReady> {
    claims.get_opt(name).await.map_err(|error| {
        NotReady::Rejected(format!(
            "cannot read PVC {name}: {}",
            kube_kit::reason(&error)
        ))
    })
}

fn look(name: &str, claim: &PersistentVolumeClaim) -> Result<Look, NotReady> {
    let none = BTreeMap::new();
    let annotations = claim.metadata.annotations.as_ref().unwrap_or(&none);
    let text = |key: &str| annotations.get(key).map_or("", String::as_str);
    let populated = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.data_source_ref.as_ref())
        .is_some_and(|source| {
            source.kind == "VolumeUploadSource" && source.api_group.as_deref() == Some(names::GROUP)
        });
    if populated {
        if text(POD_PHASE) == "Succeeded" {
            return Err(NotReady::Rejected(format!(
                "rejecting Upload Request for PVC {name} that already finished uploading"
            )));
        }
        return Ok(match annotations.get(PVC_PRIME) {
            Some(prime) => Look::Prime(prime.clone()),
            None => Look::Wait("it has no PVC' yet".to_owned()),
        });
    }
    let rejected = |why: String| Err(NotReady::Rejected(why));
    if !annotations.contains_key(UPLOAD_TARGET) {
        return rejected(format!("PVC {name} is not an upload target"));
    }
    let content = match text(CONTENT_TYPE) {
        "" | "kubevirt" => Content::Disk,
        "archive" => Content::Archive,
        other => {
            return rejected(format!(
                "rejecting upload request for PVC {name} - upload content-type {other} is invalid"
            ));
        }
    };
    if text(FATAL_ERROR) == "true" {
        return Err(NotReady::Failed {
            name: name.to_owned(),
            why: text(RUNNING_MESSAGE).to_owned(),
        });
    }
    match (text(POD_PHASE), text(POD_READY)) {
        ("Succeeded", _) => rejected(format!(
            "rejecting Upload Request for PVC {name} that already finished uploading"
        )),
        (_, "true") => Ok(Look::Ready(content)),
        ("", _) => Ok(Look::Wait("it has no upload pod yet".to_owned())),
        (phase, _) => Ok(Look::Wait(format!(
            "its upload pod is {phase} and not ready"
        ))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn see(annotations: &[(&str, &str)]) -> Result<Look, String> {
        let annotations: BTreeMap<&str, &str> = annotations.iter().copied().collect();
        let claim = serde_json::from_value(json!({"metadata": {"annotations": annotations}}));
        look("disk", &claim.unwrap()).map_err(|why| why.to_string())
    }

    #[test]
    fn only_a_waiting_upload_target_is_uploaded_to() {
        let target = (UPLOAD_TARGET, "");
        let ready = (POD_READY, "true");
        assert_eq!(see(&[target, ready]), Ok(Look::Ready(Content::Disk)));
        assert_eq!(
            see(&[target, ready, (CONTENT_TYPE, "archive")]),
            Ok(Look::Ready(Content::Archive))
        );
        for (annotations, why) in [
            (&[ready][..], "PVC disk is not an upload target"),
            (
                &[target, ready, (POD_PHASE, "Succeeded")],
                "rejecting Upload Request for PVC disk that already finished uploading",
            ),
            (
                &[target, ready, (CONTENT_TYPE, "floppy")],
                "rejecting upload request for PVC disk - upload content-type floppy is invalid",
            ),
        ] {
            assert_eq!(see(annotations), Err(why.to_owned()));
        }
        for annotations in [
            &[target][..],
            &[target, (POD_READY, "false"), (POD_PHASE, "Running")],
        ] {
            assert!(
                matches!(see(annotations), Ok(Look::Wait(_))),
                "{annotations:?}"
            );
        }
    }

    #[test]
    fn a_claim_whose_upload_failed_for_good_says_why_at_once() {
        let why = see(&[
            (UPLOAD_TARGET, ""),
            (POD_PHASE, "Failed"),
            (FATAL_ERROR, "true"),
            (RUNNING_MESSAGE, "a backing file"),
        ]);
        let why = why.unwrap_err();
        assert!(why.contains("since one failed: a backing file;"), "{why}");
    }

    #[test]
    fn a_populated_claim_points_to_the_one_that_is_written() {
        let mut claim = json!({
            "metadata": {"annotations": {}},
            "spec": {"dataSourceRef": {
                "apiGroup": "cdi.kubevirt.io", "kind": "VolumeUploadSource", "name": "source",
            }},
        });
        let see = |claim: &serde_json::Value| {
            look("disk", &serde_json::from_value(claim.clone()).unwrap())
        };
        assert!(matches!(see(&claim), Ok(Look::Wait(_))));
        claim["metadata"]["annotations"][PVC_PRIME] = json!("prime-1");
        assert_eq!(see(&claim), Ok(Look::Prime("prime-1".to_owned())));
    }
}
