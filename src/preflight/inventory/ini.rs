//! The INI form of an inventory.

use std::path::Path;
use std::sync::Arc;

use anyhow::bail;
use serde_json::Value;

use super::{Inventory, Place, Variable, Variables, range, words};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Section {
    Hosts(String),
    Children(String),
    Vars(String),
    /// Said to be unknown; its lines are passed over.
    Unknown,
}

/// Adds the text of one file to the inventory.
pub(super) fn inventory(file: &Arc<Path>, text: &str, into: &mut Inventory) -> anyhow::Result<()> {
    let mut section = Section::Hosts("ungrouped".to_owned());
    for (index, raw) in text.lines().enumerate() {
        let place = Place {
            file: Arc::clone(file),
            line: index + 1,
        };
        let line = raw.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(rest) = line.strip_prefix('[')
            && let Some(next) = heading(rest, &place, into)?
        {
            section = next;
            continue;
        }
        match &section {
            Section::Unknown => {}
            Section::Hosts(group) => host_line(line, group, &place, into)?,
            Section::Children(group) => {
                let child = line
                    .split_whitespace()
                    .next()
                    .unwrap_or_default()
                    .to_owned();
                into.group(&child);
                into.group(group).children.insert(child);
            }
            Section::Vars(group) => {
                let Some((name, value)) = line.split_once('=') else {
                    bail!("{place}: expected NAME=VALUE below [{group}:vars], found {line:?}");
                };
                let variable = Variable {
                    value: literal(value.trim()),
                    place,
                };
                into.group(group)
                    .variables
                    .insert(name.trim().to_owned(), variable);
            }
        }
    }
    Ok(())
}

/// `group]`, `group:children]`, `group:vars]`. `None`: an address in brackets.
fn heading(rest: &str, place: &Place, into: &mut Inventory) -> anyhow::Result<Option<Section>> {
    let Some((inside, after)) = rest.split_once(']') else {
        bail!("{place}: expected [group], found {:?}", format!("[{rest}"));
    };
    if inside.contains("::") {
        return Ok(None);
    }
    let after = after.trim();
    if !after.is_empty() && !after.starts_with('#') {
        bail!("{place}: expected nothing after [{inside}], found {after:?}");
    }
    let (name, kind) = inside.split_once(':').unwrap_or((inside, ""));
    if name.is_empty() || name.contains(char::is_whitespace) {
        bail!("{place}: expected the name of a group, found {inside:?}");
    }
    into.group(name);
    Ok(Some(match kind {
        "" => Section::Hosts(name.to_owned()),
        "children" => Section::Children(name.to_owned()),
        "vars" => Section::Vars(name.to_owned()),
        other => {
            into.warnings.push(format!(
                "{place}: unknown section [{name}:{other}], expected :children or :vars; passed over"
            ));
            Section::Unknown
        }
    }))
}

fn host_line(line: &str, group: &str, place: &Place, into: &mut Inventory) -> anyhow::Result<()> {
    let words = match words::split(line, true) {
        Ok(words) => words,
        Err(why) => bail!("{place}: {why}"),
    };
    let Some((pattern, pairs)) = words.split_first() else {
        return Ok(());
    };
    let mut variables = Variables::new();
    let (pattern, port) = port(pattern);
    if let Some(port) = port {
        variables.insert(
            "ansible_port".to_owned(),
            Variable {
                value: Value::from(port),
                place: place.clone(),
            },
        );
    }
    for pair in pairs {
        let Some((name, value)) = pair.split_once('=') else {
            bail!("{place}: expected NAME=VALUE after the host, found {pair:?}");
        };
        variables.insert(
            name.to_owned(),
            Variable {
                value: literal(value),
                place: place.clone(),
            },
        );
    }
    let names = match range::expand(pattern) {
        Ok(names) => names,
        Err(why) => bail!("{place}: {why}"),
    };
    for name in names {
        into.host(&name).extend(variables.clone());
        into.group(group).hosts.insert(name);
    }
    Ok(())
}

/// Takes `:port` off a name; a range has colons of its own.
fn port(pattern: &str) -> (&str, Option<u16>) {
    match pattern.rsplit_once(':') {
        Some((name, port))
            if !port.contains(']')
                && (!name.contains(':') || name.ends_with(']') || name.contains('[')) =>
        {
            match port.parse() {
                Ok(port) => (name, Some(port)),
                Err(_) => (pattern, None),
            }
        }
        _ => (pattern, None),
    }
}

/// Values in INI files are Python literals where they can be, else text.
fn literal(text: &str) -> Value {
    let text = text.trim();
    match text {
        "True" | "true" => return Value::Bool(true),
        "False" | "false" => return Value::Bool(false),
        "None" => return Value::Null,
        _ => {}
    }
    for quote in ['"', '\''] {
        if let Some(inner) = text
            .strip_prefix(quote)
            .and_then(|rest| rest.strip_suffix(quote))
        {
            return Value::String(inner.to_owned());
        }
    }
    if let Ok(number) = text.parse::<i64>()
        && number.to_string() == text
    {
        return Value::from(number);
    }
    if text.starts_with(['[', '{']) && !text.starts_with("{{") && !text.starts_with("{%") {
        let json = text
            .replace('\'', "\"")
            .replace("True", "true")
            .replace("False", "false")
            .replace("None", "null");
        if let Ok(value) = serde_json::from_str(&json) {
            return value;
        }
    }
    Value::String(text.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn read(text: &str) -> anyhow::Result<Inventory> {
        let mut inventory = Inventory::default();
        inventory.add_text(Path::new("hosts"), text, false)?;
        Ok(inventory)
    }

    #[test]
    fn hosts_groups_ports_and_ranges_are_read() {
        let inventory = read(
            "; comment\nlone ansible_host=192.0.2.9\n[edge]\nn[1:2].lab:2222 a='x y' # c\n[site:children]\nedge\n[site:vars]\nx = 1\ny=True\nz=[1, 'a']\n",
        )
        .unwrap();
        assert_eq!(inventory.hosts(), ["lone", "n1.lab", "n2.lab"]);
        assert_eq!(inventory.groups_of("n1.lab"), ["all", "site", "edge"]);
        let variables = inventory.variables("n2.lab");
        for (name, expected) in [
            ("ansible_port", json!(2222)),
            ("a", json!("x y")),
            ("x", json!(1)),
            ("y", json!(true)),
            ("z", json!([1, "a"])),
        ] {
            assert_eq!(variables[name].value, expected, "{name}");
        }
        assert_eq!(variables["x"].place.to_string(), "hosts:8");
    }

    #[test]
    fn mistakes_have_a_file_and_a_line() {
        for (text, expected) in [
            ("edge1\n[open\n", "hosts:2"),
            ("[g]\nedge1 what\n", "hosts:2: expected NAME=VALUE"),
            ("edge1 a='x\n", "hosts:1: the quote"),
            ("[g:vars]\n\nnothing\n", "hosts:3: expected NAME=VALUE"),
            ("n[1:\n", "hosts:1"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }

    #[test]
    fn an_unknown_section_is_a_warning_with_its_line() {
        let inventory = read("[g:hosts]\nedge1\n").unwrap();
        assert!(inventory.warnings[0].contains("hosts:1: unknown section"));
    }

    #[test]
    fn ports_are_told_from_addresses_and_ranges() {
        for (pattern, expected) in [
            ("a", ("a", None)),
            ("a:22", ("a", Some(22))),
            ("n[1:2]", ("n[1:2]", None)),
            ("n[1:2]:22", ("n[1:2]", Some(22))),
            ("2001:db8::1", ("2001:db8::1", None)),
            ("[2001:db8::1]:22", ("[2001:db8::1]", Some(22))),
        ] {
            assert_eq!(port(pattern), expected, "{pattern}");
        }
    }
}
