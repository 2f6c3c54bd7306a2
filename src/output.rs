//! The only place that prints. Results go to standard output, everything else to
//! standard error; colours carry no meaning of their own and are off when standard
//! output is no terminal or NO_COLOR is set.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::Color;

/// A kind of emphasis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As it should be.
    Good,
    /// Works with a limitation.
    Warn,
    /// Does not work.
    Bad,
    /// Less important.
    Dim,
}

/// Where words go, and how they look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    color: bool,
    progress: bool,
    quiet: bool,
}

impl Output {
    /// Decides once whether colours and progress bars are used.
    pub(crate) fn new(color: Color, quiet: bool) -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        let color = match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => std::io::stdout().is_terminal() && !no_color,
        };
        Self {
            color,
            progress: std::io::stderr().is_terminal() && !quiet,
            quiet,
        }
    }

    /// A line of the result.
    pub(crate) fn line(&self, text: &str) {
        println!("{text}");
    }

    /// Pieces of a result that has its own line ends, such as a guest's console.
    pub(crate) fn raw(&self, text: &str) {
        use std::io::Write;
        print!("{text}");
        let _ = std::io::stdout().flush();
    }

    /// Progress is drawn: standard error is a terminal and nobody asked for quiet.
    pub(crate) fn draws(&self) -> bool {
        self.progress
    }

    /// A line about what goes on; silent with `--quiet`.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            eprintln!("{text}");
        }
    }

    /// A question to the user, who answers on the same line.
    pub(crate) fn prompt(&self, text: &str) {
        use std::io::Write;
        eprint!("{text}");
        let _ = std::io::stderr().flush();
    }

    /// An error with its chain of causes.
    pub(crate) fn error(&self, error: &anyhow::Error) {
        eprintln!("{}: {error:#}", self.paint("error", Tone::Bad));
    }

    /// `text` with the emphasis, if colours are on.
    pub(crate) fn paint(&self, text: &str, tone: Tone) -> String {
        if !self.color {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Good => "32",
            Tone::Warn => "33",
            Tone::Bad => "31",
            Tone::Dim => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// A value as JSON, for programs.
    pub(crate) fn json(&self, value: &impl serde::Serialize) -> anyhow::Result<()> {
        println!("{}", serde_json::to_string_pretty(value)?);
        Ok(())
    }

    /// A table with aligned columns; the first row is the heading. Cells may be painted.
    pub(crate) fn table(&self, rows: &[Vec<String>]) {
        for line in Self::rows(rows) {
            println!("{line}");
        }
    }

    /// The lines of such a table.
    pub(crate) fn rows(rows: &[Vec<String>]) -> Vec<String> {
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|c| {
                rows.iter()
                    .filter_map(|r| r.get(c))
                    .map(|cell| visible_width(cell))
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let mut lines = Vec::new();
        for row in rows {
            let mut line = String::new();
            for (c, cell) in row.iter().enumerate() {
                line.push_str(cell);
                if c + 1 < row.len() {
                    let width = widths.get(c).copied().unwrap_or(0);
                    line.push_str(&" ".repeat(width.saturating_sub(visible_width(cell)) + 2));
                }
            }
            lines.push(line.trim_end().to_owned());
        }
        lines
    }

    /// A progress bar over `total` steps, or one that draws nothing when standard
    /// error is no terminal.
    pub(crate) fn bar(&self, total: u64, what: &str) -> ProgressBar {
        if !self.progress {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(total);
        if let Ok(style) =
            ProgressStyle::with_template("{prefix:>12} [{bar:30}] {pos}/{len} {elapsed} {wide_msg}")
        {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }
}

/// Characters a terminal shows, escape sequences left out.
fn visible_width(text: &str) -> usize {
    let mut width = 0;
    let mut escape = false;
    for c in text.chars() {
        match (escape, c) {
            (false, '\x1b') => escape = true,
            (true, 'm') => escape = false,
            (false, _) => width += 1,
            (true, _) => {}
        }
    }
    width
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_take_no_width() {
        assert_eq!(visible_width("\x1b[32mok\x1b[0m"), 2);
    }

    #[test]
    fn without_colours_paint_changes_nothing() {
        let out = Output::new(Color::Never, true);
        assert_eq!(out.paint("ok", Tone::Good), "ok");
    }
}
