//! The two watches: launcher pods bound to this node, and VMIs that run on it.

use std::collections::HashSet;
use std::sync::Arc;

use api::VirtualMachineInstance;
use api::names::{APP_LABEL, LAUNCHER_APP, NODE_NAME_LABEL};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube_kit::watch::{Event, Selector, watch};

use crate::Settings;
use crate::guest::Guests;
use crate::podinfo::PodInfo;

/// Hands what happens to the guests' tasks, for ever.
pub(crate) async fn run(settings: &Settings, client: kube::Client, guests: Arc<Guests>) {
    let pods = Selector::all()
        .labels(&format!("{APP_LABEL}={LAUNCHER_APP}"))
        .fields(&format!("spec.nodeName={}", settings.node_name));
    let vmis = Selector::all().labels(&format!("{NODE_NAME_LABEL}={}", settings.node_name));
    let mut pods = watch::<Pod>(client.clone(), &pods);
    let mut vmis = watch::<VirtualMachineInstance>(client, &vmis);
    loop {
        tokio::select! {
            Some(event) = pods.next() => on_pod(&guests, event),
            Some(event) = vmis.next() => on_vmi(&guests, event),
            else => return,
        }
    }
}

fn on_pod(guests: &Arc<Guests>, event: Event<Pod>) {
    match event {
        Event::Restarted(pods) => {
            let pods: Vec<PodInfo> = pods.iter().filter_map(PodInfo::of).collect();
            let present: HashSet<&str> = pods.iter().map(|pod| pod.uid.as_str()).collect();
            guests.keep(&present);
            pods.into_iter().for_each(|pod| guests.pod(pod));
        }
        Event::Applied(pod) => {
            if let Some(pod) = PodInfo::of(&pod) {
                guests.pod(pod);
            }
        }
        Event::Deleted(pod) => guests.pod_gone(pod.metadata.uid.as_deref().unwrap_or_default()),
    }
}

fn on_vmi(guests: &Arc<Guests>, event: Event<VirtualMachineInstance>) {
    match event {
        Event::Restarted(vmis) => vmis.into_iter().for_each(|vmi| guests.vmi(vmi)),
        Event::Applied(vmi) => guests.vmi(vmi),
        // Its pod goes with it; until then there is nothing to say.
        Event::Deleted(_) => {}
    }
}
