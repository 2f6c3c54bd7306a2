//! The websocket handshake (RFC 6455, section 4.2) of the server's side.

use decide::subresource::Refusal;
use http::{HeaderMap, HeaderValue, header};
use tokio_tungstenite::tungstenite::handshake::{client::generate_key, derive_accept_key};

use crate::answer::{self, Answer};

/// A key for a handshake of our own.
pub(crate) fn new_key() -> String {
    generate_key()
}

/// What a client offered in its handshake, found good.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Handshake {
    accept: String,
    plain: bool,
}

impl Handshake {
    /// Reads a client's handshake.
    ///
    /// # Errors
    /// 400 when the request is not a handshake.
    pub(crate) fn read(headers: &HeaderMap) -> Result<Self, Refusal> {
        if !has_token(headers, &header::CONNECTION, "upgrade") {
            return Err(refused("'upgrade' token not found in 'Connection' header"));
        }
        if !has_token(headers, &header::UPGRADE, "websocket") {
            return Err(refused("'websocket' token not found in 'Upgrade' header"));
        }
        if !has_token(headers, &header::SEC_WEBSOCKET_VERSION, "13") {
            return Err(refused(
                "expected version 13 in 'Sec-Websocket-Version' header",
            ));
        }
        let key = headers
            .get(header::SEC_WEBSOCKET_KEY)
            .filter(|key| !key.is_empty())
            .ok_or_else(|| refused("'Sec-Websocket-Key' header is missing or blank"))?;
        Ok(Self {
            accept: derive_accept_key(key.as_bytes()),
            plain: has_token(
                headers,
                &header::SEC_WEBSOCKET_PROTOCOL,
                api::names::PLAIN_STREAM_PROTOCOL,
            ),
        })
    }

    /// The answer after which the connection is a websocket. The subprotocol is
    /// named only when the client offered it.
    pub(crate) fn answer(&self) -> Answer {
        let mut answer = answer::empty(101);
        let headers = answer.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        if let Ok(accept) = HeaderValue::from_str(&self.accept) {
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        }
        if self.plain {
            let plain = HeaderValue::from_static(api::names::PLAIN_STREAM_PROTOCOL);
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, plain);
        }
        answer
    }
}

fn refused(why: &str) -> Refusal {
    Refusal::bad_request(format!(
        "websocket: the client is not using the websocket protocol: {why}"
    ))
}

fn has_token(headers: &HeaderMap, name: &header::HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|word| word.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        list.iter()
            .map(|(name, value)| {
                (
                    name.parse::<header::HeaderName>().unwrap(),
                    value.parse().unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn a_handshake_is_answered_as_the_rfc_says() {
        // Key and accept of RFC 6455, section 1.3.
        let handshake = Handshake::read(&headers(&[
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-protocol", "other, plain.kubevirt.io"),
        ]))
        .unwrap();
        let answer = handshake.answer();
        assert_eq!(answer.status(), 101);
        assert_eq!(
            answer.headers()["sec-websocket-accept"],
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        assert_eq!(
            answer.headers()["sec-websocket-protocol"],
            "plain.kubevirt.io"
        );
    }

    #[test]
    fn what_is_no_handshake_is_a_bad_request() {
        let refusal = Handshake::read(&HeaderMap::new()).unwrap_err();
        assert_eq!(refusal.code, 400);
        assert!(refusal.message.contains("'upgrade' token not found"));
    }
}
