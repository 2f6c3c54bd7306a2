//! Kubernetes events, written as client-go writes them: a repeated event raises
//! the count of the first one instead of making another object.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};

/// How many events are remembered so that a repeat is counted, not created.
const REMEMBERED: usize = 64;

/// Whether an event is news or a complaint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventType {
    /// Something happened as it should.
    Normal,
    /// Something needs attention.
    Warning,
}

impl EventType {
    /// A complaint, or news.
    #[must_use]
    pub fn of(warning: bool) -> Self {
        if warning { Self::Warning } else { Self::Normal }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Writes events in the name of one component. Clones share their memory.
#[derive(Clone)]
pub struct Recorder {
    client: kube::Client,
    component: String,
    host: Option<String>,
    recent: Arc<Mutex<VecDeque<Known>>>,
}

struct Known {
    key: String,
    namespace: String,
    name: String,
    count: i32,
}

impl Recorder {
    /// Events come from `component`, for example `virtualmachine-controller`.
    #[must_use]
    pub fn new(client: kube::Client, component: &str) -> Self {
        Self {
            client,
            component: component.to_owned(),
            host: None,
            recent: Arc::default(),
        }
    }

    /// Says on which node the component runs.
    #[must_use]
    pub fn on_host(mut self, host: &str) -> Self {
        self.host = Some(host.to_owned());
        self
    }

    /// Writes events about `object`, each with its reason and its message, one after the other
    /// beside the work, which never waits for them.
    pub fn publish_beside(
        &self,
        object: ObjectReference,
        events: Vec<(EventType, &'static str, String)>,
    ) {
        let recorder = self.clone();
        tokio::spawn(async move {
            for (type_, reason, message) in events {
                recorder.publish(&object, type_, reason, &message).await;
            }
        });
    }

    /// Writes one event about `object`. An event that cannot be written is
    /// logged and lost: events are never worth failing for.
    pub async fn publish(
        &self,
        object: &ObjectReference,
        type_: EventType,
        reason: &str,
        message: &str,
    ) {
        if let Err(error) = self.write(object, type_, reason, message).await {
            tracing::warn!(
                reason,
                message,
                "cannot write an event: {}",
                crate::reason(&error)
            );
        }
    }

    async fn write(
        &self,
        object: &ObjectReference,
        type_: EventType,
        reason: &str,
        message: &str,
    ) -> kube::Result<()> {
        let key = format!(
            "{}/{}/{}/{reason}/{message}",
            object.kind.as_deref().unwrap_or_default(),
            object.uid.as_deref().unwrap_or_default(),
            object.name.as_deref().unwrap_or_default()
        );
        let now = k8s_openapi::jiff::Timestamp::now();
        if let Some((namespace, name, count)) = self.repeat(&key) {
            let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
            let patch = serde_json::json!({ "count": count, "lastTimestamp": Time(now) });
            match api
                .patch_metadata(&name, &PatchParams::default(), &Patch::Merge(&patch))
                .await
            {
                Ok(_) => return Ok(()),
                // Events live for an hour; after that a repeat is a new one.
                Err(error) if crate::is_not_found(&error) => self.forget(&key),
                Err(error) => return Err(error),
            }
        }
        // Events about cluster objects live in "default", as client-go has it.
        let namespace = object
            .namespace
            .clone()
            .unwrap_or_else(|| "default".to_owned());
        let stamp = u64::try_from(now.as_nanosecond()).unwrap_or_default();
        let name = format!("{}.{stamp:x}", object.name.as_deref().unwrap_or("unknown"));
        let event = Event {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            involved_object: object.clone(),
            type_: Some(type_.as_str().to_owned()),
            reason: Some(reason.to_owned()),
            message: Some(truncated(message)),
            source: Some(EventSource {
                component: Some(self.component.clone()),
                host: self.host.clone(),
            }),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            count: Some(1),
            reporting_component: Some(self.component.clone()),
            reporting_instance: self.host.clone(),
            ..Event::default()
        };
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        api.create(&PostParams::default(), &event).await?;
        self.remember(Known {
            key,
            namespace,
            name,
            count: 1,
        });
        Ok(())
    }

    fn repeat(&self, key: &str) -> Option<(String, String, i32)> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let known = recent.iter_mut().find(|known| known.key == key)?;
        known.count = known.count.saturating_add(1);
        Some((known.namespace.clone(), known.name.clone(), known.count))
    }

    fn forget(&self, key: &str) {
        self.recent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|known| known.key != key);
    }

    fn remember(&self, known: Known) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() == REMEMBERED {
            recent.pop_front();
        }
        recent.push_back(known);
    }
}

/// The API server refuses messages above 1024 bytes.
fn truncated(message: &str) -> String {
    const LIMIT: usize = 1024;
    if message.len() <= LIMIT {
        return message.to_owned();
    }
    let mut end = LIMIT - 3;
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}...", &message[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_are_cut_at_a_character() {
        let cut = truncated(&"é".repeat(600));
        assert!(cut.len() <= 1024 && cut.ends_with("..."));
        assert_eq!(truncated("short"), "short");
    }
}
