//! EFI variables as efivarfs shows them: four bytes of attributes, then the value.

/// File name of the variable that says whether Secure Boot is enforced; its
/// GUID is EFI_GLOBAL_VARIABLE (UEFI specification 2.10, 3.3).
pub const SECURE_BOOT: &str = "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";

/// File name of the variable that says whether keys are still to be enrolled,
/// in which state none is enforced.
pub const SETUP_MODE: &str = "SetupMode-8be4df61-93ca-11d2-aa0d-00e098032b8c";

/// Whether `SecureBoot` or `SetupMode` says that it is on: one byte, 1 or 0.
#[must_use]
pub fn secure_boot(variable: &[u8]) -> Option<bool> {
    match variable {
        [_, _, _, _, 0] => Some(false),
        [_, _, _, _, 1] => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_byte_after_the_attributes_decides() {
        assert_eq!(secure_boot(&[6, 0, 0, 0, 1]), Some(true));
        assert_eq!(secure_boot(&[6, 0, 0, 0, 0]), Some(false));
        assert_eq!(secure_boot(&[6, 0, 0, 0]), None);
        assert_eq!(secure_boot(&[6, 0, 0, 0, 2]), None);
    }
}
