//! Authorization: one SubjectAccessReview for each request.
//! Source of the mapping: KubeVirt pkg/virt-api/rest/authorizer.go.

use http::Method;
use kube_kit::front_proxy::User;
use serde_json::{Value, json};

/// Asks the API server whether `user` may do `method` on `path`: `None` when
/// allowed, else the reason for the client.
///
/// # Errors
/// When the API server cannot be asked.
pub(crate) async fn authorize(
    client: &kube::Client,
    user: &User,
    method: &Method,
    path: &str,
) -> kube::Result<Option<String>> {
    let attributes = match attributes(method, path) {
        Ok(attributes) => attributes,
        Err(why) => return Ok(Some(why)),
    };
    kube_kit::access::review(client, user, attributes).await
}

/// `resourceAttributes` of a request. Port and protocol of a port-forward are
/// not subject to RBAC.
fn attributes(method: &Method, path: &str) -> Result<Value, String> {
    let verb = match *method {
        Method::GET | Method::HEAD => "get",
        Method::PUT => "update",
        Method::POST => "create",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => return Err(format!("unknown http verb in request: {method}")),
    };
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        [_, _, group, version, _, namespace, resource, name, sub @ ..] if !sub.is_empty() => {
            if !matches!(*resource, "virtualmachineinstances" | "virtualmachines") {
                return Err(format!("unknown resource type {resource}"));
            }
            let subresource = if sub[0] == "portforward" {
                sub[0].to_owned()
            } else {
                sub.join("/")
            };
            Ok(json!({
                "namespace": namespace, "verb": verb, "group": group, "version": version,
                "resource": resource, "subresource": subresource, "name": name,
            }))
        }
        [_, _, group, version, _, namespace, resource] => {
            if *resource != "expand-vm-spec" {
                return Err(format!("unknown resource type {resource}"));
            }
            Ok(json!({
                "namespace": namespace, "verb": verb, "group": group, "version": version, "resource": resource,
            }))
        }
        _ => Err(format!("unknown api endpoint: {path}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn paths_become_attributes() {
        let path = "/apis/subresources.kubevirt.io/v1/namespaces/ns/virtualmachineinstances/x/portforward/22/tcp";
        assert_eq!(
            attributes(&Method::GET, path).unwrap(),
            json!({"namespace": "ns", "verb": "get", "group": "subresources.kubevirt.io", "version": "v1",
                   "resource": "virtualmachineinstances", "subresource": "portforward", "name": "x"})
        );
        let path = "/apis/subresources.kubevirt.io/v1/namespaces/ns/virtualmachineinstances/x/sev/setupsession";
        let attributes = attributes(&Method::PUT, path).unwrap();
        assert_eq!(
            (&attributes["verb"], &attributes["subresource"]),
            (&json!("update"), &json!("sev/setupsession"))
        );
    }

    #[test]
    fn strange_paths_are_refused_with_upstreams_words() {
        for (path, why) in [
            (
                "/apis/subresources.kubevirt.io",
                "unknown api endpoint: /apis/subresources.kubevirt.io",
            ),
            (
                "/apis/subresources.kubevirt.io/v1/namespaces/ns/pods",
                "unknown resource type pods",
            ),
            (
                "/apis/subresources.kubevirt.io/v1/namespaces/ns/pods/x/exec",
                "unknown resource type pods",
            ),
        ] {
            assert_eq!(attributes(&Method::GET, path).unwrap_err(), why);
        }
        assert!(
            attributes(&Method::OPTIONS, "/x")
                .unwrap_err()
                .contains("OPTIONS")
        );
    }
}
