//! Affinity and spreading, the part of a pod's own rules that upstream checks
//! early.
//!
//! Source: pkg/virt-api/webhooks/validating-webhook/admitters/validate-k8s-utils.go,
//! after Kubernetes' own validation, whose sentences these are.

use serde_json::Value;

use super::super::json::{at, has, list, list_at, text, text_at};
use super::super::names;
use super::{Causes, Path};

/// What is wrong with affinity and spreading. Upstream's paths lack the step
/// `affinity`.
pub(super) fn check(path: &Path, spec: &Value, out: &mut Causes) {
    let affinity = at(spec, "affinity");
    let node = path.child("nodeAffinity");
    if let required @ Value::Object(_) = at(
        affinity,
        "nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution",
    ) {
        let field = node
            .child("requiredDuringSchedulingIgnoredDuringExecution")
            .child("nodeSelectorTerms");
        let terms = list_at(required, "nodeSelectorTerms");
        if terms.is_empty() {
            missing(out, &field, "must have at least one node selector term");
        }
        for (index, term) in terms.iter().enumerate() {
            node_term(&field.index(index), term, out);
        }
    }
    let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
    for (index, term) in list_at(affinity, &format!("nodeAffinity.{preferred}"))
        .iter()
        .enumerate()
    {
        let field = node.child(preferred).index(index);
        weight(&field, term, out);
        node_term(&field.child("preference"), at(term, "preference"), out);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let (rules, field) = (at(affinity, kind), path.child(kind));
        let required = "requiredDuringSchedulingIgnoredDuringExecution";
        for (index, term) in list_at(rules, required).iter().enumerate() {
            pod_term(&field.child(required).index(index), term, out);
        }
        for (index, term) in list_at(rules, preferred).iter().enumerate() {
            let field = field.child(preferred).index(index);
            weight(&field, term, out);
            pod_term(
                &field.child("podAffinityTerm"),
                at(term, "podAffinityTerm"),
                out,
            );
        }
    }
    spreading(
        &path.child("topologySpreadConstraints"),
        list_at(spec, "topologySpreadConstraints"),
        out,
    );
}

fn spreading(path: &Path, constraints: &[Value], out: &mut Causes) {
    for (index, constraint) in constraints.iter().enumerate() {
        let field = path.index(index);
        let skew = at(constraint, "maxSkew").as_i64().unwrap_or(0);
        if skew <= 0 {
            wrong(
                out,
                &field.child("maxSkew"),
                &skew.to_string(),
                "must be greater than zero",
            );
        }
        topology_key(&field, constraint, out);
        let action = text_at(constraint, "whenUnsatisfiable");
        if !["DoNotSchedule", "ScheduleAnyway"].contains(&action) {
            let field = field.child("whenUnsatisfiable");
            out.invalid(
                &field,
                format!(
                    "{field}: Unsupported value: \"{action}\": supported values: \"DoNotSchedule\", \"ScheduleAnyway\""
                ),
            );
        }
        label_selector(
            &path.child("labelSelector"),
            at(constraint, "labelSelector"),
            out,
        );
    }
}

fn node_term(path: &Path, term: &Value, out: &mut Causes) {
    for (index, rule) in list_at(term, "matchExpressions").iter().enumerate() {
        let field = path.child("matchExpressions").index(index);
        let values = list_at(rule, "values");
        let at_values = field.child("values");
        match text_at(rule, "operator") {
            "In" | "NotIn" if values.is_empty() => missing(
                out,
                &at_values,
                "must be specified when `operator` is 'In' or 'NotIn'",
            ),
            "Exists" | "DoesNotExist" if !values.is_empty() => forbidden(
                out,
                &at_values,
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            ),
            "Gt" | "Lt" if values.len() != 1 => missing(
                out,
                &at_values,
                "must be specified single value when `operator` is 'Lt' or 'Gt'",
            ),
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            other => wrong(
                out,
                &field.child("operator"),
                &quoted(other),
                "not a valid selector operator",
            ),
        }
        label_key(&field.child("key"), text_at(rule, "key"), out);
    }
    for (index, rule) in list_at(term, "matchFields").iter().enumerate() {
        let field = path.child("matchFields").index(index);
        let operator = text_at(rule, "operator");
        if !["In", "NotIn"].contains(&operator) {
            wrong(
                out,
                &field.child("operator"),
                &quoted(operator),
                "not a valid selector operator",
            );
        } else if list_at(rule, "values").len() != 1 {
            missing(
                out,
                &field.child("values"),
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
            );
        }
        let key = text_at(rule, "key");
        if key != "metadata.name" {
            wrong(
                out,
                &field.child("key"),
                &quoted(key),
                "not a valid field selector key",
            );
        }
    }
}

fn pod_term(path: &Path, term: &Value, out: &mut Causes) {
    label_selector(&path.child("labelSelector"), at(term, "labelSelector"), out);
    label_selector(
        &path.child("namespaceSelector"),
        at(term, "namespaceSelector"),
        out,
    );
    for name in list_at(term, "namespaces").iter().map(text) {
        for why in names::dns_label(name) {
            wrong(out, &path.child("namespace"), &quoted(name), &why);
        }
    }
    topology_key(path, term, out);
}

fn topology_key(path: &Path, owner: &Value, out: &mut Causes) {
    let field = path.child("topologyKey");
    let key = text_at(owner, "topologyKey");
    if key.is_empty() {
        missing(out, &field, "can not be empty");
    } else {
        label_key(&field, key, out);
    }
}

fn label_selector(path: &Path, selector: &Value, out: &mut Causes) {
    for (index, rule) in list_at(selector, "matchExpressions").iter().enumerate() {
        let field = path.child("matchExpressions").index(index);
        let values = at(rule, "values");
        match text_at(rule, "operator") {
            "In" | "NotIn" if list(values).is_empty() => missing(
                out,
                &field.child("values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            ),
            "Exists" | "DoesNotExist" if has(rule, "values") && !list(values).is_empty() => {
                forbidden(
                    out,
                    &field.child("values"),
                    "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                )
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => wrong(
                out,
                &field.child("operator"),
                &quoted(other),
                "not a valid selector operator",
            ),
        }
        label_key(&field.child("key"), text_at(rule, "key"), out);
    }
}

fn label_key(path: &Path, key: &str, out: &mut Causes) {
    for why in names::qualified(key) {
        wrong(out, path, &quoted(key), &why);
    }
}

fn weight(path: &Path, term: &Value, out: &mut Causes) {
    let weight = at(term, "weight").as_i64().unwrap_or(0);
    if !(1..=100).contains(&weight) {
        wrong(
            out,
            &path.child("weight"),
            &weight.to_string(),
            "must be in the range 1-100",
        );
    }
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}

fn wrong(out: &mut Causes, path: &Path, value: &str, why: &str) {
    out.invalid(path, format!("{path}: Invalid value: {value}: {why}"));
}

fn missing(out: &mut Causes, path: &Path, why: &str) {
    out.invalid(path, format!("{path}: Required value: {why}"));
}

fn forbidden(out: &mut Causes, path: &Path, why: &str) {
    out.invalid(path, format!("{path}: Forbidden: {why}"));
}
