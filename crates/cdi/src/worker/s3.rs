//! AWS Signature Version 4, for objects of any store that speaks S3.
//! Source: AWS General Reference, "Signing AWS requests"; its published example is the test.

use imaging::{Error, Result};
use jiff::Timestamp;
use ring::{digest, hmac};

/// The region of stores that have none; what all of them accept.
const REGION: &str = "us-east-1";
/// The payload of a GET is not signed.
const PAYLOAD: &str = "UNSIGNED-PAYLOAD";

/// The keys, and for which region.
#[derive(Clone)]
pub(super) struct Signer {
    access: String,
    secret: String,
    region: String,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({}, {})", self.access, self.region)
    }
}

/// Scheme and host, host, path.
fn parts(url: &str) -> Option<(&str, &str)> {
    let rest = url.split_once("://")?.1;
    let at = rest.find('/').unwrap_or(rest.len());
    Some((&rest[..at], rest[at..].split(['?', '#']).next()?))
}

/// The endpoint `http[s]://host/bucket/object` in the one form that is signed and sent, or an
/// error when it names no object.
pub(super) fn normal(endpoint: &str) -> Result<String> {
    let endpoint = endpoint
        .strip_prefix("s3://")
        .map_or_else(|| endpoint.to_owned(), |rest| format!("https://{rest}"));
    let bad = || {
        Error::Source(format!(
            "expected an S3 endpoint http[s]://HOST/BUCKET/OBJECT, found {endpoint:?}"
        ))
    };
    let scheme = endpoint.split("://").next().unwrap_or_default();
    let (host, path) = parts(&endpoint).ok_or_else(bad)?;
    let object = path.trim_matches('/').split_once('/').map(|(_, o)| o);
    if object.is_none_or(str::is_empty) || !matches!(scheme, "http" | "https") {
        return Err(bad());
    }
    Ok(format!("{scheme}://{host}{}", encode(path)))
}

/// Percent-encodes all but unreserved characters and slashes; what is encoded already stays.
fn encode(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut text = String::new();
    for (index, byte) in bytes.iter().enumerate() {
        let escaped = *byte == b'%'
            && bytes
                .get(index + 1..index + 3)
                .is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
        if byte.is_ascii_alphanumeric() || b"-_.~/".contains(byte) || escaped {
            text.push(char::from(*byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mac(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

impl Signer {
    pub(super) fn new(access: String, secret: String, url: &str, region: Option<String>) -> Self {
        let host = parts(url).map(|(host, _)| host).unwrap_or_default();
        let named = host
            .split_once("s3.")
            .and_then(|(_, rest)| rest.split_once(".amazonaws.com"))
            .map(|(region, _)| region.to_owned());
        Self {
            access,
            secret,
            region: region.or(named).unwrap_or_else(|| REGION.to_owned()),
        }
    }

    /// The headers that sign a request.
    pub(super) fn sign(
        &self,
        method: &str,
        url: &str,
        now: Timestamp,
    ) -> [(&'static str, String); 3] {
        let (host, path) = parts(url).unwrap_or_default();
        let time = now.strftime("%Y%m%dT%H%M%SZ").to_string();
        let day = now.strftime("%Y%m%d").to_string();
        let headers = "host;x-amz-content-sha256;x-amz-date";
        let request = format!(
            "{method}\n{path}\n\nhost:{host}\nx-amz-content-sha256:{PAYLOAD}\nx-amz-date:{time}\n\n{headers}\n{PAYLOAD}"
        );
        let scope = format!("{day}/{}/s3/aws4_request", self.region);
        let hashed = hex(digest::digest(&digest::SHA256, request.as_bytes()).as_ref());
        let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{hashed}");
        let key = mac(format!("AWS4{}", self.secret).as_bytes(), &day);
        let key = mac(key.as_ref(), &self.region);
        let key = mac(key.as_ref(), "s3");
        let key = mac(key.as_ref(), "aws4_request");
        let signature = hex(mac(key.as_ref(), &text).as_ref());
        [
            ("x-amz-date", time),
            ("x-amz-content-sha256", PAYLOAD.to_owned()),
            (
                "authorization",
                format!(
                    "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={headers}, Signature={signature}",
                    self.access
                ),
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_endpoint_names_host_bucket_and_object() {
        assert_eq!(
            normal("http://h:9000/bucket/a b/c.img").unwrap(),
            "http://h:9000/bucket/a%20b/c.img"
        );
        assert_eq!(normal("s3://h/b/o%20x").unwrap(), "https://h/b/o%20x");
        for bad in ["http://h/bucket", "http://h/bucket/", "ftp://h/b/o", "h"] {
            assert!(normal(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_region_is_in_the_host_or_the_usual_one() {
        for (host, region) in [
            ("https://s3.eu-west-1.amazonaws.com/b/o", "eu-west-1"),
            ("http://minio:9000/b/o", REGION),
        ] {
            let signer = Signer::new(String::new(), String::new(), host, None);
            assert_eq!(signer.region, region);
        }
    }

    #[test]
    fn the_key_is_derived_as_published() {
        // The example of "Deriving the signing key": 20150830, us-east-1, iam.
        let key = mac(b"AWS4wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "20150830");
        let key = mac(key.as_ref(), "us-east-1");
        let key = mac(key.as_ref(), "iam");
        let key = mac(key.as_ref(), "aws4_request");
        assert_eq!(
            hex(key.as_ref()),
            "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9"
        );
    }
}
