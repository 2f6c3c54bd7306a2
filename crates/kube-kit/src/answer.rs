//! Small answers of a server: JSON, text, nothing.

use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Bytes;
use serde::Serialize;

/// An answer whose body is known whole.
pub type Answer = Response<Full<Bytes>>;

/// An answer without a body. A code that is none gives 500.
#[must_use]
pub fn empty(code: u16) -> Answer {
    with(code, None, Bytes::new())
}

/// An answer in JSON.
pub fn json(code: u16, value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(body) => with(code, Some("application/json"), body.into()),
        // Values that are made of strings and numbers always serialize.
        Err(error) => text(500, error.to_string()),
    }
}

/// An answer in plain text.
pub fn text(code: u16, text: impl Into<String>) -> Answer {
    with(code, Some("text/plain; charset=utf-8"), text.into().into())
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
