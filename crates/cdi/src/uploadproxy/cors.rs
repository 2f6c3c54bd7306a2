//! Cross-origin requests: any page may upload, for who has a token needs no cookie.
//! Source: CDI's `cors.AllowAll` (pkg/uploadproxy), and the Fetch standard.

use api::upload::{LENGTH_HEADER, OFFSET_HEADER};
use http::{HeaderMap, HeaderValue, Method, Request, header};
use kube_kit::answer::{self, Answer};

const METHODS: [&str; 6] = ["HEAD", "GET", "POST", "PUT", "PATCH", "DELETE"];

/// The answer to a browser's question whether it may ask.
pub(super) fn preflight<B>(request: &Request<B>) -> Option<Answer> {
    let headers = request.headers();
    let wanted = headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
    if request.method() != Method::OPTIONS {
        return None;
    }
    let mut answer = answer::empty(204);
    let out = answer.headers_mut();
    for vary in [
        header::ORIGIN,
        header::ACCESS_CONTROL_REQUEST_METHOD,
        header::ACCESS_CONTROL_REQUEST_HEADERS,
    ] {
        out.append(header::VARY, HeaderValue::from(vary));
    }
    let known = METHODS
        .iter()
        .any(|method| wanted.as_bytes() == method.as_bytes());
    if headers.contains_key(header::ORIGIN) && known {
        out.insert(
            header::ACCESS_CONTROL_ALLOW_ORIGIN,
            HeaderValue::from_static("*"),
        );
        out.insert(header::ACCESS_CONTROL_ALLOW_METHODS, wanted.clone());
        if let Some(asked) = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
            out.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
        }
    }
    Some(answer)
}

/// Lets the page of a request with `origin` read the answer with these headers.
pub(super) fn allow(origin: bool, answer: &mut HeaderMap) {
    answer.append(header::VARY, HeaderValue::from_static("Origin"));
    if origin {
        answer.insert(
            header::ACCESS_CONTROL_ALLOW_ORIGIN,
            HeaderValue::from_static("*"),
        );
        for name in [OFFSET_HEADER, LENGTH_HEADER] {
            answer.append(
                header::ACCESS_CONTROL_EXPOSE_HEADERS,
                HeaderValue::from_static(name),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ask(method: &str, headers: &[(&str, &str)]) -> Option<Answer> {
        let mut request = Request::builder().method(method);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        preflight(&request.body(()).unwrap())
    }

    #[test]
    fn a_page_may_post_with_a_token() {
        let answer = ask(
            "OPTIONS",
            &[
                ("origin", "https://a.example"),
                ("access-control-request-method", "POST"),
                (
                    "access-control-request-headers",
                    "authorization,content-type",
                ),
            ],
        )
        .unwrap();
        assert_eq!(answer.status(), 204);
        let headers = answer.headers();
        assert_eq!(headers["access-control-allow-origin"], "*");
        assert_eq!(headers["access-control-allow-methods"], "POST");
        assert_eq!(
            headers["access-control-allow-headers"],
            "authorization,content-type"
        );
    }

    #[test]
    fn other_requests_are_no_preflights() {
        assert!(ask("OPTIONS", &[("origin", "https://a.example")]).is_none());
        assert!(ask("POST", &[("access-control-request-method", "POST")]).is_none());
    }
}
