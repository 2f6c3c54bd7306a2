//! Server-side apply of rendered objects, and removal of what is rendered no more.
//!
//! Objects are JSON: the operator and the installer render kinds of many
//! groups, and a typed model of each would only lose fields. The URL of an
//! object follows from its kind, so no discovery is asked.

use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use kube::Client;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ObjectList};
use kube::core::{PartialObjectMeta, TypeMeta};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What an apply did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The object was not there before.
    Created,
    /// The object was changed.
    Configured,
    /// The object was already so.
    Unchanged,
}

/// Why an object could not be applied or removed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// An object lacks what its address is made of.
    #[error("expected apiVersion, kind and metadata.name in an object, found {0}")]
    Shape(String),
    /// The API server refused or did not answer.
    #[error("{object}: {}", crate::reason(.error))]
    Api {
        /// `Kind namespace/name`.
        object: String,
        /// Why.
        error: kube::Error,
    },
}

impl ApplyError {
    /// The HTTP status with which the API server refused, if it did.
    #[must_use]
    pub fn status_code(&self) -> Option<u16> {
        match self {
            Self::Shape(_) => None,
            Self::Api { error, .. } => crate::status_code(error),
        }
    }
}

/// A kind of object, and where its objects are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// `apps/v1`, or `v1` for the core group.
    pub api_version: String,
    /// `Deployment`.
    pub kind: String,
    /// The namespace, if the kind has one.
    pub namespace: Option<String>,
}

impl Target {
    /// A kind of cluster objects.
    #[must_use]
    pub fn cluster(api_version: &str, kind: &str) -> Self {
        Self {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            namespace: None,
        }
    }

    /// A kind of objects in `namespace`.
    #[must_use]
    pub fn namespaced(api_version: &str, kind: &str, namespace: &str) -> Self {
        Self {
            namespace: Some(namespace.to_owned()),
            ..Self::cluster(api_version, kind)
        }
    }

    /// The URL path of the collection.
    #[must_use]
    pub fn path(&self) -> String {
        let (group, version) = self
            .api_version
            .split_once('/')
            .unwrap_or(("", &self.api_version));
        let gvk = GroupVersionKind::gvk(group, version, &self.kind);
        let plural = match self.kind.as_str() {
            // The one kind whose plural no rule gives.
            "KubeVirt" => "kubevirts".to_owned(),
            _ => ApiResource::from_gvk(&gvk).plural,
        };
        let base = if group.is_empty() {
            format!("/api/{version}")
        } else {
            format!("/apis/{group}/{version}")
        };
        match &self.namespace {
            Some(namespace) => format!("{base}/namespaces/{namespace}/{plural}"),
            None => format!("{base}/{plural}"),
        }
    }
}

/// The name of one object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// Its kind and namespace.
    pub target: Target,
    /// Its name.
    pub name: String,
}

impl Id {
    /// The id of a rendered object.
    ///
    /// # Errors
    /// When it lacks apiVersion, kind or name.
    pub fn of(object: &Value) -> Result<Self, ApplyError> {
        let text = |pointer: &str| {
            object
                .pointer(pointer)
                .and_then(Value::as_str)
                .filter(|text| !text.is_empty())
        };
        match (text("/apiVersion"), text("/kind"), text("/metadata/name")) {
            (Some(api_version), Some(kind), Some(name)) => Ok(Self {
                target: Target {
                    api_version: api_version.to_owned(),
                    kind: kind.to_owned(),
                    namespace: text("/metadata/namespace").map(str::to_owned),
                },
                name: name.to_owned(),
            }),
            _ => Err(ApplyError::Shape(brief(object))),
        }
    }

    /// The URL path of the object.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}/{}", self.target.path(), self.name)
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.target.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.target.kind, self.name),
            None => write!(f, "{} {}", self.target.kind, self.name),
        }
    }
}

/// Applies and removes objects in the name of one field manager.
#[derive(Clone)]
pub struct Applier {
    client: Client,
    manager: String,
}

impl Applier {
    /// `manager` owns what is applied.
    #[must_use]
    pub fn new(client: Client, manager: &str) -> Self {
        Self {
            client,
            manager: manager.to_owned(),
        }
    }

    /// Applies `object`, taking fields over from other managers, and tells what
    /// that did. Costs one request more than [`Applier::apply_over`].
    ///
    /// # Errors
    /// When the object is misshapen or the API server refuses.
    pub async fn apply(&self, object: &Value) -> Result<Outcome, ApplyError> {
        let id = Id::of(object)?;
        let before = self
            .metadata(&id)
            .await?
            .and_then(|meta| meta.metadata.resource_version);
        Ok(self.apply_over(object, before.as_deref()).await?.0)
    }

    /// What [`Applier::apply`] would do; the API server tries it and keeps nothing.
    ///
    /// # Errors
    /// As [`Applier::apply`]. A 404 means that the kind or the namespace is not
    /// there (yet).
    pub async fn check(&self, object: &Value) -> Result<Outcome, ApplyError> {
        let id = Id::of(object)?;
        let Some(before) = self.get(&id).await? else {
            self.patch(&id, object, "&dryRun=All").await?;
            return Ok(Outcome::Created);
        };
        let (_, after) = self.patch(&id, object, "&dryRun=All").await?;
        let same = substance(before) == substance(after);
        Ok(if same {
            Outcome::Unchanged
        } else {
            Outcome::Configured
        })
    }

    /// As [`Applier::apply`], when the object's resource version is known (or
    /// known to be missing). Gives the applied object too.
    ///
    /// # Errors
    /// As [`Applier::apply`].
    pub async fn apply_over(
        &self,
        object: &Value,
        before: Option<&str>,
    ) -> Result<(Outcome, Value), ApplyError> {
        let id = Id::of(object)?;
        let (status, applied) = self.patch(&id, object, "").await?;
        let after = applied
            .pointer("/metadata/resourceVersion")
            .and_then(Value::as_str);
        let outcome = if status == StatusCode::CREATED {
            Outcome::Created
        } else if before.is_some() && before == after {
            Outcome::Unchanged
        } else {
            Outcome::Configured
        };
        Ok((outcome, applied))
    }

    async fn patch(
        &self,
        id: &Id,
        object: &Value,
        options: &str,
    ) -> Result<(StatusCode, Value), ApplyError> {
        let uri = format!(
            "{}?fieldManager={}&force=true{options}",
            id.path(),
            self.manager
        );
        let body = serde_json::to_vec(object)
            .map_err(kube::Error::SerdeError)
            .map_err(|error| at(id, error))?;
        let request = Request::builder()
            .method(Method::PATCH)
            .uri(uri)
            // JSON is YAML; older API servers know only this type.
            .header(http::header::CONTENT_TYPE, "application/apply-patch+yaml")
            .header(http::header::ACCEPT, "application/json")
            .body(body)
            .map_err(|error| at(id, kube::Error::HttpError(error)))?;
        self.send(request).await.map_err(|error| at(id, error))
    }

    /// Deletes an object; `false` when it was not there. Its dependents go in
    /// the background.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn delete(&self, id: &Id) -> Result<bool, ApplyError> {
        let request = Request::builder()
            .method(Method::DELETE)
            .uri(id.path())
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(
                br#"{"kind":"DeleteOptions","apiVersion":"v1","propagationPolicy":"Background"}"#
                    .to_vec(),
            )
            .map_err(|error| at(id, kube::Error::HttpError(error)))?;
        match self.client.request_text(request).await {
            Ok(_) => Ok(true),
            Err(error) if crate::is_not_found(&error) => Ok(false),
            Err(error) => Err(at(id, error)),
        }
    }

    /// The whole object, if it is there.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn get(&self, id: &Id) -> Result<Option<Value>, ApplyError> {
        self.read(id, "application/json").await
    }

    /// The object's metadata, if it is there.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn metadata(
        &self,
        id: &Id,
    ) -> Result<Option<PartialObjectMeta<DynamicObject>>, ApplyError> {
        let accept = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
        self.read(id, accept).await
    }

    async fn read<T: DeserializeOwned>(
        &self,
        id: &Id,
        accept: &str,
    ) -> Result<Option<T>, ApplyError> {
        let request = Request::get(id.path())
            .header(http::header::ACCEPT, accept)
            .body(Vec::new())
            .map_err(|error| at(id, kube::Error::HttpError(error)))?;
        match self.client.request(request).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if crate::is_not_found(&error) => Ok(None),
            Err(error) => Err(at(id, error)),
        }
    }

    /// The ids and resource versions of all objects of `target` that match the
    /// label `selector`. A kind that the cluster does not know has none.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn list(
        &self,
        target: &Target,
        selector: &str,
    ) -> Result<Vec<(Id, String)>, ApplyError> {
        let all = Id {
            target: target.clone(),
            name: "*".to_owned(),
        };
        let query = selector
            .replace('%', "%25")
            .replace('=', "%3D")
            .replace(',', "%2C")
            .replace('/', "%2F");
        let request = Request::get(format!("{}?labelSelector={query}", target.path()))
            .header(
                http::header::ACCEPT,
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
            )
            .body(Vec::new())
            .map_err(|error| at(&all, kube::Error::HttpError(error)))?;
        let list: ObjectList<PartialObjectMeta<DynamicObject>> =
            match self.client.request(request).await {
                Ok(list) => list,
                Err(error) if crate::is_not_found(&error) => ObjectList {
                    types: TypeMeta::default(),
                    metadata: kube::core::ListMeta::default(),
                    items: Vec::new(),
                },
                Err(error) => return Err(at(&all, error)),
            };
        Ok(list
            .items
            .into_iter()
            .map(|meta| {
                let target = Target {
                    namespace: meta.metadata.namespace.clone(),
                    ..target.clone()
                };
                let id = Id {
                    target,
                    name: meta.metadata.name.unwrap_or_default(),
                };
                (id, meta.metadata.resource_version.unwrap_or_default())
            })
            .collect())
    }

    /// Deletes the objects of `targets` that match the label `selector` and are
    /// not in `keep`; gives what was deleted.
    ///
    /// # Errors
    /// At the first refusal; what was deleted before stays deleted.
    pub async fn prune(
        &self,
        targets: &[Target],
        selector: &str,
        keep: &[Id],
    ) -> Result<Vec<Id>, ApplyError> {
        let mut gone = Vec::new();
        for target in targets {
            for (id, _) in self.list(target, selector).await? {
                if !keep.contains(&id) && self.delete(&id).await? {
                    gone.push(id);
                }
            }
        }
        Ok(gone)
    }

    async fn send(&self, request: Request<Vec<u8>>) -> kube::Result<(StatusCode, Value)> {
        let response = self
            .client
            .send(request.map(kube::client::Body::from))
            .await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        if status.is_success() {
            return Ok((
                status,
                serde_json::from_slice(&body).map_err(kube::Error::SerdeError)?,
            ));
        }
        let refusal = serde_json::from_slice::<kube::core::Status>(&body).unwrap_or_else(|_| {
            kube::core::Status::failure(&String::from_utf8_lossy(&body), "Unknown")
                .with_code(status.as_u16())
        });
        Err(kube::Error::Api(refusal.boxed()))
    }
}

fn at(id: &Id, error: kube::Error) -> ApplyError {
    ApplyError::Api {
        object: id.to_string(),
        error,
    }
}

/// An object without the fields that every write changes.
fn substance(mut object: Value) -> Value {
    if let Some(meta) = object
        .pointer_mut("/metadata")
        .and_then(Value::as_object_mut)
    {
        for field in ["managedFields", "resourceVersion", "generation"] {
            meta.remove(field);
        }
    }
    object
}

fn brief(object: &Value) -> String {
    let text = object.to_string();
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn paths_follow_from_kinds() {
        let path = |target: Target| target.path();
        assert_eq!(
            path(Target::namespaced("v1", "ConfigMap", "a")),
            "/api/v1/namespaces/a/configmaps"
        );
        assert_eq!(
            path(Target::cluster("cdi.kubevirt.io/v1beta1", "CDI")),
            "/apis/cdi.kubevirt.io/v1beta1/cdis"
        );
        assert_eq!(
            path(Target::cluster("v1", "Namespace")),
            "/api/v1/namespaces"
        );
        assert_eq!(
            path(Target::cluster(
                "rbac.authorization.k8s.io/v1",
                "ClusterRole"
            )),
            "/apis/rbac.authorization.k8s.io/v1/clusterroles"
        );
        assert_eq!(
            path(Target::namespaced("policy/v1", "PodDisruptionBudget", "a")),
            "/apis/policy/v1/namespaces/a/poddisruptionbudgets"
        );
        assert_eq!(
            path(Target::cluster("scheduling.k8s.io/v1", "PriorityClass")),
            "/apis/scheduling.k8s.io/v1/priorityclasses"
        );
        assert_eq!(
            path(Target::cluster("apiregistration.k8s.io/v1", "APIService")),
            "/apis/apiregistration.k8s.io/v1/apiservices"
        );
        assert_eq!(
            path(Target::namespaced("kubevirt.io/v1", "KubeVirt", "a")),
            "/apis/kubevirt.io/v1/namespaces/a/kubevirts"
        );
        assert_eq!(
            path(Target::cluster(
                "admissionregistration.k8s.io/v1",
                "ValidatingWebhookConfiguration"
            )),
            "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
        );
    }

    #[test]
    fn an_object_without_a_name_is_refused() {
        let object = serde_json::json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": {} });
        assert!(
            Id::of(&object)
                .unwrap_err()
                .to_string()
                .contains("metadata.name")
        );
    }
}
