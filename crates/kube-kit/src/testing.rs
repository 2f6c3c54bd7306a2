//! API servers for tests of components, without a network.
#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "part of tests only"
)]

mod keeper;
mod world;

use std::sync::{Arc, Mutex};

use http::request::Parts;
use http::{Request, Response};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::{Value, json};

pub use keeper::Keeper;
pub use world::World;

/// What answers requests: the request and its body in, code and object out.
/// A body that is no JSON is null.
pub trait Answer: Send + 'static {
    /// Answers one request.
    fn answer(&mut self, request: &Parts, body: Value) -> (u16, Value);
}

/// A client of `server`, which the test may look at and change meanwhile.
pub fn client(server: &Arc<Mutex<impl Answer>>) -> kube::Client {
    let server = Arc::clone(server);
    let service = tower::service_fn(move |request: Request<Body>| {
        let server = Arc::clone(&server);
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            let body = serde_json::from_slice(&body).unwrap_or_default();
            let (code, answer) = server.lock().unwrap().answer(&parts, body);
            let answer = Body::from(answer.to_string().into_bytes());
            let answer = Response::builder().status(code).body(answer);
            Ok::<_, tower::BoxError>(answer?)
        }
    });
    kube::Client::new(service, "default")
}

/// What the API server answers when it refuses.
#[must_use]
pub fn refusal(code: u16, message: &str) -> (u16, Value) {
    let reason = match code {
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        _ => "Unknown",
    };
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "metadata": {},
        "code": code, "message": message, "reason": reason
    });
    (code, status)
}
