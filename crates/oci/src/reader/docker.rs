//! Archives of docker, which have no manifest.

use std::collections::BTreeMap;
use std::io::Read;

use serde::Deserialize;

use super::members::normal;
use super::{ArchiveImage, ArchiveReader};
use crate::spec::{Descriptor, Manifest, MediaType};
use crate::{Error, HashingReader, Result};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl ArchiveReader {
    /// A Docker archive has a configuration and layers but no manifest; one is made of what is there.
    pub(super) fn read_docker(&mut self) -> Result<ArchiveImage> {
        let list: Vec<DockerImage> = serde_json::from_slice(&self.document("manifest.json")?)
            .map_err(Error::json("manifest.json"))?;
        let [image] = list.as_slice() else {
            return Err(self.bad(format!(
                "it holds {} images; save the one you want by itself",
                list.len()
            )));
        };
        let config = self.document(
            &normal(&image.config).ok_or_else(|| self.bad("a name leaves the archive"))?,
        )?;
        let mut config_descriptor = Descriptor::of(MediaType::CONFIG, &config);
        config_descriptor.size = config.len() as u64;
        let mut aliases = BTreeMap::new();
        let alias = |name: &str| {
            normal(name).ok_or_else(|| self.bad(format!("{name:?} leaves the archive")))
        };
        aliases.insert(config_descriptor.digest.clone(), alias(&image.config)?);
        let mut layers = Vec::new();
        for layer in &image.layers {
            let name = alias(layer)?;
            let (mut content, _) = self.member(&name)?;
            let mut magic = [0; 4];
            let known = content
                .read(&mut magic)
                .map_err(Error::file("read", &self.path))?;
            let media_type = match &magic[..known] {
                [0x1f, 0x8b, ..] => MediaType::LAYER_GZIP,
                [0x28, 0xb5, 0x2f, 0xfd] => MediaType::LAYER_ZSTD,
                _ => MediaType::LAYER,
            };
            let (content, _) = self.member(&name)?;
            let (digest, size) = HashingReader::new(content)
                .finish()
                .map_err(Error::file("read", &self.path))?;
            aliases.insert(digest.clone(), name);
            layers.push(Descriptor::new(media_type, digest, size));
        }
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(MediaType::MANIFEST.to_owned()),
            config: config_descriptor,
            layers,
            annotations: BTreeMap::new(),
        };
        let manifest_bytes = serde_json::to_vec(&manifest).map_err(Error::json("the manifest"))?;
        self.aliases = aliases;
        Ok(ArchiveImage {
            names: image.repo_tags.clone().unwrap_or_default(),
            manifest,
            manifest_bytes,
        })
    }
}
