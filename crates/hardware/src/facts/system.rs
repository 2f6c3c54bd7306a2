//! Device nodes, clock, names, proxies.

use serde::{Deserialize, Serialize};

use super::{Attempt, Sourced};

/// A device node that something needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceNode {
    /// Its path.
    pub path: String,
    /// It exists.
    pub present: Option<bool>,
    /// Opened for reading and writing.
    pub open: Attempt,
}

/// The clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Clock {
    /// adjtimex: STA_UNSYNC is not set, so a time service steers the clock.
    pub synchronized: Option<bool>,
    /// adjtimex: maxerror, microseconds.
    pub max_error_us: Option<i64>,
    /// The realtime clock when the facts were gathered, milliseconds since 1970.
    pub unix_ms: Option<i64>,
    /// This node's clock minus the median of the fleet, milliseconds. Filled in by
    /// whoever gathers a fleet: see [`crate::report::clock_skews`].
    pub skew_ms: Option<i64>,
    /// /sys/devices/system/clocksource/clocksource0/current_clocksource.
    pub source: Option<String>,
    /// A time service that runs, by process name: chronyd, ntpd, systemd-timesyncd.
    pub service: Option<String>,
}

/// Names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Names {
    /// /proc/sys/kernel/hostname.
    pub hostname: String,
    /// /etc/machine-id.
    pub machine_id: Option<String>,
    /// Addresses that /etc/hosts gives the host name.
    pub hosts_entries: Vec<String>,
    /// `nameserver` lines of /etc/resolv.conf. `None`: not read.
    pub nameservers: Option<Vec<String>>,
    /// `search` words of /etc/resolv.conf.
    pub search: Vec<String>,
    /// A name server answered a query within its time limit (any answer counts).
    pub answered: Attempt,
}

/// Proxy settings that programs on the node inherit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Proxy {
    /// http_proxy, from /etc/environment, /etc/profile.d or the environment. Passwords removed.
    pub http: Option<Sourced>,
    /// https_proxy, likewise.
    pub https: Option<Sourced>,
    /// no_proxy, likewise.
    pub no_proxy: Option<Sourced>,
}
