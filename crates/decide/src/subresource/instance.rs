//! Verbs of a VirtualMachineInstance: may they go on to the node or the guest?

use serde_json::Value;

use super::object::{is_running, is_true, name, phase, uid};
use super::refusal::{Refusal, Subject};

/// Condition of a VMI whose vCPUs are stopped on request.
const PAUSED: &str = "Paused";

/// Decides `PUT …/pause`.
///
/// # Errors
/// 409 when it does not run or is paused, 403 when a liveness probe would take
/// the pause for a failure.
pub fn pause(vmi: &Value) -> Result<(), Refusal> {
    if !is_running(vmi) {
        return Err(conflict(vmi, "VM is not running"));
    }
    let probe = &vmi["spec"]["livenessProbe"];
    if !probe.is_null() && probe["guestAgentPing"].is_null() {
        let why = "Pausing VMIs with a non-GuestAgentPing LivenessProbe is not supported";
        return Err(Refusal::forbidden(Subject::Instance, name(vmi), why));
    }
    if is_true(vmi, PAUSED) {
        return Err(conflict(vmi, "VMI is already paused"));
    }
    Ok(())
}

/// Decides `PUT …/unpause`; `vm` is the VirtualMachine of the same name, if any.
///
/// # Errors
/// 409 when it does not run, is not paused, or a snapshot needs it paused.
pub fn unpause(vm: Option<&Value>, vmi: &Value) -> Result<(), Refusal> {
    if let Some(vm) = vm.filter(|vm| !vm["status"]["snapshotInProgress"].is_null()) {
        return Err(Refusal::conflict(
            Subject::Machine,
            name(vm),
            "VM snapshot is in progress",
        ));
    }
    if !is_running(vmi) {
        return Err(conflict(vmi, "VMI is not running"));
    }
    if !is_true(vmi, PAUSED) {
        return Err(conflict(vmi, "VMI is not paused"));
    }
    Ok(())
}

/// Decides `PUT …/softreboot`.
///
/// # Errors
/// 409 when it does not run, is paused, or nothing in the guest would hear it.
pub fn soft_reboot(vmi: &Value) -> Result<(), Refusal> {
    if !is_running(vmi) {
        return Err(conflict(vmi, "VM is not running"));
    }
    if is_true(vmi, PAUSED) {
        return Err(conflict(vmi, "VMI is paused"));
    }
    let deaf = vmi["spec"]["domain"]["features"]["acpi"]["enabled"] == false;
    if deaf && !is_true(vmi, "AgentConnected") {
        let why = "VMI neither have the agent connected nor the ACPI feature enabled";
        return Err(conflict(vmi, why));
    }
    Ok(())
}

/// The refusal of `PUT …/reset` with the phase in its words, where that is the
/// reason.
#[must_use]
pub fn reset_failed(vmi: &Value, refusal: Refusal) -> Refusal {
    if is_running(vmi) {
        return refusal;
    }
    let message = format!(
        "Failed to reset non-running VMI with phase {}: {}",
        phase(vmi),
        refusal.message
    );
    Refusal { message, ..refusal }
}

/// Decides `GET …/console`.
///
/// # Errors
/// 400 when it does not run (client-go tries again each second on 400 only) or
/// has no serial port, 409 when it failed.
pub fn console(vmi: &Value) -> Result<(), Refusal> {
    if vmi["spec"]["domain"]["devices"]["autoattachSerialConsole"] == false {
        return Err(Refusal::bad_request("No serial consoles are present."));
    }
    if phase(vmi) == "Failed" {
        return Err(conflict(vmi, "VMI is in failed status"));
    }
    running(vmi)
}

/// Decides `GET …/vnc`.
///
/// # Errors
/// 400 when it does not run or has no display.
pub fn vnc(vmi: &Value) -> Result<(), Refusal> {
    if vmi["spec"]["domain"]["devices"]["autoattachGraphicsDevice"] == false {
        return Err(Refusal::bad_request("No graphics devices are present."));
    }
    running(vmi)
}

/// Decides `GET …/portforward/{port}`: the address to dial.
///
/// # Errors
/// 409 when it is paused, 400 when it has no interface or no address yet.
pub fn port_forward(vmi: &Value) -> Result<&str, Refusal> {
    if is_true(vmi, PAUSED) {
        return Err(conflict(vmi, "VMI is paused"));
    }
    let address = vmi["status"]["interfaces"][0]["ipAddress"]
        .as_str()
        .unwrap_or_default();
    if address.is_empty() {
        // Upstream dials its own address when the first interface has none yet.
        return Err(Refusal::bad_request("no network interfaces are present"));
    }
    Ok(address)
}

/// Decides a request to a VirtualMachine that is meant for its instance.
///
/// # Errors
/// 409 when it is not started, 404 when the instance is gone, 500 when the
/// instance of that name is somebody else's.
pub fn of_machine<'a>(vm: &Value, vmi: Option<&'a Value>) -> Result<&'a Value, Refusal> {
    if vm["status"]["created"] != true {
        return Err(Refusal::conflict(
            Subject::Machine,
            name(vm),
            "VMI is not started",
        ));
    }
    let vmi = vmi.ok_or_else(|| Refusal::not_found(Subject::Instance, name(vm)))?;
    let owners = vmi["metadata"]["ownerReferences"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    if owners.iter().any(|owner| owner["uid"] == uid(vm)) {
        Ok(vmi)
    } else {
        let name = name(vm);
        Err(Refusal::internal(format!(
            "unable to retrieve vmi [{name}] for vm: the instance of that name is not owned by the machine"
        )))
    }
}

/// The node whose virt-handler answers for the instance.
///
/// # Errors
/// 400 before it is scheduled and after its end.
pub fn node(vmi: &Value) -> Result<&str, Refusal> {
    let phase = phase(vmi);
    if !matches!(phase, "Running" | "Scheduled") {
        return Err(Refusal::bad_request(format!(
            "Unable to connect to VirtualMachineInstance because phase is {phase} instead of Running or Scheduled"
        )));
    }
    match vmi["status"]["nodeName"].as_str() {
        Some(node) if !node.is_empty() => Ok(node),
        _ => Err(Refusal::bad_request(
            "expected status.nodeName of the VirtualMachineInstance to name its node; it is empty",
        )),
    }
}

fn running(vmi: &Value) -> Result<(), Refusal> {
    if is_running(vmi) {
        Ok(())
    } else {
        Err(Refusal::bad_request("VMI is not running"))
    }
}

fn conflict(vmi: &Value, why: &str) -> Refusal {
    Refusal::conflict(Subject::Instance, name(vmi), why)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn vmi(phase: &str) -> Value {
        json!({"metadata": {"name": "x", "uid": "u1", "ownerReferences": [{"uid": "v1"}]},
               "status": {"phase": phase, "nodeName": "edge1", "interfaces": [{"ipAddress": "10.244.0.9"}]}})
    }

    fn paused() -> Value {
        let mut vmi = vmi("Running");
        vmi["status"]["conditions"] = json!([{"type": "Paused", "status": "True"}]);
        vmi
    }

    fn answer<T>(result: Result<T, Refusal>) -> (u16, String) {
        result.err().map_or((200, String::new()), |refusal| {
            (refusal.code, refusal.message)
        })
    }

    fn wrapped(code: u16, why: &str) -> (u16, String) {
        (
            code,
            format!(
                "Operation cannot be fulfilled on virtualmachineinstance.kubevirt.io \"x\": {why}"
            ),
        )
    }

    #[test]
    fn pause_needs_a_running_instance_that_is_not_paused() {
        assert_eq!(answer(pause(&vmi("Running"))).0, 200);
        assert_eq!(
            answer(pause(&vmi("Scheduled"))),
            wrapped(409, "VM is not running")
        );
        assert_eq!(
            answer(pause(&paused())),
            wrapped(409, "VMI is already paused")
        );
        let mut probed = vmi("Running");
        probed["spec"]["livenessProbe"] = json!({"tcpSocket": {"port": 22}});
        assert_eq!(answer(pause(&probed)).0, 403);
        probed["spec"]["livenessProbe"] = json!({"guestAgentPing": {}});
        assert_eq!(answer(pause(&probed)).0, 200);
    }

    #[test]
    fn a_soft_reboot_needs_a_guest_that_hears_it() {
        assert_eq!(answer(soft_reboot(&vmi("Running"))).0, 200);
        assert_eq!(
            answer(soft_reboot(&paused())),
            wrapped(409, "VMI is paused")
        );
        assert_eq!(
            answer(soft_reboot(&vmi("Scheduled"))),
            wrapped(409, "VM is not running")
        );
        let mut deaf = vmi("Running");
        deaf["spec"] = json!({"domain": {"features": {"acpi": {"enabled": false}}}});
        assert_eq!(answer(soft_reboot(&deaf)).0, 409);
        deaf["status"]["conditions"] = json!([{"type": "AgentConnected", "status": "True"}]);
        assert_eq!(answer(soft_reboot(&deaf)).0, 200);
    }

    #[test]
    fn a_reset_that_fails_names_the_phase() {
        let refusal = reset_failed(&vmi("Succeeded"), node(&vmi("Succeeded")).unwrap_err());
        assert!(refusal.message.starts_with(
            "Failed to reset non-running VMI with phase Succeeded: Unable to connect"
        ));
    }

    #[test]
    fn unpause_needs_a_paused_instance_without_a_snapshot() {
        assert_eq!(answer(unpause(None, &paused())).0, 200);
        assert_eq!(
            answer(unpause(None, &vmi("Running"))),
            wrapped(409, "VMI is not paused")
        );
        assert_eq!(
            answer(unpause(None, &vmi("Succeeded"))),
            wrapped(409, "VMI is not running")
        );
        let vm = json!({"metadata": {"name": "x"}, "status": {"snapshotInProgress": "s"}});
        assert!(
            answer(unpause(Some(&vm), &paused()))
                .1
                .ends_with("VM snapshot is in progress")
        );
    }

    #[test]
    fn console_and_vnc_of_what_does_not_run_are_400_for_client_gos_sake() {
        let not_running = (400, "VMI is not running".to_owned());
        for phase in ["", "Pending", "Scheduling", "Scheduled", "Succeeded"] {
            assert_eq!(answer(console(&vmi(phase))), not_running);
            assert_eq!(answer(vnc(&vmi(phase))), not_running);
        }
        assert_eq!(
            answer(console(&vmi("Failed"))),
            wrapped(409, "VMI is in failed status")
        );
        assert_eq!(answer(vnc(&vmi("Failed"))), not_running);
        let mut bare = vmi("Running");
        bare["spec"] = json!({"domain": {"devices":
            {"autoattachSerialConsole": false, "autoattachGraphicsDevice": false}}});
        assert_eq!(
            answer(console(&bare)),
            (400, "No serial consoles are present.".to_owned())
        );
        assert_eq!(
            answer(vnc(&bare)),
            (400, "No graphics devices are present.".to_owned())
        );
    }

    #[test]
    fn port_forward_dials_the_first_interface() {
        assert_eq!(port_forward(&vmi("Running")).unwrap(), "10.244.0.9");
        assert_eq!(
            answer(port_forward(&paused())),
            wrapped(409, "VMI is paused")
        );
        let mut bare = vmi("Running");
        bare["status"]["interfaces"] = json!([{"ipAddress": ""}]);
        assert_eq!(
            answer(port_forward(&bare)),
            (400, "no network interfaces are present".to_owned())
        );
    }

    #[test]
    fn a_machines_instance_must_be_its_own() {
        let vm = |created: bool| json!({"metadata": {"name": "x", "uid": "v1"}, "status": {"created": created}});
        let theirs = vmi("Running");
        assert_eq!(of_machine(&vm(true), Some(&theirs)).unwrap(), &theirs);
        assert!(
            answer(of_machine(&vm(false), Some(&theirs)))
                .1
                .ends_with("VMI is not started")
        );
        assert_eq!(answer(of_machine(&vm(true), None)).0, 404);
        let mut other = vm(true);
        other["metadata"]["uid"] = json!("v2");
        assert_eq!(answer(of_machine(&other, Some(&theirs))).0, 500);
    }

    #[test]
    fn the_node_is_known_between_scheduling_and_the_end() {
        assert_eq!(node(&vmi("Scheduled")).unwrap(), "edge1");
        assert_eq!(
            answer(node(&vmi("Succeeded"))),
            (400, "Unable to connect to VirtualMachineInstance because phase is Succeeded instead of Running or Scheduled".to_owned())
        );
    }
}
