//! Small answers: JSON, text, Status.

use decide::subresource::Refusal;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Bytes;
use serde::Serialize;

/// Every answer's shape; streams go on after an empty one.
pub(crate) type Answer = Response<Full<Bytes>>;

/// An answer without a body.
pub(crate) fn empty(code: u16) -> Answer {
    with(code, None, Bytes::new())
}

/// An answer in JSON.
pub(crate) fn json(code: u16, value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(body) => with(code, Some("application/json"), body.into()),
        // Values that are made of strings and numbers always serialize.
        Err(error) => text(500, error.to_string()),
    }
}

/// An answer in plain text.
pub(crate) fn text(code: u16, text: impl Into<String>) -> Answer {
    with(code, Some("text/plain; charset=utf-8"), text.into().into())
}

/// A refusal as a `metav1.Status`.
pub(crate) fn refusal(refusal: &Refusal) -> Answer {
    tracing::debug!(code = refusal.code, "refused: {refusal}");
    json(refusal.code, &refusal.to_status())
}

fn with(code: u16, content_type: Option<&'static str>, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = answer.headers_mut();
    if let Some(content_type) = content_type {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    answer
}
