//! The embedded cluster of an inventory whose control plane is another machine: its kubeconfig is fetched by the
//! playbooks (roles/kubernetes/tasks/kubeconfig.yml) and kept beside the inventory.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};

use super::absolute;
use crate::preflight::inventory::{Inventory, connection};

/// What is added to an inventory's path; the role's default says the same.
const SUFFIX: &str = ".kubeconfig";
/// The variable that names another place.
const VARIABLE: &str = "kubernetes_kubeconfig";
/// The groups of the playbooks; the first host of the first that has any does what is done once.
const GROUPS: [&str; 2] = ["control_plane", "workers"];

/// A control plane that is not this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Elsewhere {
    /// The inventory's name of it.
    pub(crate) host: String,
    /// Where its kubeconfig is kept on this machine.
    pub(crate) kubeconfig: PathBuf,
}

impl Elsewhere {
    /// The kubeconfig, which is there.
    ///
    /// # Errors
    /// When it was not fetched yet.
    pub(super) fn fetched(&self) -> anyhow::Result<&Path> {
        if !self.kubeconfig.exists() {
            bail!(
                "expected the kubeconfig of the cluster on {} at {}, found none; playbooks/cluster.yml and \
                 `edgevirt deploy` fetch it, --kubeconfig names another",
                self.host,
                self.kubeconfig.display()
            );
        }
        Ok(&self.kubeconfig)
    }
}

/// The control plane of the inventory; none where it is this machine, or where there is no host at all.
///
/// # Errors
/// When the inventory cannot be read, or says what is not understood of the control plane.
pub(super) fn read(path: &Path) -> anyhow::Result<Option<Elsewhere>> {
    let inventory = Inventory::read(path)
        .context("cannot tell from the inventory which machine the control plane is")?;
    let Some(host) = GROUPS.iter().find_map(|group| inventory.first_of(group)) else {
        return Ok(None);
    };
    let variables = inventory.variables(host);
    if connection::is_local(&variables).map_err(|why| anyhow!("{host}: {why}"))? {
        return Ok(None);
    }
    let kubeconfig = match variables.get(VARIABLE) {
        None => beside(path)?,
        Some(variable) => match variable.value.as_str() {
            Some(text) if text.starts_with('/') && !text.contains("{{") => PathBuf::from(text),
            _ => bail!(
                "{}: {VARIABLE}: expected an absolute path, found {}",
                variable.place,
                variable.value
            ),
        },
    };
    Ok(Some(Elsewhere {
        host: host.to_owned(),
        kubeconfig,
    }))
}

/// The inventory's path with the suffix; without the slash at the end that a directory may have.
fn beside(inventory: &Path) -> anyhow::Result<PathBuf> {
    let mut name: std::ffi::OsString = absolute(inventory)?
        .components()
        .collect::<PathBuf>()
        .into();
    name.push(SUFFIX);
    Ok(name.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{Destination, destination, kubeconfigs};
    use super::*;
    use crate::cli::ClusterArgs;

    const REMOTE: &str = "[control_plane]\nedge1 ansible_host=192.0.2.11\n[workers]\nedge0\n";

    /// An inventory of this text in a directory of its own.
    fn inventory(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("site");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    fn args(inventory: &Path, kubeconfig: Option<&Path>) -> ClusterArgs {
        ClusterArgs {
            kubeconfig: kubeconfig.map(Path::to_owned),
            inventory: Some(inventory.to_owned()),
        }
    }

    #[test]
    fn a_control_plane_over_ssh_has_its_kubeconfig_beside_the_inventory() {
        let (dir, path) = inventory(REMOTE);
        let found = read(&path).unwrap().unwrap();
        assert_eq!(found.host, "edge1");
        assert_eq!(found.kubeconfig, dir.path().join("site.kubeconfig"));
        // A directory of files, written as people write directories.
        let found = read(&dir.path().join("")).unwrap().unwrap();
        let mut name = dir.path().as_os_str().to_owned();
        name.push(".kubeconfig");
        assert_eq!(found.kubeconfig, PathBuf::from(name));
    }

    #[test]
    fn this_machine_as_the_control_plane_has_it_where_it_always_was() {
        for text in [
            "[control_plane]\nedge1 ansible_connection=local\n[workers]\nedge2\n",
            // Nodes of somebody else's cluster, the first of them this machine.
            "[workers]\nedge1 ansible_connection=ansible.builtin.local\n",
            "[others]\nedge1\n",
        ] {
            let (_dir, path) = inventory(text);
            assert_eq!(read(&path).unwrap(), None, "{text}");
        }
    }

    #[test]
    fn the_inventory_may_name_another_place_but_no_expression() {
        let (_dir, path) = inventory(&REMOTE.replace("\n[w", " kubernetes_kubeconfig=/x/y\n[w"));
        assert_eq!(read(&path).unwrap().unwrap().kubeconfig, Path::new("/x/y"));
        for bad in ["x/y", "'{{ x }}'"] {
            let named = format!(" kubernetes_kubeconfig={bad}\n[w");
            let (_dir, path) = inventory(&REMOTE.replace("\n[w", &named));
            let error = read(&path).unwrap_err().to_string();
            assert!(
                error.contains("site:2") && error.contains("absolute path"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_verb_takes_the_fetched_kubeconfig_or_says_who_fetches_it() {
        let (dir, path) = inventory(REMOTE);
        let error = kubeconfigs(&args(&path, None)).unwrap_err().to_string();
        assert!(
            error.contains("edge1") && error.contains("edgevirt deploy"),
            "{error}"
        );
        let fetched = dir.path().join("site.kubeconfig");
        std::fs::write(&fetched, "").unwrap();
        assert_eq!(kubeconfigs(&args(&path, None)).unwrap(), [fetched]);
        let other = dir.path().join("other");
        std::fs::write(&other, "").unwrap();
        assert_eq!(kubeconfigs(&args(&path, Some(&other))).unwrap(), [other]);
    }

    #[test]
    fn deploy_goes_to_the_cluster_of_the_inventory_unless_the_flag_names_another() {
        let (dir, path) = inventory(REMOTE);
        let elsewhere = Elsewhere {
            host: "edge1".to_owned(),
            kubeconfig: dir.path().join("site.kubeconfig"),
        };
        let own = Destination {
            kubeconfig: elsewhere.kubeconfig.clone(),
            embedded: true,
            elsewhere: Some(elsewhere.clone()),
        };
        // Not fetched yet: the playbook does it.
        assert_eq!(destination(&args(&path, None)).unwrap(), own);
        let named = args(&path, Some(&elsewhere.kubeconfig));
        assert_eq!(destination(&named).unwrap(), own);
        let other = dir.path().join("other");
        let error = destination(&args(&path, Some(&other))).unwrap_err();
        assert!(error.to_string().contains("found none at"), "{error}");
        std::fs::write(&other, "").unwrap();
        assert_eq!(
            destination(&args(&path, Some(&other))).unwrap(),
            Destination {
                kubeconfig: other,
                embedded: false,
                elsewhere: Some(elsewhere)
            }
        );
    }
}
