//! The only place that writes to stdout and stderr.

use std::fmt::Display;
use std::io::Write;

/// A line on stdout. A reader that went away is no error.
pub(crate) fn out(line: impl Display) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{line}");
    let _ = stdout.flush();
}

/// A line on stderr.
pub(crate) fn err(line: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Text on stderr as it is, without an end of line.
pub(crate) fn err_raw(text: impl Display) {
    let mut stderr = std::io::stderr().lock();
    let _ = write!(stderr, "{text}");
    let _ = stderr.flush();
}
