//! The way to virt-handler: HTTPS to the pod on the instance's node, both
//! sides proven by certificates.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use decide::subresource::Refusal;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ObjectList;
use kube_kit::tls::{ClientTls, TlsError};
use tokio::net::TcpStream;

use crate::objects::sentence;
use crate::websocket;

/// From dialling to the head of the answer (upstream's limit).
const ANSWER: Duration = Duration::from_secs(10);
/// How long a pod's address is believed without asking again.
const REMEMBER: Duration = Duration::from_secs(30);
/// More of an error's text than this is not passed on.
const TEXT: usize = 4096;

/// Why virt-handler did not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandlerError {
    /// No pod of it runs on the node.
    #[error("no virt-handler pod is running on node {0}")]
    Absent(String),
    /// The API server could not say where it is.
    #[error("cannot look up the virt-handler pod of node {node}: {why}")]
    Lookup {
        /// The node.
        node: String,
        /// What the API server said.
        why: String,
    },
    /// It cannot be reached.
    #[error("cannot reach virt-handler at {address}: {why}")]
    Unreachable {
        /// Where it should be.
        address: SocketAddr,
        /// What failed.
        why: String,
    },
    /// It answered with something else than success.
    #[error("unexpected return code {code}, message: {text}")]
    Refused {
        /// Its HTTP status.
        code: u16,
        /// Its words.
        text: String,
    },
}

impl HandlerError {
    /// The answer to the client: 400 while the node has no handler, which
    /// client-go tries again for consoles; else 500.
    pub(crate) fn refusal(&self) -> Refusal {
        match self {
            Self::Absent(_) => Refusal::bad_request(self.to_string()),
            _ => Refusal::internal(self.to_string()),
        }
    }
}

/// The virt-handlers of all nodes.
pub(crate) struct Handlers {
    client: kube::Client,
    namespace: String,
    tls: ClientTls,
    port: u16,
    known: Mutex<HashMap<String, (IpAddr, Instant)>>,
}

impl Handlers {
    pub(crate) fn new(client: kube::Client, namespace: &str, tls: ClientTls, port: u16) -> Self {
        Self {
            client,
            namespace: namespace.to_owned(),
            tls,
            port,
            known: Mutex::default(),
        }
    }

    /// Sends a verb without a body and waits for success.
    pub(crate) async fn tell(
        &self,
        node: &str,
        method: Method,
        path: &str,
    ) -> Result<(), HandlerError> {
        let build = || Request::builder().method(method.clone()).uri(path);
        let answer = self.ask(node, build).await?;
        if answer.status().is_success() {
            Ok(())
        } else {
            Err(refused(answer).await)
        }
    }

    /// Opens a websocket and gives the bare bytes behind it.
    pub(crate) async fn open(&self, node: &str, path: &str) -> Result<Upgraded, HandlerError> {
        let key = websocket::new_key();
        let build = || {
            Request::get(path)
                .header(header::CONNECTION, "Upgrade")
                .header(header::UPGRADE, "websocket")
                .header(header::SEC_WEBSOCKET_VERSION, "13")
                .header(header::SEC_WEBSOCKET_KEY, &key)
                .header(
                    header::SEC_WEBSOCKET_PROTOCOL,
                    api::names::PLAIN_STREAM_PROTOCOL,
                )
        };
        let answer = self.ask(node, build).await?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(refused(answer).await);
        }
        hyper::upgrade::on(answer)
            .await
            .map_err(|error| HandlerError::Refused {
                code: 101,
                text: error.to_string(),
            })
    }

    /// One request on a new connection. A remembered address that fails is
    /// looked up again once: the pod may have been replaced.
    async fn ask(
        &self,
        node: &str,
        build: impl Fn() -> http::request::Builder,
    ) -> Result<Response<Incoming>, HandlerError> {
        let (address, remembered) = match self.remembered(node) {
            Some(address) => (address, true),
            None => (self.look_up(node).await?, false),
        };
        match self.ask_at(address, &build).await {
            Err(HandlerError::Unreachable { .. }) if remembered => {
                self.lock().remove(node);
                let address = self.look_up(node).await?;
                self.ask_at(address, &build).await
            }
            outcome => outcome,
        }
    }

    async fn ask_at(
        &self,
        address: IpAddr,
        build: impl Fn() -> http::request::Builder,
    ) -> Result<Response<Incoming>, HandlerError> {
        let address = SocketAddr::from((address, self.port));
        let failed = |why: String| HandlerError::Unreachable { address, why };
        let request = build()
            .header(
                header::HOST,
                HeaderValue::from_str(&address.to_string())
                    .map_err(|error| failed(error.to_string()))?,
            )
            .body(Empty::<Bytes>::new())
            .map_err(|error| failed(error.to_string()))?;
        let exchange = async {
            let stream = TcpStream::connect(address)
                .await
                .map_err(|error| failed(error.to_string()))?;
            stream
                .set_nodelay(true)
                .map_err(|error| failed(error.to_string()))?;
            let stream = self
                .tls
                .connect(stream)
                .await
                .map_err(|error| failed(chain(&error)))?;
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream))
                    .await
                    .map_err(|error| failed(error.to_string()))?;
            tokio::spawn(async move {
                if let Err(error) = connection.with_upgrades().await {
                    tracing::debug!("connection to virt-handler ended: {error}");
                }
            });
            sender
                .send_request(request)
                .await
                .map_err(|error| failed(error.to_string()))
        };
        tokio::time::timeout(ANSWER, exchange)
            .await
            .unwrap_or_else(|_| Err(failed(format!("no answer within {} s", ANSWER.as_secs()))))
    }

    fn remembered(&self, node: &str) -> Option<IpAddr> {
        let mut known = self.lock();
        known.retain(|_, (_, since)| since.elapsed() < REMEMBER);
        known.get(node).map(|(address, _)| *address)
    }

    async fn look_up(&self, node: &str) -> Result<IpAddr, HandlerError> {
        let lookup = |why: String| HandlerError::Lookup {
            node: node.to_owned(),
            why,
        };
        let uri = format!(
            "/api/v1/namespaces/{}/pods?labelSelector=kubevirt.io%3Dvirt-handler&fieldSelector=spec.nodeName%3D{node}",
            self.namespace
        );
        let request = Request::get(uri)
            .body(Vec::new())
            .map_err(|error| lookup(error.to_string()))?;
        let pods: ObjectList<Pod> = self
            .client
            .request(request)
            .await
            .map_err(|error| lookup(sentence(&error)))?;
        let address = pods
            .items
            .iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none())
            .find_map(|pod| pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok())
            .ok_or_else(|| HandlerError::Absent(node.to_owned()))?;
        self.lock()
            .insert(node.to_owned(), (address, Instant::now()));
        Ok(address)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, (IpAddr, Instant)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn refused(answer: Response<Incoming>) -> HandlerError {
    let code = answer.status().as_u16();
    let text = match Limited::new(answer.into_body(), TEXT).collect().await {
        Ok(body) => {
            let body = body.to_bytes();
            // A Status says it in one sentence.
            let status: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
            match status
                .as_ref()
                .and_then(|status| status["message"].as_str())
            {
                Some(message) => message.to_owned(),
                None => String::from_utf8_lossy(&body).trim().to_owned(),
            }
        }
        Err(error) => error.to_string(),
    };
    HandlerError::Refused { code, text }
}

/// An error with its sources, on one line.
fn chain(error: &TlsError) -> String {
    use std::error::Error;
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
