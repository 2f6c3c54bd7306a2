//! Flags of image-upload, and what they mean together.
//! Source: KubeVirt pkg/virtctl/imageupload/imageupload.go, `parseArgs`.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;

/// Arguments of image-upload.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ImageUploadArgs {
    /// `dv NAME` or `pvc NAME`: what to create and upload to
    #[arg(num_args = 0..=2, value_name = "dv|pvc NAME")]
    pub(crate) what: Vec<String>,
    /// Allow insecure server connections when using HTTPS
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", hide_possible_values = true, hide_default_value = true, value_name = "BOOL")]
    pub(crate) insecure: bool,
    /// The URL of the cdi-upload proxy service
    #[arg(long, value_name = "URL")]
    pub(crate) uploadproxy_url: Option<String>,
    /// The size of the DataVolume or PVC to create (ex. 10Gi, 500Mi)
    #[arg(long)]
    pub(crate) size: Option<String>,
    /// The storage class for the PVC
    #[arg(long, value_name = "NAME")]
    pub(crate) storage_class: Option<String>,
    /// The access mode for the PVC
    #[arg(long, value_name = "MODE")]
    pub(crate) access_mode: Option<String>,
    /// The VolumeMode (block/filesystem) of the PVC to create
    #[arg(long, value_name = "MODE")]
    pub(crate) volume_mode: Option<String>,
    /// Path to the local VM image
    #[arg(long, value_name = "FILE")]
    pub(crate) image_path: Option<PathBuf>,
    /// Path to the local archive
    #[arg(long, value_name = "FILE")]
    pub(crate) archive_path: Option<PathBuf>,
    /// Don't attempt to create a new DataVolume/PVC
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", hide_possible_values = true, hide_default_value = true, value_name = "BOOL")]
    pub(crate) no_create: bool,
    /// Go on with an upload that broke, where it stopped
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", hide_possible_values = true, hide_default_value = true, value_name = "BOOL")]
    pub(crate) resume: bool,
    /// Seconds to wait for upload pod to start
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    pub(crate) wait_secs: u64,
    /// How often an upload is tried when the upload server returns a transient error
    #[arg(long, default_value_t = 5, value_name = "TIMES")]
    pub(crate) retry: u32,
    /// Force bind the PVC, ignoring the WaitForFirstConsumer logic
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", hide_possible_values = true, hide_default_value = true, value_name = "BOOL")]
    pub(crate) force_bind: bool,
    /// Create a DataSource pointing to the created DataVolume/PVC
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", hide_possible_values = true, hide_default_value = true, value_name = "BOOL")]
    pub(crate) datasource: bool,
    /// The default instance type to associate with the image
    #[arg(long, value_name = "NAME")]
    pub(crate) default_instancetype: Option<String>,
    /// The default instance type kind to associate with the image
    #[arg(long, value_name = "KIND")]
    pub(crate) default_instancetype_kind: Option<String>,
    /// The default preference to associate with the image
    #[arg(long, value_name = "NAME")]
    pub(crate) default_preference: Option<String>,
    /// The default preference kind to associate with the image
    #[arg(long, value_name = "KIND")]
    pub(crate) default_preference_kind: Option<String>,
    /// Old spelling of `pvc NAME`
    #[arg(long, hide = true, value_name = "NAME")]
    pub(crate) pvc_name: Option<String>,
    /// Old spelling of --size
    #[arg(long, hide = true)]
    pub(crate) pvc_size: Option<String>,
    /// Old spelling of --volume-mode=block
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL")]
    pub(crate) block_volume: bool,
}

/// What is uploaded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    DataVolume,
    Claim,
}

/// What the flags mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    /// Size of what is created.
    pub(crate) size: Option<String>,
    /// `Block` or `Filesystem`, when it was said.
    pub(crate) volume_mode: Option<&'static str>,
    pub(crate) path: PathBuf,
    pub(crate) archive: bool,
    /// Labels of what is created.
    pub(crate) labels: Vec<(&'static str, String)>,
}

impl ImageUploadArgs {
    /// Looks at the flags together.
    ///
    /// # Errors
    /// Upstream's sentence about what does not fit.
    pub(crate) fn plan(&self) -> anyhow::Result<Plan> {
        let set = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let size = match (set(&self.size), set(&self.pvc_size)) {
            (Some(size), Some(old)) if size != old => {
                bail!("--pvc-size and --size can not be specified at the same time")
            }
            (size, old) => size.or(old),
        };
        let volume_mode = match (self.volume_mode.as_deref(), self.block_volume) {
            (None | Some(""), false) => None,
            (None | Some("" | "block"), true) | (Some("block"), false) => Some("Block"),
            (Some(mode), true) => {
                bail!("incompatible --volume-mode '{mode}' and --block-volume")
            }
            (Some("filesystem"), false) => Some("Filesystem"),
            (Some(mode), false) => {
                bail!("Invalid volume mode '{mode}'. Valid values are 'block' and 'filesystem'.")
            }
        };
        let given =
            |path: &Option<PathBuf>| path.clone().filter(|path| !path.as_os_str().is_empty());
        let (path, archive) = match (given(&self.image_path), given(&self.archive_path)) {
            (None, None) => bail!("either image-path or archive-path must be provided"),
            (Some(_), Some(_)) => {
                bail!("cannot handle both image-path and archive-path, provide only one")
            }
            (None, Some(_)) if volume_mode == Some("Block") => {
                bail!("In archive upload the volume mode should always be filesystem")
            }
            (Some(path), None) => (path, false),
            (None, Some(path)) => (path, true),
        };
        let (kind, name) = match (set(&self.pvc_name), self.what.as_slice()) {
            (Some(_), [_, ..]) => bail!("cannot use --pvc-name and args"),
            (Some(name), []) => (Kind::Claim, name),
            (None, [kind, name]) => {
                let kind = match kind.to_lowercase().as_str() {
                    "dv" => Kind::DataVolume,
                    "pvc" => Kind::Claim,
                    _ => bail!("invalid resource type {kind}"),
                };
                (kind, name.clone())
            }
            (None, _) => bail!("expecting two args"),
        };
        Ok(Plan {
            kind,
            name,
            size,
            volume_mode,
            path,
            archive,
            labels: self.labels()?,
        })
    }

    fn labels(&self) -> anyhow::Result<Vec<(&'static str, String)>> {
        let of = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let (instancetype, preference) =
            (of(&self.default_instancetype), of(&self.default_preference));
        let (instancetype_kind, preference_kind) = (
            of(&self.default_instancetype_kind),
            of(&self.default_preference_kind),
        );
        if instancetype.is_none() && instancetype_kind.is_some() {
            bail!("--default-instancetype must be provided with --default-instancetype-kind");
        }
        if preference.is_none() && preference_kind.is_some() {
            bail!("--default-preference must be provided with --default-preference-kind");
        }
        if (instancetype.is_some() || preference.is_some()) && self.no_create {
            bail!(
                "--default-instancetype and --default-preference cannot be used with --no-create"
            );
        }
        let all = [
            (
                "instancetype.kubevirt.io/default-instancetype",
                instancetype,
            ),
            (
                "instancetype.kubevirt.io/default-instancetype-kind",
                instancetype_kind,
            ),
            ("instancetype.kubevirt.io/default-preference", preference),
            (
                "instancetype.kubevirt.io/default-preference-kind",
                preference_kind,
            ),
        ];
        Ok(all
            .into_iter()
            .filter_map(|(label, value)| Some((label, value?)))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::cli::{Cli, Verb};
    use clap::Parser;

    fn plan(line: &str) -> Result<Plan, String> {
        let line = format!("virtctl image-upload {line}");
        let Some(Verb::ImageUpload(args)) =
            Cli::try_parse_from(line.split_whitespace()).unwrap().verb
        else {
            panic!("{line}")
        };
        args.plan().map_err(|error| error.to_string())
    }

    #[test]
    fn the_documented_command_line_is_understood() {
        let found = plan(
            "dv centos-dv --image-path=./CentOS-7.qcow2 --insecure --size=15Gi \
             --storage-class=rook-ceph-block --uploadproxy-url=https://10.0.0.1:443",
        );
        assert_eq!(
            found,
            Ok(Plan {
                kind: Kind::DataVolume,
                name: "centos-dv".to_owned(),
                size: Some("15Gi".to_owned()),
                volume_mode: None,
                path: "./CentOS-7.qcow2".into(),
                archive: false,
                labels: Vec::new(),
            })
        );
    }

    #[test]
    fn old_spellings_are_understood() {
        let found = plan("--pvc-name=p --pvc-size 1Gi --image-path i --block-volume").unwrap();
        assert_eq!((found.kind, found.name.as_str()), (Kind::Claim, "p"));
        assert_eq!(
            (found.size.as_deref(), found.volume_mode),
            (Some("1Gi"), Some("Block"))
        );
        let found = plan("PVC p --archive-path a.tar --volume-mode filesystem").unwrap();
        assert_eq!((found.kind, found.archive), (Kind::Claim, true));
        assert_eq!(found.volume_mode, Some("Filesystem"));
    }

    #[test]
    fn flags_that_do_not_fit_are_refused_with_upstreams_words() {
        for (line, why) in [
            (
                "dv x --image-path i --size 1Gi --pvc-size 2Gi",
                "--pvc-size and --size can not be specified at the same time",
            ),
            (
                "dv x --image-path i --volume-mode floppy",
                "Invalid volume mode 'floppy'. Valid values are 'block' and 'filesystem'.",
            ),
            (
                "dv x --image-path i --volume-mode filesystem --block-volume",
                "incompatible --volume-mode 'filesystem' and --block-volume",
            ),
            ("dv x", "either image-path or archive-path must be provided"),
            (
                "dv x --image-path i --archive-path a",
                "cannot handle both image-path and archive-path, provide only one",
            ),
            (
                "dv x --archive-path a --volume-mode block",
                "In archive upload the volume mode should always be filesystem",
            ),
            ("dv --image-path i", "expecting two args"),
            ("--image-path i", "expecting two args"),
            ("vm x --image-path i", "invalid resource type vm"),
            (
                "dv x --pvc-name y --image-path i",
                "cannot use --pvc-name and args",
            ),
            (
                "dv x --image-path i --default-preference-kind k",
                "--default-preference must be provided with --default-preference-kind",
            ),
            (
                "dv x --image-path i --default-instancetype-kind k",
                "--default-instancetype must be provided with --default-instancetype-kind",
            ),
            (
                "dv x --image-path i --no-create --default-preference p",
                "--default-instancetype and --default-preference cannot be used with --no-create",
            ),
        ] {
            assert_eq!(plan(line), Err(why.to_owned()), "{line}");
        }
    }

    #[test]
    fn defaults_become_labels() {
        let found = plan("dv x --image-path i --default-instancetype n1 --default-preference p --default-preference-kind K").unwrap();
        let labels: Vec<&str> = found
            .labels
            .iter()
            .map(|(_, value)| value.as_str())
            .collect();
        assert_eq!(labels, ["n1", "p", "K"]);
    }
}
