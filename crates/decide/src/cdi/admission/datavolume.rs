//! A new DataVolume: one source that can be fetched, one claim that can hold it.

use serde_json::Value;

use crate::admission::{Cause, Reason};

/// Access modes that Kubernetes knows.
pub(super) const ACCESS_MODES: [&str; 4] = [
    "ReadWriteOnce",
    "ReadOnlyMany",
    "ReadWriteMany",
    "ReadWriteOncePod",
];
/// Longest name of a claim.
const NAME: usize = 253;
/// Smallest disk, in bytes, as virtual machines allow.
const SMALLEST: u64 = 1 << 20;
/// Hexadecimal digits of each digest that can be checked.
const DIGESTS: [(&str, usize); 4] = [("md5", 32), ("sha1", 40), ("sha256", 64), ("sha512", 128)];
/// All sources, refused ones too: those have their own causes.
const SOURCES: [&str; 10] = [
    "http", "s3", "registry", "pvc", "upload", "blank", "snapshot", "gcs", "imageio", "vddk",
];

/// What is wrong with a new DataVolume, fields that are not supported apart.
pub(super) fn judge(object: &Value) -> Vec<Cause> {
    let mut out = Vec::new();
    let spec = &object["spec"];
    if text(&object["metadata"]["name"]).len() > NAME {
        out.push(invalid(
            "metadata.name",
            format!("Name cannot be longer than {NAME} characters"),
        ));
    }
    let target = match (&spec["pvc"], &spec["storage"]) {
        (Value::Null, Value::Null) => {
            out.push(invalid("spec.PVC", "Missing Data volume PVC"));
            return out;
        }
        (pvc, Value::Null) => {
            access_modes(pvc, &mut out);
            Target {
                name: "PVC",
                path: "spec.pvc",
                claim: pvc,
            }
        }
        (Value::Null, storage) => Target {
            name: "Storage",
            path: "spec.storage",
            claim: storage,
        },
        _ => {
            out.push(invalid(
                "spec.PVC.Storage",
                "Duplicate storage definition, both target storage and target pvc defined",
            ));
            return out;
        }
    };
    let clone = source(spec, &target, &mut out);
    size(&target, clone, &mut out);
    let archive = spec["contentType"] == "archive";
    if archive && target.claim["volumeMode"] == "Block" {
        out.push(invalid(
            &format!("{}.volumeMode", target.path),
            "ContentType Archive cannot have block volumeMode",
        ));
    }
    out
}

struct Target<'a> {
    name: &'static str,
    path: &'static str,
    claim: &'a Value,
}

/// Checks where the data comes from; whether that has a size of its own.
fn source(spec: &Value, target: &Target<'_>, out: &mut Vec<Cause>) -> bool {
    let external = ["dataSource", "dataSourceRef"]
        .into_iter()
        .any(|field| !target.claim[field].is_null());
    if external {
        external_source(spec, target, out);
        return false;
    }
    match (&spec["source"], &spec["sourceRef"]) {
        (Value::Null, Value::Null) => {
            out.push(invalid(
                "spec.source",
                "Data volume should have either Source or SourceRef, or be externally populated",
            ));
            false
        }
        (source, Value::Null) => {
            one_source(spec, source, out);
            !source["pvc"].is_null() || !source["snapshot"].is_null()
        }
        (Value::Null, reference) => {
            source_ref(reference, out);
            true
        }
        _ => {
            out.push(invalid(
                "spec.source",
                "Data volume should have either Source or SourceRef, not both",
            ));
            false
        }
    }
}

/// Somebody else fills the claim: a snapshot's driver, another populator.
fn external_source(spec: &Value, target: &Target<'_>, out: &mut Vec<Cause>) {
    if !spec["source"].is_null() || !spec["sourceRef"].is_null() {
        out.push(invalid(
            "spec.source",
            "External population is incompatible with Source and SourceRef",
        ));
    }
    let claim = target.claim;
    let of =
        |field: &str| ["apiGroup", "kind", "name"].map(|part| text(&claim[field][part]).to_owned());
    if !claim["dataSource"].is_null()
        && !claim["dataSourceRef"].is_null()
        && of("dataSource") != of("dataSourceRef")
    {
        out.push(invalid(
            target.path,
            "DataSourceRef and DataSource must match",
        ));
    }
}

/// What is wrong with a new VolumeImportSource, fields that are not supported apart.
pub(super) fn import(object: &Value) -> Vec<Cause> {
    let mut out = Vec::new();
    let spec = &object["spec"];
    let fetched = ["http", "s3", "registry", "blank"];
    let set = SOURCES.into_iter().filter(|name| {
        // Sources that are refused have a cause of their own.
        !spec["source"][*name].is_null() && fetched.contains(name)
    });
    if set.count() == 0
        && spec["source"]
            .as_object()
            .is_none_or(|source| source.is_empty())
    {
        out.push(invalid("spec.source", "Missing VolumeImport source"));
    } else {
        one_source(spec, &spec["source"], &mut out);
    }
    out
}

fn source_ref(reference: &Value, out: &mut Vec<Cause>) {
    match text(&reference["kind"]) {
        "DataSource" => {}
        "" => out.push(invalid("spec.sourceRef.Kind", "Missing sourceRef kind")),
        kind => out.push(invalid(
            "spec.sourceRef.Kind",
            format!("Unsupported sourceRef kind {kind}, currently only DataSource is supported"),
        )),
    }
    if text(&reference["name"]).is_empty() {
        out.push(invalid("spec.sourceRef.Name", "Missing sourceRef name"));
    }
}

fn one_source(spec: &Value, source: &Value, out: &mut Vec<Cause>) {
    let set: Vec<&str> = SOURCES
        .into_iter()
        .filter(|name| !source[*name].is_null())
        .collect();
    let name = match set[..] {
        [name] => name,
        [] => return out.push(invalid("spec.source", "Missing Data volume source")),
        _ => return out.push(invalid("spec.source", "Multiple Data volume sources")),
    };
    let at = &source[name];
    let archive = spec["contentType"] == "archive";
    if archive && !matches!(name, "http" | "upload" | "s3") {
        out.push(invalid(
            "spec.contentType",
            format!("expected contentType kubevirt with source {name}, found archive"),
        ));
    }
    match name {
        "http" => {
            url("http", &at["url"], &["http", "https"], out);
            checksum(text(&at["checksum"]), out);
        }
        "s3" => url("s3", &at["url"], &["http", "https"], out),
        "registry" => url("registry", &at["url"], &["docker"], out),
        "pvc" => {
            let (from, claim) = (text(&at["namespace"]), text(&at["name"]));
            if claim.is_empty() || from.is_empty() {
                out.push(invalid(
                    "spec.source.PVC",
                    "spec.source.PVC source PVC is not valid",
                ));
            }
        }
        "snapshot" => {
            let (from, snapshot) = (text(&at["namespace"]), text(&at["name"]));
            if snapshot.is_empty() || from.is_empty() {
                out.push(invalid(
                    "spec.source.Snapshot",
                    "spec.source.Snapshot source Snapshot is not valid",
                ));
            }
        }
        _ => {}
    }
}

fn url(source: &str, url: &Value, schemes: &[&str], out: &mut Vec<Cause>) {
    let path = format!("spec.source.{source}.url");
    let url = text(url);
    if url.is_empty() {
        return out.push(invalid(&path, format!("{path} source URL is empty")));
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        return out.push(invalid(&path, format!("{path} Invalid source URL: {url}")));
    };
    if !schemes.contains(&scheme) {
        let message = format!(
            "{path} Invalid source URL scheme: {url}; expected {}",
            schemes.join(" or ")
        );
        return out.push(invalid(&path, message));
    }
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.is_empty() || url.contains(char::is_whitespace) || url.contains(char::is_control) {
        out.push(invalid(&path, format!("{path} Invalid source URL: {url}")));
    }
    if host.contains('@') {
        let message = format!(
            "{path}: expected no credentials in the URL, where everybody can read them; put them into a Secret and name it in secretRef"
        );
        out.push(invalid(&path, message));
    }
}

fn checksum(checksum: &str, out: &mut Vec<Cause>) {
    if checksum.is_empty() {
        return;
    }
    let fits = checksum.split_once(':').is_some_and(|(name, digits)| {
        DIGESTS
            .iter()
            .any(|(known, length)| *known == name && digits.len() == *length)
            && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    });
    if !fits {
        out.push(invalid(
            "spec.source.http.checksum",
            format!(
                "spec.source.http.checksum: expected md5, sha1, sha256 or sha512, a colon and the digest in hexadecimal, found {checksum}"
            ),
        ));
    }
}

fn access_modes(pvc: &Value, out: &mut Vec<Cause>) {
    const PATH: &str = "spec.PVC.accessModes";
    let modes: Vec<&str> = pvc["accessModes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    match modes[..] {
        [] => out.push(invalid(
            PATH,
            "Required value: at least 1 access mode is required",
        )),
        [mode] if ACCESS_MODES.contains(&mode) => {}
        [mode] => out.push(invalid(
            PATH,
            format!(
                "Unsupported value: \"{mode}\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \"ReadWriteOnce\", \"ReadWriteOncePod\""
            ),
        )),
        _ => out.push(invalid(PATH, "PVC multiple accessModes")),
    }
}

/// A size is there unless a clone can take its source's, and holds a disk.
fn size(target: &Target<'_>, clone: bool, out: &mut Vec<Cause>) {
    let path = format!("spec.{}.resources.requests.size", target.name);
    let storage = match &target.claim["resources"]["requests"]["storage"] {
        Value::Null if clone && target.name == "Storage" => return,
        Value::Null => {
            return out.push(invalid(&path, format!("{} size is missing", target.name)));
        }
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match machine::quantity::parse(&storage) {
        Ok(0) | Err(_) => out.push(invalid(
            &path,
            format!("{} size can't be equal or less than zero", target.name),
        )),
        Ok(bytes) if bytes < SMALLEST => out.push(invalid(
            &path,
            format!("{} size should be at least 1MiB", target.name),
        )),
        Ok(_) => {}
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn invalid(path: &str, message: impl Into<String>) -> Cause {
    Cause::new(Reason::Invalid, path, message)
}
