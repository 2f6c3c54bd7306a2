//! The last check: what passed all others makes a machine, so that nobody learns of a mistake
//! from a launcher.

use api::VirtualMachineInstance;
use api::launcher::{Nic, SecretCloudInit, Sync};
use api::vmi::Volume;
use machine::Machine;
use serde_json::Value;

use super::{Causes, Path, memory_is_given};

/// Builds the machine as a launcher would on a node that has all that it may need.
pub(super) fn check(path: &Path, spec: &Value, out: &mut Causes) {
    // A template may leave the memory to whoever makes the instance.
    if !out.is_empty() || memory_is_given(path, spec).is_some() {
        return;
    }
    // What is of another type is refused by the schema.
    let Ok(spec) = serde_json::from_value(spec.clone()) else {
        return;
    };
    let vmi = VirtualMachineInstance {
        spec,
        ..VirtualMachineInstance::default()
    };
    // What secrets hold is known to the launcher only.
    let held = SecretCloudInit {
        user_data: Some("x".to_owned()),
        network_data: None,
    };
    let secret = |volume: &Volume| {
        let no_cloud = volume.cloud_init_no_cloud.as_ref();
        let source = no_cloud.or(volume.cloud_init_config_drive.as_ref())?;
        let refers =
            source.user_data_secret_ref.is_some() || source.network_data_secret_ref.is_some();
        refers.then(|| (volume.name.clone(), held.clone()))
    };
    let cloud_init_secrets = vmi.spec.volumes.iter().filter_map(secret).collect();
    let nics = vmi.spec.domain.devices.interfaces.iter();
    let sync = Sync {
        nics: nics
            .map(|interface| Nic {
                network: interface.name.clone(),
                tap: "tap0".to_owned(),
                mac: "02:00:00:00:00:00".to_owned(),
                queues: 1,
                ..Nic::default()
            })
            .collect(),
        vmi,
        cloud_init_secrets,
        ..Sync::default()
    };
    if let Err(error) = Machine::try_from(&sync) {
        let field = error.path.strip_prefix("spec.").unwrap_or(&error.path);
        let field = path.child(field);
        let message = format!(
            "{field}: expected {}, found {}",
            error.expected, error.found
        );
        out.invalid(&field, message);
    }
}
