//! `edgevirt image ls`.

use oci::Registry;
use serde::Serialize;

use crate::cli::Format;
use crate::output::Output;

/// One tag of the registry.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    /// Repository and tag.
    name: String,
    /// The image's identity.
    digest: String,
    /// Bytes of its layers as the registry keeps them; none for an index of several machines.
    size: Option<u64>,
}

/// Prints every image.
pub(super) fn list(registry: &Registry, format: Format, out: &Output) -> anyhow::Result<()> {
    let mut images = Vec::new();
    for repository in registry.repositories()? {
        for tag in registry.tags(&repository)? {
            // One that was removed meanwhile is not there any more.
            let Some(found) = registry.manifest(&repository, &tag)? else {
                continue;
            };
            let size = found
                .manifest
                .map(|manifest| manifest.layers.iter().map(|layer| layer.size).sum());
            images.push(Listed {
                name: format!("{repository}:{tag}"),
                digest: found.digest.to_string(),
                size,
            });
        }
    }
    match format {
        Format::Json => out.json(&images),
        Format::Table => {
            let mut rows = vec![["NAME", "SIZE", "DIGEST"].map(str::to_owned).to_vec()];
            rows.extend(images.into_iter().map(|image| {
                let size = image.size.map_or_else(|| "-".to_owned(), human);
                vec![image.name, size, image.digest[..19].to_owned()]
            }));
            out.table(&rows);
            Ok(())
        }
    }
}

/// A length as people read it.
pub(super) fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_readable() {
        assert_eq!(
            [0, 1023, 1024, 24_838_144].map(human),
            ["0 B", "1023 B", "1.0 KiB", "23.7 MiB"]
        );
    }
}
