//! Making certificates: a small authority and the leaves it signs.
//!
//! Keys are ECDSA P-256: a fifth of RSA's handshake cost and a tenth of its
//! size. Everything here is a function of its arguments but for the keys.

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use time::OffsetDateTime;

/// A certificate is valid from this long before it was made, so that nodes
/// whose clocks are behind accept it.
const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// Why a certificate cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    /// Making or signing failed.
    #[error("cannot make a certificate")]
    Make(#[from] rcgen::Error),
    /// Text is not a certificate.
    #[error("expected a certificate in PEM form: {0}")]
    Read(String),
    /// A date is out of range.
    #[error("expected a time that a certificate can hold, found {0}")]
    Time(Timestamp),
}

/// A certificate and its private key, in PEM form.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The private key (PKCS#8).
    pub key: String,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

/// When a certificate begins and ends to be valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// From this time on.
    pub not_before: Timestamp,
    /// Until this time.
    pub not_after: Timestamp,
}

impl Validity {
    /// The time at which a certificate should be replaced: when `before` is
    /// left of it, or a fifth of its life if that is not given.
    #[must_use]
    pub fn renew_at(&self, before: Option<SignedDuration>) -> Timestamp {
        let life = self.not_after.duration_since(self.not_before);
        let before = before.unwrap_or(life / 5).min(life);
        self.not_after
            .checked_sub(before)
            .unwrap_or(self.not_before)
    }
}

/// What a leaf is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf<'a> {
    /// The subject's common name.
    pub common_name: &'a str,
    /// Host names under which a server is reached.
    pub dns_names: &'a [String],
    /// Whether it proves a server, a client, or both.
    pub usage: Usage,
}

/// The extended key usage of a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// A server's certificate.
    Server,
    /// A client's certificate.
    Client,
    /// Both.
    Both,
}

/// Makes an authority named `common_name`, valid for `life` from `now`.
///
/// # Errors
/// When the name or the time cannot be expressed.
pub fn authority(
    common_name: &str,
    now: Timestamp,
    life: SignedDuration,
) -> Result<Pair, CertError> {
    let key = KeyPair::generate()?;
    let mut params = params(common_name, now, life)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    let certificate = params.self_signed(&key)?;
    Ok(Pair {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}

/// Makes a leaf signed by `authority`, valid for `life` from `now`.
///
/// # Errors
/// When the authority is bad or a name or the time cannot be expressed.
pub fn leaf(
    authority: &Pair,
    leaf: &Leaf<'_>,
    now: Timestamp,
    life: SignedDuration,
) -> Result<Pair, CertError> {
    let issuer =
        Issuer::from_ca_cert_pem(&authority.certificate, KeyPair::from_pem(&authority.key)?)?;
    let key = KeyPair::generate()?;
    let mut params = params(leaf.common_name, now, life)?;
    for name in leaf.dns_names {
        params
            .subject_alt_names
            .push(SanType::DnsName(name.as_str().try_into()?));
    }
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
    ];
    params.extended_key_usages = match leaf.usage {
        Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
        Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        Usage::Both => vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ],
    };
    let certificate = params.signed_by(&key, &issuer)?;
    Ok(Pair {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}

fn params(
    common_name: &str,
    now: Timestamp,
    life: SignedDuration,
) -> Result<CertificateParams, CertError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.not_before = date(now.checked_sub(SKEW).unwrap_or(now))?;
    params.not_after = date(now.checked_add(life).unwrap_or(Timestamp::MAX))?;
    Ok(params)
}

fn date(at: Timestamp) -> Result<OffsetDateTime, CertError> {
    OffsetDateTime::from_unix_timestamp(at.as_second()).map_err(|_| CertError::Time(at))
}

/// The validity of the first certificate in `pem`.
///
/// # Errors
/// When there is none or it cannot be read.
pub fn validity(pem: &str) -> Result<Validity, CertError> {
    let der = first(pem)?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&der)
        .map_err(|error| CertError::Read(error.to_string()))?;
    let at = |time: x509_parser::time::ASN1Time| {
        Timestamp::from_second(time.timestamp()).map_err(|error| CertError::Read(error.to_string()))
    };
    Ok(Validity {
        not_before: at(parsed.validity().not_before)?,
        not_after: at(parsed.validity().not_after)?,
    })
}

/// Whether the first certificate in `pem` was signed by `authority`'s key and
/// carries exactly `dns_names`.
#[must_use]
pub fn fits(pem: &str, authority: &str, dns_names: &[String]) -> bool {
    let (Ok(leaf), Ok(issuer)) = (first(pem), first(authority)) else {
        return false;
    };
    let (Ok((_, leaf)), Ok((_, issuer))) = (
        x509_parser::parse_x509_certificate(&leaf),
        x509_parser::parse_x509_certificate(&issuer),
    ) else {
        return false;
    };
    let mut names: Vec<String> = match leaf.subject_alternative_name() {
        Ok(Some(extension)) => extension
            .value
            .general_names
            .iter()
            .filter_map(|name| match name {
                x509_parser::extensions::GeneralName::DNSName(name) => Some((*name).to_owned()),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    };
    let mut wanted = dns_names.to_vec();
    names.sort();
    wanted.sort();
    names == wanted
        && leaf.issuer() == issuer.subject()
        && leaf.verify_signature(Some(issuer.public_key())).is_ok()
}

/// A bundle of authorities: `newest` first, then those of `bundle` that are
/// still valid at `now`, each once.
#[must_use]
pub fn bundle(newest: &str, bundle: &str, now: Timestamp) -> String {
    let mut kept: Vec<String> = vec![newest.trim().to_owned()];
    for certificate in split(bundle) {
        let valid = validity(&certificate).is_ok_and(|validity| validity.not_after > now);
        if valid && !kept.contains(&certificate) {
            kept.push(certificate);
        }
    }
    kept.join("\n") + "\n"
}

/// The PEM blocks of a bundle, trimmed.
fn split(bundle: &str) -> Vec<String> {
    const END: &str = "-----END CERTIFICATE-----";
    bundle
        .split_inclusive(END)
        .map(str::trim)
        .filter(|block| block.ends_with(END))
        .map(|block| block.replace("\r\n", "\n"))
        .collect()
}

fn first(pem: &str) -> Result<Vec<u8>, CertError> {
    use rustls_pki_types::pem::PemObject;
    rustls_pki_types::CertificateDer::from_pem_slice(pem.as_bytes())
        .map(|certificate| certificate.as_ref().to_vec())
        .map_err(|error| CertError::Read(error.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn now() -> Timestamp {
        "2026-01-02T03:04:05Z".parse().unwrap()
    }

    fn hours(hours: i64) -> SignedDuration {
        SignedDuration::from_hours(hours)
    }

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_leaf_fits_its_authority_and_names_and_no_other() {
        let ca = authority("ca", now(), hours(168)).unwrap();
        let other = authority("ca", now(), hours(168)).unwrap();
        let dns = names(&["virt-api.kubevirt.svc"]);
        let made = leaf(
            &ca,
            &Leaf {
                common_name: "x",
                dns_names: &dns,
                usage: Usage::Server,
            },
            now(),
            hours(24),
        )
        .unwrap();
        assert!(fits(&made.certificate, &ca.certificate, &dns));
        assert!(!fits(&made.certificate, &other.certificate, &dns));
        assert!(!fits(
            &made.certificate,
            &ca.certificate,
            &names(&["other"])
        ));
        assert!(!fits("junk", &ca.certificate, &dns));
    }

    #[test]
    fn renewal_is_due_in_the_last_fifth_or_when_said() {
        let ca = authority("ca", now(), hours(100)).unwrap();
        let validity = validity(&ca.certificate).unwrap();
        assert_eq!(validity.not_after, now() + hours(100));
        let at = validity.renew_at(None);
        assert!(at > now() + hours(79) && at < now() + hours(81), "{at}");
        assert_eq!(validity.renew_at(Some(hours(30))), now() + hours(70));
    }

    #[test]
    fn a_bundle_keeps_old_authorities_until_they_expire() {
        let old = authority("a", now(), hours(1)).unwrap();
        let new = authority("b", now(), hours(10)).unwrap();
        let first = bundle(&old.certificate, "", now());
        let both = bundle(&new.certificate, &first, now());
        assert_eq!(
            split(&both),
            [new.certificate.trim(), old.certificate.trim()]
        );
        assert_eq!(bundle(&new.certificate, &both, now()), both);
        assert_eq!(
            split(&bundle(&new.certificate, &both, now() + hours(2))),
            [new.certificate.trim()]
        );
    }
}
