//! vCPUs: topology and model.

use api::vmi::Domain;

use crate::error::SpecError;

/// Most vCPUs of a guest: what q35 takes without an interrupt-remapping IOMMU.
const MAX_VCPUS: u64 = 288;

/// vCPUs of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// Sockets.
    pub sockets: u32,
    /// Cores in a socket.
    pub cores: u32,
    /// Threads in a core.
    pub threads: u32,
    /// The model.
    pub model: CpuModel,
    /// Flags switched on (true) or off, in the order of the specification.
    pub features: Vec<(String, bool)>,
    /// Refuse to start when the host lacks a flag.
    pub enforce: bool,
    /// The local APIC is there.
    pub apic: bool,
}

/// Model of a vCPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CpuModel {
    /// The host's own, as KVM passes it.
    Host,
    /// Everything TCG can emulate.
    Max,
    /// A model QEMU knows by name.
    Named(String),
}

impl Cpu {
    /// Validates the topology, the model and the flags.
    ///
    /// `host-passthrough` and `host-model` both mean the host's CPU under KVM
    /// (QEMU leaves out what cannot migrate), and everything the emulator can
    /// do under TCG, where the host's flags are of no use.
    pub(super) fn new(domain: &Domain, emulated: bool) -> Result<Self, SpecError> {
        let wish = domain.cpu.clone().unwrap_or_default();
        let count = |field: &str, value: Option<u32>| match value {
            None | Some(0) => Ok(1),
            Some(n) if u64::from(n) <= MAX_VCPUS => Ok(n),
            Some(n) => Err(SpecError::new(
                format!("spec.domain.cpu.{field}"),
                n,
                format!("at most {MAX_VCPUS}"),
            )),
        };
        let (sockets, cores, threads) = (
            count("sockets", wish.sockets)?,
            count("cores", wish.cores)?,
            count("threads", wish.threads)?,
        );
        let total = u64::from(sockets) * u64::from(cores) * u64::from(threads);
        if total > MAX_VCPUS {
            return Err(SpecError::new(
                "spec.domain.cpu",
                format!("{total} vCPUs"),
                format!("sockets x cores x threads of at most {MAX_VCPUS}"),
            ));
        }
        let model = match wish.model.as_deref() {
            None | Some("" | "host-passthrough" | "host-model") if emulated => CpuModel::Max,
            None | Some("" | "host-passthrough" | "host-model") => CpuModel::Host,
            Some(name) => CpuModel::Named(word("spec.domain.cpu.model", name)?),
        };
        let mut features = Vec::new();
        let mut optional = false;
        for (i, feature) in wish.features.iter().enumerate() {
            let path = format!("spec.domain.cpu.features[{i}]");
            let on = match feature.policy.as_deref() {
                None | Some("" | "require" | "force") => true,
                Some("optional") => {
                    optional = true;
                    true
                }
                Some("disable" | "forbid") => false,
                Some(other) => {
                    return Err(SpecError::new(
                        format!("{path}.policy"),
                        other,
                        "force, require, optional, disable or forbid",
                    ));
                }
            };
            features.push((word(&format!("{path}.name"), &feature.name)?, on));
        }
        Ok(Self {
            sockets,
            cores,
            threads,
            // TCG lacks flags of most named models; refusing them would leave
            // no model at all, so there QEMU warns and goes on.
            enforce: !emulated && !optional && matches!(model, CpuModel::Named(_)),
            model,
            features,
            apic: domain
                .features
                .as_ref()
                .and_then(|f| f.apic.as_ref())
                .is_none_or(super::is_on),
        })
    }

    /// Number of vCPUs.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.sockets * self.cores * self.threads
    }
}

/// A name that QEMU's `-cpu` takes: no comma, no equals sign, no blank.
fn word(path: &str, text: &str) -> Result<String, SpecError> {
    let fine = !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if fine {
        Ok(text.to_owned())
    } else {
        Err(SpecError::new(
            path,
            text,
            "a name of letters, digits, dots, dashes and underscores",
        ))
    }
}
