//! KubeVirt: one in a cluster, with settings that are acted on, and not removed
//! over the heads of running guests unless that was asked for.
//!
//! Source: pkg/virt-operator/webhooks.

use std::collections::BTreeSet;

use serde_json::Value;

use super::context::Context;
use super::json::{at, has, strings, text_at};
use super::review::Review;
use super::spec::{self, Causes, Path};
use super::unsupported::unsupported;
use super::verdict::{Cause, Reason, Verdict};

/// Feature gates that change what edgevirt does.
const GATES: [&str; 2] = ["HostDisk", "NodeRestriction"];
/// Upstream's lifetimes, in seconds: of the CA and of what it signs.
const CA_LIFETIME: f64 = 7.0 * 24.0 * 3600.0;
const CERTIFICATE_LIFETIME: f64 = 24.0 * 3600.0;
/// Part of a lifetime before whose end a certificate is renewed.
const RENEW_PART: f64 = 0.2;

/// Checks a new KubeVirt object: the first one, and what it asks for.
pub fn validate_create(review: &Review, ctx: &Context) -> Verdict {
    if ctx.workloads.kubevirts > 0 {
        return Verdict::bad_request("Kubevirt is already created");
    }
    judge(review, true)
}

/// Checks a change of the KubeVirt object.
pub fn validate_update(review: &Review, _ctx: &Context) -> Verdict {
    // Finalizers and labels pass, whatever rules the spec was stored under.
    if has(&review.object, "metadata.deletionTimestamp") || !review.subresource.is_empty() {
        return Verdict::allow();
    }
    let gates = |object| {
        let developer = at(object, "spec.configuration.developerConfiguration");
        (
            at(developer, "featureGates").clone(),
            at(developer, "disabledFeatureGates").clone(),
        )
    };
    judge(review, gates(&review.object) != gates(&review.old))
}

/// Checks the removal of the KubeVirt object.
pub fn validate_delete(review: &Review, ctx: &Context) -> Verdict {
    let kubevirt = &review.old;
    let blocks = text_at(kubevirt, "spec.uninstallStrategy") == "BlockUninstallIfWorkloadsExist";
    if !blocks || text_at(kubevirt, "status.phase") != "Deployed" {
        return Verdict::allow();
    }
    let present = if ctx.workloads.instances {
        "Virtual Machine Instances"
    } else if ctx.workloads.machines {
        "Virtual Machines"
    } else {
        return Verdict::allow();
    };
    Verdict::bad_request(format!(
        "Rejecting the uninstall request, since there are still {present} present. Either delete all KubeVirt related workloads or change the uninstall strategy before uninstalling KubeVirt."
    ))
}

fn judge(review: &Review, gates_changed: bool) -> Verdict {
    let kubevirt = &review.object;
    let mut causes = unsupported(review.kind.as_str(), kubevirt);
    causes.extend(certificates(at(
        kubevirt,
        "spec.certificateRotateStrategy.selfSigned",
    )));
    let mut out = Causes::default();
    configuration(at(kubevirt, "spec.configuration"), &mut out);
    words(kubevirt, &mut out);
    if at(kubevirt, "spec.infra.replicas").as_i64() == Some(0) {
        out.invalid(
            &Path::new("spec.infra.replicas"),
            "infra replica count can't be 0",
        );
    }
    let mut warnings = Vec::new();
    if gates_changed {
        warnings = feature_gates(kubevirt, &mut out);
    }
    causes.extend(out.into_vec());
    let verdict = Verdict::from_causes(causes);
    if verdict.allowed {
        verdict.with_warnings(warnings)
    } else {
        verdict
    }
}

/// Most devices of a kind that a node may be told to offer. The kubelet is sent the
/// whole list of them in one message of at most 16 MiB.
const DEVICES_CEILING: i64 = 10_000;

fn configuration(config: &Value, out: &mut Causes) {
    let path = Path::new("spec.configuration");
    if let Some(ratio) = at(config, "additionalGuestMemoryOverheadRatio").as_str() {
        let field = path.child("additionalGuestMemoryOverheadRatio");
        match ratio.parse::<f64>() {
            Ok(number) if number >= 1.0 && number.is_finite() => {}
            Ok(_) => out.add(
                Reason::NotSupported,
                &field,
                format!("ratio provided, {ratio}, cannot be smaller than 1.0"),
            ),
            Err(why) => out.add(
                Reason::NotSupported,
                &field,
                format!("ratio provided, {ratio}, cannot be parsed into float: {why}"),
            ),
        }
    }
    if let Some(guests) = at(config, "virtualMachineInstancesPerNode").as_i64()
        && !(1..=DEVICES_CEILING).contains(&guests)
    {
        out.invalid(
            &path.child("virtualMachineInstancesPerNode"),
            format!("expected 1 to {DEVICES_CEILING}, found {guests}"),
        );
    }
    if text_at(config, "vmRolloutStrategy") == "LiveUpdate" {
        let field = path.child("vmRolloutStrategy");
        out.add(
            Reason::NotSupported,
            &field,
            format!("{field} is not supported: LiveUpdate needs hot plug, which is not implemented yet; changes of a VM take effect at its next start"),
        );
    }
    let strategy = text_at(config, "evictionStrategy");
    if !spec::is_kept(strategy) {
        let field = path.child("evictionStrategy");
        let message = spec::eviction_refusal(&field.to_string(), strategy);
        out.add(Reason::NotSupported, &field, message);
    }
    if text_at(config, "network.defaultNetworkInterface") == "slirp" {
        out.invalid(
            &path.child("network.defaultNetworkInterface"),
            "Slirp interface support has been discontinued since v1.3",
        );
    }
}

/// Fields that take one of a few words, which the schema does not list.
fn words(kubevirt: &Value, out: &mut Causes) {
    const PULL: &[&str] = &["Always", "IfNotPresent", "Never"];
    for (field, allowed) in [
        ("spec.imagePullPolicy", PULL),
        ("spec.configuration.imagePullPolicy", PULL),
        (
            "spec.uninstallStrategy",
            &["RemoveWorkloads", "BlockUninstallIfWorkloadsExist"][..],
        ),
        (
            "spec.configuration.network.defaultNetworkInterface",
            &["bridge", "masquerade", "slirp"],
        ),
        (
            "spec.configuration.evictionStrategy",
            &["LiveMigrate", "LiveMigrateIfPossible", "None", "External"],
        ),
    ] {
        let word = text_at(kubevirt, field);
        if !word.is_empty() && !allowed.contains(&word) {
            out.add(
                Reason::NotSupported,
                &Path::new(field),
                format!("{field} '{word}' is not one of {}", allowed.join(", ")),
            );
        }
    }
}

fn feature_gates(kubevirt: &Value, out: &mut Causes) -> Vec<String> {
    let developer = at(kubevirt, "spec.configuration.developerConfiguration");
    let field = Path::new("spec.configuration.developerConfiguration.featureGates");
    let enabled = strings(at(developer, "featureGates"));
    let disabled: BTreeSet<String> = strings(at(developer, "disabledFeatureGates"))
        .into_iter()
        .collect();
    for gate in enabled.iter().filter(|gate| disabled.contains(*gate)) {
        out.add(
            Reason::Forbidden,
            &field,
            format!(
                "feature gate \"{gate}\" exists on both \"FeatureGates\" and \"DisabledFeatureGates\""
            ),
        );
    }
    if enabled.iter().any(|gate| gate == "Root") {
        out.add(
            Reason::NotSupported,
            &field,
            "feature gate \"Root\" is not supported: launchers always run as user 107",
        );
    }
    enabled
        .iter()
        .filter(|gate| !GATES.contains(&gate.as_str()))
        .map(|gate| {
            format!("feature gate {gate} changes nothing: what edgevirt implements needs no gate")
        })
        .collect()
}

fn certificates(config: &Value) -> Vec<Cause> {
    let mut out = Vec::new();
    let mut lifetime = |which: &str, default: f64| {
        let mut read = |field: &str, default: f64| {
            let value = at(config, &format!("{which}.{field}"));
            let Some(text) = value.as_str() else {
                return default;
            };
            seconds(text).unwrap_or_else(|| {
                let path = format!("spec.certificateRotateStrategy.selfSigned.{which}.{field}");
                let message = format!("{path} '{text}' is not a duration such as 24h0m0s");
                out.push(Cause::new(Reason::Invalid, path, message));
                default
            })
        };
        let duration = read("duration", default);
        (duration, read("renewBefore", duration * RENEW_PART))
    };
    let (ca, ca_renew) = lifetime("ca", CA_LIFETIME);
    let (server, server_renew) = lifetime("server", CERTIFICATE_LIFETIME);
    // The paths in these sentences are upstream's, `Rotation` included.
    let place = "spec.certificateRotationStrategy.selfSigned";
    for (wrong, message) in [
        (
            ca < ca_renew,
            format!(
                "CA RenewBefore cannot exceed Duration ({place}.ca.duration < {place}.ca.renewBefore)"
            ),
        ),
        (
            server < server_renew,
            format!(
                "Cert RenewBefore cannot exceed Duration ({place}.server.duration < {place}.server.renewBefore)"
            ),
        ),
        (
            server > ca,
            format!(
                "Certificate duration cannot exceed CA ({place}.server.duration > {place}.ca.duration)"
            ),
        ),
    ] {
        if wrong {
            out.push(Cause::new(Reason::Invalid, "", message));
        }
    }
    out
}

/// Seconds of a Go duration, as `24h`, `1h30m`, `1.5s`, `0`.
fn seconds(text: &str) -> Option<f64> {
    if text == "0" {
        return Some(0.0);
    }
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(end);
        let unit_end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, after) = tail.split_at(unit_end);
        let scale = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * scale;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_go() {
        assert_eq!(seconds("24h0m0s"), Some(86_400.0));
        assert_eq!(seconds("1h30m"), Some(5400.0));
        assert_eq!(seconds("1.5s"), Some(1.5));
        assert_eq!(seconds("0"), Some(0.0));
        for bad in ["", "24", "h", "1d", "x"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }
}
