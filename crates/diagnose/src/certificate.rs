//! Whether a client can verify the upload proxy, and by which name.

use api::cdi::names;
use hardware::Verdict;

use crate::facts::{Certificate, Door, Facts, Way};
use crate::verdict::{fail, pass, skip, span, warn};

const ID: &str = "proxy.certificate";
/// Writes the bundle where Debian's machines look for authorities.
const TRUST: &str = "kubectl -n cdi get configmap cdi-uploadproxy-signer-bundle -o jsonpath='{.data.ca-bundle\\.crt}' > /usr/local/share/ca-certificates/cdi-uploadproxy.crt && update-ca-certificates";

pub(crate) fn judge(facts: &Facts) -> Vec<Verdict> {
    let shown = facts
        .open_doors()
        .find_map(|(door, greeting)| Some((door, greeting.certificate.as_ref()?)));
    let Some((door, certificate)) = shown else {
        return vec![skip(ID, "", "the proxy was not reached, or not by TLS")];
    };
    let mut verdicts = vec![
        chain(facts, certificate),
        expiry(facts, certificate),
        name(door, certificate),
    ];
    verdicts.extend(published(facts));
    verdicts
}

fn chain(facts: &Facts, certificate: &Certificate) -> Verdict {
    let bundle = names::UPLOAD_PROXY_CA_BUNDLE;
    match (&facts.bundle, &certificate.chain) {
        (Err(error), _) => skip(ID, "chain", format!("{bundle} cannot be read: {error}")),
        (Ok(None), _) => fail(
            ID,
            "chain",
            format!("no ConfigMap cdi/{bundle}"),
            "kubectl -n cdi rollout restart deployment cdi-operator",
        ),
        (Ok(Some(_)), Ok(())) => pass(
            ID,
            "chain",
            format!("signed by {}, which is in cdi/{bundle}", certificate.issuer),
        ),
        (Ok(Some(_)), Err(error)) => fail(
            ID,
            "chain",
            format!(
                "signed by {}; cdi/{bundle} does not vouch for it: {error}",
                certificate.issuer
            ),
            "kubectl -n cdi rollout restart deployment cdi-uploadproxy",
        ),
    }
}

/// The operator renews in good time, so little time left means that it does not.
fn expiry(facts: &Facts, certificate: &Certificate) -> Verdict {
    let left = certificate.not_after.saturating_sub(facts.now);
    let life = certificate
        .not_after
        .saturating_sub(certificate.not_before)
        .max(1);
    let remedy = "kubectl -n cdi logs deployment/cdi-operator --tail=20 && kubectl -n cdi delete secret cdi-uploadproxy-server-cert && kubectl -n cdi rollout restart deployment cdi-uploadproxy";
    if certificate.not_before > facts.now {
        let early = certificate.not_before.saturating_sub(facts.now);
        return fail(
            ID,
            "validity",
            format!(
                "valid in {}: this machine's clock is late, or the cluster's is early",
                span(early)
            ),
            "timedatectl set-ntp true",
        );
    }
    if left < 0 {
        return fail(
            ID,
            "validity",
            format!("expired {} ago", span(left.saturating_neg())),
            remedy,
        );
    }
    let text = format!("{} of {} left", span(left), span(life));
    if left < life / 10 {
        return warn(
            ID,
            "validity",
            format!("{text}; it should have been renewed"),
            remedy,
        );
    }
    pass(ID, "validity", text)
}

fn name(door: &Door, certificate: &Certificate) -> Verdict {
    let names = certificate.names.join(", ");
    if certificate.name.is_ok() {
        let by = match door.way {
            Way::PortForward => "virtctl image-upload without --uploadproxy-url".to_owned(),
            _ => format!("--uploadproxy-url={}", door.url),
        };
        return pass(
            ID,
            "names",
            format!("it is for {names}: {by} needs no --insecure"),
        );
    }
    let host = format!("{}.{}.svc", names::UPLOAD_PROXY, names::NAMESPACE);
    let (address, port) = split(&door.url);
    let remedy = if certificate.names.contains(&host) && is_address(address) {
        format!(
            "virtctl image-upload without --uploadproxy-url verifies it by itself; for this address: echo '{address} {host}' >> /etc/hosts, then --uploadproxy-url=https://{host}:{port}; clients other than ours also want: {TRUST}"
        )
    } else {
        "virtctl image-upload without --uploadproxy-url verifies it by itself".to_owned()
    };
    warn(
        ID,
        "names",
        format!(
            "it is for {names}, and not for {address}: with --uploadproxy-url={} --insecure is needed",
            door.url
        ),
        remedy,
    )
}

/// Clients read the authorities from CDIConfig; it must say the same as the bundle.
fn published(facts: &Facts) -> Option<Verdict> {
    let bundle = facts.bundle.as_ref().ok()?.as_ref()?;
    let config = facts.config.as_ref().ok()?.as_ref()?;
    let said = config.status.as_ref()?.upload_proxy_ca.as_deref();
    if said.unwrap_or_default().trim() == bundle.trim() {
        return None;
    }
    Some(warn(
        ID,
        "CDIConfig",
        format!(
            "status.uploadProxyCA of CDIConfig is {}, so virtctl cannot verify the proxy by it",
            if said.is_none() {
                "empty"
            } else {
                "not what cdi/cdi-uploadproxy-signer-bundle has"
            }
        ),
        "kubectl -n cdi rollout restart deployment cdi-operator",
    ))
}

/// Host and port of a URL.
fn split(url: &str) -> (&str, &str) {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (authority, "443"),
    }
}

fn is_address(host: &str) -> bool {
    host.trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<std::net::IpAddr>()
        .is_ok()
}
