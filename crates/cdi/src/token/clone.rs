//! Tokens of clones across namespaces: who made the DataVolume was allowed to read the source.
//! Source of operation and parameters: CDI pkg/token, pkg/apiserver/webhooks.

use super::{Refused, Resource, SigningKey, Token, VerifyingKey};

/// What such a token allows.
const OPERATION: &str = "Clone";
/// Parameters with the clone's namespace and name.
const TARGET: [&str; 2] = ["targetNamespace", "targetName"];

/// Which claim or snapshot may be read, and into which claim it may be copied: namespaces and
/// names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Namespace and name of the source.
    pub from: (String, String),
    /// The source is a snapshot.
    pub snapshot: bool,
    /// Namespace and name of the clone.
    pub to: (String, String),
}

impl SigningKey {
    /// A token for a clone, valid from `now` (Unix seconds) for five minutes.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn sign_copy(&self, copy: &Copy, now: i64) -> anyhow::Result<String> {
        let [namespace, name] = TARGET.map(str::to_owned);
        let params = [(namespace, copy.to.0.clone()), (name, copy.to.1.clone())];
        let from = (copy.from.0.as_str(), copy.from.1.as_str());
        let mut token = Token::new(OPERATION, from, params.into(), now);
        if copy.snapshot {
            token.resource = Resource::snapshots();
        }
        self.seal(&token)
    }
}

impl VerifyingKey {
    /// What a token is for, if it is signed by the API server and was valid at `then` (Unix
    /// seconds).
    ///
    /// # Errors
    /// Why it is not accepted.
    pub fn verify_copy(&self, token: &str, then: i64) -> Result<Copy, Refused> {
        let token = self.open(token)?;
        token.lives(then)?;
        let [namespace, name] = TARGET.map(|name| token.params.get(name).cloned());
        let (Some(namespace), Some(name)) = (namespace, name) else {
            return Err(Refused::Other);
        };
        let snapshot = token.resource == Resource::snapshots();
        if token.operation != OPERATION || !(snapshot || token.resource == Resource::claims()) {
            return Err(Refused::Other);
        }
        Ok(Copy {
            from: (token.namespace, token.name),
            snapshot,
            to: (namespace, name),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::LEEWAY;
    use super::super::tests::{key, target};
    use super::*;
    use api::upload::TOKEN_SECONDS;

    const NOW: i64 = 1_800_000_000;

    #[test]
    fn a_token_of_a_clone_is_good_for_that_while_it_lives_and_for_nothing_else() {
        let signing = SigningKey::from_pem(key().private.as_bytes()).unwrap();
        let verifying = VerifyingKey::from_pem(key().public.as_bytes()).unwrap();
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let copy = Copy {
            from: pair("far", "golden"),
            snapshot: false,
            to: pair("ns", "disk"),
        };
        let of_snapshot = Copy {
            snapshot: true,
            ..copy.clone()
        };
        let token = signing.sign_copy(&of_snapshot, NOW).unwrap();
        assert_eq!(verifying.verify_copy(&token, NOW), Ok(of_snapshot));
        let token = signing.sign_copy(&copy, NOW).unwrap();
        for then in [NOW, NOW + TOKEN_SECONDS + LEEWAY] {
            assert_eq!(verifying.verify_copy(&token, then), Ok(copy.clone()));
        }
        for then in [NOW - LEEWAY - 1, NOW + TOKEN_SECONDS + LEEWAY + 1] {
            let refused = verifying.verify_copy(&token, then);
            assert!(matches!(refused, Err(Refused::Invalid(_))), "{refused:?}");
        }
        // Neither is the other.
        assert_eq!(verifying.verify(&token, NOW), Err(Refused::Other));
        let upload = signing.sign(&target(), NOW).unwrap();
        assert_eq!(verifying.verify_copy(&upload, NOW), Err(Refused::Other));
        let (head, _) = token.rsplit_once('.').unwrap();
        assert!(verifying.verify_copy(&format!("{head}."), NOW).is_err());
    }
}
