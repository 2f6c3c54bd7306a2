//! cdi-deployment dies while a volume changes its claim: nothing is lost, and the next one goes on.

use testkit::{Namespace, kubectl};

use super::cdi::{again, kill_component};
use crate::datavolumes::{create, holds, http, random, succeeds};
use crate::transfers::{Transfer, volume};
use crate::web::Files;

#[test]
fn a_transfer_survives_the_controller() {
    let (here, there) = (Namespace::new("here"), Namespace::new("there"));
    let bytes = random(1 << 20);
    let web = Files::default().file("disk.raw", bytes.clone()).serve();
    create(&here, &http("disk", &web.url("disk.raw"), "16Mi"));
    succeeds(&here, "disk");
    let known = volume(&here, "disk");
    // The volume is retained: the source goes now.
    let moves = Transfer::start("DataVolume", "disk", &here, &there);
    let path = "-o=jsonpath={.spec.persistentVolumeReclaimPolicy}";
    for _ in 0..200 {
        if kubectl(&["get", "pv", &known.0, path], None).stdout == "Retain" {
            break;
        }
    }
    kill_component("cdi-deployment");
    again("cdi-deployment");
    moves.completes();
    succeeds(&there, "disk");
    assert_eq!(volume(&there, "disk"), known);
    holds(&there, "disk", &bytes);
    here.wait_gone("dv", "disk");
    here.wait_gone("pvc", "disk");
}
