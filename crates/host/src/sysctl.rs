//! Kernel settings under /proc/sys. Those under `net` are of the calling
//! thread's network namespace.

use std::io;

/// Sets `name`, for example `net/ipv4/ip_forward`, unless it has that value.
///
/// # Errors
/// When there is no such setting or it is read-only.
pub fn set(name: &str, value: &str) -> io::Result<()> {
    let path = format!("/proc/sys/{name}");
    let told = |error: io::Error| {
        io::Error::new(error.kind(), format!("setting {path} to {value}: {error}"))
    };
    let found = std::fs::read_to_string(&path).map_err(told)?;
    if found.trim() == value {
        return Ok(());
    }
    std::fs::write(&path, value).map_err(told)
}
