//! Names, start and eviction strategy, and DNS.

use std::net::IpAddr;

use serde_json::Value;

use super::super::context::ClusterConfig;
use super::super::json::{at, list_at, strings, text_at};
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
