//! What holds of everything that an operator renders, for the tests of both.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;

use api::objects::{Key, Managed};
use serde_json::Value;

use super::{MANAGED_BY_LABEL, Rendered};

/// The object of a kind and name.
pub(crate) fn find<'a>(rendered: &'a Rendered, kind: &str, name: &str) -> &'a Value {
    rendered
        .all()
        .find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
        .unwrap_or_else(|| panic!("no {kind} {name}"))
}

/// The keys of all objects, of which each is named, labelled, unique and of a
/// managed kind.
pub(crate) fn keys(rendered: &Rendered, managed: &[Managed], manager: &str) -> BTreeSet<Key> {
    let keys: BTreeSet<Key> = rendered.all().map(Key::of).collect();
    assert_eq!(keys.len(), rendered.all().count());
    for object in rendered.all() {
        let key = Key::of(object);
        assert!(!key.name.is_empty());
        let label = &object["metadata"]["labels"][MANAGED_BY_LABEL];
        assert_eq!(label, manager, "{key:?}");
        let kind = managed.iter().find(|kind| kind.has(&key));
        let kind = kind.unwrap_or_else(|| panic!("{key:?} is of no managed kind"));
        assert_eq!(kind.namespaced, key.namespace.is_some(), "{key:?}");
    }
    keys
}

/// The documents of a manifest that are of these kinds, where `namespace` is
/// filled in for the `variable`.
pub(crate) fn documents(
    manifest: &str,
    kinds: &[&str],
    (variable, namespace): (&str, &str),
) -> Vec<Value> {
    manifest
        .split("\n---\n")
        .filter(|document| {
            let mut kinds = kinds.iter();
            kinds.any(|kind| document.contains(&format!("\nkind: {kind}\n")))
        })
        .map(|document| document.replace(&format!("{{{{ {variable} }}}}"), namespace))
        .map(|document| serde_yaml::from_str(&document).unwrap())
        .collect()
}

/// RBAC refuses a grant of more than one holds: every rule that is rendered must
/// be covered by the operator's own rules, those of `roles`.
pub(crate) fn may_grant(roles: &[Value], rendered: &Rendered) {
    let own: Vec<&Value> = roles
        .iter()
        .flat_map(|role| role["rules"].as_array().unwrap())
        .collect();
    let strings = |list: &Value| -> Vec<String> {
        let list = list.as_array().into_iter().flatten();
        list.map(|one| one.as_str().unwrap().to_owned()).collect()
    };
    let mut missing = Vec::new();
    for role in rendered.all().filter(|object| object["rules"].is_array()) {
        for rule in role["rules"].as_array().unwrap() {
            for group in strings(&rule["apiGroups"]) {
                for resource in strings(&rule["resources"]) {
                    for verb in strings(&rule["verbs"]) {
                        let covered = own.iter().any(|held| {
                            let names = strings(&held["resourceNames"]);
                            strings(&held["apiGroups"]).contains(&group)
                                && strings(&held["resources"]).contains(&resource)
                                && strings(&held["verbs"]).contains(&verb)
                                && (names.is_empty() || names == strings(&rule["resourceNames"]))
                        });
                        if !covered {
                            let name = &role["metadata"]["name"];
                            missing.push(format!("{name}: {verb} {resource}.{group}"));
                        }
                    }
                }
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}
