//! What `virtctl version` shows of the server.

use api::subresource::VersionInfo;

/// The release, with a leading v.
pub(crate) fn release() -> String {
    format!("v{}", env!("CARGO_PKG_VERSION"))
}

/// Answer of `GET …/version`, in the shape of Go's `version.Info`.
pub(crate) fn info() -> VersionInfo {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    VersionInfo {
        git_version: release(),
        git_commit: option_env!("EDGEVIRT_COMMIT")
            .unwrap_or_default()
            .to_owned(),
        git_tree_state: option_env!("EDGEVIRT_TREE_STATE")
            .unwrap_or_default()
            .to_owned(),
        build_date: option_env!("EDGEVIRT_BUILD_DATE")
            .unwrap_or_default()
            .to_owned(),
        go_version: format!("rust{}", env!("CARGO_PKG_RUST_VERSION")),
        compiler: "rustc".to_owned(),
        platform: format!("{}/{architecture}", std::env::consts::OS),
    }
}
