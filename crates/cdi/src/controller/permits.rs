//! Who may clone a claim of another namespace: who was asked when his DataVolume was made, and has
//! cdi-apiserver's token for it.
//!
//! A token lives for minutes, and a clone may wait for its source for days: it must have been valid
//! when the object that carries it was made, which the API server wrote down and nobody can
//! change. Upstream's controller signs a second, long-lived token instead.

use std::path::{Path, PathBuf};

use api::cdi::DataVolume;
use api::cdi::names::annotations::CLONE_TOKEN;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::world::Name;
use crate::token::{Copy, Refused, VerifyingKey};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Permits {
    /// The public key of tokens.
    key: PathBuf,
}

impl Permits {
    /// With the certificates and keys in this directory.
    pub(super) fn new(certificates: &Path) -> Self {
        Self {
            key: certificates.join("cdi-api-signing-key/id_rsa.pub"),
        }
    }

    /// Whether the DataVolume `dv`, or its claim where there is none, may copy `from`, which is
    /// a claim or a `snapshot`.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn check(
        &self,
        dv: Option<&DataVolume>,
        claim: Option<&PersistentVolumeClaim>,
        to: &Name,
        (from, snapshot): (&Name, bool),
    ) -> Result<(), String> {
        let owned = |dv: &&DataVolume| {
            claim.is_none_or(|claim| {
                let mut owners = claim.metadata.owner_references.iter().flatten();
                owners.any(|owner| Some(&owner.uid) == dv.metadata.uid.as_ref())
            })
        };
        let bearer = dv.filter(owned).map(|dv| &dv.metadata);
        let bearer = bearer.or(claim.map(|claim| &claim.metadata));
        let why = match bearer.map(|meta| self.read(meta)) {
            Some(Ok(copy)) if copy.snapshot == snapshot && copy.is(from, to) => return Ok(()),
            Some(Ok(copy)) => format!(
                "found one to clone {} {}/{} into {}/{}",
                kind(copy.snapshot),
                copy.from.0,
                copy.from.1,
                copy.to.0,
                copy.to.1
            ),
            Some(Err(why)) => why,
            None => "found none".to_owned(),
        };
        Err(format!(
            "expected a token to clone {} {}/{} into {}/{} in annotation {CLONE_TOKEN}, {why}; make the DataVolume again, as somebody who may create datavolumes/source in namespace {}",
            kind(snapshot),
            from.namespace,
            from.name,
            to.namespace,
            to.name,
            from.namespace
        ))
    }

    /// What the object's token is for.
    fn read(&self, meta: &ObjectMeta) -> Result<Copy, String> {
        let notes = meta.annotations.as_ref();
        let token = notes.and_then(|notes| notes.get(CLONE_TOKEN));
        let token = token.ok_or("found none")?;
        let born = meta.creation_timestamp.as_ref();
        let born = born.ok_or("found an object that was never made")?.0;
        let pem = std::fs::read(&self.key)
            .map_err(|error| format!("cannot read {}: {error}", self.key.display()))?;
        let key = VerifyingKey::from_pem(&pem).map_err(|error| format!("{error:#}"))?;
        key.verify_copy(token, born.as_second())
            .map_err(|refused| match refused {
                Refused::Invalid(why) => format!("found one that was not valid then: {why}"),
                Refused::Other => "found one for something else".to_owned(),
            })
    }
}

fn kind(snapshot: bool) -> &'static str {
    if snapshot { "snapshot" } else { "claim" }
}

impl Copy {
    fn is(&self, from: &Name, to: &Name) -> bool {
        let same = |(namespace, name): &(String, String), other: &Name| {
            *namespace == other.namespace && *name == other.name
        };
        same(&self.from, from) && same(&self.to, to)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use jiff::Timestamp;
    use serde_json::{Value, json};

    use super::*;
    use crate::token::SigningKey;
    use crate::token::tests::{key, target};

    const BORN: &str = "2027-01-15T08:00:00Z";

    fn meta(token: Option<&str>) -> Value {
        json!({
            "name": "disk", "namespace": "ns", "uid": "u", "creationTimestamp": BORN,
            "annotations": token.map(|token| json!({(CLONE_TOKEN): token})),
        })
    }

    fn dv(token: Option<&str>) -> DataVolume {
        serde_json::from_value(json!({"metadata": meta(token), "spec": {}})).unwrap()
    }

    fn claim(token: Option<&str>, owner: &str) -> PersistentVolumeClaim {
        let mut meta = meta(token);
        meta["ownerReferences"] =
            json!([{"apiVersion": "v1", "kind": "DataVolume", "name": "disk", "uid": owner}]);
        serde_json::from_value(json!({ "metadata": meta })).unwrap()
    }

    #[test]
    fn a_token_is_good_for_what_it_names_if_it_lived_when_its_bearer_was_made() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("cdi-api-signing-key")).unwrap();
        let file = dir.path().join("cdi-api-signing-key/id_rsa.pub");
        std::fs::write(file, &key().public).unwrap();
        let permits = Permits::new(dir.path());
        let signing = SigningKey::from_pem(key().private.as_bytes()).unwrap();
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let born = BORN.parse::<Timestamp>().unwrap().as_second();
        let (from, to) = (Name::new("far", "golden"), Name::new("ns", "disk"));
        let sign = |from: (&str, &str), to: (&str, &str), at: i64| {
            let copy = Copy {
                from: pair(from.0, from.1),
                snapshot: false,
                to: pair(to.0, to.1),
            };
            signing.sign_copy(&copy, at).unwrap()
        };
        let good = sign(("far", "golden"), ("ns", "disk"), born - 1);
        let (head, _) = good.rsplit_once('.').unwrap();
        assert_eq!(
            permits.check(Some(&dv(Some(&good))), None, &to, (&from, false)),
            Ok(())
        );
        for (token, why) in [
            (None, "found none"),
            (Some(format!("{head}.")), "not signed"),
            (
                Some(sign(("far", "golden"), ("ns", "disk"), born - 400)),
                "expired",
            ),
            (
                Some(sign(("far", "golden"), ("ns", "disk"), born + 400)),
                "future",
            ),
            (
                Some(sign(("far", "other"), ("ns", "disk"), born)),
                "far/other",
            ),
            (
                Some(sign(("near", "golden"), ("ns", "disk"), born)),
                "near/golden",
            ),
            (
                Some(sign(("far", "golden"), ("ns", "copy"), born)),
                "ns/copy",
            ),
            (
                Some(sign(("far", "golden"), ("evil", "disk"), born)),
                "evil/disk",
            ),
            (
                Some(signing.sign(&target(), born).unwrap()),
                "something else",
            ),
        ] {
            let token = token.as_deref();
            let refused = permits.check(Some(&dv(token)), None, &to, (&from, false));
            let refused = refused.unwrap_err();
            assert!(refused.contains(why), "{why}: {refused}");
            let alone = permits.check(None, Some(&claim(token, "gone")), &to, (&from, false));
            assert!(alone.unwrap_err().contains(why), "{why}");
        }
        // That for a claim is none for a snapshot of its name.
        let refused = permits.check(Some(&dv(Some(&good))), None, &to, (&from, true));
        assert!(refused.unwrap_err().contains("found one to clone claim"));
        // The DataVolume's counts for its own claim, whatever that says; a stranger's own does.
        let held = dv(Some(&good));
        let check = |claim| permits.check(Some(&held), Some(&claim), &to, (&from, false));
        assert_eq!(check(claim(None, "u")), Ok(()));
        assert!(check(claim(None, "v")).is_err());
        assert_eq!(check(claim(Some(&good), "v")), Ok(()));
    }
}
