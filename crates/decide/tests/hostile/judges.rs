//! Every judge, and what must hold of its verdict.

use api::VirtualMachineInstance;
use api::launcher::{Nic, Sync};
use decide::admission::{self, ClusterConfig, Context, Review, Verdict, Workloads};
use decide::cdi;
use machine::Machine;
use machine::qemu::{self, Medium, Runtime};
use machine::spec::Content;
use serde_json::{Value, json};

use super::bases;
use super::mutation::{EVIL, Input, mutate};
use super::schema;

fn context() -> Context {
    Context {
        config: ClusterConfig::default(),
        namespace: "kubevirt".to_owned(),
        now: "2026-01-02T03:04:05Z".to_owned(),
        workloads: Workloads::default(),
    }
}

fn body(object: &Value) -> Value {
    let (group, _) = object["apiVersion"]
        .as_str()
        .unwrap()
        .split_once('/')
        .unwrap();
    let resource = format!("{}s", object["kind"].as_str().unwrap().to_lowercase());
    json!({"request": {
        "uid": "u", "operation": "CREATE", "namespace": "default", "name": "a",
        "resource": {"group": group, "version": "v1", "resource": resource},
        "userInfo": {"username": "alice"}, "object": object,
    }})
}

/// The object as it would be stored, and the verdict; none if the API server itself refuses it.
fn create(object: &Value) -> Option<(Value, Verdict)> {
    let schema = schema::of(object);
    let mut object = object.clone();
    schema::prune(&mut object, schema);
    let (stored, verdict) = mutated(&object);
    if !verdict.allowed {
        return Some((stored, verdict));
    }
    schema::keeps(&stored, schema).then(|| validated(stored))
}

fn mutated(object: &Value) -> (Value, Verdict) {
    let mut stored = object.clone();
    if object["kind"] == "PersistentVolumeClaim" {
        let cluster = cdi::cluster::Cluster::default();
        let verdict = cdi::admission::claim::mutate(object, &cluster, true);
        return (stored, verdict);
    }
    if of_cdi(object) {
        return (stored, Verdict::allow());
    }
    let verdict = admission::mutate(&Review::parse(body(object)).unwrap(), &context());
    let patch: json_patch::Patch =
        serde_json::from_value(Value::Array(verdict.patches.clone())).unwrap();
    json_patch::patch(&mut stored, &patch).unwrap();
    (stored, verdict)
}

fn validated(stored: Value) -> (Value, Verdict) {
    if stored["kind"] == "PersistentVolumeClaim" {
        return (stored, Verdict::allow());
    }
    let verdict = if of_cdi(&stored) {
        let request = cdi::admission::parse(body(&stored)).unwrap();
        cdi::admission::validate(&request, &cdi::admission::Context::default())
    } else {
        admission::validate(&Review::parse(body(&stored)).unwrap(), &context())
    };
    (stored, verdict)
}

fn of_cdi(object: &Value) -> bool {
    object["apiVersion"].as_str().unwrap().starts_with("cdi.")
}

/// Why the object is refused; empty if it is not.
pub(crate) fn refusals(object: &Value) -> String {
    create(object).map_or("the schema".to_owned(), |(_, verdict)| verdict.message)
}

/// Changes one of the bases and has it judged. An instance that is admitted makes a machine,
/// and no text of it a switch or an option of the emulator.
pub(crate) fn judge(bytes: &[u8]) {
    let mut input = Input(bytes);
    let mut all = bases::all();
    let mut object = all.swap_remove(input.below(all.len()));
    mutate(&mut object, &mut input);
    let Some((stored, verdict)) = create(&object) else {
        return;
    };
    assert!(verdict.allowed || !verdict.message.is_empty(), "{object}");
    if !verdict.allowed {
        return;
    }
    match stored["kind"].as_str() {
        Some("VirtualMachineInstance") => run(&stored),
        Some("VirtualMachine") => {
            let spec = &stored["spec"]["template"]["spec"];
            // One without a spec is as good as one that is halted.
            if spec.is_object() {
                run(&json!({"metadata": {"name": "a", "uid": "1"}, "spec": spec}));
            }
        }
        _ => {}
    }
}

fn run(vmi: &Value) {
    let vmi: VirtualMachineInstance = serde_json::from_value(vmi.clone())
        .unwrap_or_else(|error| panic!("admitted, but no instance: {error}: {vmi}"));
    let shown = || serde_json::to_string(&vmi.spec).unwrap();
    let nics = vmi.spec.domain.devices.interfaces.iter();
    let nics = nics
        .enumerate()
        .map(|(number, interface)| Nic {
            network: interface.name.clone(),
            tap: format!("tap{number}"),
            mac: format!("02:00:00:00:00:{number:02x}"),
            mtu: 1450,
            queues: 1,
            dhcp: None,
        })
        .collect();
    let sync = Sync {
        vmi: vmi.clone(),
        use_emulation: true,
        nics,
        ..Sync::default()
    };
    let machine = Machine::try_from(&sync)
        .unwrap_or_else(|error| panic!("admitted, but no machine: {error}: {}", shown()));
    let runtime = runtime(&machine);
    // Too many devices for the bus are found only here, and told on the instance.
    let Ok(argv) = qemu::argv(&machine, &runtime) else {
        return;
    };
    for word in &argv {
        assert!(!word.starts_with(&format!("-{EVIL}")), "{argv:?}");
        // A comma that is doubled is text.
        let options = word.replace(",,", "");
        assert!(
            !options.split(',').any(|option| option.trim() == EVIL),
            "{word}: {}",
            shown()
        );
    }
}

fn runtime(machine: &Machine) -> Runtime {
    let medium = |content: &Content| match content {
        Content::ContainerDisk { .. } | Content::Ephemeral => Medium::Overlay {
            base: qemu::Base::Device {
                path: "/dev/a".to_owned(),
            },
            path: "/e/a".to_owned(),
            direct: true,
        },
        Content::Claim | Content::Host { .. } => Medium::Inherited {
            fd: 9,
            direct: true,
        },
        _ => Medium::File {
            path: "/e/a".to_owned(),
            direct: true,
        },
    };
    Runtime {
        monitor_fd: 3,
        agent_fd: 4,
        serial_socket: "/p/serial".to_owned(),
        vnc_socket: "/p/vnc".to_owned(),
        efi_vars: "/e/vars".to_owned(),
        ovmf_dir: "/usr/share/OVMF".to_owned(),
        data_dirs: Vec::new(),
        media: machine
            .disks
            .iter()
            .map(|disk| medium(&disk.content))
            .collect(),
        now: 1_700_000_000,
    }
}
