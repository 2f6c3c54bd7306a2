//! What every operator has in hand, and one round of an installation.

use std::collections::BTreeSet;
use std::time::Duration;

use api::objects::{Key, Managed};
use futures::stream::BoxStream;
use jiff::Timestamp;
use kube::Resource;
use serde_json::{Value, json};

use super::store::name_of;
use super::{Credentials, Hand, Kept, Rendered, Seen, Store, follow, hash, passing};
use crate::apply::{Applier, ApplyError};
use crate::certs::Pair;
use crate::rotation::Authority;

/// How soon an aggregated API is asked again whether it is served.
const ASK_AGAIN: Duration = Duration::from_millis(300);

/// What an owner asks for.
pub trait Wish {
    /// All that rendering depends on, besides the bundles.
    fn input(&self) -> Value;

    /// Who signs certificates, and which.
    fn authorities(&self) -> &[Authority];

    /// Everything but the certificates' secrets, in two waves. `bundles` has
    /// the PEM text of each authority; one that is not known yet is missing.
    fn render(&self, bundles: &[String]) -> [Vec<Value>; 2];

    /// The secret of a certificate.
    fn secret(&self, name: &str, pair: &Pair) -> Value;
}

/// What was applied.
pub struct Applied {
    /// PEM text of all authorities in use, by place of the wish's authority.
    pub bundles: Vec<String>,
    /// When certificates want care.
    pub next: Timestamp,
    /// Whether anything was rendered; else all was as applied before.
    pub rendered: bool,
}

/// See the module. `O` is the owner's type.
pub struct Kit<O> {
    /// The API server.
    pub client: kube::Client,
    /// What is applied, and how.
    pub hand: Hand,
    /// What is there.
    pub store: Store<O>,
    namespace: String,
    selector: String,
    credentials: Credentials,
    pub(super) failures: u32,
}

impl<O: Resource> Kit<O> {
    /// Of an operator that makes objects of `kinds`, in `namespace` or of the
    /// cluster, as field manager `manager`; each carries `label` with that value.
    #[must_use]
    pub fn new(
        client: kube::Client,
        namespace: &str,
        kinds: &'static [Managed],
        label: &str,
        manager: &str,
    ) -> Self {
        Self {
            hand: Hand::new(Applier::new(client.clone(), manager)),
            client,
            store: Store::new(kinds),
            namespace: namespace.to_owned(),
            selector: format!("{label}={manager}"),
            credentials: Credentials::default(),
            failures: 0,
        }
    }

    /// Forgets what was made and applied.
    pub fn forget(&mut self) {
        self.store.forget_objects();
        self.hand.forget();
        self.credentials.forget();
    }

    /// Follows what the operator made.
    pub(super) fn managed(&self) -> Vec<BoxStream<'static, Seen<O>>>
    where
        O: Send + 'static,
    {
        follow::managed(
            &self.client,
            &self.namespace,
            self.store.kinds,
            &self.selector,
        )
    }

    /// The keys of everything that there is of ours.
    #[must_use]
    pub fn present(&self) -> BTreeSet<Key> {
        self.store.objects.keys().cloned().collect()
    }

    /// The keys of everything that there shall be, the secrets among them.
    pub fn wanted(&self, wish: &impl Wish) -> BTreeSet<Key> {
        let input = input(wish, self.credentials.bundles());
        let mut keys: BTreeSet<Key> = match self.hand.rendered(input) {
            Some(keys) => keys.cloned().collect(),
            None => wish.render(&[]).iter().flatten().map(Key::of).collect(),
        };
        let secrets = wish.authorities().iter().flat_map(Authority::secrets);
        keys.extend(secrets.map(|name| Key::namespaced("v1", "Secret", &self.namespace, name)));
        keys
    }

    /// Applies what is missing or differs, and deletes what is `obsolete`.
    ///
    /// # Errors
    /// What the API server refused first.
    pub async fn apply(&mut self, wish: &impl Wish, obsolete: &[Key]) -> anyhow::Result<Applied> {
        let Kept {
            write,
            bundles,
            next,
        } = self
            .credentials
            .keep(
                &self.hand,
                &self.store,
                &self.namespace,
                wish.authorities(),
                Timestamp::now(),
            )
            .await?;
        let input = input(wish, &bundles);
        let settled =
            write.is_empty() && obsolete.is_empty() && self.hand.settled(&self.store, input);
        if !settled {
            let secrets = write.iter();
            let rendered = Rendered {
                waves: wish.render(&bundles),
                once: secrets
                    .map(|(name, pair)| wish.secret(name, pair))
                    .collect(),
            };
            self.hand.apply(&mut self.store, input, rendered).await?;
            self.hand.remove(&self.store, obsolete).await?;
        }
        Ok(Applied {
            bundles,
            next,
            rendered: !settled,
        })
    }

    /// Whether an installation works, and when to look again: pods must be
    /// `ready`, and unless it was `told` already that it works, the API server
    /// must reach the aggregated `apis` (`version.group`). A user's first
    /// request must not fail because it does not yet.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn works(
        &self,
        next: Timestamp,
        ready: bool,
        told: bool,
        apis: &[String],
    ) -> anyhow::Result<(bool, Duration)> {
        let left = next.duration_since(Timestamp::now()).as_secs();
        let renew = Duration::from_secs(u64::try_from(left).unwrap_or(0).max(1));
        if ready && !told && !self.hand.served(apis).await? {
            return Ok((false, ASK_AGAIN));
        }
        Ok((ready, renew))
    }

    /// `owner` as known now: our own writes have moved it on.
    #[must_use]
    pub fn fresh(&self, owner: &O) -> O
    where
        O: Clone,
    {
        self.store
            .owners
            .get(&name_of(owner))
            .unwrap_or(owner)
            .clone()
    }
}

/// A hash of everything that rendering depends on.
fn input(wish: &impl Wish, bundles: &[String]) -> u64 {
    hash(&json!([wish.input(), bundles]))
}

/// Why applying failed, when the API server refused and trying again will not
/// help: what passes by itself is not worth a condition.
#[must_use]
pub fn lasting(error: &anyhow::Error) -> Option<String> {
    let refused = error.downcast_ref::<ApplyError>();
    let code = refused.and_then(ApplyError::status_code)?;
    (!passing(code)).then(|| format!("{error:#}"))
}
