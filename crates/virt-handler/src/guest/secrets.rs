//! cloud-init data that a VMI keeps in secrets.

use std::collections::BTreeMap;

use api::VirtualMachineInstance;
use api::launcher::SecretCloudInit;
use k8s_openapi::api::core::v1::{LocalObjectReference, Secret};
use kube::api::Api;

/// Keys a secret's user data may be under, in this order (upstream reads both spellings).
const USER_DATA: [&str; 2] = ["userdata", "userData"];
/// Keys of network data.
const NETWORK_DATA: [&str; 2] = ["networkdata", "networkData"];

/// Reads the secrets that the VMI's cloud-init volumes name: volume name to data.
pub(super) async fn read(
    client: &kube::Client,
    vmi: &VirtualMachineInstance,
) -> Result<BTreeMap<String, SecretCloudInit>, String> {
    let namespace = vmi.metadata.namespace.as_deref().unwrap_or_default();
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let mut found = BTreeMap::new();
    for volume in &vmi.spec.volumes {
        let Some(source) = volume
            .cloud_init_no_cloud
            .as_ref()
            .or(volume.cloud_init_config_drive.as_ref())
        else {
            continue;
        };
        let user_data = value(&secrets, source.user_data_secret_ref.as_ref(), USER_DATA).await?;
        let network_data = value(
            &secrets,
            source.network_data_secret_ref.as_ref(),
            NETWORK_DATA,
        )
        .await?;
        if user_data.is_some() || network_data.is_some() {
            found.insert(
                volume.name.clone(),
                SecretCloudInit {
                    user_data,
                    network_data,
                },
            );
        }
    }
    Ok(found)
}

async fn value(
    secrets: &Api<Secret>,
    reference: Option<&LocalObjectReference>,
    keys: [&str; 2],
) -> Result<Option<String>, String> {
    let Some(reference) = reference else {
        return Ok(None);
    };
    let name = &reference.name;
    let secret = secrets
        .get(name)
        .await
        .map_err(|error| format!("reading secret {name} for cloud-init: {error}"))?;
    let data = secret.data.unwrap_or_default();
    let Some(bytes) = keys.iter().find_map(|key| data.get(*key)) else {
        let found: Vec<&str> = data.keys().map(String::as_str).collect();
        return Err(format!(
            "secret {name}: expected key {:?} for cloud-init, found {found:?}",
            keys[0]
        ));
    };
    String::from_utf8(bytes.0.clone()).map(Some).map_err(|_| {
        format!(
            "secret {name}: expected text under {:?}, found bytes that are not UTF-8",
            keys[0]
        )
    })
}
