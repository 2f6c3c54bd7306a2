//! The YAML form of an inventory, and files of variables. Nodes keep their lines.

use std::path::Path;
use std::sync::Arc;

use anyhow::bail;
use saphyr::{LoadableYamlNode, MarkedYamlOwned, ScalarOwned, YamlDataOwned};
use serde_json::Value;

use super::{Inventory, Place, Variable, Variables, range};

/// What stands for a value that Ansible would decrypt.
pub(super) const VAULT: &str = "{{ a value encrypted by ansible-vault }}";

type Entries<'a> = Vec<(String, &'a MarkedYamlOwned, &'a MarkedYamlOwned)>;

/// Adds the text of one file to the inventory.
pub(super) fn inventory(file: &Arc<Path>, text: &str, into: &mut Inventory) -> anyhow::Result<()> {
    let Some(root) = load(file, text)? else {
        return Ok(());
    };
    for (name, _, node) in entries(file, &root, "groups")? {
        group(file, &name, node, into)?;
    }
    Ok(())
}

/// Variables of one file.
pub(super) fn variables(file: &Arc<Path>, text: &str) -> anyhow::Result<Variables> {
    if text.starts_with("$ANSIBLE_VAULT") {
        bail!(
            "{}: encrypted by ansible-vault, which is not read; decrypt it, or move the variables that connect to another file",
            file.display()
        );
    }
    match load(file, text)? {
        Some(root) => read_variables(file, &root),
        None => Ok(Variables::new()),
    }
}

fn load(file: &Arc<Path>, text: &str) -> anyhow::Result<Option<MarkedYamlOwned>> {
    let documents = match MarkedYamlOwned::load_from_str(text) {
        Ok(documents) => documents,
        Err(error) => bail!(
            "{}:{}: {}",
            file.display(),
            error.marker().line(),
            error.info()
        ),
    };
    if documents.len() > 1 {
        bail!(
            "{}: expected one YAML document, found {}",
            file.display(),
            documents.len()
        );
    }
    Ok(documents.into_iter().next().filter(|root| !is_null(root)))
}

fn is_null(node: &MarkedYamlOwned) -> bool {
    match &node.data {
        YamlDataOwned::Value(ScalarOwned::Null) => true,
        YamlDataOwned::Representation(text, _, _) => text.is_empty(),
        _ => false,
    }
}

fn place(file: &Arc<Path>, node: &MarkedYamlOwned) -> Place {
    Place {
        file: Arc::clone(file),
        line: node.span.start.line(),
    }
}

/// Entries of a mapping; nothing if it is null.
fn entries<'a>(
    file: &Arc<Path>,
    node: &'a MarkedYamlOwned,
    what: &str,
) -> anyhow::Result<Entries<'a>> {
    match &node.data {
        _ if is_null(node) => Ok(Vec::new()),
        YamlDataOwned::Mapping(mapping) => mapping
            .iter()
            .map(|(key, value)| {
                let name = match json(key) {
                    Value::String(text) => text,
                    Value::Number(number) => number.to_string(),
                    other => bail!("{}: expected a name, found {other}", place(file, key)),
                };
                Ok((name, key, value))
            })
            .collect(),
        _ => bail!(
            "{}: expected a mapping of {what}, found {}",
            place(file, node),
            json(node)
        ),
    }
}

fn group(
    file: &Arc<Path>,
    name: &str,
    node: &MarkedYamlOwned,
    into: &mut Inventory,
) -> anyhow::Result<()> {
    into.group(name);
    for (key, at, value) in entries(file, node, "hosts, children and vars")? {
        match key.as_str() {
            "hosts" => {
                for (pattern, at, value) in entries(file, value, "hosts")? {
                    let names = match range::expand(&pattern) {
                        Ok(names) => names,
                        Err(why) => bail!("{}: {why}", place(file, at)),
                    };
                    let variables = read_variables(file, value)?;
                    for host in names {
                        into.host(&host).extend(variables.clone());
                        into.group(name).hosts.insert(host);
                    }
                }
            }
            "children" => {
                for (child, _, value) in entries(file, value, "groups")? {
                    into.group(name).children.insert(child.clone());
                    group(file, &child, value, into)?;
                }
            }
            "vars" => {
                let variables = read_variables(file, value)?;
                into.group(name).variables.extend(variables);
            }
            other => into.warnings.push(format!(
                "{}: unknown key {other} in group {name}, expected hosts, children or vars; passed over",
                place(file, at)
            )),
        }
    }
    Ok(())
}

fn read_variables(file: &Arc<Path>, node: &MarkedYamlOwned) -> anyhow::Result<Variables> {
    Ok(entries(file, node, "variables")?
        .into_iter()
        .map(|(name, key, value)| {
            let variable = Variable {
                value: json(value),
                place: place(file, key),
            };
            (name, variable)
        })
        .collect())
}

/// A node without its lines.
fn json(node: &MarkedYamlOwned) -> Value {
    match &node.data {
        YamlDataOwned::Representation(text, _, _) => Value::String(text.clone()),
        YamlDataOwned::Value(scalar) => match scalar {
            ScalarOwned::Null => Value::Null,
            ScalarOwned::Boolean(b) => Value::Bool(*b),
            ScalarOwned::Integer(n) => Value::from(*n),
            ScalarOwned::FloatingPoint(f) => Value::from(f.into_inner()),
            // YAML 1.1, which Ansible reads, has more words for a truth.
            ScalarOwned::String(text) => match text.as_str() {
                "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Value::Bool(true),
                "no" | "No" | "NO" | "off" | "Off" | "OFF" => Value::Bool(false),
                _ => Value::String(text.clone()),
            },
        },
        YamlDataOwned::Sequence(items) => items.iter().map(json).collect(),
        YamlDataOwned::Mapping(mapping) => Value::Object(
            mapping
                .iter()
                .map(|(key, value)| {
                    let key = match json(key) {
                        Value::String(text) => text,
                        other => other.to_string(),
                    };
                    (key, json(value))
                })
                .collect(),
        ),
        YamlDataOwned::Tagged(tag, inner) => {
            if tag.suffix.contains("vault") {
                Value::String(VAULT.to_owned())
            } else {
                json(inner)
            }
        }
        YamlDataOwned::Alias(_) | YamlDataOwned::BadValue => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn read(text: &str) -> anyhow::Result<Inventory> {
        let mut inventory = Inventory::default();
        inventory.add_text(Path::new("hosts.yml"), text, true)?;
        Ok(inventory)
    }

    #[test]
    fn groups_children_and_variables_are_read_with_their_lines() {
        let inventory = read(
            "---\nall:\n  vars: {x: 1}\n  children:\n    edge:\n      hosts:\n        n[1:2]:\n          ansible_host: 192.0.2.1\n          deep: {a: [1, yes]}\n        bare:\n    empty:\n",
        )
        .unwrap();
        assert_eq!(inventory.hosts(), ["n1", "n2", "bare"]);
        assert_eq!(inventory.groups_of("n1"), ["all", "edge"]);
        let variables = inventory.variables("n1");
        assert_eq!(variables["ansible_host"].value, json!("192.0.2.1"));
        assert_eq!(variables["ansible_host"].place.to_string(), "hosts.yml:8");
        assert_eq!(variables["deep"].value, json!({"a": [1, true]}));
        assert_eq!(variables["x"].value, json!(1));
    }

    #[test]
    fn the_projects_own_inventories_are_read() {
        for name in ["local.yml", "two-nodes.yml"] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("inventory")
                .join(name);
            let inventory = Inventory::read(&path).unwrap();
            assert!(inventory.warnings.is_empty(), "{:?}", inventory.warnings);
            assert!(inventory.hosts().contains(&"edge1".to_owned()));
        }
    }

    #[test]
    fn an_unknown_key_is_a_warning_with_its_line() {
        let inventory = read("all:\n  host:\n    edge1:\n").unwrap();
        assert!(
            inventory.warnings[0].contains("hosts.yml:2: unknown key host in group all"),
            "{:?}",
            inventory.warnings
        );
    }

    #[test]
    fn mistakes_have_a_file_and_a_line() {
        for (text, expected) in [
            (
                "all:\n  hosts: [edge1]\n",
                "hosts.yml:2: expected a mapping",
            ),
            ("all:\n  hosts:\n   a: {b\n", "hosts.yml:"),
            ("all:\n hosts:\n  n[1:\n", "hosts.yml:3"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }
}
