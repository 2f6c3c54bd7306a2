//! What the leader follows, as one stream.

use api::KubeVirt;
use decide::operator::{Key, MANAGED, MANAGED_BY_LABEL, MANAGER, Managed};
use futures::stream::{BoxStream, SelectAll, StreamExt, select_all};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use kube::api::ObjectMeta;
use kube_kit::apply::Target;
use kube_kit::watch::{Event, Selector, watch, watch_metadata_at};

use crate::store::{Meta, Pods, version};

/// One thing that was seen.
pub(crate) enum Seen {
    /// KubeVirt objects of the whole cluster.
    KubeVirt(Box<Event<KubeVirt>>),
    /// Managed objects of the kind with this place in [`MANAGED`].
    Object(usize, Event<(Key, Meta)>),
    /// Pods of a deployment or daemon set, by its name.
    Pods(&'static str, Event<(String, Pods)>),
}

/// A stream of what is seen.
pub(crate) type Stream = SelectAll<BoxStream<'static, Seen>>;

/// Follows KubeVirt objects.
pub(crate) fn kubevirts(client: &kube::Client) -> Stream {
    select_all([watch::<KubeVirt>(client.clone(), &Selector::all())
        .map(|event| Seen::KubeVirt(Box::new(event)))
        .boxed()])
}

/// Follows everything that carries our label.
pub(crate) fn managed(client: &kube::Client, namespace: &str) -> Vec<BoxStream<'static, Seen>> {
    let selector = Selector::all().labels(&format!("{MANAGED_BY_LABEL}={MANAGER}"));
    let mut streams: Vec<BoxStream<'static, Seen>> = Vec::new();
    for (place, kind) in MANAGED.iter().enumerate() {
        streams.push(match kind.kind {
            "Deployment" => {
                let selector = selector.clone().namespace(namespace);
                watch::<Deployment>(client.clone(), &selector)
                    .flat_map(move |event| deployment(place, event))
                    .boxed()
            }
            "DaemonSet" => {
                let selector = selector.clone().namespace(namespace);
                watch::<DaemonSet>(client.clone(), &selector)
                    .flat_map(move |event| daemon_set(place, event))
                    .boxed()
            }
            _ => metadata(client, namespace, &selector, place, kind),
        });
    }
    streams
}

fn metadata(
    client: &kube::Client,
    namespace: &str,
    selector: &Selector,
    place: usize,
    kind: &'static Managed,
) -> BoxStream<'static, Seen> {
    let path = target(kind, namespace).path();
    watch_metadata_at(client.clone(), path, selector)
        .map(move |event| Seen::Object(place, map(event, |object| keyed(kind, object.metadata))))
        .boxed()
}

/// Where the objects of a managed kind are.
pub(crate) fn target(kind: &Managed, namespace: &str) -> Target {
    if kind.namespaced {
        Target::namespaced(kind.api_version, kind.kind, namespace)
    } else {
        Target::cluster(kind.api_version, kind.kind)
    }
}

/// A deployment is seen twice: as an object, and as its pods.
fn deployment(place: usize, event: Event<Deployment>) -> BoxStream<'static, Seen> {
    let pods = map(event.clone(), |object| {
        let status = object.status.unwrap_or_default();
        let wanted = object.spec.and_then(|spec| spec.replicas).unwrap_or(1);
        let pods = Pods {
            observed_generation: status.observed_generation.unwrap_or(0),
            wanted,
            updated: status.updated_replicas.unwrap_or(0),
            ready: status.ready_replicas.unwrap_or(0),
            // Pods of the revision before that are still there.
            outdated: status.replicas.unwrap_or(0) - status.updated_replicas.unwrap_or(0),
        };
        (object.metadata.name.unwrap_or_default(), pods)
    });
    both(
        place,
        map(event, |object| object.metadata),
        pods,
        "Deployment",
    )
}

fn daemon_set(place: usize, event: Event<DaemonSet>) -> BoxStream<'static, Seen> {
    let pods = map(event.clone(), |object| {
        let status = object.status.unwrap_or_default();
        let pods = Pods {
            observed_generation: status.observed_generation.unwrap_or(0),
            wanted: status.desired_number_scheduled,
            updated: status.updated_number_scheduled.unwrap_or(0),
            ready: status.number_ready,
            outdated: 0,
        };
        (object.metadata.name.unwrap_or_default(), pods)
    });
    both(
        place,
        map(event, |object| object.metadata),
        pods,
        "DaemonSet",
    )
}

fn both(
    place: usize,
    objects: Event<ObjectMeta>,
    pods: Event<(String, Pods)>,
    kind: &'static str,
) -> BoxStream<'static, Seen> {
    let managed = &MANAGED[place];
    let objects = Seen::Object(place, map(objects, |metadata| keyed(managed, metadata)));
    futures::stream::iter([Seen::Pods(kind, pods), objects]).boxed()
}

fn keyed(kind: &Managed, metadata: ObjectMeta) -> (Key, Meta) {
    let key = Key {
        api_version: kind.api_version.to_owned(),
        kind: kind.kind.to_owned(),
        namespace: metadata.namespace,
        name: metadata.name.unwrap_or_default(),
    };
    let meta = Meta {
        version: version(metadata.resource_version.as_deref()),
        generation: metadata.generation,
        deleting: metadata.deletion_timestamp.is_some(),
    };
    (key, meta)
}

fn map<A, B>(event: Event<A>, f: impl Fn(A) -> B) -> Event<B> {
    match event {
        Event::Restarted(all) => Event::Restarted(all.into_iter().map(f).collect()),
        Event::Applied(one) => Event::Applied(f(one)),
        Event::Deleted(one) => Event::Deleted(f(one)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_managed_kind_has_a_path() {
        for kind in &MANAGED {
            let part = if kind.namespaced {
                "/namespaces/ns/"
            } else {
                "/v1/"
            };
            assert!(target(kind, "ns").path().contains(part));
        }
    }
}
