//! The leader's loop: look at what happened, then at every owner.

use std::fmt::Debug;
use std::time::Duration;

use anyhow::Context;
use futures::StreamExt;
use kube::Resource;
use kube::api::{Api, Patch, PatchParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::kit::Kit;
use super::{Stream, follow};

/// Events that come this soon after each other are looked at together.
const GATHER: Duration = Duration::from_millis(25);

/// What sets one operator apart from another; [`lead`] does the rest.
#[expect(
    async_fn_in_trait,
    reason = "components have one thread: nobody asks for Send"
)]
pub trait Operator {
    /// The kind that says what is wanted.
    type Owner: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static;

    /// Keeps a deleted owner until everything is removed.
    const FINALIZER: &'static str;

    /// What operators share.
    fn kit(&mut self) -> &mut Kit<Self::Owner>;

    /// Where `owner` is written to.
    fn api(&self, owner: &Self::Owner) -> Api<Self::Owner>;

    /// Whether `owner` is where none may be. One that is not is preferred.
    fn misplaced(&self, _owner: &Self::Owner) -> bool {
        false
    }

    /// Forgets what was done, because nothing is followed any more.
    fn forget(&mut self) {
        self.kit().forget();
    }

    /// Does what `owner` needs next; gives when to look again without news.
    ///
    /// # Errors
    /// What failed and may be tried again.
    async fn one(
        &mut self,
        owner: &Self::Owner,
        another_active: bool,
    ) -> anyhow::Result<Option<Duration>>;

    /// Puts our finalizer on `owner`, which is then looked at once more.
    ///
    /// # Errors
    /// When the API server refuses.
    async fn adopt(&mut self, owner: &Self::Owner) -> anyhow::Result<Option<Duration>> {
        let mut finalizers = owner.meta().finalizers.clone().unwrap_or_default();
        finalizers.push(Self::FINALIZER.to_owned());
        self.set_finalizers(owner, &finalizers).await?;
        Ok(Some(Duration::ZERO))
    }

    /// Takes our finalizer off `owner`: nothing of it is left.
    ///
    /// # Errors
    /// When the API server refuses.
    async fn release(&mut self, owner: &Self::Owner) -> anyhow::Result<()> {
        let mut finalizers = owner.meta().finalizers.clone().unwrap_or_default();
        finalizers.retain(|name| name != Self::FINALIZER);
        self.set_finalizers(owner, &finalizers).await?;
        tracing::info!("everything is removed");
        Ok(())
    }

    /// Makes the finalizers of `owner` these, unless it was changed meanwhile.
    ///
    /// # Errors
    /// When the API server refuses.
    async fn set_finalizers(
        &mut self,
        owner: &Self::Owner,
        finalizers: &[String],
    ) -> anyhow::Result<()> {
        let owner = self.kit().fresh(owner);
        let patch = json!({ "metadata": {
            "resourceVersion": owner.meta().resource_version, "finalizers": finalizers
        } });
        let name = owner.meta().name.clone().unwrap_or_default();
        let api = self.api(&owner);
        let answer = api
            .patch(&name, &PatchParams::default(), &Patch::Merge(&patch))
            .await;
        self.kit().written(answer, "finalizers")
    }

    /// Writes the status of `owner` by a merge patch; without one nothing is
    /// to be written. An owner that is gone needs none.
    ///
    /// # Errors
    /// When the API server refuses.
    async fn write_status(
        &mut self,
        owner: &Self::Owner,
        patch: Option<Value>,
    ) -> anyhow::Result<()> {
        let Some(patch) = patch else {
            return Ok(());
        };
        let name = owner.meta().name.clone().unwrap_or_default();
        let api = self.api(owner);
        let answer = api
            .patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch))
            .await;
        self.kit().written(answer, "status")
    }
}

impl<O: Resource<DynamicType = ()>> Kit<O> {
    /// Takes in the answer to a write.
    fn written(&mut self, answer: Result<O, kube::Error>, what: &str) -> anyhow::Result<()> {
        match answer {
            Ok(owner) => self.store.put_owner(owner),
            Err(error) if crate::is_not_found(&error) => {}
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("writing the {what} of the {}", O::kind(&())));
            }
        }
        Ok(())
    }
}

/// Leads until the caller drops the future.
///
/// # Errors
/// None at present: what fails is told in the status and tried again.
pub async fn lead<O: Operator>(mut operator: O) -> anyhow::Result<()> {
    let client = operator.kit().client.clone();
    let mut owners = follow::owners::<O::Owner>(&client);
    let mut managed = Stream::new();
    let mut deadline: Option<Instant> = None;
    loop {
        let store = &mut operator.kit().store;
        tokio::select! {
            Some(seen) = owners.next() => store.see(seen),
            Some(seen) = managed.next(), if !managed.is_empty() => store.see(seen),
            () = sleep_until(deadline) => {}
        }
        let gathered = Instant::now() + GATHER;
        loop {
            tokio::select! {
                Some(seen) = owners.next() => store.see(seen),
                Some(seen) = managed.next(), if !managed.is_empty() => store.see(seen),
                () = tokio::time::sleep_until(gathered) => break,
            }
        }
        // Without an owner there is nothing to follow.
        if store.owners.is_empty() {
            if !managed.is_empty() {
                managed = Stream::new();
                operator.forget();
            }
            deadline = None;
            continue;
        }
        if managed.is_empty() {
            managed.extend(operator.kit().managed());
        }
        if operator.kit().store.complete() {
            let wait = round(&mut operator).await;
            deadline = wait.map(|wait| Instant::now() + wait);
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Looks at every owner; gives when to look again without news.
pub async fn round<O: Operator>(operator: &mut O) -> Option<Duration> {
    let all: Vec<O::Owner> = operator.kit().store.owners.values().cloned().collect();
    let active = active(operator, &all);
    let mut wait: Option<Duration> = None;
    let mut failed = false;
    for owner in &all {
        let another_active = active != Some(&owner.meta().uid);
        match operator.one(owner, another_active).await {
            Ok(again) => wait = [wait, again].into_iter().flatten().min(),
            Err(error) => {
                failed = true;
                let (kind, name) = (O::Owner::kind(&()), owner.meta().name.as_deref());
                tracing::warn!(%kind, name, "{error:#}");
            }
        }
    }
    let kit = operator.kit();
    if failed {
        kit.failures = kit.failures.saturating_add(1);
        let retry = crate::queue::backoff(kit.failures);
        return Some(wait.map_or(retry, |wait| wait.min(retry)));
    }
    kit.failures = 0;
    wait
}

/// The UID of the owner that is acted on: of those in their place the oldest
/// that carries our finalizer, else the oldest.
fn active<'a, O: Operator>(operator: &O, owners: &'a [O::Owner]) -> Option<&'a Option<String>> {
    let adopted = |owner: &O::Owner| {
        let mut finalizers = owner.meta().finalizers.iter().flatten();
        finalizers.any(|name| name == O::FINALIZER)
    };
    owners
        .iter()
        .min_by_key(|owner| {
            let meta = owner.meta();
            (
                operator.misplaced(owner),
                !adopted(owner),
                meta.creation_timestamp.as_ref().map(|time| time.0),
                meta.uid.clone(),
            )
        })
        .map(|owner| &owner.meta().uid)
}
