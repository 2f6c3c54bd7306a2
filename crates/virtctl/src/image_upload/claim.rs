//! The claim that is uploaded to: found or created, and waited for.
//! Source of sentences: KubeVirt pkg/virtctl/imageupload/imageupload.go.

use std::time::Duration;

use anyhow::{anyhow, bail};
use api::cdi::names;
use api::cdi::names::annotations::{
    CONTENT_TYPE, IMMEDIATE_BINDING, POD_PHASE, POD_READY, PVC_PRIME, UPLOAD_TARGET, USE_POPULATOR,
};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::args::{ImageUploadArgs, Kind, Plan};
use crate::cluster::Cluster;
use crate::output::{err, out};

/// Between two looks at what is waited for.
const LOOK: Duration = Duration::from_millis(500);
/// Events are looked at less often: there may be many.
const EVENTS: Duration = Duration::from_secs(2);
/// Between two looks at an upload that is being processed.
const PROCESSING: Duration = Duration::from_secs(1);
/// How long it may be processed.
const PROCESSED: Duration = Duration::from_secs(24 * 3600);

/// A claim and, where it has one, its DataVolume.
pub(super) struct Claim<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) plan: &'a Plan,
    pub(super) args: &'a ImageUploadArgs,
}

impl Claim<'_> {
    fn namespace(&self) -> &str {
        &self.cluster.namespace
    }

    fn claim_path(&self, name: &str) -> String {
        format!(
            "/api/v1/namespaces/{}/persistentvolumeclaims/{name}",
            self.namespace()
        )
    }

    fn cdi_path(&self, plural: &str) -> String {
        format!(
            "/apis/{}/namespaces/{}/{plural}",
            names::API_VERSION,
            self.namespace()
        )
    }

    /// Finds the claim, or creates it or its DataVolume, and says which.
    pub(super) async fn prepare(&self) -> anyhow::Result<()> {
        let name = &self.plan.name;
        match self.cluster.find(&self.claim_path(name)).await? {
            Some(found) => {
                let claim = self.check(found).await?;
                self.make_target(&claim).await?;
                out(format!(
                    "Using existing PVC {}/{}",
                    self.namespace(),
                    text(&claim, "/metadata/name")
                ));
                Ok(())
            }
            None => {
                let missing = format!("PVC {}/{name} not found", self.namespace());
                if self.args.no_create {
                    bail!(missing);
                }
                err(missing);
                self.create().await
            }
        }
    }

    /// The claim to write to, if an existing one can be uploaded to.
    async fn check(&self, claim: Value) -> anyhow::Result<Value> {
        let name = &self.plan.name;
        let claim = match self.plan.kind {
            Kind::Claim => claim,
            Kind::DataVolume => self.check_data_volume(claim).await?,
        };
        let annotation = |key: &str| claim["metadata"]["annotations"][key].as_str();
        if annotation(POD_PHASE) == Some("Succeeded") {
            bail!("PVC {name} already successfully imported/cloned/updated");
        }
        if !self.args.no_create && annotation(UPLOAD_TARGET).is_none() {
            bail!("PVC {name} not available for upload");
        }
        if self.plan.archive && annotation(CONTENT_TYPE) != Some("archive") {
            bail!("PVC {name} doesn't have archive contentType annotation");
        }
        Ok(claim)
    }

    async fn check_data_volume(&self, claim: Value) -> anyhow::Result<Value> {
        let name = &self.plan.name;
        let path = format!("{}/{name}", self.cdi_path("datavolumes"));
        let Some(volume) = self.cluster.find(&path).await? else {
            let annotations = &claim["metadata"]["annotations"];
            if annotations["cdi.kubevirt.io/storage.deleteAfterCompletion"] == "true"
                && annotations[POD_PHASE] == "Succeeded"
            {
                bail!(
                    "DataVolume already garbage-collected: Assuming PVC {}/{name} is successfully populated",
                    self.namespace()
                );
            }
            bail!(
                "No DataVolume is associated with the existing PVC {}/{name}",
                self.namespace()
            );
        };
        if volume["metadata"]["annotations"][USE_POPULATOR] != "true" {
            return Ok(claim);
        }
        if claim["status"]["phase"] == "Bound" {
            bail!("PVC {name} already successfully populated");
        }
        let Some(prime) = claim["metadata"]["annotations"][PVC_PRIME].as_str() else {
            bail!(
                "Unable to get PVC Prime name from PVC {}/{name}",
                self.namespace()
            );
        };
        self.cluster
            .find(&self.claim_path(prime))
            .await?
            .ok_or_else(|| anyhow!("Unable to get PVC Prime {}/{name}", self.namespace()))
    }

    /// Makes an existing claim wait for an upload, if it does not yet.
    async fn make_target(&self, claim: &Value) -> anyhow::Result<()> {
        if claim["metadata"]["annotations"][UPLOAD_TARGET].is_string() {
            return Ok(());
        }
        let patch = json!({ "metadata": { "annotations": { UPLOAD_TARGET: "" } } });
        let path = self.claim_path(text(claim, "/metadata/name"));
        self.cluster.merge(&path, &patch).await?;
        Ok(())
    }

    async fn create(&self) -> anyhow::Result<()> {
        let Some(size) = &self.plan.size else {
            bail!("when creating a resource, the size must be specified");
        };
        if !is_quantity(size) {
            bail!(
                "validation failed for size={size}: expected a quantity like 10Gi or 500Mi, found {size:?}"
            );
        }
        if self.args.access_mode.as_deref() == Some("ReadOnlyMany") {
            bail!(
                "cannot upload to a readonly volume, use either ReadWriteOnce or ReadWriteMany if supported"
            );
        }
        if let Some(class) = self
            .args
            .storage_class
            .as_deref()
            .filter(|name| !name.is_empty())
        {
            self.cluster
                .get(&format!("/apis/storage.k8s.io/v1/storageclasses/{class}"))
                .await?;
        }
        let (path, object) = match self.plan.kind {
            Kind::DataVolume => (self.cdi_path("datavolumes"), data_volume(self, size)),
            Kind::Claim => (self.claim_path(""), claim(self, size)),
        };
        let made = self
            .cluster
            .post(path.trim_end_matches('/'), &object)
            .await?;
        out(format!(
            "{} {}/{} created",
            text(&object, "/kind"),
            self.namespace(),
            text(&made, "/metadata/name")
        ));
        Ok(())
    }

    /// Waits until the claim's upload server takes data.
    pub(super) async fn wait_ready(&self) -> anyhow::Result<()> {
        let name = &self.plan.name;
        let until = Instant::now() + Duration::from_secs(self.args.wait_secs);
        let mut events_at = Instant::now();
        let mut said = false;
        loop {
            let state = match self.plan.kind {
                Kind::DataVolume => self.data_volume_state().await?,
                Kind::Claim => self.claim_state().await?,
            };
            let state = match state {
                None => {
                    if said {
                        out("Pod now ready");
                    }
                    return Ok(());
                }
                Some(state) => state,
            };
            if Instant::now() >= events_at {
                self.check_events().await?;
                events_at = Instant::now() + EVENTS;
            }
            if !said {
                out(format!("Waiting for PVC {name} upload pod to be ready..."));
                said = true;
            }
            if Instant::now() >= until {
                bail!(
                    "timed out waiting {} s for the upload pod of {}/{name}: {state}",
                    self.args.wait_secs,
                    self.namespace()
                );
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// `None` when ready, else where it is.
    async fn data_volume_state(&self) -> anyhow::Result<Option<String>> {
        let name = &self.plan.name;
        let path = format!("{}/{name}", self.cdi_path("datavolumes"));
        let Some(volume) = self.cluster.find(&path).await? else {
            return Ok(Some("the DataVolume does not exist".to_owned()));
        };
        match text(&volume, "/status/phase") {
            "UploadReady" => Ok(None),
            phase @ ("WaitForFirstConsumer" | "PendingPopulation") if !self.args.force_bind => {
                bail!(
                    "cannot upload to DataVolume in {phase} phase, make sure the PVC is Bound, or use force-bind flag"
                )
            }
            "Failed" => bail!(
                "DataVolume {}/{name} failed{}",
                self.namespace(),
                why(&volume)
            ),
            "" => Ok(Some(
                "the DataVolume has no phase yet; does cdi-deployment run?".to_owned(),
            )),
            phase => Ok(Some(format!("the DataVolume is {phase}{}", why(&volume)))),
        }
    }

    async fn claim_state(&self) -> anyhow::Result<Option<String>> {
        let Some(claim) = self.cluster.find(&self.claim_path(&self.plan.name)).await? else {
            return Ok(Some("the claim does not exist".to_owned()));
        };
        let annotations = &claim["metadata"]["annotations"];
        // As Go's strconv.ParseBool.
        let ready = matches!(
            annotations[POD_READY].as_str(),
            Some("1" | "t" | "T" | "true" | "TRUE" | "True")
        );
        if ready {
            return Ok(None);
        }
        let pod = annotations[POD_PHASE].as_str().unwrap_or("not there");
        let phase = text(&claim, "/status/phase");
        Ok(Some(format!(
            "the claim is {phase}, its upload pod is {pod}"
        )))
    }

    /// Events that say that waiting is in vain.
    async fn check_events(&self) -> anyhow::Result<()> {
        let namespace = self.namespace();
        let name = &self.plan.name;
        let path = format!(
            "/api/v1/namespaces/{namespace}/events?fieldSelector=involvedObject.name%3D{name}"
        );
        // Who may not read events waits without them.
        let Ok(events) = self.cluster.get(&path).await else {
            return Ok(());
        };
        let uid = async |path: String| -> anyhow::Result<Option<Value>> {
            let object = self.cluster.find(&path).await?;
            Ok(object.map(|object| object["metadata"]["uid"].clone()))
        };
        let claim = uid(self.claim_path(name)).await?;
        let volume = uid(format!("{}/{name}", self.cdi_path("datavolumes"))).await?;
        for event in events["items"].as_array().into_iter().flatten() {
            let message = text(event, "/message");
            let of = Some(&event["involvedObject"]["uid"]);
            match (text(event, "/involvedObject/kind"), text(event, "/reason")) {
                ("PersistentVolumeClaim", "ProvisioningFailed")
                    if of == claim.as_ref()
                        && !message.contains("please apply your changes to the latest version") =>
                {
                    bail!("Provisioning failed: {message}")
                }
                ("DataVolume", "ErrClaimNotValid") if of == volume.as_ref() => {
                    bail!("Claim not valid: {message}")
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Waits until the uploaded bytes are a disk.
    pub(super) async fn wait_processed(&self) -> anyhow::Result<()> {
        let name = &self.plan.name;
        let until = Instant::now() + PROCESSED;
        while Instant::now() < until {
            let claim = self.cluster.get(&self.claim_path(name)).await?;
            if claim["metadata"]["annotations"][POD_PHASE] == "Succeeded" {
                out("Processing completed successfully");
                return Ok(());
            }
            if self.plan.kind == Kind::DataVolume {
                let path = format!("{}/{name}", self.cdi_path("datavolumes"));
                let volume = self.cluster.find(&path).await?.unwrap_or_default();
                match text(&volume, "/status/phase") {
                    "Failed" => {
                        bail!(
                            "DataVolume {}/{name} failed{}",
                            self.namespace(),
                            why(&volume)
                        )
                    }
                    "Succeeded" => {
                        out("Processing completed successfully");
                        return Ok(());
                    }
                    _ => {}
                }
            }
            tokio::time::sleep(PROCESSING).await;
        }
        out(
            "Timed out waiting for post upload processing to complete, please check upload pod status for progress",
        );
        bail!("timed out waiting for the condition")
    }

    /// Makes or changes the DataSource of the claim's name.
    pub(super) async fn data_source(&self) -> anyhow::Result<()> {
        let (namespace, name) = (self.namespace(), &self.plan.name);
        let path = self.cdi_path("datasources");
        let source = json!({ "pvc": { "name": name, "namespace": namespace } });
        let labels = labels(self.plan, &[]);
        if self
            .cluster
            .find(&format!("{path}/{name}"))
            .await?
            .is_some()
        {
            let patch = json!({ "metadata": { "labels": labels }, "spec": { "source": source } });
            self.cluster
                .merge(&format!("{path}/{name}"), &patch)
                .await?;
            out(format!("Updated an existing DataSource {namespace}/{name}"));
            return Ok(());
        }
        let object = json!({
            "apiVersion": names::API_VERSION, "kind": "DataSource",
            "metadata": { "name": name, "namespace": namespace, "labels": labels },
            "spec": { "source": source },
        });
        self.cluster.post(&path, &object).await?;
        out(format!("Created a new DataSource {namespace}/{name}"));
        Ok(())
    }
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// What the condition Running says, in words after a colon.
fn why(volume: &Value) -> String {
    let conditions = volume["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == "Running")
        .map(|condition| text(condition, "/message"))
        .filter(|message| !message.is_empty())
        .map_or_else(String::new, |message| format!(": {message}"))
}

fn labels(plan: &Plan, more: &[(&str, &str)]) -> Value {
    let more = more
        .iter()
        .map(|(label, value)| ((*label).to_owned(), json!(value)));
    let all: Map<String, Value> = plan
        .labels
        .iter()
        .map(|(label, value)| ((*label).to_owned(), json!(value)))
        .chain(more)
        .collect();
    Value::Object(all)
}

/// What both kinds ask of the storage.
fn storage(args: &ImageUploadArgs, plan: &Plan, size: &str) -> Value {
    let mut spec = json!({ "resources": { "requests": { "storage": size } } });
    let set = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    if let Some(class) = set(&args.storage_class) {
        spec["storageClassName"] = json!(class);
    }
    if let Some(mode) = set(&args.access_mode) {
        spec["accessModes"] = json!([mode]);
    }
    if let Some(mode) = plan.volume_mode {
        spec["volumeMode"] = json!(mode);
    }
    spec
}

fn content_type(plan: &Plan) -> &'static str {
    if plan.archive { "archive" } else { "kubevirt" }
}

fn data_volume(of: &Claim<'_>, size: &str) -> Value {
    let mut annotations = Map::new();
    if of.args.force_bind {
        annotations.insert(IMMEDIATE_BINDING.to_owned(), json!(""));
    }
    json!({
        "apiVersion": names::API_VERSION,
        "kind": "DataVolume",
        "metadata": {
            "name": of.plan.name, "namespace": of.namespace(),
            "annotations": annotations, "labels": labels(of.plan, &[]),
        },
        "spec": {
            "source": { "upload": {} },
            "contentType": content_type(of.plan),
            "storage": storage(of.args, of.plan, size),
        },
    })
}

fn claim(of: &Claim<'_>, size: &str) -> Value {
    let mut spec = storage(of.args, of.plan, size);
    if spec["accessModes"].is_null() {
        spec["accessModes"] = json!(["ReadWriteOnce"]);
    }
    let mut annotations = Map::new();
    annotations.insert(UPLOAD_TARGET.to_owned(), json!(""));
    annotations.insert(CONTENT_TYPE.to_owned(), json!(content_type(of.plan)));
    if of.args.force_bind {
        annotations.insert(IMMEDIATE_BINDING.to_owned(), json!(""));
    }
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": of.plan.name, "namespace": of.namespace(), "annotations": annotations,
            "labels": labels(of.plan, &[(names::APPLY_STORAGE_PROFILE, "true")]),
        },
        "spec": spec,
    })
}

/// Whether the API server will read it as a quantity, as far as one sees from its letters.
fn is_quantity(text: &str) -> bool {
    let number = text.trim_start_matches(['+', '-']);
    let digits = number
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(number.len());
    let (number, suffix) = number.split_at(digits);
    let exponent = |rest: &str| {
        let rest = rest.trim_start_matches(['+', '-']);
        !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit())
    };
    number.bytes().any(|byte| byte.is_ascii_digit())
        && number.matches('.').count() <= 1
        && (matches!(
            suffix,
            "" | "n"
                | "u"
                | "m"
                | "k"
                | "M"
                | "G"
                | "T"
                | "P"
                | "E"
                | "Ki"
                | "Mi"
                | "Gi"
                | "Ti"
                | "Pi"
                | "Ei"
        ) || suffix.strip_prefix(['e', 'E']).is_some_and(exponent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_told_from_other_words() {
        for good in ["15Gi", "500Mi", "1.5G", "1000", "1e9", "1E+9"] {
            assert!(is_quantity(good), "{good}");
        }
        for bad in ["", "Gi", "15GB", "1.2.3G", "ten", "1 Gi", "1e"] {
            assert!(!is_quantity(bad), "{bad}");
        }
    }
}
