//! The launcher by itself, for tests outside a pod.

use std::process::ExitCode;

fn main() -> ExitCode {
    virt_launcher::main(std::env::args_os().skip(1).collect())
}
