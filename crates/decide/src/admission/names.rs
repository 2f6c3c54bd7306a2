//! Rules for names, with the sentences Kubernetes uses for them, which clients
//! show as they are.
//!
//! Source: k8s.io/apimachinery/pkg/util/validation.

/// Longest DNS label.
const LABEL_MAX: usize = 63;
/// Longest DNS subdomain.
const SUBDOMAIN_MAX: usize = 253;
/// Longest name of a container port.
const PORT_MAX: usize = 15;

fn is_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(|byte| is_alphanumeric(*byte))
        && bytes.last().is_some_and(|byte| is_alphanumeric(*byte))
        && bytes
            .iter()
            .all(|byte| is_alphanumeric(*byte) || *byte == b'-')
}

fn too_long(limit: usize) -> String {
    format!("must be no more than {limit} characters")
}

/// What is wrong with `text` as an RFC 1123 label; nothing when it is one.
pub(super) fn dns_label(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    if text.len() > LABEL_MAX {
        out.push(too_long(LABEL_MAX));
    }
    if !is_label(text) {
        out.push(
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', \
             and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', \
             regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
                .to_owned(),
        );
    }
    out
}

/// What is wrong with `text` as an RFC 1123 subdomain; nothing when it is one.
pub(crate) fn dns_subdomain(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    if text.len() > SUBDOMAIN_MAX {
        out.push(too_long(SUBDOMAIN_MAX));
    }
    if !text.split('.').all(is_label) {
        out.push(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, \
             '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', \
             regex used for validation is \
             '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
                .to_owned(),
        );
    }
    out
}

/// Whether `text` is a port name (IANA_SVC_NAME).
pub(super) fn is_port_name(text: &str) -> bool {
    text.len() <= PORT_MAX
        && is_label(text)
        && !text.contains("--")
        && text.bytes().any(|byte| byte.is_ascii_lowercase())
}

/// What is wrong with `text` as a qualified name (label key); nothing when it is one.
pub(super) fn qualified(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let name = match text.split_once('/') {
        Some((prefix, name)) => {
            if prefix.is_empty() {
                out.push("prefix part must be non-empty".to_owned());
            } else {
                out.extend(
                    dns_subdomain(prefix)
                        .into_iter()
                        .map(|why| format!("prefix part {why}")),
                );
            }
            name
        }
        None => text,
    };
    if name.is_empty() {
        out.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_MAX {
        out.push(format!("name part {}", too_long(LABEL_MAX)));
    }
    if !is_label_value(name) || name.is_empty() {
        out.push(
            "name part must consist of alphanumeric characters, '-', '_' or '.', and must start \
             and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', \
             regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
                .to_owned(),
        );
    }
    out
}

/// Whether `text` consists of the characters of a label's value.
fn is_label_value(text: &str) -> bool {
    let bytes = text.as_bytes();
    let edge = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
    edge(bytes.first())
        && edge(bytes.last())
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels() {
        for good in ["a", "cirros-stateless-vm", "0a"] {
            assert!(dns_label(good).is_empty(), "{good}");
        }
        for bad in ["", "A", "a.b", "-a", "a-", "a_b", &"x".repeat(64)] {
            assert!(!dns_label(bad).is_empty(), "{bad}");
        }
    }

    #[test]
    fn subdomains() {
        assert!(dns_subdomain("a.b-c.d").is_empty());
        assert!(!dns_subdomain("a..b").is_empty());
        assert!(!dns_subdomain(&"a.".repeat(127)).is_empty());
    }

    #[test]
    fn port_names() {
        assert!(is_port_name("http"));
        for bad in ["80", "Http", "a--b", "", "a-very-long-port-name"] {
            assert!(!is_port_name(bad), "{bad}");
        }
    }

    #[test]
    fn label_keys() {
        assert!(qualified("kubevirt.io/size").is_empty());
        assert!(qualified("App_1").is_empty());
        for bad in ["", "/x", "a/", "a/b/c", "-a", "Ä"] {
            assert!(!qualified(bad).is_empty(), "{bad}");
        }
    }
}
