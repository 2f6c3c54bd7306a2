//! Room for new volumes.

use hardware::Verdict;
use k8s_openapi::api::storage::v1::CSIStorageCapacity;
use machine::quantity;

use crate::facts::{Facts, Room};
use crate::verdict::{fail, pass, size, skip, warn};

const ID: &str = "storage.space";
/// Less takes no image of a distribution.
const LEAST: u64 = 1 << 30;
/// Less takes one, and not a second.
const FEW: u64 = 10 << 30;

pub(crate) fn judge(facts: &Facts) -> Vec<Verdict> {
    let mut rooms: Vec<Room> = facts.rooms.iter().flatten().cloned().collect();
    rooms.extend(facts.capacities.iter().flatten().filter_map(told));
    let mut verdicts: Vec<Verdict> = rooms.iter().map(room).collect();
    let errors = [
        &facts.rooms.as_ref().err(),
        &facts.capacities.as_ref().err(),
    ];
    let errors = errors.into_iter().flatten().map(|error| error.as_str());
    let why = errors.collect::<Vec<_>>().join("; ");
    let why = match why.as_str() {
        "" => "no driver and no node tells it",
        why => why,
    };
    for class in facts.classes.iter().flatten() {
        let name = class.metadata.name.as_deref().unwrap_or_default();
        if !rooms.iter().any(|room| room.class == name) {
            let text = format!("how much room the class has is not known: {why}");
            verdicts.push(skip(ID, name, text));
        }
    }
    verdicts
}

/// What a CSI driver says of one topology.
fn told(capacity: &CSIStorageCapacity) -> Option<Room> {
    let topology = capacity.node_topology.as_ref();
    let labels = topology.and_then(|selector| selector.match_labels.as_ref());
    let place: Vec<String> = labels
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    Some(Room {
        class: capacity.storage_class_name.clone(),
        place: place.join(","),
        source: "CSIStorageCapacity".to_owned(),
        free: quantity::bytes(capacity.capacity.as_ref()?).ok()?,
        total: None,
        pressure: false,
    })
}

fn room(room: &Room) -> Verdict {
    let subject = format!("{} {}", room.class, room.place);
    let total = room
        .total
        .map_or(String::new(), |total| format!(" of {}", size(total)));
    let text = format!("{}: {}{total} free", room.source, size(room.free));
    let remedy = "kubectl get dv,pvc -A --sort-by=.spec.resources.requests.storage; kubectl -n NAMESPACE delete dv NAME of what is not needed";
    if room.pressure {
        let text = format!("{text}; the node says DiskPressure and takes no pods");
        return fail(ID, subject, text, remedy);
    }
    match room.free {
        ..LEAST => fail(ID, subject, text, remedy),
        LEAST..FEW => warn(ID, subject, text, remedy),
        _ => pass(ID, subject, text),
    }
}
