//! The claim of a DataVolume, and what its annotations tell the worker.
//!
//! Source of labels, annotations and rules: CDI pkg/controller/datavolume.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use api::cdi::names::{API_VERSION, APP, APP_LABEL, APPLY_STORAGE_PROFILE, annotations as note};
use api::cdi::{DataSource, DataSourceSource, DataVolume, DataVolumeSource, StorageSpec};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::cluster::Cluster;
use super::size::{Overhead, is_block, requested};

/// Why there can be no claim now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// CamelCase word for programs.
    pub reason: &'static str,
    /// Sentence for people.
    pub message: String,
}

fn refuse(reason: &'static str, message: impl Into<String>) -> Refusal {
    Refusal {
        reason,
        message: message.into(),
    }
}

/// The source of a DataVolume: its own, or the one its DataSource stands for.
///
/// `lookup` finds a DataSource by namespace and name. `None` when somebody else
/// fills the claim.
///
/// # Errors
/// When the DataSource, or what it stands for, cannot be cloned (yet).
pub fn source<'a>(
    dv: &DataVolume,
    lookup: impl Fn(&str, &str) -> Option<&'a DataSource>,
) -> Result<Option<DataVolumeSource>, Refusal> {
    let Some(reference) = &dv.spec.source_ref else {
        return Ok(dv.spec.source.clone());
    };
    let own = dv.metadata.namespace.as_deref().unwrap_or_default();
    let namespace = reference
        .namespace
        .as_deref()
        .filter(|name| !name.is_empty());
    let found = stands_for(namespace.unwrap_or(own), &reference.name, lookup)?;
    Ok(Some(DataVolumeSource {
        pvc: found.pvc,
        snapshot: found.snapshot,
        ..DataVolumeSource::default()
    }))
}

/// The claim or snapshot a DataSource stands for, over one other DataSource at most.
///
/// # Errors
/// When it is not there, or stands for something that cannot be cloned.
pub fn stands_for<'a>(
    namespace: &str,
    name: &str,
    lookup: impl Fn(&str, &str) -> Option<&'a DataSource>,
) -> Result<DataSourceSource, Refusal> {
    let mut name = name;
    for _ in 0..2 {
        let source = lookup(namespace, name).ok_or_else(|| {
            refuse(
                "NotFound",
                format!("expected a DataSource {namespace}/{name}, found none"),
            )
        })?;
        let source = &source.spec.source;
        if source.pvc.is_some() || source.snapshot.is_some() {
            return Ok(source.clone());
        }
        match &source.data_source {
            Some(next) if next.namespace == namespace => name = &next.name,
            _ => {
                return Err(refuse(
                    "NoSource",
                    format!(
                        "expected DataSource {namespace}/{name} to stand for a claim or a snapshot; it stands for nothing that can be cloned"
                    ),
                ));
            }
        }
    }
    Err(refuse(
        "MaxReferenceDepthReached",
        "DataSource reference chain exceeds maximum depth of 1",
    ))
}

/// The claim of `dv`, whose data comes from `source`, a copy of `original` if that is a claim
/// or a snapshot.
///
/// # Errors
/// When the storage class, its profile or the original do not allow one.
pub fn build(
    dv: &DataVolume,
    source: Option<&DataVolumeSource>,
    original: Option<&PersistentVolumeClaim>,
    cluster: &Cluster,
) -> Result<PersistentVolumeClaim, Refusal> {
    let clone = source.and_then(|source| source.pvc.as_ref().or(source.snapshot.as_ref()));
    let namespace = dv.metadata.namespace.clone().unwrap_or_default();
    let original = match clone {
        Some(from) => Some(original.ok_or_else(|| {
            refuse(
                "CloneWithoutSource",
                format!("The source pvc {} doesn't exist", from.name),
            )
        })?),
        None => None,
    };
    // A clone holds what its original does.
    let copied = original.and_then(|original| super::worker::note(original, note::CONTENT_TYPE));
    let content = match dv.spec.content_type.as_str() {
        "" => copied.unwrap_or_default(),
        said => said,
    };
    let spec = match (&dv.spec.pvc, &dv.spec.storage) {
        (Some(pvc), _) => pvc.clone(),
        (None, Some(storage)) => from_storage(content, storage, original, cluster)?,
        (None, None) => {
            return Err(refuse(
                "ErrClaimNotValid",
                "datavolume one of {pvc, storage} field is required",
            ));
        }
    };
    if let Some(original) = original {
        fits(dv, &spec, original, cluster)?;
    }
    let mut annotations = inherited(dv);
    describe(dv, source, content, cluster, &mut annotations);
    let snapshot = source.and_then(|source| source.snapshot.as_ref());
    if snapshot.is_some_and(|from| from.namespace != namespace) {
        annotations.insert(note::FROM_SNAPSHOT.to_owned(), "true".to_owned());
    }
    let mut labels = dv.metadata.labels.clone().unwrap_or_default();
    labels.insert(APP_LABEL.to_owned(), APP.to_owned());
    if dv.spec.storage.is_some() {
        // The gaps are filled: filling them again would grow the claim twice.
        labels.remove(APPLY_STORAGE_PROFILE);
    }
    if !is_block(&spec) {
        // A disk fills its claim by design: no alert for that.
        labels.insert(
            "alerts.k8s.io/KubePersistentVolumeFillingUp".to_owned(),
            "disabled".to_owned(),
        );
    }
    Ok(PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: dv.metadata.name.clone(),
            namespace: Some(namespace),
            labels: Some(labels),
            annotations: Some(annotations),
            owner_references: Some(vec![owner(dv)]),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    })
}

/// The DataVolume as owner of its claim.
#[must_use]
pub fn owner(dv: &DataVolume) -> OwnerReference {
    OwnerReference {
        api_version: API_VERSION.to_owned(),
        kind: "DataVolume".to_owned(),
        name: dv.metadata.name.clone().unwrap_or_default(),
        uid: dv.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// A claim out of a storage spec: gaps filled by the class's profile, the size grown
/// by what a file system needs.
fn from_storage(
    content: &str,
    storage: &StorageSpec,
    original: Option<&PersistentVolumeClaim>,
    cluster: &Cluster,
) -> Result<PersistentVolumeClaimSpec, Refusal> {
    let archive = content == "archive";
    let mut spec = PersistentVolumeClaimSpec {
        access_modes: Some(storage.access_modes.clone()).filter(|modes| !modes.is_empty()),
        selector: storage.selector.clone(),
        resources: storage.resources.clone(),
        volume_name: Some(storage.volume_name.clone()).filter(|name| !name.is_empty()),
        storage_class_name: storage.storage_class_name.clone(),
        volume_mode: storage
            .volume_mode
            .clone()
            .filter(|mode| !mode.is_empty() && mode != "FromStorageProfile"),
        data_source: storage.data_source.clone(),
        data_source_ref: storage.data_source_ref.clone(),
        ..PersistentVolumeClaimSpec::default()
    };
    if archive {
        spec.volume_mode = Some("Filesystem".to_owned());
    }
    modes(&mut spec, !archive, cluster)?;
    let overhead = overhead(&spec, cluster);
    let mut size = match (requested(&spec), original) {
        (Some(disk), _) => overhead.claim_for(disk),
        // A clone without a size is as large as its original.
        (None, Some(original)) => {
            let from = original.spec.as_ref();
            let whole = from.and_then(requested).unwrap_or_default();
            let same = from.is_some_and(|from| {
                is_block(from) == is_block(&spec)
                    && from.storage_class_name == spec.storage_class_name
            });
            let disk = from.map_or(whole, |from| self::overhead(from, cluster).disk_in(whole));
            if same {
                whole
            } else {
                overhead.claim_for(disk)
            }
        }
        (None, None) => {
            return Err(refuse(
                "ErrClaimNotValid",
                "PVC Spec is not valid - missing storage size",
            ));
        }
    };
    if let Some(class) = &spec.storage_class_name {
        size = size.max(cluster.minimum(class));
    }
    let resources = spec
        .resources
        .get_or_insert_with(VolumeResourceRequirements::default);
    resources
        .requests
        .get_or_insert_default()
        .insert("storage".to_owned(), Quantity(size.to_string()));
    Ok(spec)
}

/// The spec of a claim that asks for it: gaps filled by the class's profile, the size
/// grown by what a file system needs.
///
/// # Errors
/// When there is no class to fill the gaps from, or no size.
pub fn complete(
    claim: &PersistentVolumeClaim,
    cluster: &Cluster,
) -> Result<PersistentVolumeClaimSpec, Refusal> {
    let mut spec = claim.spec.clone().unwrap_or_default();
    let notes = claim.metadata.annotations.as_ref();
    let content = notes.and_then(|notes| notes.get(note::CONTENT_TYPE));
    let archive = content.map(String::as_str) == Some("archive");
    spec.access_modes = spec.access_modes.filter(|modes| !modes.is_empty());
    spec.volume_mode = spec
        .volume_mode
        .filter(|mode| !mode.is_empty() && mode != "FromStorageProfile");
    if archive {
        spec.volume_mode = Some("Filesystem".to_owned());
    }
    modes(&mut spec, !archive, cluster)?;
    let Some(disk) = requested(&spec) else {
        return Err(refuse(
            "ErrClaimNotValid",
            "PVC Spec is not valid - missing storage size",
        ));
    };
    // A snapshot gives no more than it has.
    let snapshot = spec
        .data_source_ref
        .as_ref()
        .map(|to| to.kind.as_str())
        .or(spec.data_source.as_ref().map(|to| to.kind.as_str()));
    if snapshot != Some("VolumeSnapshot") {
        let class = spec.storage_class_name.as_deref();
        let least = class.map_or(0, |class| cluster.minimum(class));
        let size = overhead(&spec, cluster).claim_for(disk).max(least);
        spec.resources
            .get_or_insert_default()
            .requests
            .get_or_insert_default()
            .insert("storage".to_owned(), Quantity(size.to_string()));
    }
    Ok(spec)
}

/// Fills in class, access modes and volume mode.
fn modes(
    spec: &mut PersistentVolumeClaimSpec,
    disk: bool,
    cluster: &Cluster,
) -> Result<(), Refusal> {
    let Some(class) = cluster.class(spec.storage_class_name.as_deref(), disk) else {
        if spec.access_modes.is_some() {
            return Ok(());
        }
        return Err(refuse(
            "ErrClaimNotValid",
            "DataVolume.storage spec is missing accessMode and no storageClass to choose profile",
        ));
    };
    spec.storage_class_name = Some(class.name.clone());
    let sets = cluster.modes(&class.name);
    let found = match (&spec.access_modes, &spec.volume_mode) {
        (Some(_), Some(_)) => return Ok(()),
        (None, None) => sets.first(),
        (None, Some(volume)) => sets.iter().find(|set| set.volume_mode == *volume),
        (Some(access), None) => {
            // A claim may leave its volume mode open, so no match is no mistake.
            let set = sets
                .iter()
                .find(|set| set.access_modes.iter().any(|mode| access.contains(mode)));
            spec.volume_mode = set.map(|set| set.volume_mode.clone());
            return Ok(());
        }
    };
    let Some(set) = found else {
        let missing = if spec.volume_mode.is_none() {
            "accessMode and volumeMode, cannot get access mode"
        } else {
            "accessMode and cannot get access mode"
        };
        return Err(refuse(
            "ErrClaimNotValid",
            format!(
                "Spec is missing {missing} from StorageProfile {}",
                class.name
            ),
        ));
    };
    spec.access_modes = Some(set.access_modes.clone());
    spec.volume_mode = Some(set.volume_mode.clone());
    Ok(())
}

/// Share that the file system of a claim needs: none of a device.
#[must_use]
pub fn overhead(spec: &PersistentVolumeClaimSpec, cluster: &Cluster) -> Overhead {
    if is_block(spec) {
        Overhead::NONE
    } else {
        cluster.overhead(spec.storage_class_name.as_deref())
    }
}

/// A clone holds what its original may hold.
fn fits(
    dv: &DataVolume,
    spec: &PersistentVolumeClaimSpec,
    original: &PersistentVolumeClaim,
    cluster: &Cluster,
) -> Result<(), Refusal> {
    let annotations = dv.metadata.annotations.as_ref();
    if annotations
        .and_then(|all| all.get(note::PERMISSIVE_CLONE))
        .map(String::as_str)
        == Some("true")
    {
        return Ok(());
    }
    let disk = |spec: &PersistentVolumeClaimSpec| {
        overhead(spec, cluster).disk_in(requested(spec).unwrap_or_default())
    };
    let (target, source) = (disk(spec), original.spec.as_ref().map_or(0, disk));
    if target < source {
        return Err(refuse(
            "CloneValidationFailed",
            format!(
                "The clone doesn't meet the validation requirements: target resources requests storage size is smaller than the source: expected room for {source} bytes, found {target}"
            ),
        ));
    }
    Ok(())
}

/// Annotations of a DataVolume, for its claim.
fn inherited(dv: &DataVolume) -> BTreeMap<String, String> {
    let mut out = dv.metadata.annotations.clone().unwrap_or_default();
    // What kubectl remembers of the DataVolume is no description of the claim.
    out.remove("kubectl.kubernetes.io/last-applied-configuration");
    // What another clone was told is nothing to go by.
    for told in [
        note::CLONE_TYPE,
        note::CLONE_FALLBACK,
        note::TEMPORARY_SOURCE,
        note::FROM_SNAPSHOT,
        note::GROWS,
    ] {
        out.remove(told);
    }
    out
}

/// Tells the worker by annotations what to fetch.
fn describe(
    dv: &DataVolume,
    source: Option<&DataVolumeSource>,
    content: &str,
    cluster: &Cluster,
    out: &mut BTreeMap<String, String>,
) {
    let mut set = |name: &str, value: &str| {
        if !value.is_empty() {
            out.insert(name.to_owned(), value.to_owned());
        }
    };
    let spec = &dv.spec;
    set(
        note::CREATED_FOR,
        dv.metadata.uid.as_deref().unwrap_or_default(),
    );
    set(note::PRIORITY_CLASS, &spec.priority_class_name);
    set(note::SERVICE_ACCOUNT, &spec.service_account_name);
    if let Some(source) = source {
        describe_source(source, content, spec.preallocation, cluster, out);
    }
}

/// Tells the worker by annotations of a claim where its data comes from and how it is
/// written.
pub(super) fn describe_source(
    source: &DataVolumeSource,
    content_type: &str,
    preallocation: Option<bool>,
    cluster: &Cluster,
    out: &mut BTreeMap<String, String>,
) {
    let mut set = |name: &str, value: &str| {
        if !value.is_empty() {
            out.insert(name.to_owned(), value.to_owned());
        }
    };
    set(note::POD_RESTARTS, "0");
    let disk = content_type.is_empty();
    set(
        note::CONTENT_TYPE,
        if disk { "kubevirt" } else { content_type },
    );
    let preallocation = preallocation.or(cluster.config.preallocation);
    set(
        note::PREALLOCATION_REQUESTED,
        if preallocation == Some(true) {
            "true"
        } else {
            "false"
        },
    );
    if let Some(http) = &source.http {
        set(note::SOURCE, "http");
        set(note::ENDPOINT, &http.url);
        set(note::SECRET, &http.secret_ref);
        set(note::CERT_CONFIG_MAP, &http.cert_config_map);
        set(note::CHECKSUM, &http.checksum);
        for (name, values) in [
            (note::EXTRA_HEADERS, &http.extra_headers),
            (note::SECRET_EXTRA_HEADERS, &http.secret_extra_headers),
        ] {
            for (at, value) in values.iter().enumerate() {
                set(&format!("{name}.{at}"), value);
            }
        }
    } else if let Some(s3) = &source.s3 {
        set(note::SOURCE, "s3");
        set(note::ENDPOINT, &s3.url);
        set(note::SECRET, &s3.secret_ref);
        set(note::CERT_CONFIG_MAP, &s3.cert_config_map);
    } else if let Some(registry) = &source.registry {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        set(note::SOURCE, "registry");
        set(note::ENDPOINT, &text(&registry.url));
        set(note::SECRET, &text(&registry.secret_ref));
        set(note::CERT_CONFIG_MAP, &text(&registry.cert_config_map));
        set(note::REGISTRY_METHOD, "pod");
    } else if let Some(from) = source.pvc.as_ref().or(source.snapshot.as_ref()) {
        set(
            note::CLONE_REQUEST,
            &format!("{}/{}", from.namespace, from.name),
        );
        set(note::CLONE_TYPE, "copy");
    } else if source.blank.is_some() {
        set(note::SOURCE, "none");
    } else if source.upload.is_some() {
        out.insert(note::UPLOAD_TARGET.to_owned(), String::new());
    }
}
