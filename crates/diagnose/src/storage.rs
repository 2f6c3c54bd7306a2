//! Storage classes: a default, who makes their volumes, and what CDI knows of them.

use api::cdi::names::annotations::{DEFAULT_CLASS, DEFAULT_VIRT_CLASS};
use hardware::Verdict;
use k8s_openapi::api::storage::v1::StorageClass;

use crate::facts::Facts;
use crate::programs::trouble;
use crate::verdict::{fail, pass, skip, unread, warn};

/// Provisioner of directories on nodes.
pub(crate) const LOCAL_PATH: &str = "rancher.io/local-path";
/// Volumes of such a class are made by hand.
const BY_HAND: &str = "kubernetes.io/no-provisioner";

/// Names of the classes that a claim of none gets; the one for virtual machines goes before.
pub(crate) fn defaults(classes: &[StorageClass]) -> Vec<String> {
    let marked = |key: &str| -> Vec<String> {
        let is = |class: &&StorageClass| {
            let annotations = class.metadata.annotations.as_ref();
            annotations.and_then(|all| all.get(key)).map(String::as_str) == Some("true")
        };
        classes.iter().filter(is).map(name).collect()
    };
    let virt = marked(DEFAULT_VIRT_CLASS);
    if virt.is_empty() {
        marked(DEFAULT_CLASS)
    } else {
        virt
    }
}

fn name(class: &StorageClass) -> String {
    class.metadata.name.clone().unwrap_or_default()
}

fn mark(class: &str, value: &str) -> String {
    format!("kubectl annotate storageclass {class} --overwrite {DEFAULT_CLASS}={value}")
}

pub(crate) fn classes(facts: &Facts) -> Vec<Verdict> {
    const ID: &str = "storage.class";
    let classes = match &facts.classes {
        Err(error) => return unread(ID, "storage classes", error),
        Ok(classes) => classes,
    };
    let all: Vec<String> = classes.iter().map(name).collect();
    let mut verdicts = vec![match (defaults(classes).as_slice(), all.as_slice()) {
        ([one], _) => pass(ID, "default", one.clone()),
        ([], []) => fail(
            ID,
            "default",
            "there is no storage class",
            "edgevirt deploy (on the embedded cluster; elsewhere install a provisioner)",
        ),
        ([], [first, ..]) => warn(
            ID,
            "default",
            format!(
                "none of {} is the default: a claim must name its class",
                all.join(", ")
            ),
            mark(first, "true"),
        ),
        // The newest wins, which is chance for who does not know.
        ([_, second, ..], _) => warn(
            ID,
            "default",
            format!("more than one: {}", defaults(classes).join(", ")),
            mark(second, "false"),
        ),
    }];
    verdicts.extend(classes.iter().map(|class| provisioner(facts, class)));
    verdicts
}

/// Who makes the class's volumes, and whether he is there.
fn provisioner(facts: &Facts, class: &StorageClass) -> Verdict {
    const ID: &str = "storage.class";
    let who = class.provisioner.as_str();
    let mode = class.volume_binding_mode.as_deref().unwrap_or("Immediate");
    let about = match mode {
        "WaitForFirstConsumer" => "binds when its first pod is scheduled (an upload's is one)",
        _ => "binds at once",
    };
    let subject = name(class);
    let text = format!("{who}, {about}");
    if who == BY_HAND {
        return skip(ID, subject, format!("{text}; its volumes are made by hand"));
    }
    if who == LOCAL_PATH {
        let pods = match &facts.provisioners {
            Err(error) => {
                return skip(
                    ID,
                    subject,
                    format!("{text}; its pods cannot be read: {error}"),
                );
            }
            Ok(pods) => pods,
        };
        let ready = pods.iter().find(|pod| {
            let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
            conditions
                .into_iter()
                .flatten()
                .any(|one| one.type_ == "Ready" && one.status == "True")
        });
        let why = pods.iter().find_map(trouble);
        return match (ready, why) {
            (Some(pod), _) => pass(
                ID,
                subject,
                format!("{text}; {} runs", crate::facts::full_name(&pod.metadata)),
            ),
            (None, why) => fail(
                ID,
                subject,
                format!(
                    "{text}; its provisioner does not run: {}",
                    why.unwrap_or_else(|| "no pod of local-path-provisioner is ready".to_owned())
                ),
                "kubectl get deployments,pods -A | grep local-path-provisioner; edgevirt deploy brings the embedded cluster's back",
            ),
        };
    }
    match &facts.drivers {
        Ok(drivers) => match drivers.get(who) {
            Some(0) => fail(
                ID,
                subject,
                format!("{text}; the CSI driver is registered on no node"),
                format!(
                    "kubectl get csinodes -o yaml; kubectl get pods -A | grep csi (driver {who})"
                ),
            ),
            Some(nodes) => pass(ID, subject, format!("{text}; on {nodes} nodes")),
            None => skip(
                ID,
                subject,
                format!("{text}; whether this provisioner runs cannot be seen from the API"),
            ),
        },
        Err(error) => skip(
            ID,
            subject,
            format!("{text}; CSI drivers cannot be read: {error}"),
        ),
    }
}

pub(crate) fn profiles(facts: &Facts) -> Vec<Verdict> {
    const ID: &str = "storage.profile";
    let classes = match &facts.classes {
        Err(error) => return unread(ID, "storage classes", error),
        Ok(classes) => classes,
    };
    let profiles = match &facts.profiles {
        Err(error) => return unread(ID, "storage profiles", error),
        Ok(profiles) => profiles,
    };
    let judge = |class: &StorageClass| {
        let subject = name(class);
        let found = profiles
            .iter()
            .find(|one| one.metadata.name.as_deref() == Some(&subject));
        let Some(profile) = found else {
            return fail(
                ID,
                subject,
                "no StorageProfile of this name",
                "kubectl -n cdi rollout restart deployment cdi-deployment",
            );
        };
        let status = profile.status.clone().unwrap_or_default();
        let sets: Vec<String> = status
            .claim_property_sets
            .iter()
            .map(|set| format!("{} {}", set.access_modes.join("+"), set.volume_mode))
            .collect();
        if sets.is_empty() {
            let remedy = format!(
                "kubectl patch storageprofile {subject} --type=merge -p '{{\"spec\":{{\"claimPropertySets\":[{{\"accessModes\":[\"ReadWriteOnce\"],\"volumeMode\":\"Filesystem\"}}]}}}}' (with what the class really offers)"
            );
            return warn(
                ID,
                subject,
                format!(
                    "nothing is known of {}: DataVolumes must name their access mode",
                    class.provisioner
                ),
                remedy,
            );
        }
        pass(ID, subject, sets.join(", "))
    };
    classes.iter().map(judge).collect()
}
