//! Network policies between the upload proxy and the workers that fill claims.

use std::collections::BTreeSet;

use api::cdi::names::{self, annotations};
use hardware::Verdict;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;

use crate::facts::Facts;
use crate::programs::label;
use crate::selector::{Direction, Labels, Other, Say, say};
use crate::verdict::{fail, pass, unread, warn};

const ID: &str = "policy";

pub(crate) fn judge(facts: &Facts) -> Vec<Verdict> {
    let policies = match &facts.policies {
        Err(error) => return unread(ID, "network policies", error),
        Ok(policies) => policies,
    };
    let world = World { facts, policies };
    let mut verdicts = world.own();
    for namespace in uploading(facts) {
        verdicts.push(world.uploads(&namespace));
        verdicts.extend(world.imports(&namespace));
    }
    verdicts
}

/// Namespaces with a claim that an upload or import is to fill, and the one that was asked about.
fn uploading(facts: &Facts) -> BTreeSet<String> {
    let claims = facts.claims.iter().flatten();
    let waiting = claims.filter(|claim| wants_data(claim));
    let mut all: BTreeSet<String> = waiting
        .filter_map(|claim| claim.metadata.namespace.clone())
        .collect();
    all.extend(facts.namespace.clone());
    all
}

fn wants_data(claim: &PersistentVolumeClaim) -> bool {
    let Some(annotations) = &claim.metadata.annotations else {
        return false;
    };
    let filled = annotations
        .get(annotations::POD_PHASE)
        .is_some_and(|phase| phase == "Succeeded");
    !filled
        && [annotations::UPLOAD_TARGET, annotations::SOURCE]
            .iter()
            .any(|key| annotations.contains_key(*key))
}

struct World<'a> {
    facts: &'a Facts,
    policies: &'a [NetworkPolicy],
}

impl World<'_> {
    fn of<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a NetworkPolicy> {
        self.policies
            .iter()
            .filter(move |one| one.metadata.namespace.as_deref() == Some(namespace))
    }

    /// Labels of a namespace; what the API server always sets if they could not be read.
    fn labels(&self, namespace: &str) -> Labels {
        let known = self.facts.namespaces.as_ref().ok();
        known
            .and_then(|all| all.get(namespace))
            .cloned()
            .unwrap_or_else(|| {
                [(
                    "kubernetes.io/metadata.name".to_owned(),
                    namespace.to_owned(),
                )]
                .into()
            })
    }

    /// Labels of the first pod of a component in a namespace, or those that it will have.
    fn component(&self, namespace: &str, component: &str) -> Labels {
        let of = |pod: &&Pod| {
            pod.metadata.namespace.as_deref() == Some(namespace) && label(pod) == Some(component)
        };
        let found = self.facts.pods.iter().flatten().find(of);
        found
            .and_then(|pod| pod.metadata.labels.clone())
            .unwrap_or_else(|| {
                [
                    (names::APP_LABEL.to_owned(), names::APP.to_owned()),
                    (names::COMPONENT_LABEL.to_owned(), component.to_owned()),
                ]
                .into()
            })
    }

    /// Clients to the proxy, in CDI's namespace.
    fn own(&self) -> Vec<Verdict> {
        if let Err(error) = &self.facts.own_policies {
            return unread(ID, "network policies in namespace cdi", error);
        }
        let proxy = self.component(names::NAMESPACE, names::UPLOAD_PROXY);
        let inward = say(
            self.of(names::NAMESPACE),
            Direction::Ingress,
            &proxy,
            Other::Anybody,
            Some(names::UPLOAD_PORT),
        );
        vec![match inward {
            Say::Open => pass(ID, names::NAMESPACE, "no policy selects the upload proxy"),
            Say::Admitted(by) => pass(
                ID,
                names::NAMESPACE,
                format!("{by} lets everybody reach the upload proxy"),
            ),
            Say::Shut(by) => warn(
                ID,
                names::NAMESPACE,
                format!(
                    "{} selects the upload proxy, and no policy lets everybody in: some clients are shut out",
                    by.join(", ")
                ),
                allow(
                    "cdi-upload-proxy-clients",
                    names::NAMESPACE,
                    names::UPLOAD_PROXY,
                    "policyTypes: [Ingress], ingress: [{ports: [{port: 8443}]}]",
                ),
            ),
        }]
    }

    /// The proxy to upload servers of a namespace.
    fn uploads(&self, namespace: &str) -> Verdict {
        let server = self.component(namespace, names::UPLOAD_SERVER);
        let proxy = self.component(names::NAMESPACE, names::UPLOAD_PROXY);
        let port = Some(names::UPLOAD_PORT);
        let place = self.labels(names::NAMESPACE);
        let outward = say(
            self.of(names::NAMESPACE),
            Direction::Egress,
            &proxy,
            Other::Pods {
                own_namespace: namespace == names::NAMESPACE,
                namespace: &self.labels(namespace),
                labels: &server,
            },
            port,
        );
        if let Say::Shut(by) = outward {
            return fail(
                ID,
                namespace,
                format!(
                    "{} in namespace cdi keeps the upload proxy from upload servers",
                    by.join(", ")
                ),
                allow(
                    "cdi-upload-proxy-servers",
                    names::NAMESPACE,
                    names::UPLOAD_PROXY,
                    "policyTypes: [Egress], egress: [{}]",
                ),
            );
        }
        let inward = say(
            self.of(namespace),
            Direction::Ingress,
            &server,
            Other::Pods {
                own_namespace: namespace == names::NAMESPACE,
                namespace: &place,
                labels: &proxy,
            },
            port,
        );
        let policy = names::UPLOAD_PROXY_POLICY;
        match inward {
            Say::Admitted(by) => pass(
                ID,
                namespace,
                format!("{by} lets the upload proxy reach upload servers"),
            ),
            Say::Open => pass(
                ID,
                namespace,
                format!("no policy selects upload servers; {policy} comes with the first upload"),
            ),
            Say::Shut(by) => {
                let by = by.join(", ");
                if !self.has_upload(namespace) {
                    return pass(
                        ID,
                        namespace,
                        format!(
                            "{by} shuts upload servers off; {policy}, which comes with the first upload, lets the proxy in"
                        ),
                    );
                }
                fail(
                    ID,
                    namespace,
                    format!(
                        "{by} keeps the upload proxy from upload servers, and no {policy} lets it in"
                    ),
                    allow(
                        policy,
                        namespace,
                        names::UPLOAD_SERVER,
                        "policyTypes: [Ingress], ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: cdi}}, podSelector: {matchLabels: {cdi.kubevirt.io: cdi-uploadproxy}}}], ports: [{port: 8443}]}]",
                    ),
                )
            }
        }
    }

    fn has_upload(&self, namespace: &str) -> bool {
        self.facts.pods.iter().flatten().any(|pod| {
            pod.metadata.namespace.as_deref() == Some(namespace)
                && label(pod) == Some(names::UPLOAD_SERVER)
        })
    }

    /// Importers of a namespace to their sources, wherever these are.
    fn imports(&self, namespace: &str) -> Option<Verdict> {
        let importer = self.component(namespace, names::IMPORTER);
        let outward = say(
            self.of(namespace),
            Direction::Egress,
            &importer,
            Other::Anybody,
            None,
        );
        let Say::Shut(by) = outward else { return None };
        Some(warn(
            ID,
            namespace,
            format!(
                "{} limits where importers connect to: imports by URL may not reach their source or DNS; uploads are not concerned",
                by.join(", ")
            ),
            allow(
                "cdi-importer-egress",
                namespace,
                names::IMPORTER,
                "policyTypes: [Egress], egress: [{}]",
            ),
        ))
    }
}

/// A command that lets more through to or from a component's pods.
fn allow(name: &str, namespace: &str, component: &str, rules: &str) -> String {
    format!(
        "echo '{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: {name}, namespace: {namespace}}}, spec: {{podSelector: {{matchLabels: {{cdi.kubevirt.io: {component}}}}}, {rules}}}}}' | kubectl apply -f -"
    )
}
