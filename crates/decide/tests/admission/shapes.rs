//! Objects of every wrong shape: nothing panics, nothing is patched twice, and
//! a second pass of the mutation changes nothing.

use decide::admission::{self, ClusterConfig, Context, Review};
use serde_json::{Value, json};

use super::{ALICE, context, create, create_with, patched, review, vm, vmi};

/// JSON pointers of everything inside `value`.
fn pointers(value: &Value, here: &str, out: &mut Vec<String>) {
    out.push(here.to_owned());
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                pointers(member, &format!("{here}/{key}"), out);
            }
        }
        Value::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                pointers(element, &format!("{here}/{index}"), out);
            }
        }
        _ => {}
    }
}

#[test]
fn are_answered_and_mutated_once() {
    let wrong = [
        json!(null),
        json!(true),
        json!(-1),
        json!(1e300),
        json!(""),
        json!("x/y:z"),
        json!([]),
        json!([null, 1, "a", {}, []]),
        json!({}),
        json!({"name": 7, "x": null}),
    ];
    let ctx = context();
    for object in [vm(), vmi()] {
        let mut places = Vec::new();
        pointers(&object["spec"], "/spec", &mut places);
        pointers(&object["metadata"], "/metadata", &mut places);
        for place in places {
            for value in &wrong {
                let mut object = object.clone();
                *object.pointer_mut(&place).unwrap() = value.clone();
                let verdict = admission::mutate(&review(&object, &Value::Null, ALICE), &ctx);
                if !verdict.allowed {
                    continue;
                }
                let once = patched(&object, &verdict);
                let request: Review = review(&once, &Value::Null, ALICE);
                let again = admission::mutate(&request, &ctx);
                assert_eq!(again.patches, Vec::<Value>::new(), "{place} = {value}");
                let answer = admission::validate(&request, &ctx).into_review("u");
                assert!(answer["response"]["allowed"].is_boolean());
            }
        }
    }
}

#[test]
fn the_clusters_settings_reach_a_new_vmi() {
    let settings = json!({"spec": {"configuration": {
        "cpuRequest": "250m", "virtualMachineOptions": {"disableFreePageReporting": {}}
    }}});
    let ctx = Context {
        config: ClusterConfig::from_kubevirt(&settings),
        ..context()
    };
    let (stored, verdict) = create_with(&vmi(), &ctx, ALICE);
    assert!(verdict.allowed, "{}", verdict.message);
    let requests = |stored: &Value| stored["spec"]["domain"]["resources"]["requests"].clone();
    assert_eq!(requests(&stored)["cpu"], "250m");
    assert_eq!(
        stored["metadata"]["annotations"]["kubevirt.io/free-page-reporting-disabled"],
        "true"
    );
    let (stored, _) = create(&vmi());
    assert_eq!(requests(&stored).get("cpu"), None);
    assert_eq!(stored["metadata"].get("annotations"), None);

    // What the VMI itself asks for wins.
    let mut own = vmi();
    own["spec"]["domain"]["resources"]["requests"]["cpu"] = json!("1");
    assert_eq!(requests(&create_with(&own, &ctx, ALICE).0)["cpu"], "1");
}
