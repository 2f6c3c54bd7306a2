//! Whether an upload token is given, and accepted.
//!
//! The claim that it is for is no upload target, so the proxy says so (503) once it believes
//! the token, and has nowhere to write to. Source of codes and sentences: CDI
//! pkg/uploadproxy/uploadproxy.go.

use hardware::Verdict;

use crate::facts::{Attempt, Facts};
use crate::verdict::{fail, pass, skip};

pub(crate) fn judge(facts: &Facts) -> Vec<Verdict> {
    const ID: &str = "token";
    let place = &facts.token.namespace;
    vec![match &facts.token.attempt {
        Attempt::NoClaim(error) => skip(
            ID,
            place,
            format!("no claim could be made to ask a token for: {error}"),
        ),
        Attempt::NoToken(error) => fail(
            ID,
            place,
            format!("no token is given: {error}"),
            format!(
                "kubectl auth can-i create uploadtokenrequests.upload.cdi.kubevirt.io -n {place} && kubectl -n cdi logs deployment/cdi-apiserver --tail=20"
            ),
        ),
        Attempt::NoAnswer(error) => skip(
            ID,
            place,
            format!("a token is given; the proxy could not be asked whether it takes it: {error}"),
        ),
        Attempt::Answer { status: 503, .. } => pass(
            ID,
            place,
            "a token is given, and the proxy takes it; no data was sent",
        ),
        Attempt::Answer { status, text } => fail(
            ID,
            place,
            format!("the proxy refuses the token: {status}: {}", text.trim()),
            match status {
                400 | 401 => {
                    "kubectl -n cdi rollout restart deployment cdi-apiserver cdi-uploadproxy (both must know the same key, Secret cdi-api-signing-key; and compare the clocks of the nodes)"
                }
                _ => "kubectl -n cdi logs deployment/cdi-uploadproxy --tail=20",
            },
        ),
    }]
}
