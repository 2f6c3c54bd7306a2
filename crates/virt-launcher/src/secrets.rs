//! cloud-init data from secrets, which the kubelet mounts into our container.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use anyhow::{Context, bail};
use api::VirtualMachineInstance;
use api::launcher::SecretCloudInit;
use api::names::{NETWORK_DATA_DIR, USER_DATA_DIR};

/// Keys a secret's user data may be under, in this order (upstream reads both spellings).
const USER_DATA: [&str; 2] = ["userdata", "userData"];
/// Keys of network data.
const NETWORK_DATA: [&str; 2] = ["networkdata", "networkData"];

/// Reads the secrets that the VMI's cloud-init volumes name: volume name to data.
///
/// Of a volume with two secrets one may lack its key, as upstream has it; the
/// other's data is then all there is.
///
/// # Errors
/// When none of a volume's secrets has the key it should, or data is no text.
pub(crate) fn read(
    directory: &Path,
    vmi: &VirtualMachineInstance,
) -> anyhow::Result<BTreeMap<String, SecretCloudInit>> {
    let mut found = BTreeMap::new();
    for volume in &vmi.spec.volumes {
        let Some(source) = volume.cloud_init() else {
            continue;
        };
        let place = directory.join(&volume.name);
        let mut missing = Vec::new();
        let mut one = |reference: Option<_>, directory: &str, keys| -> anyhow::Result<_> {
            if reference.is_none() {
                return Ok(None);
            }
            let directory = place.join(directory);
            let data = value(&directory, keys)?;
            if data.is_none() {
                missing.push(lacks(&directory, keys));
            }
            Ok(data)
        };
        let user_data = one(
            source.user_data_secret_ref.as_ref(),
            USER_DATA_DIR,
            USER_DATA,
        )?;
        let network_data = one(
            source.network_data_secret_ref.as_ref(),
            NETWORK_DATA_DIR,
            NETWORK_DATA,
        )?;
        if user_data.is_some() || network_data.is_some() {
            let data = SecretCloudInit {
                user_data,
                network_data,
            };
            found.insert(volume.name.clone(), data);
        } else if !missing.is_empty() {
            bail!(
                "no cloud-init data-source found at volume: {}: {}",
                volume.name,
                missing.join("; ")
            );
        }
    }
    Ok(found)
}

fn value(directory: &Path, keys: [&str; 2]) -> anyhow::Result<Option<String>> {
    for key in keys {
        let path = directory.join(key);
        match std::fs::read(&path) {
            Ok(bytes) => {
                return String::from_utf8(bytes).map(Some).with_context(|| {
                    format!("expected text as cloud-init data, found other bytes in {path:?}")
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("reading {path:?}")),
        }
    }
    Ok(None)
}

/// What was expected in a secret, and its keys: names only, which are no secrets.
fn lacks(directory: &Path, keys: [&str; 2]) -> String {
    let mut found: Vec<String> = std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        // The kubelet's own links.
        .filter(|name| !name.starts_with(".."))
        .collect();
    found.sort();
    format!("expected key {:?} in the secret, found {found:?}", keys[0])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[allow(clippy::needless_pass_by_value, reason = "tables read better")]
    fn vmi(source: serde_json::Value) -> VirtualMachineInstance {
        serde_json::from_value(json!({
            "metadata": {"name": "a"},
            "spec": {"domain": {}, "volumes": [{"name": "seed", "cloudInitNoCloud": source}]}
        }))
        .unwrap()
    }

    fn both() -> VirtualMachineInstance {
        vmi(json!({"secretRef": {"name": "s"}, "networkDataSecretRef": {"name": "n"}}))
    }

    /// A directory as the kubelet makes it: keys are links into a dated directory.
    fn secrets(files: &[(&str, &str, &[u8])]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (directory, key, data) in files {
            let directory = root.path().join("seed").join(directory);
            std::fs::create_dir_all(directory.join("..data")).unwrap();
            std::fs::write(directory.join("..data").join(key), data).unwrap();
            std::os::unix::fs::symlink(Path::new("..data").join(key), directory.join(key)).unwrap();
        }
        root
    }

    #[test]
    fn both_spellings_of_the_keys_are_read() {
        for (user, network) in [("userdata", "networkdata"), ("userData", "networkData")] {
            let root = secrets(&[("userdata", user, b"u"), ("networkdata", network, b"n")]);
            let found = read(root.path(), &both()).unwrap();
            assert_eq!(found["seed"].user_data.as_deref(), Some("u"));
            assert_eq!(found["seed"].network_data.as_deref(), Some("n"));
        }
    }

    #[test]
    fn one_of_two_secrets_may_lack_its_key() {
        let root = secrets(&[("userdata", "userdata", b"u"), ("networkdata", "x", b"n")]);
        let found = read(root.path(), &both()).unwrap();
        assert_eq!(found["seed"].network_data, None);
    }

    #[test]
    fn secrets_without_any_of_the_keys_are_an_error_that_names_what_is_there() {
        let root = secrets(&[("userdata", "cloud-config", b"u")]);
        let error = read(root.path(), &vmi(json!({"secretRef": {"name": "s"}})));
        let error = error.unwrap_err().to_string();
        assert!(error.contains("volume: seed"), "{error}");
        assert!(error.contains("[\"cloud-config\"]"), "{error}");
    }

    #[test]
    fn data_that_is_no_text_is_an_error() {
        let root = secrets(&[("userdata", "userdata", &[0xff])]);
        let error = read(root.path(), &vmi(json!({"secretRef": {"name": "s"}})));
        assert!(error.unwrap_err().to_string().contains("expected text"));
    }

    #[test]
    fn a_volume_without_secrets_reads_no_file() {
        let found = read(Path::new("/nowhere"), &vmi(json!({"userData": "x"}))).unwrap();
        assert!(found.is_empty());
    }
}
