//! Which cluster a verb means: the first of `--kubeconfig`, the cluster of an inventory whose control plane is another
//! machine, KUBECONFIG, the embedded cluster's own file and `~/.kube/config` that is there.

mod elsewhere;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use kube::config::Kubeconfig;
use kube::{Client, Config};

use crate::cli::ClusterArgs;
pub(crate) use elsewhere::Elsewhere;

/// Where the embedded cluster leaves its administrator's kubeconfig (roles/kubernetes).
pub(crate) const EMBEDDED: &str = "/etc/edgevirt/admin.conf";
/// Where kubectl looks last, below the home directory.
const HOME: &str = ".kube/config";

/// The kubeconfigs of the cluster that is meant, at least one; of several, as KUBECONFIG may list them, the first wins.
///
/// # Errors
/// When nothing names a cluster, or a file that is named is not there.
pub(crate) fn kubeconfigs(args: &ClusterArgs) -> anyhow::Result<Vec<PathBuf>> {
    if args.kubeconfig.is_none()
        && let Some(path) = &args.inventory
        && let Some(elsewhere) = elsewhere::read(path)?
    {
        return Ok(vec![elsewhere.fetched()?.to_owned()]);
    }
    choose(
        args.kubeconfig.as_deref(),
        std::env::var_os("KUBECONFIG"),
        std::env::home_dir(),
        Path::exists,
    )
}

/// The cluster that the playbooks bring the product to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    /// Its kubeconfig on this machine; that of an embedded cluster elsewhere is there when the playbooks have run.
    pub(crate) kubeconfig: PathBuf,
    /// It is the one that `playbooks/cluster.yml` made.
    pub(crate) embedded: bool,
    /// The control plane of the inventory, if it is another machine.
    pub(crate) elsewhere: Option<Elsewhere>,
}

/// Where `deploy` goes.
///
/// # Errors
/// When the inventory cannot be read, nothing names a cluster, or a file that is named is not there.
pub(crate) fn destination(args: &ClusterArgs) -> anyhow::Result<Destination> {
    let elsewhere = match &args.inventory {
        Some(path) => elsewhere::read(path)?,
        None => None,
    };
    Ok(match elsewhere {
        None => {
            let kubeconfig = kubeconfigs(args)?.swap_remove(0);
            Destination {
                embedded: kubeconfig == Path::new(EMBEDDED),
                kubeconfig,
                elsewhere,
            }
        }
        Some(elsewhere) => match &args.kubeconfig {
            Some(path) if absolute(path)? != elsewhere.kubeconfig => Destination {
                kubeconfig: kubeconfigs(args)?.swap_remove(0),
                embedded: false,
                elsewhere: Some(elsewhere),
            },
            _ => Destination {
                kubeconfig: elsewhere.kubeconfig.clone(),
                embedded: true,
                elsewhere: Some(elsewhere),
            },
        },
    })
}

/// A path that means the same in another directory.
fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("cannot resolve {}", path.display()))
}

fn choose(
    flag: Option<&Path>,
    variable: Option<OsString>,
    home: Option<PathBuf>,
    exists: impl Fn(&Path) -> bool,
) -> anyhow::Result<Vec<PathBuf>> {
    if let Some(path) = flag {
        if !exists(path) {
            bail!(
                "expected --kubeconfig to name a file, found none at {}; `make kubeconfig` prints the embedded cluster's",
                path.display()
            );
        }
        return Ok(vec![path.to_owned()]);
    }
    if let Some(list) = variable.filter(|list| !list.is_empty()) {
        // Like kubectl: of several files some may be missing.
        let there: Vec<_> = std::env::split_paths(&list)
            .filter(|path| exists(path))
            .collect();
        if there.is_empty() {
            bail!(
                "expected KUBECONFIG to name a file, found none at {}; unset it or give --kubeconfig",
                Path::new(&list).display()
            );
        }
        return Ok(there);
    }
    let own = home.map(|home| home.join(HOME));
    match [Some(PathBuf::from(EMBEDDED)), own]
        .into_iter()
        .flatten()
        .find(|path| exists(path))
    {
        Some(path) => Ok(vec![path]),
        None => bail!(
            "expected a cluster, found none: no --kubeconfig, no KUBECONFIG, no {EMBEDDED}, no ~/{HOME}; \
             `make cluster` brings one up, --inventory names one whose control plane is another machine"
        ),
    }
}

/// A client for the cluster that is meant, which has answered.
///
/// # Errors
/// When there is no kubeconfig, it cannot be read or lacks something, or the cluster does not answer.
pub(crate) async fn client(args: &ClusterArgs) -> anyhow::Result<Client> {
    let (config, path) = config(args).await?;
    ask(&config, &path).await
}

/// What the kubeconfig says, and its path, the first of several.
///
/// # Errors
/// When there is none, or it cannot be read or lacks something.
pub(crate) async fn config(args: &ClusterArgs) -> anyhow::Result<(Config, PathBuf)> {
    let mut merged = Kubeconfig::default();
    let mut paths = kubeconfigs(args)?;
    for path in &paths {
        let one = Kubeconfig::read_from(path)
            .with_context(|| format!("cannot read the kubeconfig {}", path.display()))?;
        merged = merged
            .merge(one)
            .with_context(|| format!("cannot use the kubeconfig {}", path.display()))?;
    }
    let config = Config::from_custom_kubeconfig(merged, &Default::default())
        .await
        .context("the kubeconfig is incomplete")?;
    Ok((config, paths.swap_remove(0)))
}

/// A client for the cluster of `config`, which has answered; `path` is where that was read.
///
/// # Errors
/// When a certificate is bad, or the cluster does not answer.
pub(crate) async fn ask(config: &Config, path: &Path) -> anyhow::Result<Client> {
    let client = kube_kit::client_for(config)?;
    if let Err(error) = client.apiserver_version().await {
        bail!(
            "the cluster at {} does not answer as one: {} (its address is from {})",
            config.cluster_url,
            kube_kit::reason(&error),
            path.display()
        );
    }
    Ok(client)
}

/// A single-threaded runtime: the installer waits more than it computes.
///
/// # Errors
/// When the system gives none.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the asynchronous runtime")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn chosen(
        flag: Option<&str>,
        variable: Option<&str>,
        there: &[&str],
    ) -> Result<Vec<String>, String> {
        choose(
            flag.map(Path::new),
            variable.map(OsString::from),
            Some(PathBuf::from("/home/joe")),
            |path| there.iter().any(|t| Path::new(t) == path),
        )
        .map(|paths| {
            paths
                .iter()
                .map(|path| path.display().to_string())
                .collect()
        })
        .map_err(|error| error.to_string())
    }

    #[test]
    fn the_flag_wins_then_the_variable_then_the_embedded_cluster_then_the_home_directory() {
        let mut there = vec![
            "/flag",
            "/var1",
            "/var2",
            EMBEDDED,
            "/home/joe/.kube/config",
        ];
        let named = Some("/var1:/gone:/var2");
        assert_eq!(chosen(Some("/flag"), named, &there).unwrap(), ["/flag"]);
        assert_eq!(chosen(None, named, &there).unwrap(), ["/var1", "/var2"]);
        assert_eq!(chosen(None, None, &there).unwrap(), [EMBEDDED]);
        assert_eq!(chosen(None, Some(""), &there).unwrap(), [EMBEDDED]);
        there.retain(|path| *path != EMBEDDED);
        assert_eq!(
            chosen(None, None, &there).unwrap(),
            ["/home/joe/.kube/config"]
        );
    }

    #[test]
    fn a_file_that_is_named_but_not_there_is_no_reason_to_take_another() {
        let there = [EMBEDDED];
        assert!(
            chosen(Some("/gone"), None, &there)
                .unwrap_err()
                .contains("found none at /gone")
        );
        assert!(
            chosen(None, Some("/gone"), &there)
                .unwrap_err()
                .contains("found none at /gone")
        );
        let error = chosen(None, None, &[]).unwrap_err();
        assert!(
            error.contains(EMBEDDED) && error.contains("make cluster"),
            "{error}"
        );
    }
}
