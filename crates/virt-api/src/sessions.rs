//! Open consoles, displays and tunnels, for the metrics.
//! Source of names: KubeVirt pkg/monitoring/metrics/virt-api/connection_metrics.go.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

type Key = (&'static str, String, String);

/// Counts open sessions. Clones share their counts.
#[derive(Clone, Default)]
pub(crate) struct Sessions {
    open: Arc<Mutex<BTreeMap<Key, u64>>>,
}

/// One open session; closed when dropped.
pub(crate) struct Session {
    sessions: Sessions,
    key: Key,
}

const METRICS: [(&str, &str); 3] = [
    (
        "kubevirt_console_active_connections",
        "Amount of active Console connections, broken down by namespace and vmi name.",
    ),
    (
        "kubevirt_portforward_active_tunnels",
        "Amount of active portforward tunnels, broken down by namespace and vmi name.",
    ),
    (
        "kubevirt_vnc_active_connections",
        "Amount of active VNC connections, broken down by namespace and vmi name.",
    ),
];

impl Sessions {
    pub(crate) fn console(&self, namespace: &str, name: &str) -> Session {
        self.begin(METRICS[0].0, namespace, name)
    }

    pub(crate) fn tunnel(&self, namespace: &str, name: &str) -> Session {
        self.begin(METRICS[1].0, namespace, name)
    }

    pub(crate) fn vnc(&self, namespace: &str, name: &str) -> Session {
        self.begin(METRICS[2].0, namespace, name)
    }

    fn begin(&self, metric: &'static str, namespace: &str, name: &str) -> Session {
        let key = (metric, namespace.to_owned(), name.to_owned());
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        *open.entry(key.clone()).or_default() += 1;
        Session {
            sessions: self.clone(),
            key,
        }
    }

    /// Writes the metrics in Prometheus' text format.
    pub(crate) fn render(&self, out: &mut String) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for (metric, help) in METRICS {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "# HELP {metric} {help}\n# TYPE {metric} gauge");
            for ((_, namespace, name), count) in open.iter().filter(|((of, ..), _)| *of == metric) {
                let _ = writeln!(
                    out,
                    "{metric}{{namespace=\"{namespace}\",vmi=\"{name}\"}} {count}"
                );
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let mut open = self
            .sessions
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_counted_while_they_last() {
        let sessions = Sessions::default();
        let one = sessions.console("ns", "x");
        let two = sessions.console("ns", "x");
        let shown = || {
            let mut out = String::new();
            sessions.render(&mut out);
            out
        };
        let line = "kubevirt_console_active_connections{namespace=\"ns\",vmi=\"x\"}";
        assert!(shown().contains(&format!("{line} 2")));
        drop(one);
        assert!(shown().contains(&format!("{line} 1")));
        drop(two);
        assert!(!shown().contains(line));
    }
}
