//! What an operator follows, as one stream.

use std::fmt::Debug;

use api::objects::{Key, Managed};
use futures::stream::{BoxStream, SelectAll, StreamExt, select_all};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use kube::Resource;
use kube::api::ObjectMeta;
use serde::de::DeserializeOwned;

use super::store::{Meta, Pods, version};
use crate::apply::Target;
use crate::watch::{Event, Selector, watch, watch_metadata_at};

/// One thing that was seen.
pub enum Seen<O> {
    /// Owners of the whole cluster.
    Owner(Box<Event<O>>),
    /// Managed objects of the kind with this place among the managed ones.
    Object(usize, Event<(Key, Meta)>),
    /// Pods of a deployment or daemon set, by its name.
    Pods(&'static str, Event<(String, Pods)>),
}

/// A stream of what is seen.
pub(super) type Stream<O> = SelectAll<BoxStream<'static, Seen<O>>>;

/// Follows owners, in all namespaces.
pub(super) fn owners<O>(client: &kube::Client) -> Stream<O>
where
    O: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    O::DynamicType: Default,
{
    select_all([watch::<O>(client.clone(), &Selector::all())
        .map(|event| Seen::Owner(Box::new(event)))
        .boxed()])
}

/// Follows the objects of `kinds` that match the label `selector`: those of
/// the cluster, and in `namespace`.
pub(super) fn managed<O: Send + 'static>(
    client: &kube::Client,
    namespace: &str,
    kinds: &'static [Managed],
    selector: &str,
) -> Vec<BoxStream<'static, Seen<O>>> {
    let selector = Selector::all().labels(selector);
    let here = selector.clone().namespace(namespace);
    let one = |(place, kind): (usize, &'static Managed)| match kind.kind {
        "Deployment" => watch::<Deployment>(client.clone(), &here)
            .flat_map(move |event| deployment(place, kind, event))
            .boxed(),
        "DaemonSet" => watch::<DaemonSet>(client.clone(), &here)
            .flat_map(move |event| daemon_set(place, kind, event))
            .boxed(),
        _ => watch_metadata_at(client.clone(), target(kind, namespace).path(), &selector)
            .map(move |event| {
                Seen::Object(place, map(event, |object| keyed(kind, object.metadata)))
            })
            .boxed(),
    };
    kinds.iter().enumerate().map(one).collect()
}

/// Where the objects of a managed kind are.
fn target(kind: &Managed, namespace: &str) -> Target {
    if kind.namespaced {
        Target::namespaced(kind.api_version, kind.kind, namespace)
    } else {
        Target::cluster(kind.api_version, kind.kind)
    }
}

/// A deployment is seen twice: as an object, and as its pods.
fn deployment<O: Send + 'static>(
    place: usize,
    kind: &'static Managed,
    event: Event<Deployment>,
) -> BoxStream<'static, Seen<O>> {
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
    both(place, kind, map(event, |object| object.metadata), pods)
}

fn daemon_set<O: Send + 'static>(
    place: usize,
    kind: &'static Managed,
    event: Event<DaemonSet>,
) -> BoxStream<'static, Seen<O>> {
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
    both(place, kind, map(event, |object| object.metadata), pods)
}

fn both<O: Send + 'static>(
    place: usize,
    kind: &'static Managed,
    objects: Event<ObjectMeta>,
    pods: Event<(String, Pods)>,
) -> BoxStream<'static, Seen<O>> {
    let objects = Seen::Object(place, map(objects, |metadata| keyed(kind, metadata)));
    futures::stream::iter([Seen::Pods(kind.kind, pods), objects]).boxed()
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
    fn a_kind_of_a_namespace_is_followed_there_and_others_in_the_cluster() {
        let path = |kind: Managed| target(&kind, "ns").path();
        assert_eq!(
            path(Managed::namespaced("v1", "Secret", 0)),
            "/api/v1/namespaces/ns/secrets"
        );
        assert_eq!(
            path(Managed::cluster(
                "apiregistration.k8s.io/v1",
                "APIService",
                0
            )),
            "/apis/apiregistration.k8s.io/v1/apiservices"
        );
    }
}
