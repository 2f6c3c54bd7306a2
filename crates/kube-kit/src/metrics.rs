//! Metrics in the Prometheus text format: the process' own and a component's.

use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

type Source = Box<dyn Fn(&mut String) + Send>;

/// What a component tells about itself. Clones share their sources.
#[derive(Clone, Default)]
pub struct Metrics {
    sources: Arc<Mutex<Vec<Source>>>,
}

impl Metrics {
    /// Adds a source that writes its lines when somebody asks.
    pub fn source(&self, source: impl Fn(&mut String) + Send + 'static) {
        self.sources
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Box::new(source));
    }

    /// All lines, now.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = String::new();
        process(&mut out);
        for source in self
            .sources
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
        {
            source(&mut out);
        }
        out
    }
}

/// Writes one metric with its help text and type (`gauge` or `counter`).
pub fn write(out: &mut String, name: &str, type_: &str, help: &str, value: impl std::fmt::Display) {
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "# HELP {name} {help}\n# TYPE {name} {type_}\n{name} {value}"
    );
}

/// The standard process metrics, from `/proc/self/stat` (proc(5)).
fn process(out: &mut String) {
    // The kernel exports these in USER_HZ and pages: 100 and 4096 on every
    // architecture that we run on (x86-64, arm64 with 4 KiB pages).
    const HERTZ: f64 = 100.0;
    const PAGE: u64 = 4096;
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else {
        return;
    };
    // The second field is the name in parentheses and may hold spaces.
    let Some((_, rest)) = stat.rsplit_once(") ") else {
        return;
    };
    let fields: Vec<u64> = rest
        .split_whitespace()
        .map(|field| field.parse().unwrap_or(0))
        .collect();
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0);
    let ticks = field(14) + field(15);
    #[allow(
        clippy::cast_precision_loss,
        reason = "seconds of processor time need no more than 53 bits"
    )]
    let seconds = ticks as f64 / HERTZ;
    write(
        out,
        "process_cpu_seconds_total",
        "counter",
        "User and system CPU time in seconds.",
        seconds,
    );
    write(
        out,
        "process_resident_memory_bytes",
        "gauge",
        "Resident memory in bytes.",
        field(24) * PAGE,
    );
    write(
        out,
        "process_virtual_memory_bytes",
        "gauge",
        "Virtual memory in bytes.",
        field(23),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_and_own_metrics_are_rendered() {
        let metrics = Metrics::default();
        metrics.source(|out| write(out, "kubevirt_test", "gauge", "A test.", 7));
        let text = metrics.render();
        assert!(text.contains("process_resident_memory_bytes "));
        assert!(
            text.contains("# TYPE kubevirt_test gauge\nkubevirt_test 7\n"),
            "{text}"
        );
    }
}
