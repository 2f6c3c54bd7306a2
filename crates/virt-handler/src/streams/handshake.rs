//! The server's side of the websocket handshake (RFC 6455, section 4.2).

use api::names::PLAIN_STREAM_PROTOCOL;
use http::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{Response, StatusCode};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::{Answer, Refusal};

/// A handshake that was found good.
#[derive(Debug)]
pub(super) struct Handshake {
    accept: String,
    plain: bool,
}

impl Handshake {
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, Refusal> {
        let bad = |what: &str| {
            Err(Refusal::new(
                StatusCode::BAD_REQUEST,
                format!("expected a websocket handshake with {what}"),
            ))
        };
        if !has(headers, &CONNECTION, "upgrade") || !has(headers, &UPGRADE, "websocket") {
            return bad("Connection: Upgrade and Upgrade: websocket");
        }
        if !has(headers, &SEC_WEBSOCKET_VERSION, "13") {
            return bad("Sec-WebSocket-Version: 13");
        }
        let Some(key) = headers.get(SEC_WEBSOCKET_KEY) else {
            return bad("Sec-WebSocket-Key");
        };
        Ok(Self {
            accept: derive_accept_key(key.as_bytes()),
            plain: has(headers, &SEC_WEBSOCKET_PROTOCOL, PLAIN_STREAM_PROTOCOL),
        })
    }

    pub(super) fn answer(&self) -> Answer {
        let mut answer = Response::new(http_body_util::Full::default());
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = answer.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        if let Ok(accept) = HeaderValue::from_str(&self.accept) {
            headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        }
        if self.plain {
            headers.insert(
                SEC_WEBSOCKET_PROTOCOL,
                HeaderValue::from_static(PLAIN_STREAM_PROTOCOL),
            );
        }
        answer
    }
}

/// Whether a header, a list of words, has this one.
fn has(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let values = headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .any(|found| found.trim().eq_ignore_ascii_case(word))
}
