//! Settings of the operator itself, and those of the KubeVirt object that
//! decide how it works.

use api::KubeVirt;
use api::kubevirt::CertConfig;
use jiff::SignedDuration;
use sha1_smol::Sha1;

/// What the operator was started with, after the KubeVirt object's say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Namespace of the operator and of everything namespaced it makes.
    pub namespace: String,
    /// Version of the operator, and so of what it installs, as in `v0.1.0`.
    pub version: String,
    /// Image of all control-plane components.
    pub image: String,
    /// Image of launcher pods.
    pub launcher_image: String,
}

/// A setting of the KubeVirt object that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: expected {expected}, found '{found}'")]
pub struct ConfigError {
    /// Path of the field.
    pub path: &'static str,
    /// What it may be.
    pub expected: &'static str,
    /// What it is.
    pub found: String,
}

impl Config {
    /// With `spec.imageRegistry` and `spec.imageTag` in place of the operator's
    /// own, where they are set. An image keeps its last path element.
    #[must_use]
    pub fn with_images_of(&self, kubevirt: &KubeVirt) -> Self {
        let (registry, tag) = (&kubevirt.spec.image_registry, &kubevirt.spec.image_tag);
        Self {
            image: moved(&self.image, registry, tag),
            launcher_image: moved(&self.launcher_image, registry, tag),
            ..self.clone()
        }
    }

    /// The part of the components' image before its name: what upstream's
    /// status calls the registry.
    #[must_use]
    pub fn registry(&self) -> &str {
        self.image
            .rsplit_once('/')
            .map_or("", |(registry, _)| registry)
    }

    /// Identifies what is deployed: equal for equal settings. 40 hexadecimal
    /// digits, as upstream's.
    #[must_use]
    pub fn deployment_id(&self) -> String {
        let mut hash = Sha1::new();
        for part in [
            &self.namespace,
            &self.version,
            &self.image,
            &self.launcher_image,
        ] {
            hash.update(part.as_bytes());
            hash.update(&[0]);
        }
        hash.digest().to_string()
    }
}

fn moved(image: &str, registry: &str, tag: &str) -> String {
    let (old_registry, name) = image.rsplit_once('/').unwrap_or(("", image));
    let (name, old_tag) = name
        .split_once([':', '@'])
        .map_or((name, ""), |(name, tag)| (name, tag));
    if registry.is_empty() && tag.is_empty() {
        return image.to_owned();
    }
    let registry = if registry.is_empty() {
        old_registry
    } else {
        registry.trim_end_matches('/')
    };
    let tag = if tag.is_empty() { old_tag } else { tag };
    let separator = if tag.starts_with("sha256:") { '@' } else { ':' };
    let path = if registry.is_empty() {
        name.to_owned()
    } else {
        format!("{registry}/{name}")
    };
    if tag.is_empty() {
        path
    } else {
        format!("{path}{separator}{tag}")
    }
}

/// How long a certificate is valid and how long before its end it is renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// From making to end.
    pub duration: SignedDuration,
    /// Renewed when so much is left; a fifth of `duration` unless set.
    pub renew_before: SignedDuration,
}

/// Lifetimes of the authority and of what it signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertPolicy {
    /// Of the authority. Upstream's default: seven days.
    pub authority: Lifetime,
    /// Of servers' and clients' certificates. Upstream's default: a day.
    pub leaf: Lifetime,
}

/// The lifetimes that `spec.certificateRotateStrategy.selfSigned` asks for.
///
/// # Errors
/// When a duration is none, not positive, or a renewal would never end: as long
/// as the life itself, or a leaf that lives longer than its authority.
pub fn cert_policy(kubevirt: &KubeVirt) -> Result<CertPolicy, ConfigError> {
    let chosen = kubevirt
        .spec
        .certificate_rotate_strategy
        .as_ref()
        .and_then(|strategy| strategy.self_signed.as_ref());
    let authority = lifetime(
        chosen.and_then(|chosen| chosen.ca.as_ref()),
        SignedDuration::from_hours(7 * 24),
        5,
        [
            "spec.certificateRotateStrategy.selfSigned.ca.duration",
            "spec.certificateRotateStrategy.selfSigned.ca.renewBefore",
        ],
    )?;
    let leaf = lifetime(
        chosen.and_then(|chosen| chosen.server.as_ref()),
        SignedDuration::from_hours(24),
        5,
        [
            "spec.certificateRotateStrategy.selfSigned.server.duration",
            "spec.certificateRotateStrategy.selfSigned.server.renewBefore",
        ],
    )?;
    if leaf.duration > authority.duration {
        return Err(ConfigError {
            path: "spec.certificateRotateStrategy.selfSigned.server.duration",
            expected: "at most the CA's duration",
            found: format!("{:#}", leaf.duration),
        });
    }
    Ok(CertPolicy { authority, leaf })
}

/// What a setting asks for, where it asks; else `default`, renewed when the
/// `part`th part of the life is left.
pub(crate) fn lifetime(
    given: Option<&CertConfig>,
    default: SignedDuration,
    part: i32,
    [duration_path, renew_path]: [&'static str; 2],
) -> Result<Lifetime, ConfigError> {
    let duration = given.and_then(|given| given.duration.as_deref());
    let duration = duration.map_or(Ok(default), |text| positive(text, duration_path))?;
    let renew = given.and_then(|given| given.renew_before.as_deref());
    let renew_before = renew.map_or(Ok(duration / part), |text| positive(text, renew_path))?;
    if renew_before >= duration {
        return Err(ConfigError {
            path: renew_path,
            expected: "less than the duration",
            found: format!("{renew_before:#}"),
        });
    }
    Ok(Lifetime {
        duration,
        renew_before,
    })
}

fn positive(text: &str, path: &'static str) -> Result<SignedDuration, ConfigError> {
    let error = || ConfigError {
        path,
        expected: "a positive duration such as 24h0m0s",
        found: text.to_owned(),
    };
    let duration: SignedDuration = text.parse().map_err(|_| error())?;
    if duration.is_positive() {
        Ok(duration)
    } else {
        Err(error())
    }
}
