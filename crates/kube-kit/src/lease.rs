//! Who leads: one of several replicas, by a `coordination.k8s.io/v1` Lease.
//!
//! ```text
//!   standby ──(lease free or expired)──► leading ──(renewal fails 10 s)──► lost
//!      ▲                                    │ dropped: lease released at once
//!      └──── somebody else renews ──────────┘
//! ```
//! A standby holds no watch: it reads the lease every few seconds, exactly when
//! it could expire or be released. Times of other machines are never compared
//! with ours: a lease is expired when *we* saw no change for its duration.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, Patch, PatchParams, PostParams};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::Shutdown;
use crate::health::Health;

/// A lease that nobody renewed for so long is free. (client-go's default.)
pub const DURATION: Duration = Duration::from_secs(15);
/// A leader that could not renew for so long steps down. (client-go's default.)
pub const DEADLINE: Duration = Duration::from_secs(10);
/// How often a leader renews and a standby looks. Three renewals fit in one
/// duration, so two may be lost.
pub const PERIOD: Duration = Duration::from_secs(5);
/// How soon a failed renewal is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// The component was stopped before it could lead; not a failure.
#[derive(Debug, thiserror::Error)]
#[error("stopped before leading")]
pub struct Stopped;

/// Held while we lead. Dropping it gives the lease back at once.
#[derive(Debug)]
pub struct Leading {
    /// Cancelled when the lease was lost: stop acting, at once.
    pub lost: CancellationToken,
    _release: DropGuard,
}

async fn while_leading<F>(
    client: &kube::Client,
    namespace: &str,
    lease_name: &str,
    shutdown: &Shutdown,
    work: impl Fn() -> F,
) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let identity = identity();
    loop {
        let leading = lead(client.clone(), namespace, lease_name, &identity, shutdown).await?;
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = leading.lost.cancelled() => tracing::warn!("lost the lease, standing by"),
            outcome = work() => return outcome,
        }
    }
}

/// Does `work` while this replica leads by the lease `lease_name` in `namespace`, stands
/// by again when the lease is lost, and answers probes on `health_port` meanwhile: all
/// that a component without a server of its own does. A standby is as ready as a
/// leader: either could answer a probe only. Ends when `work` or the component does.
///
/// # Errors
/// What `work` ended with; [`Stopped`] when `shutdown` comes before we led; a taken port.
pub async fn lead_and_answer_probes<F>(
    client: &kube::Client,
    namespace: &str,
    lease_name: &str,
    health_port: u16,
    shutdown: &Shutdown,
    work: impl Fn() -> F,
) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let health = Health::new();
    health.set_ready(true);
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, health_port));
    tokio::select! {
        ended = crate::health::serve(address, health, shutdown.clone()) => ended,
        ended = while_leading(client, namespace, lease_name, shutdown, work) => ended,
    }
}

/// Waits until `identity` leads by the lease `lease_name` in `namespace`.
///
/// # Errors
/// [`Stopped`] when `shutdown` comes first. Failures of the API server are
/// logged and tried again.
pub async fn lead(
    client: kube::Client,
    namespace: &str,
    lease_name: &str,
    identity: &str,
    shutdown: &Shutdown,
) -> anyhow::Result<Leading> {
    let lock = Lock {
        api: Api::namespaced(client, namespace),
        name: lease_name.to_owned(),
        identity: identity.to_owned(),
    };
    let mut seen = Observed::default();
    let mut failures = 0;
    loop {
        let wait = match lock.try_take(&mut seen).await {
            Ok(Attempt::Taken(version)) => {
                tracing::info!(lease = lease_name, identity, "leading");
                return Ok(lock.keep(version));
            }
            Ok(Attempt::Wait(wait)) => {
                failures = 0;
                wait
            }
            Err(error) => {
                failures += 1;
                tracing::warn!(
                    lease = lease_name,
                    "cannot read or take the lease: {}",
                    crate::reason(&error)
                );
                crate::queue::backoff(failures).min(PERIOD)
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return Err(Stopped.into()),
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// A name for this replica: the pod's name, else the host's, with a random end.
#[must_use]
pub fn identity() -> String {
    use std::hash::{BuildHasher, Hasher};
    let name = std::env::var("POD_NAME")
        .or_else(|_| std::env::var("HOSTNAME"))
        .or_else(|_| {
            std::fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_owned())
        })
        .unwrap_or_else(|_| "unknown".to_owned());
    let random = std::hash::RandomState::new().build_hasher().finish();
    format!("{name}_{random:016x}")
}

/// The last change of the lease that we saw, by our own clock.
#[derive(Debug, Default)]
struct Observed {
    version: String,
    at: Option<Instant>,
}

impl Observed {
    /// How long the lease must still be left alone; `None` when it is free.
    fn remaining(
        &mut self,
        version: &str,
        spec: &LeaseSpec,
        identity: &str,
        now: Instant,
    ) -> Option<Duration> {
        if self.version != version || self.at.is_none() {
            self.version = version.to_owned();
            self.at = Some(now);
        }
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        if holder.is_empty() || holder == identity {
            return None;
        }
        let seconds = spec
            .lease_duration_seconds
            .and_then(|seconds| u64::try_from(seconds).ok());
        let duration = seconds.map_or(DURATION, Duration::from_secs);
        let since = self.at.map_or(Duration::ZERO, |at| now.duration_since(at));
        duration.checked_sub(since).filter(|left| !left.is_zero())
    }
}

enum Attempt {
    Taken(String),
    Wait(Duration),
}

struct Lock {
    api: Api<Lease>,
    name: String,
    identity: String,
}

impl Lock {
    async fn try_take(&self, seen: &mut Observed) -> kube::Result<Attempt> {
        let Some(lease) = self.api.get_opt(&self.name).await? else {
            return self.create().await;
        };
        let version = lease.metadata.resource_version.unwrap_or_default();
        let spec = lease.spec.unwrap_or_default();
        if let Some(left) = seen.remaining(&version, &spec, &self.identity, Instant::now()) {
            return Ok(Attempt::Wait(left.min(PERIOD)));
        }
        let now = k8s_openapi::jiff::Timestamp::now();
        let patch = serde_json::json!({
            "metadata": { "resourceVersion": version },
            "spec": {
                "holderIdentity": self.identity,
                "leaseDurationSeconds": DURATION.as_secs(),
                "acquireTime": MicroTime(now),
                "renewTime": MicroTime(now),
                "leaseTransitions": spec.lease_transitions.unwrap_or(0).saturating_add(1),
            }
        });
        match self
            .api
            .patch(&self.name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
        {
            Ok(lease) => Ok(Attempt::Taken(
                lease.metadata.resource_version.unwrap_or_default(),
            )),
            Err(error) if crate::is_conflict(&error) => Ok(Attempt::Wait(PERIOD)),
            Err(error) => Err(error),
        }
    }

    async fn create(&self) -> kube::Result<Attempt> {
        let now = k8s_openapi::jiff::Timestamp::now();
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
                acquire_time: Some(MicroTime(now)),
                renew_time: Some(MicroTime(now)),
                lease_transitions: Some(0),
                ..LeaseSpec::default()
            }),
        };
        match self.api.create(&PostParams::default(), &lease).await {
            Ok(lease) => Ok(Attempt::Taken(
                lease.metadata.resource_version.unwrap_or_default(),
            )),
            Err(error) if crate::is_conflict(&error) => Ok(Attempt::Wait(RETRY)),
            Err(error) => Err(error),
        }
    }

    /// Renews in the background until the guard is dropped or the lease is lost.
    fn keep(self, version: String) -> Leading {
        let lost = CancellationToken::new();
        let release = CancellationToken::new();
        let leading = Leading {
            lost: lost.clone(),
            _release: release.clone().drop_guard(),
        };
        crate::defer_exit(async move {
            let guard = lost.drop_guard();
            if let Some(version) = self.renew_until(version, &release).await
                && let Err(error) = self.give_back(&version).await
            {
                tracing::warn!(lease = self.name, "cannot release the lease: {error}");
            }
            drop(guard);
        });
        leading
    }

    /// Renews; gives the last version when asked to release, `None` when lost.
    async fn renew_until(
        &self,
        mut version: String,
        release: &CancellationToken,
    ) -> Option<String> {
        let mut renewed = Instant::now();
        let mut wait = PERIOD;
        loop {
            tokio::select! {
                () = release.cancelled() => return Some(version),
                () = tokio::time::sleep(wait) => {}
            }
            let left = DEADLINE.saturating_sub(renewed.elapsed()).max(RETRY);
            let outcome = tokio::select! {
                () = release.cancelled() => return Some(version),
                outcome = tokio::time::timeout(left, self.renew(&version)) => outcome,
            };
            match outcome {
                Ok(Ok(next)) => {
                    version = next;
                    renewed = Instant::now();
                    wait = PERIOD;
                    continue;
                }
                Ok(Err(error)) if crate::is_conflict(&error) || crate::is_not_found(&error) => {
                    match self.still_ours().await {
                        Some(current) => version = current,
                        None => {
                            tracing::error!(
                                lease = self.name,
                                "the lease was taken from us: {}",
                                crate::reason(&error)
                            );
                            return None;
                        }
                    }
                }
                Ok(Err(error)) => {
                    tracing::warn!(
                        lease = self.name,
                        "cannot renew the lease: {}",
                        crate::reason(&error)
                    )
                }
                Err(_) => tracing::warn!(lease = self.name, "renewing the lease got no answer"),
            }
            if renewed.elapsed() >= DEADLINE {
                tracing::error!(
                    lease = self.name,
                    "not renewed for {} s, no longer leading",
                    DEADLINE.as_secs()
                );
                return None;
            }
            wait = RETRY;
        }
    }

    /// After a conflict: the current version when we still hold the lease (a
    /// renewal whose answer was lost, or a stranger's label).
    async fn still_ours(&self) -> Option<String> {
        let lease = self.api.get(&self.name).await.ok()?;
        let holder = lease.spec?.holder_identity?;
        (holder == self.identity).then_some(lease.metadata.resource_version.unwrap_or_default())
    }

    async fn renew(&self, version: &str) -> kube::Result<String> {
        let patch = serde_json::json!({
            "metadata": { "resourceVersion": version },
            "spec": { "renewTime": MicroTime(k8s_openapi::jiff::Timestamp::now()) }
        });
        let lease = self
            .api
            .patch(&self.name, &PatchParams::default(), &Patch::Merge(&patch))
            .await?;
        Ok(lease.metadata.resource_version.unwrap_or_default())
    }

    async fn give_back(&self, version: &str) -> anyhow::Result<()> {
        let patch = serde_json::json!({
            "metadata": { "resourceVersion": version },
            "spec": { "holderIdentity": "", "leaseDurationSeconds": 1 }
        });
        self.api
            .patch(&self.name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .context("patching the lease's holder")?;
        tracing::info!(lease = self.name, "released");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn held(by: &str) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(by.into()),
            lease_duration_seconds: Some(15),
            ..LeaseSpec::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_free_lease_or_our_own_is_taken_at_once() {
        let now = Instant::now();
        assert_eq!(
            Observed::default().remaining("1", &held(""), "me", now),
            None
        );
        assert_eq!(
            Observed::default().remaining("1", &held("me"), "me", now),
            None
        );
        assert_eq!(
            Observed::default().remaining("1", &LeaseSpec::default(), "me", now),
            None
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_held_lease_expires_only_after_its_duration_without_change() {
        let mut seen = Observed::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(
            seen.remaining("1", &held("other"), "me", at(0)),
            Some(Duration::from_secs(15))
        );
        assert_eq!(
            seen.remaining("1", &held("other"), "me", at(10)),
            Some(Duration::from_secs(5))
        );
        // A renewal starts the count afresh.
        assert_eq!(
            seen.remaining("2", &held("other"), "me", at(12)),
            Some(Duration::from_secs(15))
        );
        assert_eq!(
            seen.remaining("2", &held("other"), "me", at(26)),
            Some(Duration::from_secs(1))
        );
        assert_eq!(seen.remaining("2", &held("other"), "me", at(27)), None);
    }
}
