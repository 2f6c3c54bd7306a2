//! Every subresource of upstream's API and what is done for it: the one table
//! from which routing, discovery, OpenAPI and the list of refusals are made.
//! Source of paths and methods: KubeVirt pkg/virt-api/api.go.

use decide::subresource::Subject;
use http::Method;

/// Kinds that have subresources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    Machine,
    Instance,
}

impl Resource {
    pub(crate) fn plural(self) -> &'static str {
        match self {
            Self::Machine => "virtualmachines",
            Self::Instance => "virtualmachineinstances",
        }
    }

    pub(crate) fn subject(self) -> Subject {
        match self {
            Self::Machine => Subject::Machine,
            Self::Instance => Subject::Instance,
        }
    }

    pub(crate) fn from_plural(plural: &str) -> Option<Self> {
        [Self::Machine, Self::Instance]
            .into_iter()
            .find(|resource| resource.plural() == plural)
    }
}

/// What a subresource does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Start,
    Stop,
    Restart,
    Pause,
    Unpause,
    SoftReboot,
    Reset,
    Console,
    Vnc,
    PortForward,
    ExpandSpec,
    GuestAgent,
    Refused(Fixed),
}

/// A refusal that depends on nothing but the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fixed {
    /// 501.
    NotServed(&'static str),
    /// 400, upstream's own answer while a feature is off.
    BadRequest(&'static str),
    /// 409, upstream's own answer to an object without the feature.
    Conflict(&'static str),
}

/// One line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) resource: Resource,
    pub(crate) name: &'static str,
    pub(crate) method: Method,
    /// In the APIResourceList, as upstream lists it.
    pub(crate) listed: bool,
    pub(crate) action: Action,
}

const NO_MIGRATION: Action =
    Action::Refused(Fixed::NotServed("live migration is not in this version"));
const NO_HOTPLUG: Action = Action::Refused(Fixed::BadRequest(
    "Enable DeclarativeHotplugVolumes or HotplugVolumes feature gate to use this API.",
));
const NO_DUMP: Action = Action::Refused(Fixed::NotServed("memory dumps are not in this version"));
const NO_FREEZE: Action = Action::Refused(Fixed::NotServed(
    "freezing guest file systems is not in this version",
));
const NO_BACKUP: Action = Action::Refused(Fixed::NotServed("backups are not in this version"));
const NO_SEV: Action = Action::Refused(Fixed::BadRequest(
    "'WorkloadEncryptionSEV' feature gate is not enabled",
));
const NO_GRAPH: Action = Action::Refused(Fixed::BadRequest(
    "ObjectGraph feature gate not enabled: Unable to return object graph.",
));

const fn get(resource: Resource, name: &'static str, listed: bool, action: Action) -> Entry {
    Entry {
        resource,
        name,
        method: Method::GET,
        listed,
        action,
    }
}

const fn put(resource: Resource, name: &'static str, listed: bool, action: Action) -> Entry {
    Entry {
        resource,
        name,
        method: Method::PUT,
        listed,
        action,
    }
}

use Resource::{Instance, Machine};

/// The table, in the order of discovery.
pub(crate) static ENTRIES: [Entry; 37] = [
    get(Instance, "vnc", true, Action::Vnc),
    get(
        Instance,
        "vnc/screenshot",
        true,
        Action::Refused(Fixed::NotServed(
            "screenshots are not in this version; connect with vnc",
        )),
    ),
    get(Instance, "console", true, Action::Console),
    get(Instance, "portforward", true, Action::PortForward),
    put(Instance, "backup", true, NO_BACKUP),
    put(Instance, "redefine-checkpoint", true, NO_BACKUP),
    put(Instance, "pause", true, Action::Pause),
    put(Instance, "unpause", true, Action::Unpause),
    put(Instance, "freeze", true, NO_FREEZE),
    put(Instance, "unfreeze", true, NO_FREEZE),
    put(Instance, "reset", true, Action::Reset),
    put(Instance, "softreboot", true, Action::SoftReboot),
    put(Machine, "start", true, Action::Start),
    put(Machine, "stop", true, Action::Stop),
    put(Machine, "restart", true, Action::Restart),
    put(Machine, "migrate", true, NO_MIGRATION),
    get(Machine, "expand-spec", true, Action::ExpandSpec),
    get(Machine, "objectgraph", true, NO_GRAPH),
    put(Machine, "evacuate/cancel", true, NO_MIGRATION),
    get(Machine, "portforward", false, Action::PortForward),
    put(Machine, "addvolume", false, NO_HOTPLUG),
    put(Machine, "removevolume", false, NO_HOTPLUG),
    put(Machine, "memorydump", false, NO_DUMP),
    put(Machine, "removememorydump", false, NO_DUMP),
    get(Instance, "guestosinfo", true, Action::GuestAgent),
    get(Instance, "userlist", true, Action::GuestAgent),
    get(Instance, "filesystemlist", true, Action::GuestAgent),
    put(Instance, "addvolume", true, NO_HOTPLUG),
    put(Instance, "removevolume", true, NO_HOTPLUG),
    get(Instance, "objectgraph", true, NO_GRAPH),
    get(Instance, "sev/fetchcertchain", true, NO_SEV),
    get(Instance, "sev/querylaunchmeasurement", true, NO_SEV),
    put(Instance, "sev/setupsession", true, NO_SEV),
    put(Instance, "sev/injectlaunchsecret", true, NO_SEV),
    put(Instance, "evacuate/cancel", true, NO_MIGRATION),
    get(
        Instance,
        "usbredir",
        false,
        Action::Refused(Fixed::Conflict("Not configured with USB Redirection")),
    ),
    get(
        Instance,
        "vsock",
        false,
        Action::Refused(Fixed::BadRequest("VSOCK is not attached.")),
    ),
];

/// Why `expand-vm-spec` is refused.
pub(crate) const NO_EXPAND: &str =
    "instancetypes are not in this version, so there is nothing to expand in a spec";

/// A subresource that is answered with a refusal, for the documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// `virtualmachines/migrate` and so on.
    pub path: String,
    /// `GET` or `PUT`.
    pub method: &'static str,
    /// HTTP status of the refusal.
    pub code: u16,
    /// Sentence of the refusal.
    pub why: &'static str,
}

/// All subresources of upstream's API that this version refuses.
#[must_use]
pub fn refused() -> Vec<Refused> {
    let table = ENTRIES.iter().filter_map(|entry| {
        let (code, why) = match entry.action {
            Action::Refused(Fixed::NotServed(why)) => (501, why),
            Action::Refused(Fixed::BadRequest(why)) => (400, why),
            Action::Refused(Fixed::Conflict(why)) => (409, why),
            Action::GuestAgent => (
                501,
                "what the guest agent tells is not served as a subresource in this version",
            ),
            _ => return None,
        };
        let path = format!("{}/{}", entry.resource.plural(), entry.name);
        let method = if entry.method == Method::GET {
            "GET"
        } else {
            "PUT"
        };
        Some(Refused {
            path,
            method,
            code,
            why,
        })
    });
    let expand = Refused {
        path: "expand-vm-spec".to_owned(),
        method: "PUT",
        code: 501,
        why: NO_EXPAND,
    };
    table.chain([expand]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATE: &str = include_str!("../../../xtask/templates/compatibility.md");

    #[test]
    fn the_documentation_lists_what_is_refused() {
        for Refused {
            path,
            method,
            code,
            why,
        } in refused()
        {
            let line = format!("| `{path}` | {method} | {code} | {why} |\n");
            assert!(
                TEMPLATE.contains(&line),
                "missing in xtask/templates/compatibility.md: {line}"
            );
        }
    }
}
