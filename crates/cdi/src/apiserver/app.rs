//! The state of the server and the way of a request through it.

use std::sync::{Arc, PoisonError, RwLock};

use api::cdi::names::UPLOAD_GROUP as GROUP;
use api::objects::is_name;
use api::upload::{TOKEN_REQUESTS, VERSIONS};
use http::{Method, Request};
use hyper::body::{Body, Bytes};
use kube_kit::access;
use kube_kit::answer::{self, Answer};
use kube_kit::front_proxy::FrontProxy;
use kube_kit::health::Health;
use kube_kit::serve::Peer;
use serde_json::json;

use super::{claims, completion, discovery, openapi, webhooks};
use crate::token::SigningKey;

/// What all requests share.
pub(super) struct App {
    pub(super) client: kube::Client,
    pub(super) key: SigningKey,
    pub(super) health: Health,
    front_proxy: RwLock<Arc<FrontProxy>>,
}

/// What is asked, by its path.
#[derive(Debug, PartialEq)]
enum Route<'a> {
    Root,
    Groups,
    Group,
    /// APIResourceList of this version.
    Resources(&'a str),
    OpenApi2,
    OpenApi3,
    OpenApi3Group(&'a str),
    /// Token requests in this namespace, by this version of the group.
    Tokens {
        version: &'a str,
        namespace: &'a str,
    },
    Unknown,
}

impl App {
    pub(super) fn new(client: kube::Client, key: SigningKey) -> Self {
        Self {
            client,
            key,
            health: Health::new(),
            front_proxy: RwLock::default(),
        }
    }

    pub(super) fn set_front_proxy(&self, front_proxy: FrontProxy) {
        *self
            .front_proxy
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(front_proxy);
    }

    fn front_proxy(&self) -> Arc<FrontProxy> {
        Arc::clone(
            &self
                .front_proxy
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// Answers one request. Never fails: what goes wrong is an answer too.
    pub(super) async fn answer<B>(&self, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let path = request.uri().path().to_owned();
        if let Some(answer) = self.health.answer(&path) {
            return answer;
        }
        if path == completion::PATH {
            return completion::serve(self, request).await;
        }
        if let Some(webhook) = webhooks::at(&path) {
            return webhooks::serve(self, webhook, request).await;
        }
        let route = route(&path);
        if let Route::Tokens { version, namespace } = route {
            return self.tokens(version, namespace, request).await;
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) && route != Route::Unknown {
            return answer::text(405, "405: Method Not Allowed");
        }
        // Documents are no secret: the aggregator asks for them before it trusts us.
        match route {
            Route::Root => answer::json(200, &discovery::root()),
            Route::Groups => answer::json(200, &discovery::groups()),
            Route::Group => answer::json(200, &discovery::group()),
            Route::Resources(version) => answer::json(200, &discovery::resources(version)),
            Route::OpenApi2 => openapi::v2(request.headers()),
            Route::OpenApi3 => openapi::v3(),
            Route::OpenApi3Group(version) => openapi::v3_group(version, request.headers()),
            Route::Tokens { .. } | Route::Unknown => answer::text(404, "404: Page Not Found"),
        }
    }

    async fn tokens<B>(&self, version: &str, namespace: &str, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if request.method() != Method::POST {
            return answer::text(405, "405: Method Not Allowed");
        }
        let peer = request.extensions().get::<Peer>().cloned();
        let user = match self.front_proxy().user(peer.as_ref(), request.headers()) {
            Ok(user) => user,
            // Upstream answers a denial with 401 and text, not with 403.
            Err(why) => return answer::text(401, why),
        };
        let attributes = json!({
            "namespace": namespace, "verb": "create",
            "group": GROUP, "version": version, "resource": TOKEN_REQUESTS,
        });
        match access::review(&self.client, &user, attributes).await {
            Ok(None) => claims::create(self, namespace, request).await,
            Ok(Some(why)) => answer::text(401, why),
            Err(error) => {
                tracing::error!("cannot review access: {error}");
                answer::empty(500)
            }
        }
    }
}

fn route(path: &str) -> Route<'_> {
    let path = path.strip_suffix('/').unwrap_or(path);
    match path {
        "" => return Route::Root,
        "/apis" => return Route::Groups,
        "/openapi/v2" => return Route::OpenApi2,
        "/openapi/v3" => return Route::OpenApi3,
        _ => {}
    }
    let (documents, rest) = match path.strip_prefix("/openapi/v3") {
        Some(rest) => (true, rest),
        None => (false, path),
    };
    let Some(rest) = rest
        .strip_prefix("/apis/")
        .and_then(|rest| rest.strip_prefix(GROUP))
    else {
        return Route::Unknown;
    };
    if rest.is_empty() && !documents {
        return Route::Group;
    }
    let parts: Vec<&str> = rest.split('/').skip(1).collect();
    match parts.as_slice() {
        [version, rest @ ..] if VERSIONS.contains(version) => match (documents, rest) {
            (true, []) => Route::OpenApi3Group(version),
            (false, []) => Route::Resources(version),
            (false, ["namespaces", namespace, resource])
                if is_name(namespace) && *resource == TOKEN_REQUESTS =>
            {
                Route::Tokens { version, namespace }
            }
            _ => Route::Unknown,
        },
        _ => Route::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_apart() {
        for (path, expected) in [
            ("/", Route::Root),
            ("/apis", Route::Groups),
            ("/apis/", Route::Groups),
            ("/apis/upload.cdi.kubevirt.io", Route::Group),
            (
                "/apis/upload.cdi.kubevirt.io/v1beta1",
                Route::Resources("v1beta1"),
            ),
            (
                "/apis/upload.cdi.kubevirt.io/v1alpha1/",
                Route::Resources("v1alpha1"),
            ),
            (
                "/openapi/v3/apis/upload.cdi.kubevirt.io/v1beta1",
                Route::OpenApi3Group("v1beta1"),
            ),
            (
                "/apis/upload.cdi.kubevirt.io/v1alpha1/namespaces/ns/uploadtokenrequests",
                Route::Tokens {
                    version: "v1alpha1",
                    namespace: "ns",
                },
            ),
            // `kubectl apply` looks first, and creates when there is nothing.
            (
                "/apis/upload.cdi.kubevirt.io/v1beta1/namespaces/ns/uploadtokenrequests/x",
                Route::Unknown,
            ),
            (
                "/apis/upload.cdi.kubevirt.io/v1beta1/namespaces/../uploadtokenrequests",
                Route::Unknown,
            ),
            ("/apis/upload.cdi.kubevirt.io/v2", Route::Unknown),
            ("/openapi/v3/apis/upload.cdi.kubevirt.io", Route::Unknown),
            ("/api/v1", Route::Unknown),
        ] {
            assert_eq!(route(path), expected, "{path}");
        }
    }
}
