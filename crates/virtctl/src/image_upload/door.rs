//! The way to the upload proxy: its URL, or a tunnel through the API server where there
//! is no URL or it leads nowhere.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use api::cdi::names;
use http::Uri;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::args::ImageUploadArgs;
use super::trust;
use crate::cluster::Cluster;
use crate::output::err;

/// How long an address is tried before it counts as out of reach.
const CONNECT: Duration = Duration::from_secs(5);

/// Both directions of a connection.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// How the proxy is reached.
enum Way {
    /// By its address.
    Direct { host: String, port: u16 },
    /// Through the API server to this pod and port.
    Tunnel(Box<Tunnel>),
}

/// A pod's port behind the API server.
struct Tunnel {
    pods: Api<Pod>,
    pod: String,
    port: u16,
}

/// The way to the upload proxy.
pub(super) struct Door {
    url: String,
    host: String,
    path: String,
    tls: Option<Arc<ClientConfig>>,
    way: Way,
}

impl Door {
    /// By the flag's URL, or the CDI configuration's, or through the API server.
    ///
    /// # Errors
    /// When there is no way, with what to do about it.
    pub(super) async fn find(cluster: &Cluster, args: &ImageUploadArgs) -> anyhow::Result<Self> {
        let path = format!("/apis/{}/cdiconfigs/{}", names::API_VERSION, names::CONFIG);
        let given = args.uploadproxy_url.clone().filter(|url| !url.is_empty());
        // Who gave a URL may not be allowed to read the configuration.
        let config = match cluster.find(&path).await {
            Ok(config) => config.unwrap_or_default(),
            Err(_) if given.is_some() => Value::Null,
            Err(error) => return Err(error),
        };
        let of = |pointer: &str| {
            config
                .pointer(pointer)
                .and_then(Value::as_str)
                .filter(|text| !text.is_empty())
                .map(str::to_owned)
        };
        let url = given
            .or_else(|| of("/spec/uploadProxyURLOverride"))
            .or_else(|| of("/status/uploadProxyURL"));
        let authorities = async || match of("/status/uploadProxyCA") {
            Some(pem) => Some(pem),
            None => authorities(cluster).await,
        };
        let why = match &url {
            None => "uploadproxy URL not found".to_owned(),
            Some(url) => {
                let mut door = Self::direct(url)?;
                match tokio::time::timeout(CONNECT, door.dial()).await {
                    Ok(Ok(_)) => {
                        if door.url.starts_with("https:") {
                            let more = if args.insecure {
                                None
                            } else {
                                authorities().await
                            };
                            door.tls = Some(trust::config(args.insecure, more.as_deref())?);
                        }
                        return Ok(door);
                    }
                    Ok(Err(error)) => {
                        format!("the upload proxy at {url} cannot be reached: {error:#}")
                    }
                    Err(_) => format!(
                        "the upload proxy at {url} cannot be reached: no answer in {} s",
                        CONNECT.as_secs()
                    ),
                }
            }
        };
        let help = format!(
            "To reach it directly, expose service {}/{} (NodePort, load balancer or ingress) and give its address by --uploadproxy-url, or set spec.config.uploadProxyURLOverride of the CDI object.",
            names::NAMESPACE,
            names::UPLOAD_PROXY
        );
        let mut door = Self::tunnel(cluster).await.with_context(|| {
            format!("{why}\n{help}\nA tunnel through the API server failed too")
        })?;
        err(format!(
            "{why}; uploading through a port-forward to service {}/{} instead, which is slower.\n{help}",
            names::NAMESPACE,
            names::UPLOAD_PROXY
        ));
        let more = if args.insecure {
            None
        } else {
            authorities().await
        };
        door.tls = Some(trust::config(args.insecure, more.as_deref())?);
        Ok(door)
    }

    fn direct(url: &str) -> anyhow::Result<Self> {
        let url = if url.contains("://") {
            url.to_owned()
        } else {
            format!("https://{url}")
        };
        let bad =
            || format!("expected the upload proxy's URL as https://HOST[:PORT], found {url:?}");
        let uri: Uri = url.parse().with_context(bad)?;
        let port = match uri.scheme_str() {
            Some("https") => 443,
            Some("http") => 80,
            _ => bail!(bad()),
        };
        let host = uri.host().with_context(bad)?;
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        Ok(Self {
            path: uri.path().trim_end_matches('/').to_owned(),
            way: Way::Direct {
                host: host.clone(),
                port: uri.port_u16().unwrap_or(port),
            },
            host,
            tls: None,
            url,
        })
    }

    async fn tunnel(cluster: &Cluster) -> anyhow::Result<Self> {
        let (namespace, service) = (names::NAMESPACE, names::UPLOAD_PROXY);
        let base = format!("/api/v1/namespaces/{namespace}");
        let found = cluster
            .get(&format!("{base}/services/{service}"))
            .await
            .with_context(|| format!("cannot read service {namespace}/{service}"))?;
        let selector: Vec<String> = found["spec"]["selector"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, value)| format!("{key}%3D{}", value.as_str().unwrap_or_default()))
            .collect();
        if selector.is_empty() {
            bail!("service {namespace}/{service} selects no pods");
        }
        let list = cluster
            .get(&format!("{base}/pods?labelSelector={}", selector.join(",")))
            .await
            .with_context(|| format!("cannot list the pods of service {namespace}/{service}"))?;
        let pod = list["items"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|pod| is_ready(pod))
            .and_then(|pod| pod["metadata"]["name"].as_str())
            .ok_or_else(|| {
                anyhow!("no pod of service {namespace}/{service} is ready; see kubectl get pods -n {namespace}")
            })?;
        let port = found["spec"]["ports"][0]["targetPort"]
            .as_u64()
            .and_then(|port| u16::try_from(port).ok())
            .unwrap_or(names::UPLOAD_PORT);
        let host = format!("{service}.{namespace}.svc");
        let door = Self {
            url: format!("https://{host}"),
            host,
            path: String::new(),
            tls: None,
            way: Way::Tunnel(Box::new(Tunnel {
                pods: Api::namespaced(cluster.client.clone(), namespace),
                pod: pod.to_owned(),
                port,
            })),
        };
        door.dial().await?;
        Ok(door)
    }

    /// The URL, for people and for `Host`.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Host and, when it is not the scheme's, port.
    pub(super) fn authority(&self) -> &str {
        let rest = self.url.split_once("://").map_or("", |(_, rest)| rest);
        rest.split('/').next().unwrap_or_default()
    }

    /// The path of an upload's endpoint, unless the URL has one itself.
    pub(super) fn endpoint(&self, endpoint: &str) -> String {
        let path = format!("/{}/{endpoint}", api::upload::PATH_VERSIONS[0]);
        if self.path.contains(&path) {
            self.path.clone()
        } else {
            format!("{}{path}", self.path)
        }
    }

    /// A connection, with TLS if the URL says so.
    ///
    /// # Errors
    /// When it cannot be had.
    pub(super) async fn open(&self) -> anyhow::Result<Box<dyn Stream>> {
        let stream = self.dial().await?;
        let Some(tls) = &self.tls else {
            return Ok(stream);
        };
        let name = ServerName::try_from(self.host.clone())
            .with_context(|| format!("expected a host name or address, found {}", self.host))?;
        let stream = TlsConnector::from(Arc::clone(tls))
            .connect(name, stream)
            .await
            .with_context(|| {
                format!(
                    "TLS with {}: is its certificate signed by an authority that this machine knows? --insecure does not ask",
                    self.url
                )
            })?;
        Ok(Box::new(stream))
    }

    async fn dial(&self) -> anyhow::Result<Box<dyn Stream>> {
        match &self.way {
            Way::Direct { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            Way::Tunnel(tunnel) => {
                let Tunnel { pods, pod, port } = tunnel.as_ref();
                let mut tunnel = pods
                    .portforward(pod, &[*port])
                    .await
                    .with_context(|| format!("cannot forward to port {port} of pod {pod}"))?;
                let stream = tunnel
                    .take_stream(*port)
                    .with_context(|| format!("no stream to port {port} of pod {pod}"))?;
                Ok(Box::new(stream))
            }
        }
    }
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// The authorities of the proxy's certificate, if we may read them.
async fn authorities(cluster: &Cluster) -> Option<String> {
    let path = format!(
        "/api/v1/namespaces/{}/configmaps/{}",
        names::NAMESPACE,
        names::UPLOAD_PROXY_CA_BUNDLE
    );
    let map = cluster.find(&path).await.ok()??;
    map["data"][names::CA_BUNDLE_KEY]
        .as_str()
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_url_is_read_as_people_write_it() {
        for (text, host, port, authority) in [
            ("https://10.0.0.1:443", "10.0.0.1", 443, "10.0.0.1:443"),
            ("10.0.0.1:31001", "10.0.0.1", 31001, "10.0.0.1:31001"),
            ("https://cdi.example/", "cdi.example", 443, "cdi.example"),
            ("http://cdi.example", "cdi.example", 80, "cdi.example"),
            ("https://[fd00::1]:8443", "fd00::1", 8443, "[fd00::1]:8443"),
        ] {
            let door = Door::direct(text).unwrap();
            assert!(
                matches!(&door.way, Way::Direct { host: h, port: p } if h == host && *p == port),
                "{text}"
            );
            assert_eq!(door.authority(), authority, "{text}");
            assert_eq!(
                door.endpoint("upload-async"),
                "/v1beta1/upload-async",
                "{text}"
            );
        }
        assert!(Door::direct("ftp://x").is_err());
        assert!(Door::direct("https://").is_err());
    }

    #[test]
    fn a_path_in_the_url_is_kept() {
        let door = Door::direct("https://edge.example/cdi").unwrap();
        assert_eq!(door.endpoint("upload"), "/cdi/v1beta1/upload");
        let door = Door::direct("https://edge.example/v1beta1/upload").unwrap();
        assert_eq!(door.endpoint("upload"), "/v1beta1/upload");
    }
}
