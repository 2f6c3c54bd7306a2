//! The kernel's command line (Documentation/admin-guide/kernel-parameters.rst).

/// One word of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Left of the first `=`, quotes taken off.
    pub name: String,
    /// Right of it, when there is one.
    pub value: Option<String>,
}

/// The words of /proc/cmdline; white space within double quotes does not split,
/// and after `--` the words are init's, not the kernel's.
#[must_use]
pub fn parameters(cmdline: &str) -> Vec<Parameter> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    for letter in cmdline.chars() {
        match letter {
            '"' => quoted = !quoted,
            space if space.is_whitespace() && !quoted => words.push(std::mem::take(&mut word)),
            other => word.push(other),
        }
    }
    words.push(word);
    words
        .into_iter()
        .take_while(|word| word != "--")
        .filter(|word| !word.is_empty())
        .map(|word| match word.split_once('=') {
            Some((name, value)) => Parameter {
                name: name.to_owned(),
                value: Some(value.to_owned()),
            },
            None => Parameter {
                name: word,
                value: None,
            },
        })
        .collect()
}

/// Every comma-separated item given to `name`, in order, over all its
/// occurrences: `intel_iommu=on,sm_on intel_iommu=off` gives on, sm_on, off.
/// The kernel acts on them in this order, so of contrary ones the last wins.
#[must_use]
pub fn items(cmdline: &str, name: &str) -> Vec<String> {
    parameters(cmdline)
        .into_iter()
        .filter(|parameter| parameter.name == name)
        .filter_map(|parameter| parameter.value)
        .flat_map(|value| {
            value
                .split(',')
                .map(|item| item.trim().to_owned())
                .collect::<Vec<_>>()
        })
        .collect()
}

/// The last of `choices` that `name` was given; `None` when it was given none.
#[must_use]
pub fn last_of<'a>(cmdline: &str, name: &str, choices: &[&'a str]) -> Option<&'a str> {
    items(cmdline, name)
        .iter()
        .rev()
        .find_map(|item| choices.iter().find(|choice| *choice == item).copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_contrary_items_wins_wherever_it_stands_in_its_list() {
        for (line, expected) in [
            ("quiet intel_iommu=on", Some("on")),
            ("intel_iommu=on,sm_on", Some("on")),
            ("intel_iommu=on intel_iommu=sm_on,off", Some("off")),
            ("intel_iommu=off intel_iommu=on\n", Some("on")),
            ("xintel_iommu=on intel_iommu", None),
            ("init -- intel_iommu=on", None),
            ("a=\"x intel_iommu=on\"", None),
        ] {
            assert_eq!(
                last_of(line, "intel_iommu", &["on", "off"]),
                expected,
                "{line}"
            );
        }
    }

    #[test]
    fn quotes_keep_a_value_together() {
        let found = parameters("dyndbg=\"file a.c +p\" ro");
        assert_eq!(found.len(), 2);
        assert_eq!(
            found.first().and_then(|p| p.value.as_deref()),
            Some("file a.c +p")
        );
    }
}
