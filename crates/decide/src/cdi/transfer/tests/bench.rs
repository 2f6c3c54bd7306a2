//! A cluster of one transfer that answers as Kubernetes does, and loses a volume as it does.
#![allow(clippy::unwrap_used, clippy::panic)]

use serde_json::Map;

use super::super::*;

pub(super) const NOW: Timestamp = Timestamp::UNIX_EPOCH;

/// Objects by what they are; `Null` when there is none.
#[derive(Clone)]
pub(super) struct Cluster {
    pub(super) objects: Map<String, Value>,
    pub(super) users: Vec<String>,
    pub(super) home: Home,
    pub(super) others: Vec<&'static str>,
    pub(super) version: u64,
    pub(super) events: Vec<Event>,
}

pub(super) const SOURCE: [&str; 2] = ["dv", "claim"];
pub(super) const TARGET: [&str; 2] = ["target-dv", "target-claim"];

pub(super) fn read<K: serde::de::DeserializeOwned>(value: &Value) -> Option<K> {
    (!value.is_null()).then(|| serde_json::from_value(value.clone()).unwrap())
}

impl Cluster {
    pub(super) fn new(kind: &str) -> Self {
        let owners = if kind == "DataVolume" {
            json!([{"apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataVolume", "name": "disk", "uid": "dv-1", "controller": true}])
        } else {
            json!([])
        };
        let objects = json!({
            "transfer": {
                "metadata": {"name": "move", "uid": "t-1", "resourceVersion": "1"},
                "spec": {"source": {"kind": kind, "namespace": "a", "name": "disk"}, "target": {"namespace": "b"}},
            },
            "dv": if kind == "DataVolume" { json!({
                "metadata": {"name": "disk", "namespace": "a", "uid": "dv-1", "resourceVersion": "1", "labels": {"l": "1"},
                    "annotations": {note::CLONE_TOKEN: "secret", "mine": "yes"}},
                "spec": {"source": {"http": {"url": "http://x"}}},
                "status": {"phase": "Succeeded"},
            }) } else { Value::Null },
            "claim": {
                "metadata": {"name": "disk", "namespace": "a", "uid": "c-1", "resourceVersion": "1", "ownerReferences": owners,
                    "labels": {"app": "x", "cdi.kubevirt.io/applyStorageProfile": "true"},
                    "annotations": {
                        note::SOURCE: "http", note::ENDPOINT: "http://x", note::SECRET: "s", note::POD_PHASE: "Succeeded",
                        note::CONTENT_TYPE: "kubevirt", "pv.kubernetes.io/bind-completed": "yes", "mine": "yes",
                    }},
                "spec": {"volumeName": "pv-1", "storageClassName": "local", "accessModes": ["ReadWriteOnce"],
                    "dataSourceRef": {"apiGroup": "cdi.kubevirt.io", "kind": "VolumeImportSource", "name": "s"},
                    "resources": {"requests": {"storage": "1Gi"}}},
                "status": {"phase": "Bound"},
            },
            "target-dv": null, "target-claim": null,
            "volume": {
                "metadata": {"name": "pv-1", "uid": "v-1", "resourceVersion": "1"},
                "spec": {"persistentVolumeReclaimPolicy": "Delete",
                    "claimRef": {"namespace": "a", "name": "disk", "uid": "c-1", "resourceVersion": "1"}},
            },
        });
        let Value::Object(objects) = objects else {
            panic!("objects")
        };
        Self {
            objects,
            users: Vec::new(),
            home: Home::There,
            others: Vec::new(),
            version: 1,
            events: Vec::new(),
        }
    }

    pub(super) fn has(&self, what: &str) -> bool {
        !self.objects[what].is_null()
    }

    pub(super) fn plan(&self) -> Plan<Op> {
        self.plan_at(NOW)
    }

    pub(super) fn plan_at(&self, now: Timestamp) -> Plan<Op> {
        let get = |what: &str| &self.objects[what];
        let transfer: ObjectTransfer = read(get("transfer")).unwrap();
        let (dv, claim) = (read(get("dv")), read(get("claim")));
        let (target_dv, target_claim) = (read(get("target-dv")), read(get("target-claim")));
        let volume = read(get("volume"));
        decide(
            &Observed {
                transfer: &transfer,
                dv: dv.as_ref(),
                claim: claim.as_ref(),
                target_dv: target_dv.as_ref(),
                target_claim: target_claim.as_ref(),
                volume: volume.as_ref(),
                users: &self.users,
                home: self.home,
                alive: &|name| self.others.contains(&name),
            },
            now,
        )
    }

    pub(super) fn patch(&mut self, what: &str, patch: &Value) {
        let object = &mut self.objects[what];
        let version = &patch["metadata"]["resourceVersion"];
        assert!(
            version.is_null() || *version == object["metadata"]["resourceVersion"],
            "{what}: an old version"
        );
        json_patch::merge(object, patch);
        self.bump(what);
    }

    pub(super) fn bump(&mut self, what: &str) {
        self.version += 1;
        self.objects[what]["metadata"]["resourceVersion"] = json!(self.version.to_string());
    }

    pub(super) fn side(place: &Place, what: &'static str) -> String {
        if place.namespace == "a" {
            what.to_owned()
        } else {
            format!("target-{what}")
        }
    }

    pub(super) fn take(&mut self, op: Op) {
        match op {
            Op::Patch(patch) | Op::PatchStatus(patch) => self.patch("transfer", &patch),
            Op::PatchClaim(at, patch) => self.patch(&Self::side(&at, "claim"), &patch),
            Op::PatchDataVolume(at, patch) => self.patch(&Self::side(&at, "dv"), &patch),
            Op::PatchVolume(name, patch) => {
                assert_eq!(name, "pv-1");
                self.patch("volume", &patch);
            }
            Op::CreateClaim(claim) => self.make("target-claim", json!(claim)),
            Op::CreateDataVolume(dv) => self.make("target-dv", json!(dv)),
            Op::DeleteClaim(at, uid) => self.delete(&Self::side(&at, "claim"), &uid),
            Op::DeleteDataVolume(at, uid) => self.delete(&Self::side(&at, "dv"), &uid),
        }
        self.react();
    }

    pub(super) fn make(&mut self, what: &str, object: Value) {
        assert!(!self.has(what), "{what} is there");
        self.objects[what] = object;
        self.bump(what);
        self.objects[what]["metadata"]["uid"] = json!(format!("{what}-{}", self.version));
    }

    pub(super) fn delete(&mut self, what: &str, uid: &str) {
        assert_eq!(self.objects[what]["metadata"]["uid"], uid, "{what}");
        if SOURCE.contains(&what) {
            let policy = &self.objects["volume"]["spec"]["persistentVolumeReclaimPolicy"];
            assert_eq!(policy, "Retain", "{what} is deleted and its volume with it");
        }
        self.gone(what);
    }

    /// Somebody deletes an object; a claim stays as long as a pod uses it.
    pub(super) fn gone(&mut self, what: &str) {
        if what == "claim" && !self.users.is_empty() {
            self.objects[what]["metadata"]["deletionTimestamp"] = json!("2027-01-01T00:00:00Z");
        } else {
            self.objects[what] = Value::Null;
        }
    }

    /// What the other controllers do.
    pub(super) fn react(&mut self) {
        for (dv, claim) in [("dv", "claim"), ("target-dv", "target-claim")] {
            let owner = &self.objects[claim]["metadata"]["ownerReferences"][0];
            let owned = owner["kind"] == "DataVolume"
                && owner["uid"] != self.objects[dv]["metadata"]["uid"];
            if owned {
                self.gone(claim);
            }
        }
        let holder = self.objects["volume"]["spec"]["claimRef"]["uid"].clone();
        if self.objects["target-claim"]["metadata"]["uid"] == holder && self.has("target-claim") {
            self.objects["target-claim"]["status"] = json!({"phase": "Bound"});
            self.objects["volume"]["status"] = json!({"phase": "Bound"});
            if self.has("target-dv") {
                self.objects["target-dv"]["status"] = json!({"phase": "Succeeded"});
            }
        }
        let held = ["claim", "target-claim"]
            .iter()
            .any(|claim| self.objects[*claim]["metadata"]["uid"] == holder);
        if !held && self.has("volume") {
            self.objects["volume"]["status"] = json!({"phase": "Released"});
        }
        let policy = &self.objects["volume"]["spec"]["persistentVolumeReclaimPolicy"];
        let phase = &self.objects["volume"]["status"]["phase"];
        if policy == "Delete" && phase == "Released" {
            self.objects["volume"] = Value::Null;
        }
        let transfer = &self.objects["transfer"]["metadata"];
        let free = transfer["finalizers"].as_array().is_none_or(Vec::is_empty);
        if !transfer["deletionTimestamp"].is_null() && free {
            self.objects["transfer"] = Value::Null;
        }
    }

    /// Takes the first step only, as if whoever decides died then; whether there was one.
    pub(super) fn step(&mut self) -> bool {
        if !self.has("transfer") {
            return false;
        }
        let plan = self.plan();
        let Some(step) = plan.steps.into_iter().next() else {
            return false;
        };
        self.take(step.op);
        self.events.extend(step.done);
        true
    }

    pub(super) fn settle(&mut self) {
        for _ in 0..60 {
            if !self.step() {
                return;
            }
        }
        panic!("no end: {}", self.objects["transfer"]["status"]);
    }

    /// After so many steps.
    pub(super) fn after(kind: &str, steps: usize) -> Self {
        let mut cluster = Self::new(kind);
        for _ in 0..steps {
            assert!(cluster.step());
        }
        cluster
    }

    pub(super) fn status(&self) -> (&str, &str) {
        let status = &self.objects["transfer"]["status"];
        let message = status["conditions"][0]["message"]
            .as_str()
            .unwrap_or_default();
        (status["phase"].as_str().unwrap_or_default(), message)
    }

    pub(super) fn policy(&self) -> &str {
        let spec = &self.objects["volume"]["spec"];
        spec["persistentVolumeReclaimPolicy"]
            .as_str()
            .unwrap_or("lost")
    }

    pub(super) fn has_moved(&self, kind: &str) -> bool {
        let dv = kind == "DataVolume";
        let held = self.objects["volume"]["spec"]["claimRef"]["uid"]
            == self.objects["target-claim"]["metadata"]["uid"];
        let both = SOURCE.iter().all(|what| !self.has(what))
            && self.has("target-claim")
            && self.has("target-dv") == dv;
        both && held && self.policy() == "Delete"
    }

    /// As if there had never been a transfer.
    pub(super) fn is_as_before(&self, kind: &str) -> bool {
        let dv = kind == "DataVolume";
        let marked = |what: &str| {
            self.objects[what]["metadata"]["annotations"][note::OBJECT_TRANSFER].is_string()
        };
        let both =
            TARGET.iter().all(|what| !self.has(what)) && self.has("claim") && self.has("dv") == dv;
        both && self.policy() == "Delete" && !marked("claim") && !marked("dv")
    }

    pub(super) fn leave(&mut self) {
        self.objects["transfer"]["metadata"]["deletionTimestamp"] = json!("2027-01-01T00:00:00Z");
        self.react();
    }
}
