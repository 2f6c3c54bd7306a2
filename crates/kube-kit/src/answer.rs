//! Small answers of a server: JSON, text, nothing; documents that a client may
//! have already, and admission reviews that are to be answered.

use std::hash::{DefaultHasher, Hash, Hasher};

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Bytes};
use serde::Serialize;
use serde_json::Value;

/// Objects are at most 3 MiB in the API server; a review holds the old and the
/// new one.
const REVIEW: usize = 8 << 20;

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

/// A document with its ETag, or 304 when the client has it.
pub fn tagged(document: &Value, headers: &HeaderMap) -> Answer {
    let tag = format!("\"{}\"", fingerprint(document));
    let known = headers
        .get(header::IF_NONE_MATCH)
        .is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let mut answer = if known {
        empty(304)
    } else {
        json(200, document)
    };
    if let Ok(tag) = HeaderValue::try_from(tag) {
        answer.headers_mut().insert(header::ETAG, tag);
    }
    answer
}

/// Tells documents apart: the same in all replicas of one build.
#[must_use]
pub fn fingerprint(document: &Value) -> String {
    let mut hasher = DefaultHasher::new();
    document.to_string().hash(&mut hasher);
    format!("{:016X}", hasher.finish())
}

/// The AdmissionReview that the API server posts to a webhook.
///
/// # Errors
/// The answer to anything else.
pub async fn review<B>(request: Request<B>) -> Result<Value, Answer>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if request.method() != Method::POST {
        return Err(text(405, "405: Method Not Allowed"));
    }
    let body = Limited::new(request.into_body(), REVIEW).collect().await;
    let body = body.map_err(|error| text(400, error.to_string()))?;
    serde_json::from_slice(&body.to_bytes())
        .map_err(|error| text(400, format!("expected an AdmissionReview in JSON: {error}")))
}
