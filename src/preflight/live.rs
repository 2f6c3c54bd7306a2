//! What is seen while nodes are asked: on a terminal a table that moves, with a line
//! for each node at work; else one plain line for each node that is done.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::Output;

/// Lines for nodes at work that fit on any terminal.
const LINES: usize = 12;

/// Progress over a fleet.
pub(crate) struct Live<'a> {
    out: &'a Output,
    multi: Option<MultiProgress>,
    total: ProgressBar,
    lines: BTreeMap<usize, ProgressBar>,
}

impl<'a> Live<'a> {
    /// Progress over `total` nodes.
    pub(crate) fn new(out: &'a Output, total: usize) -> Self {
        if !out.draws() {
            return Self {
                out,
                multi: None,
                total: ProgressBar::hidden(),
                lines: BTreeMap::new(),
            };
        }
        let multi = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        let bar = multi.add(ProgressBar::new(total as u64));
        if let Ok(style) =
            ProgressStyle::with_template("{prefix:>10} [{bar:30}] {pos}/{len} nodes {elapsed}")
        {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix("preflight");
        bar.enable_steady_tick(Duration::from_millis(200));
        Self {
            out,
            multi: Some(multi),
            total: bar,
            lines: BTreeMap::new(),
        }
    }

    /// Work on a node began.
    pub(crate) fn started(&mut self, index: usize, name: &str) {
        let Some(multi) = &self.multi else { return };
        if self.lines.len() >= LINES {
            return;
        }
        let line = multi.insert_before(&self.total, ProgressBar::new_spinner());
        if let Ok(style) = ProgressStyle::with_template("  {spinner} {msg} {elapsed}") {
            line.set_style(style);
        }
        line.set_message(name.to_owned());
        line.enable_steady_tick(Duration::from_millis(200));
        self.lines.insert(index, line);
    }

    /// A node is done; `summary` says how.
    pub(crate) fn done(&mut self, index: usize, summary: &str) {
        if let Some(line) = self.lines.remove(&index) {
            line.finish_and_clear();
        }
        self.total.inc(1);
        match &self.multi {
            Some(multi) => {
                let _ = multi.println(summary);
            }
            None => self.out.note(summary),
        }
    }

    /// Takes the table away.
    pub(crate) fn finish(self) {
        for line in self.lines.into_values() {
            line.finish_and_clear();
        }
        self.total.finish_and_clear();
    }
}
