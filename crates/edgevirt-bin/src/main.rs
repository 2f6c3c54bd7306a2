//! `virt`: one binary for all in-cluster components, so that they share one
//! image and one copy of their code in memory.
//!
//! The component is the name it is called by (`virt-api`, a symbolic link), or
//! its first argument when it is called `virt`.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// A component's entry point.
type Main = fn(Vec<OsString>) -> ExitCode;

/// The components, by name.
const COMPONENTS: &[(&str, Main)] = &[
    ("virt-operator", virt_operator::main),
    ("virt-api", |args| {
        virt_api::main(args, api::version_info!())
    }),
    ("virt-controller", virt_controller::main),
    ("virt-handler", virt_handler::main),
    ("virt-launcher", virt_launcher::main),
    ("cdi-operator", cdi::operator::main),
    ("cdi-apiserver", cdi::apiserver::main),
    ("cdi-uploadproxy", cdi::uploadproxy::main),
    ("cdi-controller", cdi::controller::main),
    ("cdi-importer", cdi::worker::importer),
    ("cdi-uploadserver", cdi::worker::uploadserver),
    ("cdi-cloner", cdi::worker::cloner),
];

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let called = args.next().unwrap_or_default();
    if let Some(main) = Path::new(&called)
        .file_name()
        .and_then(|name| name.to_str())
        .and_then(component)
    {
        return main(args.collect());
    }
    let named = args.next();
    if let Some(main) = named
        .as_deref()
        .and_then(|name| name.to_str())
        .and_then(component)
    {
        return main(args.collect());
    }
    let names: Vec<&str> = COMPONENTS.iter().map(|(name, _)| *name).collect();
    usage(&format!(
        "virt: expected the name of a component ({}) as program name or first argument, found {:?}\n",
        names.join(", "),
        named.unwrap_or_default()
    ));
    ExitCode::from(2)
}

fn component(name: &str) -> Option<Main> {
    COMPONENTS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, main)| *main)
}

/// Writes to stderr; nothing can be done when that fails.
fn usage(text: &str) {
    use std::io::Write;
    let _ = std::io::stderr().write_all(text.as_bytes());
}
