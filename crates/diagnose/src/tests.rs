//! One line for each way in which a cluster is not healthy.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod healthy;

use hardware::{Status, Verdict};
use serde_json::{Value, json};

use super::*;
use healthy::*;

fn worst_of<'a>(verdicts: &'a [Verdict], id: &str) -> &'a Verdict {
    let of = verdicts.iter().rev().filter(|one| one.id == id);
    of.max_by_key(|one| one.status).expect("a verdict")
}

/// The healthy cluster with one thing changed: the worst verdict of the check, the first of several.
#[track_caller]
fn hurt(id: &str, status: Status, evidence: &str, remedy: &str, hurt: impl FnOnce(&mut Facts)) {
    let mut facts = healthy();
    hurt(&mut facts);
    let verdicts = judge(&facts);
    let found = worst_of(&verdicts, id);
    assert_eq!(found.status, status, "{found:?}");
    assert!(found.evidence.contains(evidence), "{evidence:?}: {found:?}");
    assert!(found.remedy.contains(remedy), "{remedy:?}: {found:?}");
    let silent = found.remedy.is_empty();
    assert_eq!(
        silent,
        matches!(status, Status::Pass | Status::Skip),
        "{found:?}"
    );
}

use Status::{Fail, Pass, Skip, Warn};

#[test]
fn a_healthy_cluster_passes_every_check() {
    let verdicts = judge(&healthy());
    for verdict in &verdicts {
        assert_eq!(verdict.status, Pass, "{verdict:?}");
        assert!(!verdict.why.is_empty(), "{verdict:?}");
    }
    for check in CHECKS {
        assert!(
            verdicts.iter().any(|one| one.id == check.id),
            "{}",
            check.id
        );
    }
}

#[test]
fn programs_that_do_not_run_are_found_with_their_reason() {
    hurt(
        "cdi.object",
        Fail,
        "no CDI object",
        "edgevirt deploy",
        |f| f.cdi = Ok(None),
    );
    hurt("cdi.object", Skip, "forbidden", "", |f| {
        f.cdi = Err("forbidden".to_owned())
    });
    hurt(
        "cdi.object",
        Fail,
        "half way",
        "logs deployment/cdi-operator",
        |f| {
            f.cdi = Ok(Some(of(
                json!({"status": {"phase": "Deploying", "conditions": [
            {"type": "Available", "status": "False", "message": "half way"}]}}),
            )));
        },
    );
    hurt(
        "cdi.programs",
        Fail,
        "no such deployment",
        "edgevirt deploy",
        |f| {
            f.deployments = Ok(Vec::new());
        },
    );
    hurt(
        "cdi.programs",
        Fail,
        "ImagePullBackOff: not found",
        "-l cdi.kubevirt.io=cdi-uploadproxy",
        |f| {
            let deployments = f.deployments.as_mut().unwrap();
            deployments[3].status = None;
            f.pods = Ok(vec![of(
                json!({"metadata": {"name": "p", "namespace": "cdi",
            "labels": {"cdi.kubevirt.io": "cdi-uploadproxy"}}, "status": {"containerStatuses": [
            {"name": "a", "image": "", "imageID": "", "ready": false, "restartCount": 0,
             "state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}}]}}),
            )]);
        },
    );
    hurt(
        "upload.api",
        Fail,
        "no route",
        "apiservice v1beta1.upload",
        |f| {
            f.upload_api = Err("no route".to_owned());
        },
    );
}

#[test]
fn a_proxy_that_is_not_reached_comes_with_a_way_to_it() {
    hurt("proxy.service", Fail, "no service", "cdi-operator", |f| {
        f.services = Ok(Vec::new())
    });
    hurt("proxy.service", Fail, "no ready pod", "get pods", |f| {
        f.endpoints = Ok(0)
    });
    hurt(
        "proxy.address",
        Fail,
        "refused",
        "https://10.96.0.9:443",
        |f| {
            f.doors[0].greeting = Err("refused".to_owned());
            f.doors
                .push(door(Way::ClusterIp, "https://10.96.0.9:443", Ok(())));
        },
    );
    hurt(
        "proxy.address",
        Warn,
        "API server only",
        "--type=NodePort",
        |f| {
            f.doors = vec![door(
                Way::PortForward,
                "https://cdi-uploadproxy.cdi.svc",
                Ok(()),
            )];
        },
    );
    hurt("proxy.address", Fail, "no answer", "--type=NodePort", |f| {
        f.doors[0].way = Way::ClusterIp;
        f.doors[0].greeting = Err("no answer".to_owned());
    });
    hurt(
        "proxy.url",
        Warn,
        "is empty",
        "\"uploadProxyURLOverride\":\"https://up.example\"",
        |f| {
            f.config = Ok(Some(of(json!({"status": {}}))));
        },
    );
    hurt(
        "proxy.url",
        Warn,
        "ingress up leads",
        "https://edge.example",
        |f| {
            f.config = Ok(None);
            f.ingresses = Ok(vec![of(
                json!({"metadata": {"name": "up"}, "spec": {"rules": [
            {"host": "edge.example", "http": {"paths": [{"pathType": "Prefix", "backend":
                {"service": {"name": "cdi-uploadproxy", "port": {"number": 443}}}}]}}]}}),
            )]);
        },
    );
}

#[test]
fn a_certificate_is_judged_by_chain_time_and_name() {
    fn certificate(facts: &mut Facts) -> &mut Certificate {
        let greeting = facts.doors[0].greeting.as_mut().unwrap();
        greeting.certificate.as_mut().unwrap()
    }
    const ID: &str = "proxy.certificate";
    hurt(
        ID,
        Fail,
        "unknown issuer",
        "restart deployment cdi-uploadproxy",
        |f| {
            certificate(f).chain = Err("unknown issuer".to_owned());
        },
    );
    hurt(ID, Fail, "expired 60 s ago", "delete secret", |f| {
        certificate(f).not_after = NOW - 60
    });
    hurt(ID, Warn, "should have been renewed", "cdi-operator", |f| {
        certificate(f).not_after = NOW + 3600;
    });
    hurt(ID, Fail, "clock", "set-ntp", |f| {
        certificate(f).not_before = NOW + 600
    });
    hurt(
        ID,
        Warn,
        "--insecure is needed",
        "echo '10.96.0.9 cdi-uploadproxy.cdi.svc' >> /etc/hosts",
        |f| {
            f.doors = vec![door(
                Way::ClusterIp,
                "https://10.96.0.9:443",
                Err("name".to_owned()),
            )];
        },
    );
    hurt(ID, Warn, "uploadProxyCA", "cdi-operator", |f| {
        f.bundle = Ok(Some("new".to_owned()))
    });
    hurt(ID, Skip, "not reached", "", |f| f.doors.clear());
}

#[test]
fn a_policy_that_shuts_the_proxy_out_of_a_namespace_that_uploads_is_found() {
    let uploading = |f: &mut Facts, policies| {
        f.claims = Ok(vec![upload_claim("ns")]);
        f.pods = Ok(vec![upload_pod("ns")]);
        f.policies = Ok(policies);
    };
    hurt("policy", Pass, "", "", |f| uploading(f, vec![]));
    hurt("policy", Pass, "", "", |f| {
        uploading(f, vec![deny_all(), proxy_policy()])
    });
    hurt(
        "policy",
        Fail,
        "block-all-ingress keeps",
        "name: cdi-upload-proxy-policy, namespace: ns",
        |f| {
            uploading(f, vec![deny_all()]);
        },
    );
    // It is there, but does not let the proxy in.
    for spec in [
        json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"ports": [{"port": 80}]}]}),
        json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"from": [{"podSelector": {}}]}]}),
        json!({"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}]}),
        json!({"podSelector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]}, "ingress": []}),
    ] {
        hurt("policy", Fail, "narrow keeps", "kubectl apply", |f| {
            uploading(f, vec![policy("narrow", &spec)]);
        });
    }
    for spec in [
        json!({"podSelector": {"matchLabels": {"app": "other"}}, "ingress": []}),
        json!({"podSelector": {}, "ingress": [{}]}),
        json!({"podSelector": {}, "ingress": [{"ports": [{"port": 8000, "endPort": 9000}]}]}),
        json!({"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]}),
        json!({"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": {}}]}]}),
    ] {
        hurt("policy", Pass, "", "", |f| {
            uploading(f, vec![policy("wide", &spec)])
        });
    }
    hurt(
        "policy",
        Pass,
        "no policy selects upload servers",
        "",
        |f| {
            f.namespace = Some("ns".to_owned());
            f.own_policies = Err("forbidden".to_owned());
        },
    );
    // CDI brings its policy along with the first upload.
    hurt("policy", Pass, "", "", |f| {
        f.namespace = Some("ns".to_owned());
        f.policies = Ok(vec![deny_all()]);
    });
    hurt("policy", Warn, "importers", "cdi-importer-egress", |f| {
        f.namespace = Some("ns".to_owned());
        f.policies = Ok(vec![policy(
            "no-way-out",
            &json!({"podSelector": {}, "policyTypes": ["Egress"]}),
        )]);
    });
}

#[test]
fn a_token_is_good_when_the_proxy_gets_as_far_as_the_claim() {
    let with = |attempt: Attempt| move |f: &mut Facts| f.token.attempt = attempt;
    hurt(
        "token",
        Fail,
        "denied",
        "auth can-i",
        with(Attempt::NoToken("denied".to_owned())),
    );
    hurt(
        "token",
        Skip,
        "quota",
        "",
        with(Attempt::NoClaim("quota".to_owned())),
    );
    hurt(
        "token",
        Skip,
        "timeout",
        "",
        with(Attempt::NoAnswer("timeout".to_owned())),
    );
    let answer = |status, text: &str| Attempt::Answer {
        status,
        text: text.to_owned(),
    };
    hurt(
        "token",
        Fail,
        "401: bad signature",
        "cdi-api-signing-key",
        with(answer(401, "bad signature\n")),
    );
    hurt(
        "token",
        Fail,
        "502",
        "logs deployment/cdi-uploadproxy",
        with(answer(502, "")),
    );
}

#[test]
fn storage_without_default_provisioner_profile_or_room_is_found() {
    const CLASS: &str = "storage.class";
    hurt(CLASS, Fail, "no storage class", "edgevirt deploy", |f| {
        f.classes = Ok(Vec::new())
    });
    hurt(
        CLASS,
        Warn,
        "the default",
        "annotate storageclass local",
        |f| {
            f.classes = Ok(vec![class("local", "rancher.io/local-path", false)]);
        },
    );
    hurt(
        CLASS,
        Warn,
        "more than one",
        "annotate storageclass ceph",
        |f| {
            f.classes
                .as_mut()
                .unwrap()
                .push(class("ceph", "rbd.csi", true));
        },
    );
    hurt(
        CLASS,
        Fail,
        "provisioner does not run",
        "local-path-provisioner",
        |f| {
            f.provisioners = Ok(Vec::new());
        },
    );
    hurt(CLASS, Fail, "registered on no node", "dead.csi", |f| {
        f.classes
            .as_mut()
            .unwrap()
            .push(class("dead", "dead.csi", false));
    });
    hurt(
        "storage.profile",
        Fail,
        "no StorageProfile",
        "cdi-deployment",
        |f| f.profiles = Ok(Vec::new()),
    );
    hurt(
        "storage.profile",
        Warn,
        "nothing is known",
        "patch storageprofile local",
        |f| {
            f.profiles.as_mut().unwrap()[0].status = None;
        },
    );
    const SPACE: &str = "storage.space";
    hurt(SPACE, Fail, "500 MiB of 100 GiB free", "delete dv", |f| {
        f.rooms = Ok(vec![room(500 << 20)])
    });
    hurt(SPACE, Warn, "5120 MiB", "delete dv", |f| {
        f.rooms = Ok(vec![room(5 << 30)])
    });
    hurt(SPACE, Skip, "not known", "", |f| f.rooms = Ok(Vec::new()));
    hurt(SPACE, Fail, "CSIStorageCapacity", "delete dv", |f| {
        f.capacities = Ok(vec![of(
            json!({"metadata": {}, "storageClassName": "local", "capacity": "10Mi"}),
        )]);
    });
}

#[test]
fn what_is_stuck_says_why() {
    let claim = |spec: Value, phase: &str| -> k8s_openapi::api::core::v1::PersistentVolumeClaim {
        of(
            json!({"metadata": {"name": "disk", "namespace": "ns", "uid": "u", "creationTimestamp": LONG_AGO,
            "annotations": {"volume.kubernetes.io/selected-node": "edge1"}},
            "spec": spec, "status": {"phase": phase}}),
        )
    };
    let volume = |status: Value| -> api::cdi::DataVolume {
        of(
            json!({"metadata": {"name": "disk", "namespace": "ns", "creationTimestamp": LONG_AGO},
            "status": status}),
        )
    };
    hurt(
        "stuck",
        Fail,
        "class nope does not exist; there are: local",
        "delete pvc disk, then again with --storage-class=local",
        |f| {
            f.claims = Ok(vec![claim(json!({"storageClassName": "nope"}), "Pending")]);
        },
    );
    hurt(
        "stuck",
        Fail,
        "no default",
        "annotate storageclass local",
        |f| {
            f.classes = Ok(vec![class("local", "rancher.io/local-path", false)]);
            f.claims = Ok(vec![claim(json!({}), "Pending")]);
        },
    );
    hurt("stuck", Fail, "disk is full", "describe pvc disk", |f| {
        f.claims = Ok(vec![claim(json!({"storageClassName": "local"}), "Pending")]);
        f.warnings = Ok(vec![of(
            json!({"metadata": {}, "involvedObject": {"uid": "u"}, "message": "disk is full"}),
        )]);
    });
    hurt("stuck", Fail, "Lost", "delete pvc disk", |f| {
        f.claims = Ok(vec![claim(json!({"volumeName": "pv"}), "Lost")]);
    });
    hurt("stuck", Fail, "Failed: bad magic", "delete dv disk", |f| {
        f.data_volumes = Ok(vec![volume(json!({"phase": "Failed", "conditions": [
            {"type": "Running", "status": "False", "message": "bad magic"}]}))]);
    });
    hurt(
        "stuck",
        Warn,
        "restarted 3 times: 404",
        "describe dv disk",
        |f| {
            f.data_volumes = Ok(vec![volume(
                json!({"phase": "ImportInProgress", "restartCount": 3,
            "conditions": [{"type": "Running", "status": "False", "message": "404"}]}),
            )]);
        },
    );
    hurt(
        "stuck",
        Warn,
        "nobody sends its data",
        "image-upload dv disk",
        |f| {
            f.data_volumes = Ok(vec![volume(json!({"phase": "UploadReady"}))]);
        },
    );
    hurt("stuck", Fail, "Pending for 3 h", "describe dv disk", |f| {
        f.data_volumes = Ok(vec![volume(json!({"phase": "Pending"}))]);
    });
    hurt("stuck", Pass, "1 DataVolumes", "", |f| {
        f.data_volumes = Ok(vec![volume(json!({"phase": "Succeeded"}))]);
    });
    hurt(
        "stuck",
        Fail,
        "fits on no node: no room",
        "describe pod",
        |f| {
            f.pods = Ok(vec![of(
                json!({"metadata": {"name": "importer-disk", "namespace": "ns",
            "creationTimestamp": LONG_AGO}, "status": {"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "message": "no room"}]}}),
            )]);
        },
    );
}
