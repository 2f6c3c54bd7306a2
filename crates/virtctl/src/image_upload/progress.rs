//! How far an upload is: a bar on a terminal, now and then a line elsewhere.

use std::time::{Duration, Instant};

use indicatif::{BinaryBytes, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::output::out;

/// Between two lines where there is no terminal.
const LINE: Duration = Duration::from_secs(10);

const RUNNING: &str =
    "{binary_bytes} / {binary_total_bytes} [{wide_bar}] {share} {binary_bytes_per_sec} {eta}";
const FINISHED: &str = "{binary_bytes} / {binary_total_bytes} [{wide_bar}] {share} {elapsed}";

/// Counts the bytes of one upload.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    total: u64,
    done: u64,
    /// What was done when this try began: no rate counts it.
    from: u64,
    began: Instant,
    line: Instant,
}

impl Progress {
    /// Nothing of `total` bytes is done.
    pub(super) fn new(total: u64) -> Self {
        let bar = rustix::termios::isatty(rustix::stdio::stdout()).then(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stdout());
            bar.set_style(style(RUNNING));
            bar
        });
        let now = Instant::now();
        Self {
            bar,
            total,
            done: 0,
            from: 0,
            began: now,
            line: now,
        }
    }

    /// A try begins, with so many bytes done.
    pub(super) fn begin(&mut self, done: u64) {
        (self.done, self.from, self.began) = (done, done, Instant::now());
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.reset_eta();
        }
    }

    /// More bytes are done.
    pub(super) fn add(&mut self, bytes: u64) {
        self.done += bytes;
        match &self.bar {
            Some(bar) => bar.inc(bytes),
            None if self.line.elapsed() >= LINE => {
                self.line = Instant::now();
                let elapsed = self.began.elapsed();
                out(line(self.done, self.total, self.done - self.from, elapsed));
            }
            None => {}
        }
    }

    /// All is done.
    pub(super) fn finish(&self) {
        match &self.bar {
            Some(bar) => {
                bar.set_style(style(FINISHED));
                bar.finish();
            }
            None => out(format!(
                "{} / {} 100.00% {}s",
                BinaryBytes(self.total),
                BinaryBytes(self.total),
                self.began.elapsed().as_secs()
            )),
        }
    }

    /// Makes room for a message below the bar.
    pub(super) fn interrupt(&self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key(
            "share",
            |state: &ProgressState, out: &mut dyn std::fmt::Write| {
                let _ = write!(out, "{:.2}%", state.fraction() * 100.0);
            },
        )
        .progress_chars("=>-")
}

/// `done` of `total` bytes, of which `sent` in `elapsed`.
fn line(done: u64, total: u64, sent: u64, elapsed: Duration) -> String {
    #[allow(clippy::cast_precision_loss)] // For people.
    let (share, rate) = (
        done as f64 * 100.0 / total.max(1) as f64,
        sent as f64 / elapsed.as_secs_f64().max(0.001),
    );
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )]
    let (rate, left) = (
        rate as u64,
        ((total - done.min(total)) as f64 / rate.max(1.0)).ceil() as u64,
    );
    format!(
        "{} / {} {share:.2}% {}/s {left}s left",
        BinaryBytes(done),
        BinaryBytes(total),
        BinaryBytes(rate)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_how_far_how_fast_and_how_long() {
        let mib = 1 << 20;
        assert_eq!(
            line(30 * mib, 40 * mib, 20 * mib, Duration::from_secs(4)),
            "30.00 MiB / 40.00 MiB 75.00% 5.00 MiB/s 2s left"
        );
        assert!(line(0, 0, 0, Duration::ZERO).contains("0.00%"));
    }
}
