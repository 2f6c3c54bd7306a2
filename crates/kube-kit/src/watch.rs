//! List and watch without a cache.
//!
//! ```text
//!   list (pages) ──► Restarted(all) ──► watch from its version ──► Applied / Deleted ...
//!        ▲                                     │ ended: watch again from the last version
//!        └──────────── 410 Gone ───────────────┘ failed: wait (backoff), watch again
//! ```
//! The stream never ends and never fails: what goes wrong is logged and tried
//! again. Objects come without `managedFields`. Bookmarks keep the version
//! fresh, so that a re-opened watch rarely has to list. A watch asks to stay
//! open for about an hour: at rest that is one request an hour.
//!
//! An object that is not as its type has it is left out, and said so in the log: whoever can
//! write one that the API server takes must not blind the component for all others.

mod readable;

use std::fmt::Debug;
use std::marker::PhantomData;
use std::time::Duration;

use futures::stream::{BoxStream, Stream, StreamExt};
use kube::api::{ObjectList, WatchEvent};
use kube::core::{ObjectMeta, PartialObjectMeta};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;

use readable::Readable;

/// How long one watch request is asked to stay open, in seconds, before a
/// spread of up to a tenth is added.
const OPEN_SECONDS: u64 = 3300;
/// Objects in a page of the first list.
const PAGE: u32 = 250;

/// What a watch tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Event<K> {
    /// All objects that match, as of now. Comes first, and again whenever
    /// events may have been missed: what is not in it is gone.
    Restarted(Vec<K>),
    /// The object was created or changed.
    Applied(K),
    /// The object was deleted; this is its last state.
    Deleted(K),
}

/// What to watch.
#[derive(Debug, Clone, Default)]
pub struct Selector {
    /// One namespace, or all.
    pub namespace: Option<String>,
    /// A label selector, or all.
    pub labels: Option<String>,
    /// A field selector, or all.
    pub fields: Option<String>,
}

impl Selector {
    /// All objects of all namespaces.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Only those in `namespace`.
    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// Only those whose labels match `selector`.
    #[must_use]
    pub fn labels(mut self, selector: &str) -> Self {
        self.labels = Some(selector.to_owned());
        self
    }

    /// Only those whose fields match `selector`.
    #[must_use]
    pub fn fields(mut self, selector: &str) -> Self {
        self.fields = Some(selector.to_owned());
        self
    }

    fn query(&self) -> String {
        let mut query = String::new();
        for (key, value) in [
            ("labelSelector", &self.labels),
            ("fieldSelector", &self.fields),
        ] {
            if let Some(value) = value {
                query.push_str(&format!("&{key}={}", percent_encode(value)));
            }
        }
        query
    }
}

/// Watches objects of type `K`, whole.
pub fn watch<K>(client: Client, selector: &Selector) -> BoxStream<'static, Event<K>>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    K::DynamicType: Default,
{
    let path = K::url_path(&K::DynamicType::default(), selector.namespace.as_deref());
    stream(client, path, selector, false).boxed()
}

/// Watches only the metadata of objects of type `K`.
pub fn watch_metadata<K>(
    client: Client,
    selector: &Selector,
) -> BoxStream<'static, Event<PartialObjectMeta<K>>>
where
    K: Resource + Clone + Debug + Send + 'static,
    K::DynamicType: Default,
{
    let path = K::url_path(&K::DynamicType::default(), selector.namespace.as_deref());
    stream(client, path, selector, true).boxed()
}

/// Watches only the metadata of objects at a resource's URL path, for example
/// `/apis/apps/v1/namespaces/kubevirt/deployments`.
pub fn watch_metadata_at(
    client: Client,
    path: String,
    selector: &Selector,
) -> BoxStream<'static, Event<PartialObjectMeta<kube::api::DynamicObject>>> {
    stream(client, path, selector, true).boxed()
}

/// What the stream needs of an object.
trait Watched: DeserializeOwned + Clone + Send + 'static {
    fn prepare(&mut self);
    fn version(&self) -> Option<&str>;
}

impl<K> Watched for K
where
    K: MetaAccess + DeserializeOwned + Clone + Send + 'static,
{
    fn prepare(&mut self) {
        self.meta_of_mut().managed_fields = None;
    }

    fn version(&self) -> Option<&str> {
        self.meta_of().resource_version.as_deref()
    }
}

/// Metadata of whole objects and of metadata-only objects alike.
trait MetaAccess {
    fn meta_of(&self) -> &ObjectMeta;
    fn meta_of_mut(&mut self) -> &mut ObjectMeta;
}

impl<K: Resource> MetaAccess for K {
    fn meta_of(&self) -> &ObjectMeta {
        self.meta()
    }

    fn meta_of_mut(&mut self) -> &mut ObjectMeta {
        self.meta_mut()
    }
}

struct Watcher<K> {
    client: Client,
    path: String,
    query: String,
    metadata_only: bool,
    version: Option<String>,
    open: Option<BoxStream<'static, kube::Result<WatchEvent<Readable<K>>>>>,
    failures: u32,
    /// Watches in a row that were too old before they told anything.
    expired: u32,
    kind: PhantomData<K>,
}

fn stream<K: Watched>(
    client: Client,
    path: String,
    selector: &Selector,
    metadata_only: bool,
) -> impl Stream<Item = Event<K>> + Send + use<K> {
    let watcher = Watcher::<K> {
        client,
        path,
        query: selector.query(),
        metadata_only,
        version: None,
        open: None,
        failures: 0,
        expired: 0,
        kind: PhantomData,
    };
    futures::stream::unfold(watcher, |mut watcher| async move {
        let event = watcher.next().await;
        Some((event, watcher))
    })
}

impl<K: Watched> Watcher<K> {
    async fn next(&mut self) -> Event<K> {
        loop {
            match self.step().await {
                Ok(Some(event)) => {
                    self.failures = 0;
                    return event;
                }
                Ok(None) => {}
                Err(error) => {
                    self.open = None;
                    if crate::is_gone(&error) {
                        tracing::debug!(path = self.path, "watch is too old, listing again");
                        self.version = None;
                        self.expired = self.expired.saturating_add(1);
                        // At once the first time; a server that says so of every
                        // version it has just given must not be hammered.
                        if self.expired > 1 {
                            tokio::time::sleep(delay(self.expired - 1)).await;
                        }
                        continue;
                    }
                    self.failures = self.failures.saturating_add(1);
                    let delay = delay(self.failures);
                    tracing::warn!(
                        path = self.path,
                        ?delay,
                        "watch failed: {}",
                        crate::reason(&error)
                    );
                    tokio::time::sleep(delay).await;
                }
            }
        }
    }

    /// One step; `None` when there is nothing to tell.
    async fn step(&mut self) -> kube::Result<Option<Event<K>>> {
        let Some(version) = self.version.clone() else {
            let (objects, version) = self.list().await?;
            self.version = Some(version);
            return Ok(Some(Event::Restarted(objects)));
        };
        let open = match self.open.as_mut() {
            Some(open) => open,
            None => {
                let request = self.watch_request(&version)?;
                let events = self.client.request_events(request).await?;
                self.failures = 0;
                self.open.insert(events.boxed())
            }
        };
        let event = match open.next().await {
            None => {
                self.open = None;
                // An API server that ends watches at once must not be hammered.
                tokio::time::sleep(Duration::from_millis(100)).await;
                return Ok(None);
            }
            Some(event) => event?,
        };
        if !matches!(event, WatchEvent::Error(_)) {
            self.expired = 0;
        }
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                Ok(self.read(object).map(Event::Applied))
            }
            WatchEvent::Deleted(object) => {
                let gone = self.read(object).map(Event::Deleted);
                if gone.is_none() {
                    // It may have been told of when it could be read: a list is without it.
                    self.open = None;
                    self.version = None;
                }
                Ok(gone)
            }
            WatchEvent::Bookmark(bookmark) => {
                self.version = Some(bookmark.metadata.resource_version);
                Ok(None)
            }
            WatchEvent::Error(status) => Err(kube::Error::Api(status)),
        }
    }

    /// The object, if it can be read; its version is remembered in any case.
    fn read(&mut self, object: Readable<K>) -> Option<K> {
        let (version, object) = match object {
            Readable::Yes(mut object) => {
                object.prepare();
                (object.version().map(str::to_owned), Some(object))
            }
            Readable::No { meta, why } => {
                self.leave_out(&meta, &why);
                (meta.resource_version, None)
            }
        };
        self.version = version.or(self.version.take());
        object
    }

    fn leave_out(&self, meta: &ObjectMeta, why: &str) {
        tracing::warn!(
            path = self.path,
            namespace = meta.namespace,
            name = meta.name,
            "an object is left out, for it is not as its kind has it: {why}"
        );
    }

    async fn list(&mut self) -> kube::Result<(Vec<K>, String)> {
        let mut objects = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let mut uri = format!("{}?limit={PAGE}{}", self.path, self.query);
            if let Some(token) = &token {
                uri.push_str(&format!("&continue={}", percent_encode(token)));
            }
            let accept = if self.metadata_only {
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
            } else {
                "application/json"
            };
            let page: ObjectList<Readable<K>> = self.client.request(get(uri, accept)?).await?;
            for object in page.items {
                match object {
                    Readable::Yes(mut object) => {
                        object.prepare();
                        objects.push(object);
                    }
                    Readable::No { meta, why } => self.leave_out(&meta, &why),
                }
            }
            token = page.metadata.continue_.filter(|token| !token.is_empty());
            if token.is_none() {
                return Ok((objects, page.metadata.resource_version.unwrap_or_default()));
            }
        }
    }

    fn watch_request(&self, version: &str) -> kube::Result<http::Request<Vec<u8>>> {
        let seconds = OPEN_SECONDS + spread(OPEN_SECONDS / 10);
        let uri = format!(
            "{}?watch=1&allowWatchBookmarks=true&timeoutSeconds={seconds}&resourceVersion={}{}",
            self.path,
            percent_encode(version),
            self.query
        );
        let accept = if self.metadata_only {
            "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
        } else {
            "application/json"
        };
        get(uri, accept)
    }
}

fn get(uri: String, accept: &str) -> kube::Result<http::Request<Vec<u8>>> {
    http::Request::get(uri)
        .header(http::header::ACCEPT, accept)
        .body(Vec::new())
        .map_err(kube::Error::HttpError)
}

/// Waits of 0.2, 0.4 ... 15 s: short, because a component that waits for the
/// API server after its restart is a component that is late.
fn delay(failures: u32) -> Duration {
    crate::queue::backoff(failures).min(Duration::from_secs(15))
}

/// A number in `0..=range` that differs between processes and calls.
fn spread(range: u64) -> u64 {
    use std::hash::{BuildHasher, Hasher};
    let random = std::hash::RandomState::new().build_hasher().finish();
    random % (range + 1)
}

/// Encodes a query value (RFC 3986: all but unreserved characters).
fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};

    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::client::Body;

    /// A client whose answers are given, in order; it keeps the asked URIs.
    fn scripted(answers: Vec<(u16, String)>) -> (Client, Arc<Mutex<Vec<String>>>) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let answers = Arc::new(Mutex::new(VecDeque::from(answers)));
        let service = tower::service_fn(move |request: http::Request<Body>| {
            seen.lock().unwrap().push(request.uri().to_string());
            let answer = answers.lock().unwrap().pop_front();
            async move {
                match answer {
                    Some((code, body)) => Ok::<_, tower::BoxError>(
                        http::Response::builder()
                            .status(code)
                            .body(Body::from(body.into_bytes()))
                            .unwrap(),
                    ),
                    None => std::future::pending().await,
                }
            }
        });
        (Client::new(service, "default"), asked)
    }

    fn map(name: &str, version: u32) -> String {
        format!(
            r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}","resourceVersion":"{version}","managedFields":[{{"manager":"x"}}]}}}}"#
        )
    }

    fn list(items: &[String], version: u32, token: &str) -> (u16, String) {
        (
            200,
            format!(
                r#"{{"apiVersion":"v1","kind":"ConfigMapList","metadata":{{"resourceVersion":"{version}","continue":"{token}"}},"items":[{}]}}"#,
                items.join(",")
            ),
        )
    }

    fn line(kind: &str, object: &str) -> String {
        format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n")
    }

    fn names(event: &Event<ConfigMap>) -> String {
        let name = |map: &ConfigMap| {
            assert!(map.metadata.managed_fields.is_none());
            map.metadata.name.clone().unwrap()
        };
        match event {
            Event::Restarted(all) => format!(
                "restarted:{}",
                all.iter().map(name).collect::<Vec<_>>().join("+")
            ),
            Event::Applied(one) => format!("applied:{}", name(one)),
            Event::Deleted(one) => format!("deleted:{}", name(one)),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn lists_in_pages_then_watches_and_resumes_from_a_bookmark() {
        let bookmark =
            r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"resourceVersion":"40"}}"#;
        let first = line("ADDED", &map("c", 11))
            + &line("DELETED", &map("a", 12))
            + &line("BOOKMARK", bookmark);
        let (client, asked) = scripted(vec![
            list(&[map("a", 1)], 10, "more"),
            list(&[map("b", 2)], 10, ""),
            (200, first),
            (200, line("MODIFIED", &map("c", 41))),
        ]);
        let mut events =
            watch::<ConfigMap>(client, &Selector::all().namespace("ns").labels("a=b,c"));
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(names(&events.next().await.unwrap()));
        }
        assert_eq!(
            seen,
            ["restarted:a+b", "applied:c", "deleted:a", "applied:c"]
        );
        let asked = asked.lock().unwrap().clone();
        assert!(
            asked[0]
                .starts_with("/api/v1/namespaces/ns/configmaps?limit=250&labelSelector=a%3Db%2Cc")
        );
        assert!(asked[1].contains("continue=more"));
        assert!(asked[2].contains("watch=1") && asked[2].contains("resourceVersion=10"));
        assert!(asked[3].contains("resourceVersion=40"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_that_nobody_can_read_hides_no_other() {
        let odd = |name: &str, version: u32| map(name, version).replacen('{', r#"{"data":5,"#, 1);
        let events = line("ADDED", &odd("c", 11))
            + &line("ADDED", &map("d", 12))
            + &line("MODIFIED", &odd("d", 13))
            + &line("DELETED", &odd("d", 14));
        let (client, asked) = scripted(vec![
            list(&[map("a", 1), odd("b", 2)], 10, ""),
            (200, events),
            list(&[map("a", 1), odd("b", 2), odd("c", 11)], 15, ""),
            (200, line("MODIFIED", &map("b", 16))),
        ]);
        let mut events = watch::<ConfigMap>(client, &Selector::all());
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(names(&events.next().await.unwrap()));
        }
        assert_eq!(
            seen,
            ["restarted:a", "applied:d", "restarted:a", "applied:b"]
        );
        let asked = asked.lock().unwrap().clone();
        assert!(asked[3].contains("resourceVersion=15"), "{asked:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn lists_again_when_the_version_is_gone_and_survives_failures() {
        let gone = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","code":410,"reason":"Expired","message":"too old"}"#;
        let (client, _) = scripted(vec![
            (500, r#"{"kind":"Status","apiVersion":"v1","status":"Failure","code":500,"reason":"x","message":"x"}"#.into()),
            list(&[map("a", 1)], 10, ""),
            (200, line("ERROR", gone)),
            list(&[map("b", 2)], 20, ""),
        ]);
        let mut events = watch::<ConfigMap>(client, &Selector::all());
        assert_eq!(names(&events.next().await.unwrap()), "restarted:a");
        assert_eq!(names(&events.next().await.unwrap()), "restarted:b");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_whose_every_version_is_gone_is_not_hammered() {
        let gone = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","code":410,"reason":"Expired","message":"too old"}"#;
        let answers = (0..200).map(|turn| match turn % 2 {
            0 => list(&[map("a", 1)], 10, ""),
            _ => (200, line("ERROR", gone)),
        });
        let (client, asked) = scripted(answers.collect());
        let mut events = watch::<ConfigMap>(client, &Selector::all());
        let minute = Duration::from_secs(60);
        let _ =
            tokio::time::timeout(minute, async { while events.next().await.is_some() {} }).await;
        let asked = asked.lock().unwrap().len();
        assert!((10..40).contains(&asked), "{asked} requests in a minute");
    }
}
