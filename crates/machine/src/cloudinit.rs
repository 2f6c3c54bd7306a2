//! Documents of a cloud-init medium.
//!
//! Source of names and members: cloud-init's NoCloud and ConfigDrive data
//! sources, and what upstream writes into them (pkg/cloud-init).

use api::launcher::SecretCloudInit;
use api::vmi::{CloudInit, VirtualMachineInstance};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::error::SpecError;
use crate::spec::firmware;

/// Files of a medium: path, content.
type Files = Vec<(String, Vec<u8>)>;

#[derive(Serialize)]
struct NoCloudMeta<'a> {
    #[serde(rename = "instance-id")]
    instance_id: &'a str,
    #[serde(rename = "local-hostname")]
    local_hostname: &'a str,
}

#[derive(Serialize)]
struct ConfigDriveMeta<'a> {
    instance_id: String,
    hostname: &'a str,
    uuid: &'a str,
}

/// NoCloud: `meta-data`, `user-data` and, when there is any, `network-config`.
///
/// # Errors
/// When there is no data or its base64 is malformed; `path` is the source's place.
pub(crate) fn no_cloud(
    vmi: &VirtualMachineInstance,
    source: &CloudInit,
    secret: Option<&SecretCloudInit>,
    path: &str,
) -> Result<Files, SpecError> {
    let (user, network) = data(source, secret, path)?;
    let meta = json(&NoCloudMeta {
        instance_id: &firmware::uuid_text(vmi)?,
        local_hostname: &hostname(vmi),
    });
    let mut files = vec![
        ("meta-data".to_owned(), meta),
        ("user-data".to_owned(), user),
    ];
    if !network.is_empty() {
        files.push(("network-config".to_owned(), network));
    }
    Ok(files)
}

/// ConfigDrive: the same under `openstack/latest`.
///
/// # Errors
/// As [`no_cloud`].
pub(crate) fn config_drive(
    vmi: &VirtualMachineInstance,
    source: &CloudInit,
    secret: Option<&SecretCloudInit>,
    path: &str,
) -> Result<Files, SpecError> {
    let (user, network) = data(source, secret, path)?;
    let meta = json(&ConfigDriveMeta {
        instance_id: format!(
            "{}.{}",
            vmi.metadata.name.as_deref().unwrap_or_default(),
            vmi.metadata.namespace.as_deref().unwrap_or_default()
        ),
        hostname: &hostname(vmi),
        uuid: &firmware::uuid_text(vmi)?,
    });
    let mut files = vec![
        ("openstack/latest/meta_data.json".to_owned(), meta),
        ("openstack/latest/user_data".to_owned(), user),
    ];
    if !network.is_empty() {
        files.push(("openstack/latest/network_data.json".to_owned(), network));
    }
    Ok(files)
}

/// Host name of the guest: the specification's, else the VMI's name up to its
/// first dot, at most 63 characters.
#[must_use]
pub fn hostname(vmi: &VirtualMachineInstance) -> String {
    let name = vmi
        .spec
        .hostname
        .as_deref()
        .filter(|h| !h.is_empty())
        .or(vmi.metadata.name.as_deref())
        .unwrap_or_default();
    let label = name.split('.').next().unwrap_or_default();
    let end = label.len().min(63);
    label
        .get(..end)
        .unwrap_or(label)
        .trim_end_matches('-')
        .to_owned()
}

/// User and network data: from secrets, else text, else base64.
fn data(
    source: &CloudInit,
    secret: Option<&SecretCloudInit>,
    path: &str,
) -> Result<(Vec<u8>, Vec<u8>), SpecError> {
    let secret = secret.cloned().unwrap_or_default();
    let one = |secret: Option<String>, text: &Option<String>, base64: &Option<String>, field| {
        let text = secret
            .or_else(|| text.clone())
            .filter(|text| !text.is_empty());
        match (text, base64.as_deref()) {
            (Some(text), _) => Ok(text.into_bytes()),
            (None, Some(base64)) => {
                let path = format!("{path}.{field}");
                STANDARD.decode(base64).map_err(|e| {
                    SpecError::new(path, abbreviated(base64), format!("valid base64 ({e})"))
                })
            }
            (None, None) => Ok(Vec::new()),
        }
    };
    let user = one(
        secret.user_data,
        &source.user_data,
        &source.user_data_base64,
        "userDataBase64",
    )?;
    let network = one(
        secret.network_data,
        &source.network_data,
        &source.network_data_base64,
        "networkDataBase64",
    )?;
    if user.is_empty() && network.is_empty() {
        return Err(SpecError::missing(
            path,
            "userData, userDataBase64, networkData, networkDataBase64 or a secret with them",
        ));
    }
    Ok((user, network))
}

fn abbreviated(text: &str) -> String {
    if text.chars().count() <= 40 {
        text.to_owned()
    } else {
        text.chars().take(40).chain(['…']).collect()
    }
}

/// JSON of a document made of texts only, which cannot fail.
fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn vmi() -> VirtualMachineInstance {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "testvmi.one", "namespace": "ns", "uid": "u"},
            "spec": {"domain": {"firmware": {"uuid": "5d307ca9-b3ef-428c-8861-06e72d69f223"}}}
        }))
        .unwrap()
    }

    fn text(files: &Files, name: &str) -> String {
        let (_, content) = files.iter().find(|(n, _)| n == name).expect(name);
        String::from_utf8(content.clone()).unwrap()
    }

    #[test]
    fn no_cloud_has_metadata_and_user_data() {
        let source = CloudInit {
            user_data_base64: Some("SGkuXG4=".to_owned()),
            ..CloudInit::default()
        };
        let files = no_cloud(&vmi(), &source, None, "p").unwrap();
        assert_eq!(files.len(), 2);
        assert_eq!(
            text(&files, "meta-data"),
            r#"{"instance-id":"5d307ca9-b3ef-428c-8861-06e72d69f223","local-hostname":"testvmi"}"#
        );
        assert_eq!(text(&files, "user-data"), "Hi.\\n");
    }

    #[test]
    fn config_drive_has_its_own_paths_and_members() {
        let source = CloudInit {
            user_data: Some("#cloud-config".to_owned()),
            network_data: Some("{}".to_owned()),
            ..CloudInit::default()
        };
        let files = config_drive(&vmi(), &source, None, "p").unwrap();
        assert_eq!(
            text(&files, "openstack/latest/meta_data.json"),
            r#"{"instance_id":"testvmi.one.ns","hostname":"testvmi","uuid":"5d307ca9-b3ef-428c-8861-06e72d69f223"}"#
        );
        assert_eq!(text(&files, "openstack/latest/network_data.json"), "{}");
    }

    #[test]
    fn a_secret_wins_over_the_specification() {
        let source = CloudInit {
            user_data: Some("spec".to_owned()),
            ..CloudInit::default()
        };
        let secret = SecretCloudInit {
            user_data: Some("secret".to_owned()),
            network_data: None,
        };
        let files = no_cloud(&vmi(), &source, Some(&secret), "p").unwrap();
        assert_eq!(text(&files, "user-data"), "secret");
    }

    #[test]
    fn bad_base64_and_no_data_are_refused_with_their_path() {
        let bad = CloudInit {
            user_data_base64: Some("%%%".to_owned()),
            ..CloudInit::default()
        };
        let error = no_cloud(&vmi(), &bad, None, "spec.volumes[1].cloudInitNoCloud").unwrap_err();
        assert_eq!(
            error.path,
            "spec.volumes[1].cloudInitNoCloud.userDataBase64"
        );
        assert!(no_cloud(&vmi(), &CloudInit::default(), None, "p").is_err());
    }

    #[test]
    fn the_host_name_is_one_label() {
        let mut vmi = vmi();
        assert_eq!(hostname(&vmi), "testvmi");
        vmi.spec.hostname = Some("web".to_owned());
        assert_eq!(hostname(&vmi), "web");
        vmi.spec.hostname = Some("x".repeat(80));
        assert_eq!(hostname(&vmi).len(), 63);
    }
}
