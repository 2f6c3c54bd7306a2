//! The cluster: which one, as whom, and the two requests we make of it.

use std::path::Path;

use anyhow::{Context, bail};
use http::{Method, Request, StatusCode, header};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde::Serialize;
use serde_json::Value;

use crate::cli::Connection;

/// A refusal of the API server or of virt-api.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refusal {
    /// HTTP status.
    pub(crate) code: u16,
    /// What the server says.
    pub(crate) message: String,
}

/// A connection to the cluster.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) client: kube::Client,
    /// Namespace of the request, from `-n` or the kubeconfig's context.
    pub(crate) namespace: String,
}

impl Cluster {
    /// Connects as the flags, the kubeconfig or the pod's service account say.
    ///
    /// # Errors
    /// When none says which cluster, or a file in it is bad.
    pub(crate) async fn connect(connection: &Connection) -> anyhow::Result<Self> {
        let mut config = config(connection).await?;
        apply(&mut config, connection)?;
        let namespace = config.default_namespace.clone();
        let client = kube::Client::try_from(config).context("cannot connect to the cluster")?;
        Ok(Self { client, namespace })
    }

    /// An object or document.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let body = self.ask(Request::get(path).body(Body::empty())?).await?;
        Ok(serde_json::from_slice(&body)?)
    }

    /// The VM or VMI of that name; `None` when there is none.
    pub(crate) async fn object(&self, plural: &str, name: &str) -> anyhow::Result<Option<Value>> {
        let path = format!(
            "/apis/{}/namespaces/{}/{plural}/{name}",
            api::names::API_VERSION,
            self.namespace
        );
        self.find(&path).await
    }

    /// The object at that path; `None` when there is none.
    pub(crate) async fn find(&self, path: &str) -> anyhow::Result<Option<Value>> {
        match self.get(path).await {
            Ok(object) => Ok(Some(object)),
            Err(error)
                if error
                    .downcast_ref::<Refusal>()
                    .is_some_and(|refusal| refusal.code == 404) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// `PUT` of a verb with its options.
    pub(crate) async fn put(
        &self,
        plural: &str,
        name: &str,
        verb: &str,
        options: &impl Serialize,
    ) -> anyhow::Result<()> {
        let request = Request::builder()
            .method(Method::PUT)
            .uri(subresource(&self.namespace, plural, name, verb))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(serde_json::to_vec(options)?))?;
        self.ask(request).await?;
        Ok(())
    }

    /// Creates an object; gives it as it was stored.
    pub(crate) async fn post(&self, path: &str, object: &Value) -> anyhow::Result<Value> {
        self.send(Method::POST, path, "application/json", object)
            .await
    }

    /// Changes fields of an object (RFC 7396); gives it as it was stored.
    pub(crate) async fn merge(&self, path: &str, patch: &Value) -> anyhow::Result<Value> {
        self.send(Method::PATCH, path, "application/merge-patch+json", patch)
            .await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: &Value,
    ) -> anyhow::Result<Value> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, content_type)
            .body(Body::from(serde_json::to_vec(body)?))?;
        Ok(serde_json::from_slice(&self.ask(request).await?)?)
    }

    async fn ask(&self, request: Request<Body>) -> anyhow::Result<Vec<u8>> {
        let answer = self.client.send(request).await?;
        let code = answer.status();
        let body = answer.into_body().collect_bytes().await?;
        if code.is_success() {
            Ok(body.to_vec())
        } else {
            Err(refusal(code, &body).into())
        }
    }
}

/// URL path of a subresource.
pub(crate) fn subresource(namespace: &str, plural: &str, name: &str, verb: &str) -> String {
    let group = api::names::SUBRESOURCE_GROUP;
    let version = api::names::SUBRESOURCE_VERSIONS[0];
    format!("/apis/{group}/{version}/namespaces/{namespace}/{plural}/{name}/{verb}")
}

/// What a refused request's body says: a Status, or bare text.
pub(crate) fn refusal(code: StatusCode, body: &[u8]) -> Refusal {
    let status: Option<Value> = serde_json::from_slice(body).ok();
    let message = match status
        .as_ref()
        .and_then(|status| status["message"].as_str())
    {
        Some(message) => message.to_owned(),
        None => {
            let text = String::from_utf8_lossy(body);
            let text = text.trim();
            if text.is_empty() {
                format!("the server answered {code}")
            } else {
                format!("the server answered {code}: {text}")
            }
        }
    };
    Refusal {
        code: code.as_u16(),
        message,
    }
}

async fn config(connection: &Connection) -> anyhow::Result<kube::Config> {
    let options = KubeConfigOptions {
        context: connection.context.clone(),
        cluster: connection.cluster.clone(),
        user: connection.user.clone(),
    };
    let kubeconfig = match &connection.kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    match kubeconfig {
        Ok(kubeconfig) => kube::Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .context("the kubeconfig cannot be used"),
        Err(error)
            if connection.kubeconfig.is_some() || std::env::var_os("KUBECONFIG").is_some() =>
        {
            Err(error).context("the kubeconfig cannot be read")
        }
        Err(error) => {
            if let Ok(config) = kube::Config::incluster() {
                return Ok(config);
            }
            match &connection.server {
                Some(server) => Ok(kube::Config::new(server.parse().context("--server")?)),
                None => Err(error).context(
                    "expected --kubeconfig, KUBECONFIG or ~/.kube/config to name a cluster",
                ),
            }
        }
    }
}

/// Flags win over the kubeconfig.
fn apply(config: &mut kube::Config, connection: &Connection) -> anyhow::Result<()> {
    // Consoles are quiet for hours.
    config.read_timeout = None;
    config.write_timeout = None;
    if let Some(namespace) = &connection.namespace {
        config.default_namespace.clone_from(namespace);
    }
    if let Some(server) = &connection.server {
        let server = if server.contains("://") {
            server.clone()
        } else {
            format!("http://{server}")
        };
        config.cluster_url = server
            .parse()
            .with_context(|| format!("expected --server to be a URL, found {server:?}"))?;
    }
    if let Some(path) = &connection.certificate_authority {
        config.root_cert = None;
        config.root_cert_file = Some(path.clone());
    }
    config.accept_invalid_certs |= connection.insecure_skip_tls_verify;
    if let Some(name) = &connection.tls_server_name {
        config.tls_server_name = Some(name.clone());
    }
    let auth = &mut config.auth_info;
    if let Some(token) = &connection.token {
        auth.token = Some(token.clone().into());
        auth.token_file = None;
    }
    match (&connection.client_certificate, &connection.client_key) {
        (None, None) => {}
        (Some(certificate), Some(key)) => {
            auth.client_certificate = Some(text(certificate)?);
            auth.client_key = Some(text(key)?);
            auth.client_certificate_data = None;
            auth.client_key_data = None;
        }
        _ => bail!("--client-certificate and --client-key go together"),
    }
    if let Some(user) = &connection.impersonate {
        auth.impersonate = Some(user.clone());
    }
    if !connection.impersonate_group.is_empty() {
        auth.impersonate_groups = Some(connection.impersonate_group.clone());
    }
    Ok(())
}

fn text(path: &Path) -> anyhow::Result<String> {
    path.to_str()
        .map(str::to_owned)
        .with_context(|| format!("expected a path in UTF-8, found {}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn refusals_are_read_as_status_or_text() {
        let status = br#"{"kind":"Status","message":"VM is not running","code":409}"#;
        assert_eq!(
            refusal(StatusCode::CONFLICT, status),
            Refusal {
                code: 409,
                message: "VM is not running".to_owned()
            }
        );
        let text = refusal(StatusCode::UNAUTHORIZED, b"no\n");
        assert_eq!(text.message, "the server answered 401 Unauthorized: no");
    }

    #[test]
    fn flags_win_over_the_kubeconfig() {
        let mut config = kube::Config::new("https://a:6443".parse().unwrap());
        let connection = Connection {
            namespace: Some("ns".to_owned()),
            server: Some("https://b:6443".to_owned()),
            impersonate: Some("alice".to_owned()),
            ..Connection::default()
        };
        apply(&mut config, &connection).unwrap();
        assert_eq!(config.default_namespace, "ns");
        assert_eq!(config.cluster_url, "https://b:6443");
        assert_eq!(config.auth_info.impersonate.as_deref(), Some("alice"));
        let half = Connection {
            client_key: Some("k".into()),
            ..Connection::default()
        };
        assert!(apply(&mut config, &half).is_err());
    }
}
