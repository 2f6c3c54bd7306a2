//! Admission webhooks: the API server posts an AdmissionReview, crate `decide` answers
//! it. The caller needs no certificate: what is asked here is no secret and changes
//! nothing.
//!
//! Who may clone a disk of another namespace is asked here, when the DataVolume is
//! made: the disk's bytes are as good as the right to read it. Who may gets a token, by which
//! cdi-controller knows that he was asked.
//! Source of paths: CDI pkg/apiserver/apiserver.go; of permissions: pkg/apiserver/webhooks
//! (`AuthorizeUser`).

use std::collections::BTreeMap;

use api::cdi::DataVolume;
use api::cdi::names::annotations::CLONE_TOKEN;
use api::cdi::names::{API_VERSION, GROUP, VERSION};
use api::objects::is_name;
use decide::admission::{Cause, Operation, Reason, Verdict};
use decide::cdi::admission::transfer::target_of;
use decide::cdi::admission::{Context, Request as Review, validate};
use http::Request;
use hyper::body::{Body, Bytes};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::Api;
use kube::api::ObjectList;
use kube::core::PartialObjectMeta;
use kube_kit::access;
use kube_kit::answer::{self, Answer};
use kube_kit::front_proxy::User;
use serde_json::{Value, json};

use super::app::App;
use crate::token::Copy;

/// What a webhook does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Webhook {
    /// Asks whether the user may read what is cloned.
    Authorize,
    /// Asks whether the object is sound.
    Validate,
}

/// The webhook at `path`, if there is one.
pub(super) fn at(path: &str) -> Option<Webhook> {
    match path {
        "/datavolume-mutate" => Some(Webhook::Authorize),
        "/datavolume-validate"
        | "/populator-validate"
        | "/dataimportcron-validate"
        | "/objecttransfer-validate"
        | "/source-validate"
        | "/cdi-validate" => Some(Webhook::Validate),
        _ => None,
    }
}

pub(super) async fn serve<B>(app: &App, webhook: Webhook, request: Request<B>) -> Answer
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let review = match answer::review(request).await {
        Ok(review) => review,
        Err(refused) => return refused,
    };
    let user = user(&review["request"]["userInfo"]);
    let review = match decide::cdi::admission::parse(review) {
        Ok(review) => review,
        Err(error) => return answer::text(400, error.to_string()),
    };
    let verdict = match webhook {
        Webhook::Authorize => authorize(app, &review, &user).await,
        Webhook::Validate => context(app, &review)
            .await
            .map(|context| validate(&review, &context)),
    };
    match verdict {
        Ok(verdict) => answer::json(200, &verdict.into_review(&review.uid)),
        Err(error) => answer::text(
            500,
            format!("cannot ask the API server: {}", kube_kit::reason(&error)),
        ),
    }
}

fn user(info: &Value) -> User {
    let list = |value: &Value| -> Vec<String> {
        let items = value.as_array().into_iter().flatten();
        items.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let extra = info["extra"].as_object().into_iter().flatten();
    User {
        name: info["username"].as_str().unwrap_or_default().to_owned(),
        groups: list(&info["groups"]),
        extra: extra
            .map(|(key, value)| (key.clone(), list(value)))
            .collect::<BTreeMap<_, _>>(),
    }
}

/// What exists in the cluster: asked only where it matters, at the birth and death of a
/// CDI object and at the birth of an ObjectTransfer.
async fn context(app: &App, review: &Review) -> kube::Result<Context> {
    let create = review.operation == Operation::Create;
    match review.kind {
        "CDI" if create || review.operation == Operation::Delete => Ok(Context {
            has_cdi: exists(app, "cdis").await?,
            has_data_volumes: exists(app, "datavolumes").await?,
            ..Context::default()
        }),
        "ObjectTransfer" if create => {
            let (namespace, name) = target_of(&review.object);
            Ok(Context {
                transfer_target_exists: is_taken(app, namespace, name).await?,
                ..Context::default()
            })
        }
        _ => Ok(Context::default()),
    }
}

/// Whether a claim or a DataVolume has the name already.
async fn is_taken(app: &App, namespace: &str, name: &str) -> kube::Result<bool> {
    // A name that is none is refused, and its path would be another resource's.
    if !is_name(namespace) || !is_name(name) {
        return Ok(false);
    }
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(app.client.clone(), namespace);
    let volumes: Api<DataVolume> = Api::namespaced(app.client.clone(), namespace);
    Ok(claims.get_metadata_opt(name).await?.is_some()
        || volumes.get_metadata_opt(name).await?.is_some())
}

async fn exists(app: &App, plural: &str) -> kube::Result<bool> {
    let request = Request::get(format!("/apis/{API_VERSION}/{plural}?limit=1"))
        .header(
            http::header::ACCEPT,
            "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
        )
        .body(Vec::new())
        .map_err(kube::Error::HttpError)?;
    let list: ObjectList<PartialObjectMeta> = app.client.request(request).await?;
    Ok(!list.items.is_empty())
}

/// What a DataVolume copies, and where it lies.
#[derive(Debug, PartialEq, Eq)]
struct Source {
    namespace: String,
    /// Its name, if that is known yet.
    name: Option<String>,
    /// It is a snapshot.
    snapshot: bool,
    /// Where the namespace stands in the object.
    field: &'static str,
}

/// Whether the user may read the source: who may create `datavolumes/source` in its
/// namespace may, and who may create pods there could read it anyway.
async fn authorize(app: &App, review: &Review, user: &User) -> kube::Result<Verdict> {
    if review.operation != Operation::Create || !review.subresource.is_empty() {
        return Ok(Verdict::allow());
    }
    let Some(source) = source(app, review).await? else {
        return Ok(Verdict::allow());
    };
    for user in [Some(user), on_behalf(review).as_ref()]
        .into_iter()
        .flatten()
    {
        if !may_read(app, user, &source).await? {
            return Ok(refused(user, &source));
        }
    }
    Ok(allowed(app, review, &source))
}

/// For whom virt-controller makes the DataVolume of a virtual machine: its own rights are not
/// the user's. Upstream's virt-controller asks for the same account before it makes one.
fn on_behalf(review: &Review) -> Option<User> {
    let owners = review.object["metadata"]["ownerReferences"].as_array();
    let mut owners = owners.into_iter().flatten();
    owners
        .any(|owner| owner["kind"] == "VirtualMachine")
        .then(|| {
            let namespace = &review.namespace;
            User {
                name: format!("system:serviceaccount:{namespace}:default"),
                groups: vec![
                    "system:serviceaccounts".to_owned(),
                    format!("system:serviceaccounts:{namespace}"),
                    "system:authenticated".to_owned(),
                ],
                ..User::default()
            }
        })
}

async fn may_read(app: &App, user: &User, source: &Source) -> kube::Result<bool> {
    let namespace = &source.namespace;
    // A right to one source is a right to that one; upstream's reviews name it too.
    let name = source.name.as_deref().unwrap_or_default();
    for attributes in [
        json!({
            "namespace": namespace, "verb": "create", "group": GROUP, "version": VERSION,
            "resource": "datavolumes", "subresource": "source", "name": name,
        }),
        json!({
            "namespace": namespace, "verb": "create", "version": "v1", "resource": "pods",
            "name": name,
        }),
    ] {
        if access::review(&app.client, user, attributes)
            .await?
            .is_none()
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn refused(user: &User, source: &Source) -> Verdict {
    let namespace = &source.namespace;
    let message = format!(
        "User {} has insufficient permissions in clone source namespace {namespace}: expected the right to create datavolumes/source there",
        user.name
    );
    Verdict::from_causes(vec![Cause::new(Reason::Invalid, source.field, message)])
}

/// Allowed, with the token that says so.
fn allowed(app: &App, review: &Review, source: &Source) -> Verdict {
    let Some(name) = &source.name else {
        return Verdict::allow();
    };
    let named = review.object["metadata"]["name"].as_str();
    let copy = Copy {
        from: (source.namespace.clone(), name.clone()),
        snapshot: source.snapshot,
        to: (
            review.namespace.clone(),
            named.unwrap_or_default().to_owned(),
        ),
    };
    let token = match app.key.sign_copy(&copy, jiff::Timestamp::now().as_second()) {
        Ok(token) => token,
        Err(error) => return Verdict::bad_request(format!("{error:#}")),
    };
    let mut after = review.object.clone();
    let notes = &mut after["metadata"]["annotations"];
    if !notes.is_object() {
        *notes = json!({});
    }
    notes[CLONE_TOKEN] = json!(token);
    Verdict::patched(&review.object, &after)
}

/// The source, if it lies in another namespace than the DataVolume.
async fn source(app: &App, review: &Review) -> kube::Result<Option<Source>> {
    let spec = &review.object["spec"];
    let own = review.namespace.as_str();
    let elsewhere = |namespace: &Value, name: &Value, snapshot: bool, field: &'static str| {
        namespace
            .as_str()
            .filter(|namespace| !namespace.is_empty() && *namespace != own)
            .map(|namespace| Source {
                namespace: namespace.to_owned(),
                name: name.as_str().map(str::to_owned),
                snapshot,
                field,
            })
    };
    for (kind, field) in [
        ("pvc", "spec.source.pvc.namespace"),
        ("snapshot", "spec.source.snapshot.namespace"),
    ] {
        let from = &spec["source"][kind];
        let direct = elsewhere(&from["namespace"], &from["name"], kind == "snapshot", field);
        if direct.is_some() {
            return Ok(direct);
        }
    }
    // A DataSource leads to a claim: that claim's namespace counts.
    let reference = &spec["sourceRef"];
    let Some(mut name) = reference["name"].as_str().map(str::to_owned) else {
        return Ok(None);
    };
    let namespace = reference["namespace"]
        .as_str()
        .filter(|namespace| !namespace.is_empty())
        .unwrap_or(own)
        .to_owned();
    let field = "spec.sourceRef.namespace";
    // Upstream follows one DataSource to another, within its namespace, and no farther.
    for _ in 0..2 {
        if !is_name(&name) || !is_name(&namespace) {
            break;
        }
        let path = format!("/apis/{API_VERSION}/namespaces/{namespace}/datasources/{name}");
        let request = Request::get(path).body(Vec::new());
        let request = request.map_err(kube::Error::HttpError)?;
        let found: Value = match app.client.request(request).await {
            Ok(found) => found,
            Err(error) if kube_kit::is_not_found(&error) => break,
            Err(error) => return Err(error),
        };
        let source = &found["spec"]["source"];
        for kind in ["pvc", "snapshot"] {
            if source[kind].is_object() {
                let of = &source[kind]["namespace"];
                let of = of.as_str().filter(|of| !of.is_empty());
                let of = json!(of.unwrap_or(&namespace));
                let name = &source[kind]["name"];
                return Ok(elsewhere(&of, name, kind == "snapshot", field));
            }
        }
        match source["dataSource"]["name"].as_str() {
            Some(next) => name = next.to_owned(),
            None => break,
        }
    }
    // Nothing there yet: whoever controls that namespace may put a claim there later.
    Ok(elsewhere(&json!(namespace), &Value::Null, false, field))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use base64::Engine as _;
    use http_body_util::BodyExt;

    use super::*;
    use crate::testing::{self, Shared};
    use crate::token::SigningKey;
    use crate::token::tests::key;
    use http_body_util::Full;

    async fn admit(cluster: &Shared, path: &str, object: &Value) -> Value {
        let signing = SigningKey::from_pem(key().private.as_bytes()).unwrap();
        let app = App::new(testing::client(cluster), signing);
        let review = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "r1", "operation": "CREATE", "namespace": "ns",
                "resource": {"group": GROUP, "version": VERSION, "resource": "datavolumes"},
                "userInfo": {"username": "alice", "groups": ["dev"]},
                "object": object,
            },
        });
        let request = Request::post(path).body(Full::new(Bytes::from(review.to_string())));
        let answer = app.answer(request.unwrap()).await;
        assert_eq!(answer.status(), 200);
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice::<Value>(&body).unwrap()["response"].clone()
    }

    fn volume(source: &Value) -> Value {
        let storage = json!({ "resources": { "requests": { "storage": "1Gi" } } });
        let mut spec = source.clone();
        spec["storage"] = storage;
        json!({
            "apiVersion": API_VERSION, "kind": "DataVolume",
            "metadata": {"name": "disk", "namespace": "ns"}, "spec": spec,
        })
    }

    #[tokio::test]
    async fn a_clone_across_namespaces_needs_a_right_there() {
        let from = |namespace: &str| {
            volume(&json!({"source": {"pvc": {"name": "p", "namespace": namespace}}}))
        };
        let asked = |cluster: &Shared| cluster.lock().unwrap().asked.len();
        let cluster = Shared::default();
        let own = admit(&cluster, "/datavolume-mutate", &from("ns")).await;
        assert_eq!((&own["allowed"], asked(&cluster)), (&json!(true), 0));
        let far = admit(&cluster, "/datavolume-mutate", &from("far")).await;
        assert_eq!((&far["allowed"], asked(&cluster)), (&json!(true), 1));
        let review = cluster.lock().unwrap().asked[0].1["spec"].clone();
        assert_eq!(review["user"], "alice");
        assert_eq!(review["resourceAttributes"]["subresource"], "source");
        assert_eq!(review["resourceAttributes"]["name"], "p");
        let copy = token(&far);
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!((copy.from, copy.to), (pair("far", "p"), pair("ns", "disk")));
        assert!(!copy.snapshot && own["patch"].is_null());
        let snapshot = volume(&json!({"source": {"snapshot": {"name": "p", "namespace": "far"}}}));
        let copy = token(&admit(&cluster, "/datavolume-mutate", &snapshot).await);
        assert!(copy.snapshot && copy.from == pair("far", "p"), "{copy:?}");
        cluster.lock().unwrap().denied = Some("no".to_owned());
        let refused = admit(&cluster, "/datavolume-mutate", &from("far")).await;
        assert_eq!(refused["allowed"], false);
        let text = refused.to_string();
        assert!(text.contains("alice") && text.contains("far"), "{text}");
    }

    #[tokio::test]
    async fn a_virtual_machines_clone_needs_the_right_of_its_namespaces_account_too() {
        let cluster = Shared::default();
        let mut volume = volume(&json!({"source": {"pvc": {"name": "p", "namespace": "far"}}}));
        volume["metadata"]["ownerReferences"] = json!([{"kind": "VirtualMachine", "name": "vm"}]);
        let allowed = admit(&cluster, "/datavolume-mutate", &volume).await;
        assert_eq!(allowed["allowed"], true);
        let users: Vec<Value> = {
            let cluster = cluster.lock().unwrap();
            let asked = cluster.asked.iter();
            asked
                .map(|(_, body)| body["spec"]["user"].clone())
                .collect()
        };
        assert_eq!(users, ["alice", "system:serviceaccount:ns:default"]);
    }

    /// What the token that an answer puts into the DataVolume is for.
    fn token(answer: &Value) -> Copy {
        let patch = answer["patch"].as_str().unwrap();
        let patch = base64::engine::general_purpose::STANDARD
            .decode(patch)
            .unwrap();
        let patch: Value = serde_json::from_slice(&patch).unwrap();
        let token = patch[0]["value"][CLONE_TOKEN].as_str().unwrap();
        let key = crate::token::VerifyingKey::from_pem(key().public.as_bytes()).unwrap();
        key.verify_copy(token, jiff::Timestamp::now().as_second())
            .unwrap()
    }

    #[tokio::test]
    async fn a_data_source_is_followed_to_its_claim() {
        let cluster = Shared::default();
        let source = json!({"spec": {"source": {"pvc": {"name": "p", "namespace": "far"}}}});
        let path = format!("/apis/{API_VERSION}/namespaces/ns/datasources/image");
        cluster.lock().unwrap().objects.insert(path, source);
        cluster.lock().unwrap().denied = Some("no".to_owned());
        let volume = volume(&json!({"sourceRef": {"kind": "DataSource", "name": "image"}}));
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        cluster.lock().unwrap().denied = None;
        let allowed = admit(&cluster, "/datavolume-mutate", &volume).await;
        assert_eq!(token(&allowed).from, pair("far", "p"));
        cluster.lock().unwrap().denied = Some("no".to_owned());
        let refused = admit(&cluster, "/datavolume-mutate", &volume).await;
        assert_eq!(refused["allowed"], false, "{refused}");
    }

    #[tokio::test]
    async fn specs_are_judged() {
        let cluster = Shared::default();
        let good = volume(&json!({"source": {"upload": {}}}));
        let answer = admit(&cluster, "/datavolume-validate", &good).await;
        assert_eq!(answer["allowed"], true, "{answer}");
        let two = volume(&json!({"source": {"upload": {}, "blank": {}}}));
        let answer = admit(&cluster, "/datavolume-validate", &two).await;
        assert_eq!(answer["allowed"], false);
    }
}
