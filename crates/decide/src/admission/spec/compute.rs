//! Memory, machine type and CPU.

use serde_json::Value;

use super::super::context::ClusterConfig;
use super::super::json::{at, has, list_at, text_at};
use super::super::quantity::{Quantity, show};
use super::super::verdict::Reason;
use super::{Causes, Path};

/// Least memory that may be requested: 1M.
const LEAST_MEMORY: i64 = 1_000_000;
/// Policies a CPU feature may have; libvirt's words.
const FEATURE_POLICIES: [&str; 6] = ["", "force", "require", "optional", "disable", "forbid"];

/// Requests, limits and the guest's own size.
pub(super) fn memory(path: &Path, spec: &Value, out: &mut Causes) {
    let domain = path.child("domain");
    let request_path = domain.child("resources.requests.memory");
    let limit_path = domain.child("resources.limits.memory");
    let request = at(spec, "domain.resources.requests.memory");
    let limit = at(spec, "domain.resources.limits.memory");
    let guest = at(spec, "domain.memory.guest");
    let requested = Quantity::or_zero(request).value();
    let limited = Quantity::or_zero(limit).value();
    if requested < 0 {
        out.invalid(&request_path, not_negative(&request_path, request));
    } else if requested > 0 && requested < LEAST_MEMORY {
        out.invalid(
            &request_path,
            format!(
                "{request_path} '{}': must be greater than or equal to 1M.",
                show(request)
            ),
        );
    }
    if limited < 0 {
        out.invalid(&limit_path, not_negative(&limit_path, limit));
    }
    if limited > 0 && requested > limited {
        out.invalid(
            &request_path,
            greater(&request_path, request, &limit_path, limit),
        );
    }
    // Upstream skips the next check while live update is on; ours never is.
    if !guest.is_null() && limited != 0 && limited < Quantity::or_zero(guest).value() {
        let guest_path = domain.child("memory.guest");
        out.invalid(
            &guest_path,
            format!(
                "{guest_path} '{}' must be equal to or less than the memory limit {limit_path} '{}'",
                show(guest),
                show(limit)
            ),
        );
    }
    // Upstream leaves this to QEMU, where the guest then fails to start.
    if !guest.is_null() && Quantity::or_zero(guest).value() <= 0 {
        let guest_path = domain.child("memory.guest");
        out.invalid(
            &guest_path,
            format!("{guest_path} '{}': must be greater than 0.", show(guest)),
        );
    }
}

/// The machine type must match one of the patterns of the configuration.
pub(super) fn machine(path: &Path, spec: &Value, config: &ClusterConfig, out: &mut Causes) {
    let machine = text_at(spec, "domain.machine.type");
    if machine.is_empty() || config.emulated_machines.iter().any(|p| glob(p, machine)) {
        return;
    }
    let field = path.child("domain.machine.type");
    out.invalid(
        &field,
        format!(
            "{field} is not supported: {machine} (allowed values: [{}])",
            config.emulated_machines.join(" ")
        ),
    );
}

/// Whether `text` matches a shell pattern of `*` and `?`.
fn glob(pattern: &str, text: &str) -> bool {
    let mut pattern = pattern.chars();
    match pattern.next() {
        None => text.is_empty(),
        Some('*') => {
            let rest = pattern.as_str();
            text.char_indices()
                .map(|(start, _)| &text[start..])
                .chain([""])
                .any(|tail| glob(rest, tail))
        }
        Some(want) => {
            let mut text = text.chars();
            text.next().is_some_and(|got| want == '?' || want == got)
                && glob(pattern.as_str(), text.as_str())
        }
    }
}

/// Guests have the architecture of the nodes. Upstream asks this of a VMI only,
/// so that a VM of another one is accepted and then never starts.
pub(super) fn architecture(path: &Path, spec: &Value, out: &mut Causes) {
    let architecture = text_at(spec, "architecture");
    if architecture != "amd64" {
        out.invalid(
            &path.child("architecture"),
            format!("unsupported architecture: {architecture}"),
        );
    }
}

/// Requests, limits, topology and features.
pub(super) fn cpu(path: &Path, spec: &Value, out: &mut Causes) {
    let resources = path.child("domain.resources");
    let (request_path, limit_path) = (
        resources.child("requests.cpu"),
        resources.child("limits.cpu"),
    );
    let request = at(spec, "domain.resources.requests.cpu");
    let limit = at(spec, "domain.resources.limits.cpu");
    let (requested, limited) = (Quantity::or_zero(request), Quantity::or_zero(limit));
    let zero = Quantity::default();
    if requested < zero {
        out.invalid(&request_path, not_negative(&request_path, request));
    }
    if limited < zero {
        out.invalid(&limit_path, not_negative(&limit_path, limit));
    }
    if limited > zero && requested > limited {
        out.invalid(
            &request_path,
            greater(&request_path, request, &limit_path, limit),
        );
    }
    // Go's type is unsigned, so upstream cannot even read a negative number.
    for part in ["cores", "sockets", "threads"] {
        if at(spec, &format!("domain.cpu.{part}"))
            .as_i64()
            .unwrap_or(0)
            < 0
        {
            let field = path.child(&format!("domain.cpu.{part}"));
            out.invalid(&field, format!("{field} must not be negative"));
        }
    }
    for (index, feature) in list_at(spec, "domain.cpu.features").iter().enumerate() {
        let policy = text_at(feature, "policy");
        if !FEATURE_POLICIES.contains(&policy) {
            out.add(
                Reason::NotSupported,
                &path
                    .child("domain.cpu.features")
                    .index(index)
                    .child("policy"),
                format!(
                    "CPU feature {} uses policy {policy} that is not supported.",
                    text_at(feature, "name")
                ),
            );
        }
    }
}

/// A VMI, unlike a template, must say how much memory it wants.
pub(in super::super) fn memory_is_given(path: &Path, spec: &Value) -> Option<String> {
    let requested = Quantity::or_zero(at(spec, "domain.resources.requests.memory"));
    if !requested.is_zero() || has(spec, "domain.memory.guest") {
        return None;
    }
    let domain = path.child("domain");
    Some(format!(
        "no memory requested, at least one of '{}', '{}' or '{}' must be set",
        domain.child("memory.guest"),
        domain.child("memory.hugepages.pageSize"),
        domain.child("resources.requests.memory"),
    ))
}

fn not_negative(path: &Path, value: &Value) -> String {
    format!(
        "{path} '{}': must be greater than or equal to 0.",
        show(value)
    )
}

fn greater(path: &Path, value: &Value, limit_path: &Path, limit: &Value) -> String {
    format!(
        "{path} '{}' is greater than {limit_path} '{}'",
        show(value),
        show(limit)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_patterns() {
        assert!(glob("q35*", "q35"));
        assert!(glob("pc-q35*", "pc-q35-10.0"));
        assert!(!glob("q35*", "pc-q35"));
        assert!(glob("a?c*", "abcd"));
        assert!(!glob("", "a"));
    }
}
