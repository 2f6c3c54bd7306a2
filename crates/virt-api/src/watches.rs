//! The two things virt-api keeps in mind, each followed by a watch: the
//! KubeVirt object's configuration and the front proxy's authority.

use std::sync::Arc;

use decide::admission::ClusterConfig;
use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube_kit::front_proxy;
use kube_kit::tls::ServerTls;
use kube_kit::watch::{Event, Selector, watch};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::App;

/// The KubeVirt object with its spec as it was written: admission looks at
/// fields that the typed model leaves out.
#[derive(Clone, Debug, Deserialize)]
struct RawKubeVirt {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Value,
}

impl k8s_openapi::Resource for RawKubeVirt {
    const API_VERSION: &'static str = api::names::API_VERSION;
    const GROUP: &'static str = api::names::GROUP;
    const KIND: &'static str = "KubeVirt";
    const VERSION: &'static str = api::names::VERSION;
    const URL_PATH_SEGMENT: &'static str = "kubevirts";
    type Scope = k8s_openapi::NamespaceResourceScope;
}

impl k8s_openapi::Metadata for RawKubeVirt {
    type Ty = ObjectMeta;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Follows both forever. Ready once each was seen and the authority is in use.
pub(crate) async fn follow(app: Arc<App>, tls: Arc<ServerTls>, client: kube::Client) {
    let mut kubevirts =
        watch::<RawKubeVirt>(client.clone(), &Selector::all().namespace(&app.namespace));
    let mut front_proxies = front_proxy::follow(client, tls);
    let (mut configured, mut trusting) = (false, false);
    loop {
        tokio::select! {
            event = kubevirts.next() => match event {
                Some(event) => configured |= configure(&app, event),
                None => return,
            },
            known = front_proxies.next() => match known {
                Some(front_proxy) => {
                    app.set_front_proxy(front_proxy);
                    trusting = true;
                }
                None => return,
            },
        }
        if configured && trusting && !app.health.is_ready() {
            tracing::info!("ready");
            app.health.set_ready(true);
        }
    }
}

fn configure(app: &App, event: Event<RawKubeVirt>) -> bool {
    let kubevirt = match event {
        Event::Restarted(all) => all.into_iter().next(),
        Event::Applied(one) => Some(one),
        Event::Deleted(_) => None,
    };
    let config = kubevirt.map_or_else(ClusterConfig::default, |kubevirt| {
        ClusterConfig::from_kubevirt(&json!({ "spec": kubevirt.spec }))
    });
    if *app.config() != config {
        tracing::info!("configuration changed");
        app.set_config(config);
    }
    true
}
