//! From method and path to what is asked.

use api::names::{SUBRESOURCE_GROUP, SUBRESOURCE_VERSIONS};
use api::objects::is_name;
use http::Method;

use crate::catalog::{Action, ENTRIES, Fixed, NO_EXPAND, Resource};

/// What is asked.
#[derive(Debug, PartialEq)]
pub(crate) enum Route<'a> {
    Page(Page<'a>),
    Subresource(Target<'a>),
    WrongMethod,
    Unknown,
}

/// A document that depends on no object.
#[derive(Debug, PartialEq)]
pub(crate) enum Page<'a> {
    Root,
    Groups,
    Group,
    /// APIResourceList of this version.
    Resources(&'a str),
    OpenApi2,
    OpenApi3,
    OpenApi3Group(&'a str),
    Version,
    Health,
    GuestFs,
    /// What the profiler was asked to do.
    Profiler(&'static str),
}

/// A subresource of an object.
#[derive(Debug, PartialEq)]
pub(crate) struct Target<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) resource: Resource,
    pub(crate) name: &'a str,
    pub(crate) action: Action,
    /// What follows `portforward/`.
    pub(crate) rest: Vec<&'a str>,
}

/// Paths that need no authentication: what an aggregator asks before it trusts
/// us, and what all may know. Source: `noAuthEndpoints` in
/// pkg/virt-api/rest/authorizer.go.
pub(crate) fn is_public(path: &str) -> bool {
    if matches!(path, "/" | "/apis" | "/openapi/v2" | "/openapi/v3") {
        return true;
    }
    if let Some((_, version)) = versioned(path.strip_prefix("/openapi/v3").unwrap_or_default()) {
        return version.is_empty();
    }
    versioned(path).is_some_and(|(_, rest)| {
        rest.is_empty()
            || matches!(rest, "/version" | "/guestfs" | "/healthz")
            || rest.ends_with("-cluster-profiler") && profiler(rest).is_some()
    })
}

/// What is asked by `method` on `path`.
pub(crate) fn route<'a>(method: &Method, path: &'a str) -> Route<'a> {
    let Some(page) = page(path) else {
        return subresource(method, path);
    };
    if matches!(*method, Method::GET | Method::HEAD) {
        Route::Page(page)
    } else {
        Route::WrongMethod
    }
}

fn page(path: &str) -> Option<Page<'_>> {
    Some(
        match path
            .strip_suffix('/')
            .filter(|path| !path.is_empty())
            .unwrap_or(path)
        {
            "/" => Page::Root,
            "/apis" => Page::Groups,
            "/openapi/v2" => Page::OpenApi2,
            "/openapi/v3" => Page::OpenApi3,
            path => {
                if path.strip_prefix("/apis/") == Some(SUBRESOURCE_GROUP) {
                    return Some(Page::Group);
                }
                if let Some(rest) = path.strip_prefix("/openapi/v3") {
                    let (version, rest) = versioned(rest)?;
                    return rest.is_empty().then_some(Page::OpenApi3Group(version));
                }
                let (version, rest) = versioned(path)?;
                match rest {
                    "" => Page::Resources(version),
                    "/version" => Page::Version,
                    "/healthz" => Page::Health,
                    "/guestfs" => Page::GuestFs,
                    rest => Page::Profiler(profiler(rest)?),
                }
            }
        },
    )
}

/// `/apis/subresources.kubevirt.io/{version}{rest}`.
fn versioned(path: &str) -> Option<(&str, &str)> {
    let path = path
        .strip_prefix("/apis/")?
        .strip_prefix(SUBRESOURCE_GROUP)?
        .strip_prefix('/')?;
    let end = path.find('/').unwrap_or(path.len());
    let (version, rest) = path.split_at(end);
    SUBRESOURCE_VERSIONS
        .contains(&version)
        .then_some((version, rest))
}

fn profiler(rest: &str) -> Option<&'static str> {
    match rest {
        "/start-cluster-profiler" => Some("start profiler"),
        "/stop-cluster-profiler" => Some("stop profiler"),
        "/dump-cluster-profiler" => Some("dump profiler results"),
        _ => None,
    }
}

fn subresource<'a>(method: &Method, path: &'a str) -> Route<'a> {
    let Some((_, rest)) = versioned(path) else {
        return Route::Unknown;
    };
    let parts: Vec<&str> = rest.split('/').skip(1).collect();
    let (namespace, kind, name, sub) = match parts.as_slice() {
        ["namespaces", namespace, "expand-vm-spec"] if is_name(namespace) => {
            if method != Method::PUT {
                return Route::WrongMethod;
            }
            let action = Action::Refused(Fixed::NotServed(NO_EXPAND));
            return Route::Subresource(Target {
                namespace,
                resource: Resource::Machine,
                name: "",
                action,
                rest: Vec::new(),
            });
        }
        ["namespaces", namespace, kind, name, sub @ ..] if is_name(namespace) && is_name(name) => {
            (*namespace, *kind, *name, sub)
        }
        _ => return Route::Unknown,
    };
    let Some(resource) = Resource::from_plural(kind) else {
        return Route::Unknown;
    };
    let (sub, rest) = match sub {
        ["portforward", rest @ ..] if (1..=2).contains(&rest.len()) => {
            ("portforward".to_owned(), rest.to_vec())
        }
        ["portforward", ..] => return Route::Unknown,
        sub => (sub.join("/"), Vec::new()),
    };
    let mut known = ENTRIES
        .iter()
        .filter(|entry| entry.resource == resource && entry.name == sub)
        .peekable();
    if known.peek().is_none() {
        return Route::Unknown;
    }
    match known.find(|entry| entry.method == *method) {
        Some(entry) => Route::Subresource(Target {
            namespace,
            resource,
            name,
            action: entry.action,
            rest,
        }),
        None => Route::WrongMethod,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]
    use super::*;

    const VM: &str = "/apis/subresources.kubevirt.io/v1/namespaces/ns/virtualmachines/x";
    const VMI: &str =
        "/apis/subresources.kubevirt.io/v1alpha3/namespaces/ns/virtualmachineinstances/x";

    fn action(method: &Method, path: &str) -> String {
        match route(method, path) {
            Route::Subresource(target) => {
                assert_eq!((target.namespace, target.name), ("ns", "x"));
                format!("{:?} {}", target.action, target.rest.join(","))
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn verbs_are_found_by_kind_and_method() {
        assert_eq!(action(&Method::PUT, &format!("{VM}/start")), "Start ");
        assert_eq!(action(&Method::GET, &format!("{VM}/start")), "WrongMethod");
        assert_eq!(action(&Method::PUT, &format!("{VMI}/start")), "Unknown");
        assert_eq!(action(&Method::PUT, &format!("{VMI}/pause")), "Pause ");
        assert_eq!(action(&Method::GET, &format!("{VMI}/console")), "Console ");
        assert_eq!(
            action(&Method::GET, &format!("{VMI}/portforward/22")),
            "PortForward 22"
        );
        assert_eq!(
            action(&Method::GET, &format!("{VM}/portforward/53/udp")),
            "PortForward 53,udp"
        );
        assert_eq!(
            action(&Method::GET, &format!("{VM}/portforward")),
            "Unknown"
        );
        assert_eq!(action(&Method::GET, &format!("{VM}/nonsense")), "Unknown");
        assert!(action(&Method::PUT, &format!("{VMI}/sev/setupsession")).starts_with("Refused"));
    }

    #[test]
    fn names_that_are_no_names_are_unknown() {
        for name in ["..", "%2e%2e", "a%2Fb", "A", "-x", ""] {
            let path = format!(
                "/apis/subresources.kubevirt.io/v1/namespaces/ns/virtualmachines/{name}/start"
            );
            assert_eq!(route(&Method::PUT, &path), Route::Unknown, "{name}");
        }
    }

    #[test]
    fn documents_are_public_and_objects_are_not() {
        for path in [
            "/",
            "/apis",
            "/openapi/v2",
            "/openapi/v3",
            "/openapi/v3/apis/subresources.kubevirt.io/v1",
            "/apis/subresources.kubevirt.io/v1",
            "/apis/subresources.kubevirt.io/v1alpha3/version",
            "/apis/subresources.kubevirt.io/v1/healthz",
            "/apis/subresources.kubevirt.io/v1/guestfs",
            "/apis/subresources.kubevirt.io/v1/stop-cluster-profiler",
        ] {
            assert!(is_public(path), "{path}");
            assert!(
                matches!(route(&Method::GET, path), Route::Page(_)),
                "{path}"
            );
        }
        for path in [
            VM,
            VMI,
            "/apis/subresources.kubevirt.io",
            "/apis/subresources.kubevirt.io/v2",
            "/nonsense",
        ] {
            assert!(!is_public(path), "{path}");
        }
        assert_eq!(
            route(&Method::GET, "/apis/subresources.kubevirt.io"),
            Route::Page(Page::Group)
        );
        assert_eq!(
            route(&Method::GET, "/apis/subresources.kubevirt.io/v1/"),
            Route::Page(Page::Resources("v1"))
        );
    }
}
