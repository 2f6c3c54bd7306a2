//! The state of the server and the way of a request through it.

use std::sync::{Arc, PoisonError, RwLock};

use api::subresource::{RestartOptions, StartOptions, StopOptions, VersionInfo};
use decide::admission::ClusterConfig;
use decide::subresource::Refusal;
use http::Request;
use hyper::body::{Body, Bytes};
use kube_kit::front_proxy::FrontProxy;
use kube_kit::health::Health;
use kube_kit::serve::Peer;
use serde_json::{Value, json};

use crate::answer::{self, Answer};
use crate::catalog::{Action, Fixed, Resource};
use crate::handler::Handlers;
use crate::router::{self, Page, Route, Target};
use crate::sessions::Sessions;
use crate::stream::Kind;
use crate::{auth, discovery, lifecycle, openapi, portforward, stream, webhooks};

/// What all requests share.
pub(crate) struct App {
    pub(crate) client: kube::Client,
    /// Namespace of the control plane.
    pub(crate) namespace: String,
    pub(crate) handlers: Handlers,
    pub(crate) health: Health,
    pub(crate) sessions: Sessions,
    /// What `GET …/version` answers.
    version: VersionInfo,
    config: RwLock<Arc<ClusterConfig>>,
    front_proxy: RwLock<Arc<FrontProxy>>,
}

/// A request without its body's type: what handlers need.
pub(crate) struct Call<'a> {
    pub(crate) target: Target<'a>,
    pub(crate) query: Option<&'a str>,
}

impl App {
    pub(crate) fn new(
        client: kube::Client,
        namespace: String,
        handlers: Handlers,
        version: VersionInfo,
    ) -> Self {
        let health = Health::new();
        let sessions = Sessions::default();
        let shown = sessions.clone();
        health.metrics().source(move |out| shown.render(out));
        Self {
            client,
            namespace,
            handlers,
            health,
            sessions,
            version,
            config: RwLock::default(),
            front_proxy: RwLock::default(),
        }
    }

    /// The KubeVirt object's configuration as of now.
    pub(crate) fn config(&self) -> Arc<ClusterConfig> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_config(&self, config: ClusterConfig) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }

    /// How the front proxy tells who a user is.
    pub(crate) fn front_proxy(&self) -> Arc<FrontProxy> {
        Arc::clone(
            &self
                .front_proxy
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    pub(crate) fn set_front_proxy(&self, front_proxy: FrontProxy) {
        *self
            .front_proxy
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(front_proxy);
    }

    /// Answers one request. Never fails: what goes wrong is an answer too.
    pub(crate) async fn answer<B>(self: &Arc<Self>, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: std::fmt::Display + Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let path = request.uri().path().to_owned();
        if let Some(answer) = self.health.answer(&path) {
            return answer;
        }
        if let Some(webhook) = webhooks::at(&path) {
            return webhooks::serve(self, webhook, request).await;
        }
        let route = router::route(request.method(), &path);
        if !router::is_public(&path) {
            let peer = request.extensions().get::<Peer>().cloned();
            let front_proxy = self.front_proxy();
            let user = match front_proxy.user(peer.as_ref(), request.headers()) {
                Ok(user) => user,
                // Upstream answers a denial with 401 and text, not with 403.
                Err(why) => return answer::text(401, why),
            };
            match auth::authorize(&self.client, &user, request.method(), &path).await {
                Ok(None) => {}
                Ok(Some(why)) => return answer::text(401, why),
                Err(error) => {
                    tracing::error!("cannot review access: {error}");
                    return answer::empty(500);
                }
            }
        }
        match route {
            Route::Page(page) => self.page(&page, request.headers()),
            Route::Subresource(target) => {
                let query = request.uri().query().map(str::to_owned);
                let call = Call {
                    target,
                    query: query.as_deref(),
                };
                self.subresource(&call, request)
                    .await
                    .unwrap_or_else(|refusal| answer::refusal(&refusal))
            }
            Route::WrongMethod => answer::text(405, "405: Method Not Allowed"),
            Route::Unknown => answer::text(404, "404: Page Not Found"),
        }
    }

    fn page(&self, page: &Page<'_>, headers: &http::HeaderMap) -> Answer {
        match page {
            Page::Root => answer::json(200, &discovery::root()),
            Page::Groups => answer::json(200, &discovery::groups()),
            Page::Group => answer::json(200, &discovery::group()),
            Page::Resources(version) => answer::json(200, &discovery::resources(version)),
            Page::OpenApi2 => openapi::v2(headers),
            Page::OpenApi3 => openapi::v3(),
            Page::OpenApi3Group(version) => openapi::v3_group(version, headers),
            Page::Version => answer::json(200, &self.version),
            Page::Health => {
                let ready = self.health.is_ready();
                let connectivity = if ready { "ok" } else { "failed" };
                let code = if ready { 200 } else { 500 };
                answer::json(
                    code,
                    &json!({ "apiserver": { "connectivity": connectivity } }),
                )
            }
            Page::GuestFs => answer::json(
                500,
                &json!({ "guestfs": { "status": "failed", "error": "no libguestfs image is part of this version" } }),
            ),
            Page::Profiler(verb) => answer::text(
                403,
                format!("Unable to {verb}. \"ClusterProfiler\" feature gate must be enabled"),
            ),
        }
    }

    async fn subresource<B>(
        self: &Arc<Self>,
        call: &Call<'_>,
        request: Request<B>,
    ) -> Result<Answer, Refusal>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: std::fmt::Display + Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let target = &call.target;
        match target.action {
            Action::Start => lifecycle::machine::<StartOptions, _>(self, target, request).await,
            Action::Stop => lifecycle::machine::<StopOptions, _>(self, target, request).await,
            Action::Restart => lifecycle::machine::<RestartOptions, _>(self, target, request).await,
            Action::Pause => lifecycle::pause(self, target, request, true).await,
            Action::Unpause => lifecycle::pause(self, target, request, false).await,
            Action::SoftReboot => lifecycle::soft_reboot(self, target).await,
            Action::Reset => lifecycle::reset(self, target).await,
            Action::Console => stream::serve(self, call, Kind::Console, request).await,
            Action::Vnc => stream::serve(self, call, Kind::Vnc, request).await,
            Action::PortForward => portforward::serve(self, target, request).await,
            Action::ExpandSpec => {
                // Instancetypes are refused at admission, so a VM is its own expansion.
                let vm = self.machine(target).await?;
                Ok(answer::json(200, &vm))
            }
            Action::GuestAgent => self.guest_agent(target).await,
            Action::Refused(why) => Err(match why {
                Fixed::NotServed(why) => Refusal::not_served(why),
                Fixed::BadRequest(why) => Refusal::bad_request(why),
                Fixed::Conflict(why) => {
                    Refusal::conflict(target.resource.subject(), target.name, why)
                }
            }),
        }
    }

    /// guestosinfo, userlist and filesystemlist: upstream's preconditions with
    /// upstream's odd 500, then the refusal.
    async fn guest_agent(&self, target: &Target<'_>) -> Result<Answer, Refusal> {
        let vmi = match self.instance(target).await {
            Ok(vmi) => vmi,
            Err(refusal) => return Ok(answer::text(500, refusal.message)),
        };
        let conflict =
            |why| Refusal::conflict(Resource::Instance.subject(), target.name, why).message;
        if vmi["status"]["phase"] != "Running" {
            return Ok(answer::text(500, conflict("VMI is not running")));
        }
        let connected = vmi["status"]["conditions"].as_array().is_some_and(|all| {
            all.iter()
                .any(|c| c["type"] == "AgentConnected" && c["status"] == "True")
        });
        if !connected {
            return Ok(answer::text(
                500,
                conflict("VMI does not have guest agent connected"),
            ));
        }
        Err(Refusal::not_served(
            "what the guest agent tells is not served as a subresource in this version; \
             see status.guestOSInfo and status.interfaces of the VirtualMachineInstance",
        ))
    }

    /// The VirtualMachine of the request.
    pub(crate) async fn machine(&self, target: &Target<'_>) -> Result<Value, Refusal> {
        self.find(Resource::Machine, target)
            .await?
            .ok_or_else(|| Refusal::not_found(Resource::Machine.subject(), target.name))
    }

    /// The VirtualMachineInstance of the request.
    pub(crate) async fn instance(&self, target: &Target<'_>) -> Result<Value, Refusal> {
        self.find(Resource::Instance, target)
            .await?
            .ok_or_else(|| Refusal::not_found(Resource::Instance.subject(), target.name))
    }
}
