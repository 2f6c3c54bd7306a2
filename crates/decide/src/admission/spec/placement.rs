//! Names, start and eviction strategy, affinity, spreading and DNS.

use std::net::IpAddr;

use serde_json::Value;

use super::super::context::ClusterConfig;
use super::super::json::{at, has, list, list_at, strings, text, text_at};
use super::super::names;
use super::super::verdict::Reason;
use super::{Causes, Path};

/// Limits of resolv.conf. Source: kubernetes/pkg/apis/core/validation.
const NAME_SERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 6;
const SEARCH_LIST_MAX: usize = 256;

const DNS_POLICIES: [&str; 4] = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
const EVICTION_STRATEGIES: [&str; 4] = ["LiveMigrate", "LiveMigrateIfPossible", "None", "External"];

/// Host name and subdomain.
pub(super) fn names(path: &Path, spec: &Value, out: &mut Causes) {
    let hostname = text_at(spec, "hostname");
    if !hostname.is_empty() {
        let wrong = names::dns_label(hostname);
        if !wrong.is_empty() {
            let field = path.child("hostname");
            out.invalid(
                &field,
                format!(
                    "{field} does not conform to the kubernetes DNS_LABEL rules : {}",
                    wrong.join(", ")
                ),
            );
        }
    }
    let subdomain = text_at(spec, "subdomain");
    if !subdomain.is_empty() {
        let wrong = names::dns_subdomain(subdomain);
        if !wrong.is_empty() {
            let field = path.child("subdomain");
            out.invalid(
                &field,
                format!(
                    "{field} does not conform to the kubernetes DNS_SUBDOMAIN rules : {}",
                    wrong.join(", ")
                ),
            );
        }
    }
}

/// The only start strategy is `Paused`.
pub(super) fn start_strategy(path: &Path, spec: &Value, out: &mut Causes) {
    if let Some(strategy) = at(spec, "startStrategy")
        .as_str()
        .filter(|s| *s != "Paused")
    {
        let field = path.child("startStrategy");
        out.invalid(
            &field,
            format!("{field} is set with an unrecognized option: {strategy}"),
        );
    }
}

/// The VMI's eviction strategy, or else the cluster's.
pub(super) fn eviction(path: &Path, spec: &Value, config: &ClusterConfig, out: &mut Causes) {
    let own = at(spec, "evictionStrategy").as_str();
    let strategy = own.or(config.eviction_strategy.as_deref());
    if let Some(strategy) = strategy.filter(|s| !EVICTION_STRATEGIES.contains(s)) {
        let field = path.child("evictionStrategy");
        out.invalid(
            &field,
            format!("{field} is set with an unrecognized option: {strategy}"),
        );
    }
    if let Some(strategy) = own.filter(|s| !is_kept(s)) {
        let field = path.child("evictionStrategy");
        let message = eviction_refusal(&field.to_string(), strategy);
        out.add(Reason::NotSupported, &field, message);
    }
}

/// Whether an eviction strategy is what happens anyway: without migration a
/// drained node's guests go down with their pods.
pub(in super::super) fn is_kept(strategy: &str) -> bool {
    !matches!(strategy, "LiveMigrate" | "External")
}

/// Why an eviction strategy is refused.
pub(in super::super) fn eviction_refusal(field: &str, strategy: &str) -> String {
    format!(
        "{field} is not supported: {strategy} promises that an eviction moves the guest, and live migration is not implemented yet; use None or LiveMigrateIfPossible"
    )
}

/// DNS policy and resolver settings.
pub(super) fn dns(path: &Path, spec: &Value, out: &mut Causes) {
    let policy = text_at(spec, "dnsPolicy");
    if !policy.is_empty() && !DNS_POLICIES.contains(&policy) {
        out.add(
            Reason::NotSupported,
            &path.child("dnsPolicy"),
            format!(
                "DNSPolicy: {policy} is not supported, valid values: [{} ]",
                DNS_POLICIES.join(" ")
            ),
        );
    }
    let field = path.child("dnsConfig");
    let config = at(spec, "dnsConfig");
    let servers = strings(at(config, "nameservers"));
    if policy == "None" {
        if config.is_null() {
            let message = "must provide `dnsConfig` when `dnsPolicy` is None";
            return out.add(Reason::Required, &field, message);
        }
        if servers.is_empty() {
            let message = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            return out.add(Reason::Required, &Path::new("nameservers"), message);
        }
    }
    // These paths are upstream's: not below dnsConfig.
    let at_servers = Path::new("nameservers");
    let at_searches = Path::new("searchDomains");
    if servers.len() > NAME_SERVERS_MAX {
        out.invalid(
            &at_servers,
            format!(
                "must not have more than {NAME_SERVERS_MAX} nameservers: [{}]",
                servers.join(" ")
            ),
        );
    }
    for server in servers.iter().filter(|ip| ip.parse::<IpAddr>().is_err()) {
        out.invalid(&at_servers, format!("must be valid IP address: {server}"));
    }
    let searches = strings(at(config, "searches"));
    if searches.len() > SEARCHES_MAX {
        out.invalid(
            &at_searches,
            format!("must not have more than {SEARCHES_MAX} search paths"),
        );
    }
    if searches.join(" ").len() > SEARCH_LIST_MAX {
        out.invalid(
            &at_searches,
            format!(
                "must not have more than {SEARCH_LIST_MAX} characters (including spaces) in the search list"
            ),
        );
    }
    for why in searches
        .iter()
        .flat_map(|search| names::dns_subdomain(search))
    {
        out.invalid(&at_searches, why);
    }
    for option in list_at(config, "options") {
        if text_at(option, "name").is_empty() {
            out.invalid(&Path::new("options"), "Option.Name must not be empty");
        }
    }
}

/// Affinity and spreading, the part of the pod's own rules that upstream checks
/// early. Its paths lack the step `affinity`.
pub(super) fn scheduling(path: &Path, spec: &Value, out: &mut Causes) {
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
