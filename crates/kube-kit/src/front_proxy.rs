//! Request-header authentication: the API server's front proxy proves itself
//! by a certificate and says in headers who the user is.
//!
//! The settings are the cluster's, in ConfigMap
//! kube-system/extension-apiserver-authentication. Unlike upstream we also
//! hold the certificate's common name against `requestheader-allowed-names`.

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::ConfigMap;

use crate::serve::Peer;
use crate::tls::ServerTls;
use crate::watch::{Event, Selector, watch};
use http::HeaderMap;

/// Where the API server publishes its front proxy's authority.
const AUTHENTICATION: (&str, &str) = ("kube-system", "extension-apiserver-authentication");

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The user's name.
    pub name: String,
    /// The groups the user is in.
    pub groups: Vec<String>,
    /// What else the authenticator says, by key.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// How the front proxy is known and what it says where. Header names are in
/// lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontProxy {
    /// Common names that are accepted; any when empty.
    names: Vec<String>,
    user: Vec<String>,
    group: Vec<String>,
    extra: Vec<String>,
}

impl Default for FrontProxy {
    fn default() -> Self {
        let one = |name: &str| vec![name.to_owned()];
        Self {
            names: Vec::new(),
            user: one("x-remote-user"),
            group: one("x-remote-group"),
            extra: one("x-remote-extra-"),
        }
    }
}

impl FrontProxy {
    /// From the ConfigMap's data. Lists are JSON arrays.
    ///
    /// # Errors
    /// A sentence that names the key when a list is none.
    pub fn from_data(data: &BTreeMap<String, String>) -> Result<Self, String> {
        let list = |key: &str| -> Result<Vec<String>, String> {
            let text = data.get(key).map_or("", String::as_str);
            if text.is_empty() {
                return Ok(Vec::new());
            }
            serde_json::from_str(text).map_err(|error| {
                format!("{key}: expected a JSON list of strings, found {text:?}: {error}")
            })
        };
        let headers = |key: &str, usual: Vec<String>| -> Result<Vec<String>, String> {
            let mut all: Vec<String> = list(key)?
                .iter()
                .map(|name| name.to_ascii_lowercase())
                .collect();
            if all.is_empty() {
                all = usual;
            }
            Ok(all)
        };
        let usual = Self::default();
        Ok(Self {
            names: list("requestheader-allowed-names")?,
            user: headers("requestheader-username-headers", usual.user)?,
            group: headers("requestheader-group-headers", usual.group)?,
            extra: headers("requestheader-extra-headers-prefix", usual.extra)?,
        })
    }

    /// Who asks, as the front proxy says.
    ///
    /// # Errors
    /// The sentence for the client when the peer is not the front proxy, or it
    /// does not name a user and groups.
    pub fn user(&self, peer: Option<&Peer>, headers: &HeaderMap) -> Result<User, String> {
        let trusted = peer
            .filter(|peer| !peer.certificates.is_empty())
            .is_some_and(|peer| {
                self.names.is_empty()
                    || peer
                        .common_name
                        .as_ref()
                        .is_some_and(|name| self.names.contains(name))
            });
        if !trusted {
            return Err("request is not authenticated".to_owned());
        }
        let values = |names: &[String]| -> Option<Vec<String>> {
            let name = names
                .iter()
                .find(|name| headers.contains_key(name.as_str()))?;
            Some(headers.get_all(name.as_str()).iter().map(text).collect())
        };
        let name = values(&self.user)
            .and_then(|names| names.into_iter().next())
            .ok_or("a valid user header is required for authorization")?;
        let groups =
            values(&self.group).ok_or("a valid group header is required for authorization")?;
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (header, value) in headers {
            let key = self
                .extra
                .iter()
                .find_map(|prefix| header.as_str().strip_prefix(prefix.as_str()));
            if let Some(key) = key {
                extra
                    .entry(percent_decode(key))
                    .or_default()
                    .push(text(value));
            }
        }
        Ok(User {
            name,
            groups,
            extra,
        })
    }
}

/// Follows the cluster's settings: makes `tls` accept the front proxy's
/// certificate and then tells how the front proxy is known. Never ends; settings
/// that cannot be used are logged, and the last ones hold.
pub fn follow(client: kube::Client, tls: Arc<ServerTls>) -> BoxStream<'static, FrontProxy> {
    let (namespace, name) = AUTHENTICATION;
    let selector = Selector::all()
        .namespace(namespace)
        .fields(&format!("metadata.name={name}"));
    watch::<ConfigMap>(client, &selector)
        .filter_map(move |event| ready(trust(&tls, event)))
        .boxed()
}

fn trust(tls: &ServerTls, event: Event<ConfigMap>) -> Option<FrontProxy> {
    let map = match event {
        Event::Restarted(all) => all.into_iter().next(),
        Event::Applied(one) => Some(one),
        // It comes back; until then the last authority holds.
        Event::Deleted(_) => return None,
    };
    let Some(data) = map.and_then(|map| map.data) else {
        tracing::warn!(
            "expected a front proxy's authority in ConfigMap {}/{}, found none",
            AUTHENTICATION.0,
            AUTHENTICATION.1
        );
        return None;
    };
    match accept(tls, &data) {
        Ok(front_proxy) => Some(front_proxy),
        Err(why) => {
            tracing::warn!("keeping the old front proxy's authority: {why}");
            None
        }
    }
}

fn accept(tls: &ServerTls, data: &BTreeMap<String, String>) -> Result<FrontProxy, String> {
    let ca = data.get("requestheader-client-ca-file").ok_or(
        "expected key requestheader-client-ca-file in ConfigMap extension-apiserver-authentication",
    )?;
    let front_proxy = FrontProxy::from_data(data)?;
    tls.set_optional_client_ca(Some(ca.clone().into_bytes()))
        .map_err(|error| format!("{:#}", anyhow::Error::from(error)))?;
    Ok(front_proxy)
}

fn text(value: &http::HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// Decodes `%2F` and the like; a malformed key stays as it is.
fn percent_decode(key: &str) -> String {
    let bytes = key.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'%' {
            let byte = key
                .get(at + 1..at + 3)
                .and_then(|hex| u8::from_str_radix(hex, 16).ok());
            let Some(byte) = byte else {
                return key.to_owned();
            };
            out.push(byte);
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| key.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn peer(name: Option<&str>) -> Peer {
        let certificates: Arc<[_]> = match name {
            Some(_) => Arc::from([vec![0u8].into()]),
            None => Arc::from([]),
        };
        Peer {
            address: ([127, 0, 0, 1], 1).into(),
            certificates,
            common_name: name.map(str::to_owned),
        }
    }

    fn settings() -> FrontProxy {
        let data = [
            ("requestheader-allowed-names", r#"["front-proxy-client"]"#),
            ("requestheader-username-headers", r#"["X-Remote-User"]"#),
            (
                "requestheader-extra-headers-prefix",
                r#"["X-Remote-Extra-"]"#,
            ),
        ];
        FrontProxy::from_data(
            &data
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
        )
        .unwrap()
    }

    fn headers() -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("x-remote-user", "alice".parse().unwrap());
        headers.append("x-remote-group", "dev".parse().unwrap());
        headers.append("x-remote-group", "system:authenticated".parse().unwrap());
        headers.insert(
            "x-remote-extra-authentication.kubernetes.io%2fpod-name",
            "p".parse().unwrap(),
        );
        headers
    }

    #[test]
    fn the_front_proxys_word_is_taken() {
        let user = settings()
            .user(Some(&peer(Some("front-proxy-client"))), &headers())
            .unwrap();
        assert_eq!(user.name, "alice");
        assert_eq!(user.groups, ["dev", "system:authenticated"]);
        assert_eq!(user.extra["authentication.kubernetes.io/pod-name"], ["p"]);
    }

    #[test]
    fn nobody_elses_word_is_taken() {
        for peer in [None, Some(peer(None)), Some(peer(Some("kubelet")))] {
            assert_eq!(
                settings().user(peer.as_ref(), &headers()).unwrap_err(),
                "request is not authenticated"
            );
        }
        assert!(
            FrontProxy::default()
                .user(Some(&peer(Some("any"))), &headers())
                .is_ok()
        );
    }

    #[test]
    fn user_and_groups_must_be_named() {
        let peer = peer(Some("front-proxy-client"));
        let mut none = headers();
        none.remove("x-remote-group");
        assert!(
            settings()
                .user(Some(&peer), &none)
                .unwrap_err()
                .contains("group header")
        );
        none.remove("x-remote-user");
        assert!(
            settings()
                .user(Some(&peer), &none)
                .unwrap_err()
                .contains("user header")
        );
    }

    #[test]
    fn a_list_that_is_none_is_named() {
        let data = [("requestheader-allowed-names".to_owned(), "x".to_owned())].into();
        assert!(
            FrontProxy::from_data(&data)
                .unwrap_err()
                .contains("requestheader-allowed-names")
        );
    }
}
