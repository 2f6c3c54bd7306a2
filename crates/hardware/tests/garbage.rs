//! Facts that hold garbage: whatever a node says, it is judged, and every complaint
//! says what helps.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;

use hardware::report::{Heading, NodeReport, html, judge_fleet, junit};
use hardware::{Facts, Requirements, Status, judge};
use serde_json::{Value, json};

fn read(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Paths of all values of a document, itself left out.
fn paths(value: &Value, at: &str, found: &mut Vec<String>) {
    let mut below = |key: &str, value: &Value| {
        let path = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
        found.push(path.clone());
        paths(value, &path, found);
    };
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| below(key, value)),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .for_each(|(at, value)| below(&at.to_string(), value)),
        _ => {}
    }
}

/// What a value may turn into and still be of its type.
fn garbage(value: &Value) -> Vec<Value> {
    match value {
        Value::String(_) => [
            "",
            "\0\u{202e}<b>",
            "ä/../..",
            "[",
            "99999999999999999999,off=",
        ]
        .map(Value::from)
        .to_vec(),
        Value::Number(_) => vec![json!(0), json!(-1), json!(u64::MAX), json!(u32::MAX)],
        Value::Bool(value) => vec![json!(!value)],
        Value::Array(list) => {
            let mut twice = list.clone();
            twice.extend(list.iter().cloned());
            vec![json!([]), Value::Array(twice)]
        }
        Value::Object(_) => vec![json!({})],
        Value::Null => Vec::new(),
    }
}

/// Judges one spoilt document and looks at the verdicts.
fn look(facts: &Value, requirements: &Value, what: &str) -> bool {
    // Garbage of a wrong type is refused by the reader of the document, not by us.
    let (Ok(facts), Ok(asked)) = (
        serde_json::from_value::<Facts>(facts.clone()),
        serde_json::from_value::<Requirements>(requirements.clone()),
    ) else {
        return false;
    };
    let verdicts = judge(&facts, &asked);
    for verdict in &verdicts {
        assert!(!verdict.evidence.is_empty(), "{what}: {verdict:?}");
        assert_eq!(
            verdict.status >= Status::Warn,
            !verdict.remedy.is_empty(),
            "{what}: {verdict:?}"
        );
    }
    true
}

#[test]
fn one_spoilt_value_at_a_time_is_judged_and_never_ends_in_a_panic() {
    let mut judged = 0;
    for name in [
        "two-sockets",
        "shared-groups",
        "no-remapping",
        "secure-boot",
    ] {
        let facts = read(&format!("{name}.facts.json"));
        let requirements = read(&format!("{name}.requirements.json"));
        for (document, other, of_facts) in [
            (&facts, &requirements, true),
            (&requirements, &facts, false),
        ] {
            let mut all = Vec::new();
            paths(document, "", &mut all);
            for path in all {
                let mut spoilt = document.clone();
                for bad in garbage(document.pointer(&path).unwrap()) {
                    *spoilt.pointer_mut(&path).unwrap() = bad.clone();
                    let what = format!("{name}{path} = {bad}");
                    judged += usize::from(if of_facts {
                        look(&spoilt, other, &what)
                    } else {
                        look(other, &spoilt, &what)
                    });
                }
            }
        }
    }
    assert!(judged > 1000, "{judged}");
}

#[test]
fn a_fleet_of_nothing_is_reported() {
    let mut nodes = vec![NodeReport::default(), NodeReport::default()];
    judge_fleet(&mut nodes);
    let heading = Heading::default();
    assert!(html(&nodes, &heading).contains("<b>2</b> nodes"));
    assert!(junit(&nodes, &heading).contains("tests=\"0\""));
    assert!(html(&[], &heading).contains("<b>0</b> nodes"));
}
