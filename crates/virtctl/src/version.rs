//! version: of this program and of the server.

use anyhow::Context;
use api::subresource::VersionInfo;

use crate::cli::{Connection, VersionArgs};
use crate::cluster::Cluster;
use crate::output::out;

pub(crate) async fn run(connection: &Connection, args: &VersionArgs) -> anyhow::Result<()> {
    out(format!("Client Version: {}", shown(&api::version_info!())));
    if args.client {
        return Ok(());
    }
    let cluster = Cluster::connect(connection)
        .await
        .context("failed to get virtClient config")?;
    let server = server(&cluster)
        .await
        .context("failed to get server version")?;
    out(format!("Server Version: {}", shown(&server)));
    Ok(())
}

/// The server's version, asked in the group's preferred version.
async fn server(cluster: &Cluster) -> anyhow::Result<VersionInfo> {
    let group = cluster
        .get(&format!("/apis/{}", api::names::SUBRESOURCE_GROUP))
        .await?;
    let preferred = group["preferredVersion"]["groupVersion"]
        .as_str()
        .context("expected the API group subresources.kubevirt.io to have a preferred version")?;
    let version = cluster.get(&format!("/apis/{preferred}/version")).await?;
    Ok(serde_json::from_value(version)?)
}

/// As Go prints the struct with `%#v`; scripts cut GitVersion out of it.
fn shown(info: &VersionInfo) -> String {
    format!(
        "version.Info{{GitVersion:{:?}, GitCommit:{:?}, GitTreeState:{:?}, BuildDate:{:?}, GoVersion:{:?}, \
         Compiler:{:?}, Platform:{:?}}}",
        info.git_version,
        info.git_commit,
        info.git_tree_state,
        info.build_date,
        info.go_version,
        info.compiler,
        info.platform
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_shown_as_go_shows_it() {
        let info = VersionInfo {
            git_version: "v1.2.3".to_owned(),
            ..VersionInfo::default()
        };
        assert!(shown(&info).starts_with("version.Info{GitVersion:\"v1.2.3\", GitCommit:\"\","));
    }
}
