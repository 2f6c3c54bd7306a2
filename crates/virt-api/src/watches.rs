//! The two things virt-api keeps in mind, each followed by a watch: the
//! KubeVirt object's configuration and the front proxy's authority.

use std::collections::BTreeMap;
use std::sync::Arc;

use decide::admission::ClusterConfig;
use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube_kit::tls::ServerTls;
use kube_kit::watch::{Event, Selector, watch};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::App;
use crate::front_proxy::FrontProxy;

/// Where the API server publishes its front proxy's authority.
const AUTHENTICATION: (&str, &str) = ("kube-system", "extension-apiserver-authentication");

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
    let (namespace, name) = AUTHENTICATION;
    let selector = Selector::all()
        .namespace(namespace)
        .fields(&format!("metadata.name={name}"));
    let mut maps = watch::<ConfigMap>(client, &selector);
    let (mut configured, mut trusting) = (false, false);
    loop {
        tokio::select! {
            event = kubevirts.next() => match event {
                Some(event) => configured |= configure(&app, event),
                None => return,
            },
            event = maps.next() => match event {
                Some(event) => trusting |= trust(&app, &tls, event),
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

fn trust(app: &App, tls: &ServerTls, event: Event<ConfigMap>) -> bool {
    let map = match event {
        Event::Restarted(all) => all.into_iter().next(),
        Event::Applied(one) => Some(one),
        // It comes back; until then the last authority holds.
        Event::Deleted(_) => return false,
    };
    let Some(data) = map.and_then(|map| map.data) else {
        tracing::warn!(
            "expected a front proxy's authority in ConfigMap {}/{}, found none",
            AUTHENTICATION.0,
            AUTHENTICATION.1
        );
        return false;
    };
    match accept(tls, &data) {
        Ok(front_proxy) => {
            app.set_front_proxy(front_proxy);
            true
        }
        Err(why) => {
            tracing::warn!("keeping the old front proxy's authority: {why}");
            false
        }
    }
}

fn accept(tls: &ServerTls, data: &BTreeMap<String, String>) -> Result<FrontProxy, String> {
    let ca = data.get("requestheader-client-ca-file").ok_or(
        "expected key requestheader-client-ca-file in ConfigMap extension-apiserver-authentication",
    )?;
    let front_proxy = FrontProxy::from_data(data)?;
    tls.set_optional_client_ca(Some(ca.clone().into_bytes()))
        .map_err(|error| format!("{:#}", anyhow::Error::from(error)))?;
    Ok(front_proxy)
}
