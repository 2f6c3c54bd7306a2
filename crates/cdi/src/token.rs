//! Upload tokens: JSON Web Signatures (RFC 7515, compact form) with PS256 that the
//! API server of uploads signs and the upload proxy accepts.
//! Source of claims, issuer and lifetime: CDI pkg/token, pkg/common/common.go.
//!
//! Unlike upstream a token also names the claim's UID, so it dies with the claim.

mod clone;

use std::collections::BTreeMap;

use anyhow::{Context, anyhow, bail};
use api::cdi::names::SNAPSHOT_GROUP;
use api::upload::TOKEN_SECONDS;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::rand::SystemRandom;
use ring::rsa::KeyPair;
use ring::signature::{RSA_PSS_2048_8192_SHA256, RSA_PSS_SHA256, UnparsedPublicKey};
use rsa::pkcs1::EncodeRsaPrivateKey as _;
use rsa::pkcs8::EncodePublicKey as _;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer};
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer as _, SubjectPublicKeyInfo};

pub use clone::Copy;

/// Who signs.
const ISSUER: &str = "cdi-apiserver";
/// What a token allows.
const OPERATION: &str = "Upload";
/// The only algorithm there is: a header that names another one is refused, `none`
/// and the symmetric ones first of all.
const ALGORITHM: &str = "PS256";
/// The key under which `params` holds the claim's UID.
const UID: &str = "uid";
/// Clocks of two nodes may differ by this, in seconds.
const LEEWAY: i64 = 10;
/// Bits of a new key.
const BITS: usize = 2048;

/// What a token says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Token {
    operation: String,
    name: String,
    namespace: String,
    resource: Resource,
    #[serde(default)]
    params: BTreeMap<String, String>,
    iss: String,
    // Unix seconds.
    iat: i64,
    nbf: i64,
    exp: i64,
}

/// A `GroupVersionResource`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Resource {
    group: String,
    version: String,
    resource: String,
}

impl Resource {
    fn claims() -> Self {
        Self {
            group: String::new(),
            version: "v1".to_owned(),
            resource: "persistentvolumeclaims".to_owned(),
        }
    }

    fn snapshots() -> Self {
        Self {
            group: SNAPSHOT_GROUP.to_owned(),
            version: "v1".to_owned(),
            resource: "volumesnapshots".to_owned(),
        }
    }
}

/// The claim that a token is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Namespace of the claim.
    pub namespace: String,
    /// Name of the claim.
    pub name: String,
    /// UID of the claim.
    pub uid: String,
}

/// Why a token is not accepted.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refused {
    /// It is not signed by the API server, or not at all, or too old or too new.
    #[error("the upload token is not valid: {0}")]
    Invalid(String),
    /// It is ours and valid, but for something else than uploads to claims.
    #[error("the upload token is not for an upload to a PersistentVolumeClaim")]
    Other,
}

/// The API server's key.
pub struct SigningKey(KeyPair);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("SigningKey")
    }
}

/// A new key pair in PEM form.
#[derive(Clone)]
pub struct NewKey {
    /// `RSA PRIVATE KEY` (PKCS #1).
    pub private: String,
    /// `PUBLIC KEY` (SubjectPublicKeyInfo).
    pub public: String,
}

/// Makes a key pair. Takes about a second of processor time.
///
/// # Errors
/// When the system gives no random numbers.
pub fn generate() -> anyhow::Result<NewKey> {
    let key =
        rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, BITS).context("making an RSA key")?;
    Ok(NewKey {
        private: key.to_pkcs1_pem(rsa::pkcs8::LineEnding::LF)?.to_string(),
        public: key
            .to_public_key()
            .to_public_key_pem(rsa::pkcs8::LineEnding::LF)?,
    })
}

impl SigningKey {
    /// From a private RSA key in PEM form (PKCS #1 or #8) of at least 2048 bits.
    ///
    /// # Errors
    /// When it is none.
    pub fn from_pem(pem: &[u8]) -> anyhow::Result<Self> {
        let key = match PrivateKeyDer::from_pem_slice(pem) {
            Ok(PrivateKeyDer::Pkcs1(der)) => KeyPair::from_der(der.secret_pkcs1_der()),
            Ok(PrivateKeyDer::Pkcs8(der)) => KeyPair::from_pkcs8(der.secret_pkcs8_der()),
            Ok(_) => bail!("expected an RSA private key in PEM form, found a key of another kind"),
            Err(error) => bail!("expected an RSA private key in PEM form: {error}"),
        };
        key.map(Self)
            .map_err(|error| anyhow!("expected an RSA private key of 2048 bits or more: {error}"))
    }

    /// A token for an upload to `target`, valid from `now` (Unix seconds) for five minutes.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn sign(&self, target: &Target, now: i64) -> anyhow::Result<String> {
        let params = [(UID.to_owned(), target.uid.clone())].into();
        let claim = (target.namespace.as_str(), target.name.as_str());
        self.seal(&Token::new(OPERATION, claim, params, now))
    }

    fn seal(&self, token: &Token) -> anyhow::Result<String> {
        let header = BASE64.encode(serde_json::json!({ "alg": ALGORITHM }).to_string());
        let signed = format!("{header}.{}", BASE64.encode(serde_json::to_vec(token)?));
        let mut signature = vec![0; self.0.public().modulus_len()];
        self.0
            .sign(
                &RSA_PSS_SHA256,
                &SystemRandom::new(),
                signed.as_bytes(),
                &mut signature,
            )
            .map_err(|_| anyhow!("signing an upload token: the system gives no random numbers"))?;
        Ok(format!("{signed}.{}", BASE64.encode(signature)))
    }
}

/// The public half of the API server's key.
#[derive(Debug)]
pub struct VerifyingKey(Vec<u8>);

impl VerifyingKey {
    /// From `PUBLIC KEY` in PEM form.
    ///
    /// # Errors
    /// When it is none.
    pub fn from_pem(pem: &[u8]) -> anyhow::Result<Self> {
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem)
            .map_err(|error| anyhow!("expected a public key in PEM form: {error}"))?;
        let (_, info) = SubjectPublicKeyInfo::from_der(&der)
            .map_err(|error| anyhow!("expected a public key in PEM form: {error}"))?;
        Ok(Self(info.subject_public_key.data.to_vec()))
    }

    /// What a token is for, if it is signed by the API server and valid at `now`
    /// (Unix seconds).
    ///
    /// # Errors
    /// Why it is not accepted.
    pub fn verify(&self, token: &str, now: i64) -> Result<Target, Refused> {
        let token = self.open(token)?;
        token.lives(now)?;
        token.target()
    }

    /// A token that is signed by the API server.
    fn open(&self, token: &str) -> Result<Token, Refused> {
        let invalid = |why: &str| Refused::Invalid(why.to_owned());
        let mut parts = token.split('.');
        let (Some(header), Some(body), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(invalid("expected three parts with dots between them"));
        };
        let decode = |part: &str| {
            BASE64
                .decode(part)
                .map_err(|_| invalid("it is not base64url"))
        };
        let header: serde_json::Value = serde_json::from_slice(&decode(header)?)
            .map_err(|_| invalid("its header is not JSON"))?;
        if header["alg"] != ALGORITHM {
            return Err(Refused::Invalid(format!(
                "expected a signature by {ALGORITHM}, found {}",
                header["alg"]
            )));
        }
        let end = token.len() - signature.len() - 1;
        UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, &self.0)
            .verify(&token.as_bytes()[..end], &decode(signature)?)
            .map_err(|_| invalid("it is not signed by this cluster's CDI"))?;
        serde_json::from_slice(&decode(body)?)
            .map_err(|_| invalid("its claims are not those of a token of CDI"))
    }
}

impl Token {
    /// A token about a claim, named by namespace and name, that begins to live `now`.
    fn new(
        operation: &str,
        (namespace, name): (&str, &str),
        params: BTreeMap<String, String>,
        now: i64,
    ) -> Self {
        Self {
            operation: operation.to_owned(),
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            resource: Resource::claims(),
            params,
            iss: ISSUER.to_owned(),
            iat: now,
            nbf: now,
            exp: now + TOKEN_SECONDS,
        }
    }

    /// Fails when it is nobody's of ours, or not valid at `now`.
    fn lives(&self, now: i64) -> Result<(), Refused> {
        let invalid = |why: String| Err(Refused::Invalid(why));
        if self.iss != ISSUER {
            return invalid(format!("expected issuer {ISSUER}, found {}", self.iss));
        }
        if now > self.exp + LEEWAY {
            return invalid(format!(
                "it expired {} s ago; tokens live {TOKEN_SECONDS} s, ask for a new one",
                now - self.exp
            ));
        }
        if now + LEEWAY < self.nbf || now + LEEWAY < self.iat {
            return invalid("it is from the future; are the nodes' clocks right?".to_owned());
        }
        Ok(())
    }

    /// The claim that may be uploaded to.
    fn target(self) -> Result<Target, Refused> {
        let uid = self.params.get(UID).cloned().unwrap_or_default();
        if self.operation != OPERATION
            || self.resource.resource != "persistentvolumeclaims"
            || [&self.name, &self.namespace, &uid]
                .into_iter()
                .any(String::is_empty)
        {
            return Err(Refused::Other);
        }
        Ok(Target {
            namespace: self.namespace,
            name: self.name,
            uid,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use std::sync::OnceLock;

    use super::*;

    /// One key pair for all tests: making one takes long.
    pub(crate) fn key() -> &'static NewKey {
        static KEY: OnceLock<NewKey> = OnceLock::new();
        KEY.get_or_init(|| generate().unwrap())
    }

    pub(crate) fn target() -> Target {
        Target {
            namespace: "ns".to_owned(),
            name: "disk".to_owned(),
            uid: "u1".to_owned(),
        }
    }

    fn pair() -> (SigningKey, VerifyingKey) {
        (
            SigningKey::from_pem(key().private.as_bytes()).unwrap(),
            VerifyingKey::from_pem(key().public.as_bytes()).unwrap(),
        )
    }

    const NOW: i64 = 1_800_000_000;

    #[test]
    fn a_token_says_what_it_is_for_while_it_lives() {
        let (signing, verifying) = pair();
        let token = signing.sign(&target(), NOW).unwrap();
        for now in [NOW - LEEWAY, NOW, NOW + TOKEN_SECONDS + LEEWAY] {
            assert_eq!(verifying.verify(&token, now), Ok(target()), "{now}");
        }
    }

    #[test]
    fn claims_are_upstreams() {
        let (signing, _) = pair();
        let token = signing.sign(&target(), NOW).unwrap();
        let body = BASE64.decode(token.split('.').nth(1).unwrap()).unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            body,
            serde_json::json!({
                "operation": "Upload", "name": "disk", "namespace": "ns",
                "resource": {"group": "", "version": "v1", "resource": "persistentvolumeclaims"},
                "params": {"uid": "u1"},
                "iss": "cdi-apiserver", "iat": NOW, "nbf": NOW, "exp": NOW + 300,
            })
        );
    }

    #[test]
    fn what_is_not_a_valid_token_of_ours_is_refused_with_the_reason() {
        let (signing, verifying) = pair();
        let good = signing.sign(&target(), NOW).unwrap();
        let parts: Vec<&str> = good.split('.').collect();
        let none = BASE64.encode(r#"{"alg":"none"}"#);
        let symmetric = BASE64.encode(r#"{"alg":"HS256"}"#);
        let forged = BASE64.encode(
            String::from_utf8(BASE64.decode(parts[1]).unwrap())
                .unwrap()
                .replace("\"disk\"", "\"other\""),
        );
        let cases = [
            (
                "expired",
                good.clone(),
                NOW + TOKEN_SECONDS + LEEWAY + 1,
                "expired",
            ),
            ("of the future", good.clone(), NOW - LEEWAY - 1, "future"),
            ("unsigned", format!("{none}.{}.", parts[1]), NOW, "PS256"),
            (
                "none with the signature",
                format!("{none}.{}.{}", parts[1], parts[2]),
                NOW,
                "PS256",
            ),
            (
                "symmetric",
                format!("{symmetric}.{}.{}", parts[1], parts[2]),
                NOW,
                "PS256",
            ),
            (
                "without its signature",
                format!("{}.{}.", parts[0], parts[1]),
                NOW,
                "not signed",
            ),
            (
                "of another claim",
                format!("{}.{forged}.{}", parts[0], parts[2]),
                NOW,
                "not signed",
            ),
            (
                "of two parts",
                format!("{}.{}", parts[0], parts[1]),
                NOW,
                "three parts",
            ),
            ("empty", String::new(), NOW, "three parts"),
            ("padded", format!("{good}=="), NOW, "base64url"),
        ];
        for (what, token, now, why) in cases {
            let Err(Refused::Invalid(reason)) = verifying.verify(&token, now) else {
                panic!("a token {what} was accepted");
            };
            assert!(reason.contains(why), "{what}: {reason}");
        }
    }

    #[test]
    fn a_token_for_something_else_is_told_from_a_bad_one() {
        let (signing, verifying) = pair();
        let sealed = |change: fn(&mut Token)| {
            let body = signing.sign(&target(), NOW).unwrap();
            let body = BASE64.decode(body.split('.').nth(1).unwrap()).unwrap();
            let mut token: Token = serde_json::from_slice(&body).unwrap();
            change(&mut token);
            verifying.verify(&signing.seal(&token).unwrap(), NOW)
        };
        let other: [fn(&mut Token); 5] = [
            |token| token.operation = "Clone".to_owned(),
            |token| token.resource.resource = "secrets".to_owned(),
            |token| token.name = String::new(),
            |token| token.namespace = String::new(),
            |token| token.params.clear(),
        ];
        for change in other {
            assert_eq!(sealed(change), Err(Refused::Other));
        }
        let issuer: fn(&mut Token) = |token| token.iss = "somebody".to_owned();
        assert!(matches!(sealed(issuer), Err(Refused::Invalid(_))));
    }

    #[test]
    fn another_key_is_no_key() {
        assert!(SigningKey::from_pem(key().public.as_bytes()).is_err());
        assert!(VerifyingKey::from_pem(key().private.as_bytes()).is_err());
    }
}
