//! Bodies of requests to the subresources.kubevirt.io API.

use serde::{Deserialize, Serialize};

/// Body of `PUT …/start`; an absent body means the defaults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StartOptions {
    /// The guest waits paused until unpause.
    pub paused: bool,
    /// `["All"]`: check only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dry_run: Vec<String>,
}

/// Body of `PUT …/stop`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StopOptions {
    /// Seconds the guest has to shut down; 0 kills it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_period: Option<i64>,
    /// `["All"]`: check only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dry_run: Vec<String>,
}

/// Body of `PUT …/restart`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RestartOptions {
    /// Only 0 (force) or absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_period_seconds: Option<i64>,
    /// `["All"]`: check only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dry_run: Vec<String>,
}

/// Body of `PUT …/pause` and `PUT …/unpause`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PauseOptions {
    /// `["All"]`: check only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dry_run: Vec<String>,
}

/// Answer of `GET …/version`, the shape of Go's `version.Info`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VersionInfo {
    /// Release, with a leading v.
    pub git_version: String,
    /// Commit it was built from.
    pub git_commit: String,
    /// `clean` or `dirty`.
    pub git_tree_state: String,
    /// When it was built, RFC 3339.
    pub build_date: String,
    /// Version of the toolchain.
    pub go_version: String,
    /// Compiler.
    pub compiler: String,
    /// Operating system and architecture, `linux/amd64`.
    pub platform: String,
}

impl VersionInfo {
    /// From what a build knows; [`version_info!`](crate::version_info) fills it in.
    #[must_use]
    pub fn new(build: &Build) -> Self {
        let architecture = match build.architecture {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Self {
            git_version: format!("v{}", build.version),
            git_commit: build.commit.unwrap_or_default().to_owned(),
            git_tree_state: build.tree_state.unwrap_or_default().to_owned(),
            build_date: build.date.unwrap_or_default().to_owned(),
            go_version: format!("rust{}", build.toolchain),
            compiler: "rustc".to_owned(),
            platform: format!("{}/{architecture}", build.system),
        }
    }
}

/// What a build knows of itself.
#[derive(Clone, Copy, Debug)]
pub struct Build {
    /// Release, without a leading v.
    pub version: &'static str,
    /// Version of the toolchain.
    pub toolchain: &'static str,
    /// Last commit that changed the programs' sources.
    pub commit: Option<&'static str>,
    /// `clean` or `dirty`.
    pub tree_state: Option<&'static str>,
    /// When that commit was made, RFC 3339: not the clock's time, so that the
    /// same sources make the same programs.
    pub date: Option<&'static str>,
    /// Operating system, as Rust calls it.
    pub system: &'static str,
    /// Architecture, as Rust calls it.
    pub architecture: &'static str,
}

/// The [`VersionInfo`](crate::subresource::VersionInfo) of the crate that says it.
///
/// It reads `EDGEVIRT_COMMIT`, `EDGEVIRT_TREE_STATE` and `EDGEVIRT_BUILD_DATE`,
/// which change with every commit, so only the last crate of a program may say
/// it: what depends on that crate is compiled again each time.
#[macro_export]
macro_rules! version_info {
    () => {
        $crate::subresource::VersionInfo::new(&$crate::subresource::Build {
            version: env!("CARGO_PKG_VERSION"),
            toolchain: env!("CARGO_PKG_RUST_VERSION"),
            commit: option_env!("EDGEVIRT_COMMIT"),
            tree_state: option_env!("EDGEVIRT_TREE_STATE"),
            date: option_env!("EDGEVIRT_BUILD_DATE"),
            system: ::std::env::consts::OS,
            architecture: ::std::env::consts::ARCH,
        })
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_told_in_the_words_of_go() {
        let build = Build {
            version: "1.2.3",
            toolchain: "1.95",
            commit: Some("abc"),
            tree_state: None,
            date: Some("2026-01-02T03:04:05Z"),
            system: "linux",
            architecture: "x86_64",
        };
        let expected = VersionInfo {
            git_version: "v1.2.3".to_owned(),
            git_commit: "abc".to_owned(),
            git_tree_state: String::new(),
            build_date: "2026-01-02T03:04:05Z".to_owned(),
            go_version: "rust1.95".to_owned(),
            compiler: "rustc".to_owned(),
            platform: "linux/amd64".to_owned(),
        };
        assert_eq!(VersionInfo::new(&build), expected);
    }
}
