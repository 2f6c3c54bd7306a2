//! The ways to the upload proxy, each tried from here: TLS, its certificate, and an answer.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use api::cdi::{CDIConfig, names};
use diagnose::{Certificate, Door, Greeting, Read, Way};
use http::{Request, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use kube::{Api, Client};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// How long an address is tried.
const CONNECT: Duration = Duration::from_secs(3);
/// How long the proxy may take: it waits ten seconds for a claim that is not ready.
const ANSWER: Duration = Duration::from_secs(15);
/// An answer of the proxy is a sentence.
const BODY: usize = 64 << 10;
/// Port of the proxy's pods.
const POD_PORT: u16 = names::UPLOAD_PORT;

/// Both directions of a connection.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A way to the proxy.
#[derive(Clone)]
pub(super) struct Path {
    way: Way,
    url: String,
    host: String,
    port: u16,
    tls: bool,
    /// Path that the URL begins with.
    prefix: String,
    /// The pod that a tunnel leads to.
    tunnel: Option<(Api<Pod>, String)>,
}

/// A connection on which one request can be made.
struct Connection {
    sender: hyper::client::conn::http1::SendRequest<Empty<Bytes>>,
    chain: Vec<CertificateDer<'static>>,
}

/// Every way there is, the best for a user first and a tunnel last.
pub(super) fn ways(
    client: &Client,
    config: &Read<Option<CDIConfig>>,
    services: &Read<Vec<Service>>,
    pods: &Read<Vec<Pod>>,
    nodes: &Read<Vec<Node>>,
) -> Vec<Path> {
    let mut ways = Vec::new();
    let config = config.iter().flatten().next();
    let url = config.and_then(|config| config.status.as_ref()?.upload_proxy_url.clone());
    if let Some(url) = url.filter(|url| !url.is_empty()) {
        ways.extend(path(Way::Configured, &url));
    }
    let leads = |service: &&Service| {
        let selector = service
            .spec
            .as_ref()
            .and_then(|spec| spec.selector.as_ref());
        let value = selector.and_then(|labels| labels.get(names::COMPONENT_LABEL));
        value.is_some_and(|value| value == names::UPLOAD_PROXY)
    };
    let mut at = |way: Way, host: &str, port: i32| {
        let host = match host.contains(':') {
            true => format!("[{host}]"),
            false => host.to_owned(),
        };
        ways.extend(path(way, &format!("https://{host}:{port}")));
    };
    let services: Vec<&Service> = services.iter().flatten().filter(leads).collect();
    for service in &services {
        for (port, _) in ports(service) {
            let status = service.status.as_ref();
            let balancer = status.and_then(|status| status.load_balancer.as_ref());
            for one in balancer.iter().flat_map(|b| b.ingress.iter().flatten()) {
                if let Some(host) = one.ip.as_ref().or(one.hostname.as_ref()) {
                    at(Way::LoadBalancer, host, port);
                }
            }
        }
    }
    for service in &services {
        for (_, port) in ports(service) {
            let nodes = nodes.iter().flatten();
            if let (Some(port), Some(host)) = (port, nodes.filter_map(internal).next()) {
                at(Way::NodePort, &host, port);
            }
        }
    }
    for service in &services {
        let address = service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref());
        if let Some(address) = address.filter(|address| !matches!(*address, "" | "None"))
            // A service that was made for its node port has nothing new to say.
            && service.metadata.name.as_deref() == Some(names::UPLOAD_PROXY)
        {
            for (port, _) in ports(service) {
                at(Way::ClusterIp, address, port);
            }
        }
    }
    ways.extend(tunnel(client, pods));
    ways
}

/// Ports and node ports of a service.
fn ports(service: &Service) -> Vec<(i32, Option<i32>)> {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_ref());
    ports
        .into_iter()
        .flatten()
        .map(|port| (port.port, port.node_port))
        .collect()
}

fn internal(node: &Node) -> Option<String> {
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    let internal = addresses.iter().find(|one| one.type_ == "InternalIP")?;
    Some(internal.address.clone())
}

fn tunnel(client: &Client, pods: &Read<Vec<Pod>>) -> Option<Path> {
    let pod = pods.iter().flatten().find(|pod| {
        let labels = pod.metadata.labels.as_ref();
        let label = labels.and_then(|all| all.get(names::COMPONENT_LABEL));
        let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
        label.is_some_and(|label| label == names::UPLOAD_PROXY) && phase == Some("Running")
    })?;
    let host = format!("{}.{}.svc", names::UPLOAD_PROXY, names::NAMESPACE);
    Some(Path {
        way: Way::PortForward,
        url: format!("https://{host}"),
        host,
        port: POD_PORT,
        tls: true,
        prefix: String::new(),
        tunnel: Some((
            Api::namespaced(client.clone(), names::NAMESPACE),
            pod.metadata.name.clone()?,
        )),
    })
}

/// A URL as people write it, the scheme left out or not; `None` if it is none.
fn path(way: Way, url: &str) -> Option<Path> {
    let url = match url.contains("://") {
        true => url.to_owned(),
        false => format!("https://{url}"),
    };
    let uri: Uri = url.parse().ok()?;
    let tls = uri.scheme_str() != Some("http");
    let host = uri.host()?;
    Some(Path {
        way,
        host: host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned(),
        port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }),
        tls,
        prefix: uri.path().trim_end_matches('/').to_owned(),
        tunnel: None,
        url,
    })
}

/// Tries every way at once.
pub(super) async fn try_all(ways: &[Path], bundle: Option<&str>) -> Vec<Door> {
    let mut tries = tokio::task::JoinSet::new();
    for (place, way) in ways.iter().enumerate() {
        let (way, bundle) = (way.clone(), bundle.map(str::to_owned));
        tries.spawn(async move {
            let greeting = way.greet(bundle.as_deref()).await;
            let door = Door {
                way: way.way,
                url: way.url,
                greeting: greeting.map_err(|error| format!("{error:#}")),
            };
            (place, door)
        });
    }
    let mut doors = tries.join_all().await;
    doors.sort_by_key(|(place, _)| *place);
    doors.into_iter().map(|(_, door)| door).collect()
}

impl Path {
    async fn greet(&self, bundle: Option<&str>) -> anyhow::Result<Greeting> {
        let mut connection = self.open().await?;
        let certificate = match connection.chain.split_first() {
            Some((first, rest)) => Some(self.look(first, rest, bundle)?),
            None => None,
        };
        let request = self.request("GET", "/healthz")?;
        let (status, _) = connection.ask(request).await?;
        Ok(Greeting {
            status,
            certificate,
        })
    }

    /// Posts nothing with a token; status and text of the answer.
    pub(super) async fn post(&self, path: &str, token: &str) -> Result<(u16, String), String> {
        let posted = async {
            let mut request = self.request("POST", path)?;
            let value = format!("Bearer {token}").parse()?;
            request.headers_mut().insert(header::AUTHORIZATION, value);
            self.open().await?.ask(request).await
        };
        let posted: anyhow::Result<_> = posted.await;
        posted.map_err(|error| format!("{error:#}"))
    }

    fn request(&self, method: &str, path: &str) -> anyhow::Result<Request<Empty<Bytes>>> {
        Ok(Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.prefix))
            .header(header::HOST, &self.host)
            .header(header::CONTENT_LENGTH, 0)
            .body(Empty::new())?)
    }

    async fn open(&self) -> anyhow::Result<Connection> {
        let limit = || format!("no answer in {} s", CONNECT.as_secs());
        let stream: Box<dyn Stream> = match &self.tunnel {
            None => {
                let connect = TcpStream::connect((self.host.as_str(), self.port));
                Box::new(
                    tokio::time::timeout(CONNECT, connect)
                        .await
                        .with_context(limit)??,
                )
            }
            Some((pods, pod)) => {
                let ports = [self.port];
                let forward = tokio::time::timeout(CONNECT, pods.portforward(pod, &ports));
                let mut forward = forward.await.with_context(limit)??;
                let stream = forward.take_stream(self.port);
                Box::new(stream.context("the API server opened no stream")?)
            }
        };
        if !self.tls {
            return shake(stream, Vec::new()).await;
        }
        let config = ClientConfig::builder_with_provider(trust::provider())
            .with_safe_default_protocol_versions()?
            .dangerous()
            // Whoever it is shall show a certificate; it is looked at afterwards.
            .with_custom_certificate_verifier(trust::verifier(trust::Anyone))
            .with_no_client_auth();
        let name = ServerName::try_from(self.host.clone())?;
        let connect = TlsConnector::from(Arc::new(config)).connect(name, stream);
        let stream = tokio::time::timeout(CONNECT, connect)
            .await
            .with_context(limit)?
            .context("TLS")?;
        let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let chain = shown.iter().map(|one| one.clone().into_owned()).collect();
        shake(stream, chain).await
    }

    /// What there is to know of a certificate.
    fn look(
        &self,
        certificate: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        bundle: Option<&str>,
    ) -> anyhow::Result<Certificate> {
        let (_, parsed) = X509Certificate::from_der(certificate).context("its certificate")?;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(trust::certificates(bundle.unwrap_or_default()));
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let chain = trust::is_signed(certificate, rest, &roots, UnixTime::since_unix_epoch(now));
        let name = ServerName::try_from(self.host.as_str())?;
        let named = parsed.subject_alternative_name().ok().flatten();
        let names = named.iter().flat_map(|named| &named.value.general_names);
        Ok(Certificate {
            issuer: common_name(&parsed),
            names: names.filter_map(readable).collect(),
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            chain: chain.map_err(|error| error.to_string()),
            name: trust::is_for(certificate, &name).map_err(|error| error.to_string()),
        })
    }
}

/// The signer's common name, or all of its name.
fn common_name(certificate: &X509Certificate<'_>) -> String {
    let issuer = certificate.issuer();
    let name = issuer.iter_common_name().next();
    let name = name.and_then(|name| name.as_str().ok());
    name.map_or_else(|| issuer.to_string(), str::to_owned)
}

fn readable(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match <[u8; 4]>::try_from(*bytes) {
            Ok(bytes) => Some(std::net::IpAddr::from(bytes).to_string()),
            Err(_) => <[u8; 16]>::try_from(*bytes)
                .ok()
                .map(|bytes| std::net::IpAddr::from(bytes).to_string()),
        },
        _ => None,
    }
}

async fn shake(
    stream: impl Stream + 'static,
    chain: Vec<CertificateDer<'static>>,
) -> anyhow::Result<Connection> {
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(Connection { sender, chain })
}

impl Connection {
    async fn ask(&mut self, request: Request<Empty<Bytes>>) -> anyhow::Result<(u16, String)> {
        let asked = async {
            let answer = self.sender.send_request(request).await?;
            let status = answer.status().as_u16();
            let body = Limited::new(answer.into_body(), BODY).collect().await;
            let body = body.map_err(|error| anyhow::anyhow!(error))?.to_bytes();
            anyhow::Ok((status, String::from_utf8_lossy(&body).into_owned()))
        };
        tokio::time::timeout(ANSWER, asked)
            .await
            .with_context(|| format!("no answer in {} s", ANSWER.as_secs()))?
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_url_is_read_as_people_write_it() {
        for (text, host, port, tls) in [
            ("https://10.0.0.1:443", "10.0.0.1", 443, true),
            ("10.0.0.1:31001", "10.0.0.1", 31001, true),
            ("cdi.example", "cdi.example", 443, true),
            ("http://cdi.example/x/", "cdi.example", 80, false),
            ("https://[fd00::1]:8443", "fd00::1", 8443, true),
        ] {
            let path = path(Way::Configured, text).unwrap();
            assert_eq!(
                (path.host.as_str(), path.port, path.tls),
                (host, port, tls),
                "{text}"
            );
        }
        assert!(path(Way::Configured, "https://").is_none());
    }
}
