//! Certificates: when to make new ones, and who signs.
//!
//! ```text
//!   authority: made ──(four fifths of its life)──► a new one signs
//!                                                  the old one stays in the bundle until it ends
//!   leaf:      made ──(four fifths of its life)──► made again
//! ```
//! A new authority signs nothing for the first minutes, unless it must: those
//! who mount the bundle have to learn of it first, and the kubelet brings a
//! changed ConfigMap into pods within about a minute and a half.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::certs::{self, CertError, Pair, Usage};

/// How long a new authority waits before it replaces others' signatures.
const PROPAGATION: SignedDuration = SignedDuration::from_mins(5);
/// Certificates that live longer than they should by more than this are made
/// again: the setting was shortened.
const SLACK: SignedDuration = SignedDuration::from_mins(15);

/// How long a certificate is valid and how long before its end it is renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// From making to end.
    pub duration: SignedDuration,
    /// Renewed when so much is left.
    pub renew_before: SignedDuration,
}

/// An authority and what it signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// Its secret.
    pub secret: &'static str,
    /// The subject's common name.
    pub common_name: &'static str,
    /// ConfigMap with the bundle of all authorities in use, and its key there.
    pub bundle: (&'static str, &'static str),
    /// How long it lives.
    pub life: Life,
    /// What it signs.
    pub leaves: Vec<Leaf>,
}

/// A certificate that a component uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Its secret.
    pub secret: &'static str,
    /// The subject's common name.
    pub common_name: String,
    /// Host names under which a server is reached.
    pub dns_names: Vec<String>,
    /// Whether it proves a server or a client.
    pub usage: Usage,
    /// How long it lives.
    pub life: Life,
}

impl Authority {
    /// The secrets of the authority and of what it signs.
    pub fn secrets(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.secret).chain(self.leaves.iter().map(|leaf| leaf.secret))
    }
}

/// What to do about certificates.
pub struct Plan {
    /// Secrets to write, with what belongs in them.
    pub write: Vec<(&'static str, Pair)>,
    /// PEM text of all authorities in use.
    pub bundle: String,
    /// When to look again.
    pub next: Timestamp,
}

/// Plans for certificates as they are in `existing` (by secret) and authorities
/// as in `bundle`.
///
/// # Errors
/// When a certificate cannot be made.
pub fn plan(
    wanted: &Authority,
    existing: &BTreeMap<&'static str, Pair>,
    bundle: &str,
    now: Timestamp,
) -> Result<Plan, CertError> {
    let mut write = Vec::new();
    let old = existing.get(wanted.secret);
    let kept = old.and_then(|pair| {
        let validity = certs::validity(&pair.certificate).ok()?;
        let life = validity.not_after.duration_since(validity.not_before);
        let renew = validity.renew_at(Some(wanted.life.renew_before));
        let usable = renew > now && life <= wanted.life.duration + SLACK && !pair.key.is_empty();
        usable.then(|| (pair.clone(), validity))
    });
    let (authority, validity) = match kept {
        Some(kept) => kept,
        None => {
            let made = certs::authority(wanted.common_name, now, wanted.life.duration)?;
            write.push((wanted.secret, made.clone()));
            let validity = certs::validity(&made.certificate)?;
            (made, validity)
        }
    };
    let before = old.map_or_else(String::new, |pair| pair.certificate.clone()) + "\n" + bundle;
    let bundle = certs::bundle(&authority.certificate, &before, now);
    let mut next = validity.renew_at(Some(wanted.life.renew_before));
    // Validity begins a little before the making; the difference is harmless.
    let known_since = validity.not_before + PROPAGATION + PROPAGATION;

    for leaf in &wanted.leaves {
        let current = existing.get(leaf.secret).and_then(|pair| {
            let validity = certs::validity(&pair.certificate).ok()?;
            let life = validity.not_after.duration_since(validity.not_before);
            let due = validity.renew_at(Some(leaf.life.renew_before));
            let usable =
                due > now && !pair.key.is_empty() && trusted(&bundle, pair, &leaf.dns_names);
            if !usable {
                return None;
            }
            let as_wanted = life <= leaf.life.duration + SLACK
                && certs::fits(&pair.certificate, &authority.certificate, &leaf.dns_names);
            if as_wanted {
                Some(due)
            } else {
                // Good for now; replaced once everybody knows the authority.
                (known_since > now).then(|| due.min(known_since))
            }
        });
        let due = match current {
            Some(due) => due,
            None => {
                let life = leaf
                    .life
                    .duration
                    .min(validity.not_after.duration_since(now));
                let spec = certs::Leaf {
                    common_name: &leaf.common_name,
                    dns_names: &leaf.dns_names,
                    usage: leaf.usage,
                };
                let made = certs::leaf(&authority, &spec, now, life)?;
                let due = certs::validity(&made.certificate)?
                    .renew_at(Some(leaf.life.renew_before.min(life / 5)));
                write.push((leaf.secret, made));
                due
            }
        };
        next = next.min(due);
    }
    // Never in the past, whatever the settings: the loop must not spin.
    Ok(Plan {
        write,
        bundle,
        next: next.max(now + SignedDuration::from_secs(10)),
    })
}

/// Whether one of the authorities in `bundle` signed the certificate.
fn trusted(bundle: &str, pair: &Pair, dns_names: &[String]) -> bool {
    const END: &str = "-----END CERTIFICATE-----";
    bundle
        .split_inclusive(END)
        .any(|authority| certs::fits(&pair.certificate, authority, dns_names))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const AUTHORITY: &str = "ca";

    fn life(hours: i64) -> Life {
        let duration = SignedDuration::from_hours(hours);
        Life {
            duration,
            renew_before: duration / 5,
        }
    }

    fn wanted() -> Authority {
        let leaf = |secret, name: &str, usage| Leaf {
            secret,
            common_name: name.to_owned(),
            dns_names: vec![format!("{name}.svc")],
            usage,
            life: life(24),
        };
        Authority {
            secret: AUTHORITY,
            common_name: "kubevirt.io",
            bundle: ("bundle", "ca-bundle"),
            life: life(7 * 24),
            leaves: vec![
                leaf("api", "a", Usage::Server),
                leaf("handler", "h", Usage::Server),
                leaf("client", "c", Usage::Client),
            ],
        }
    }

    struct World {
        secrets: BTreeMap<&'static str, Pair>,
        bundle: String,
        now: Timestamp,
        wanted: Authority,
    }

    impl World {
        fn new() -> Self {
            Self {
                secrets: BTreeMap::new(),
                bundle: String::new(),
                now: "2026-01-02T03:04:05Z".parse().unwrap(),
                wanted: wanted(),
            }
        }

        /// Plans and does it; the secrets that were written.
        fn round(&mut self) -> (Vec<&'static str>, Timestamp) {
            let plan = plan(&self.wanted, &self.secrets, &self.bundle, self.now).unwrap();
            let names = plan.write.iter().map(|(name, _)| *name).collect();
            self.secrets.extend(plan.write);
            self.bundle = plan.bundle;
            (names, plan.next)
        }

        fn authorities(&self) -> usize {
            self.bundle.matches("BEGIN CERTIFICATE").count()
        }

        /// Every certificate in use is signed by an authority in the bundle.
        fn sound(&self) -> bool {
            self.wanted.leaves.iter().all(|leaf| {
                let pair = &self.secrets[leaf.secret];
                certs::validity(&pair.certificate).unwrap().not_after > self.now
                    && trusted(&self.bundle, pair, &leaf.dns_names)
            })
        }
    }

    #[test]
    fn everything_is_made_once_and_then_left_alone() {
        let mut world = World::new();
        let (written, next) = world.round();
        assert_eq!(written.len(), 4);
        assert!(
            next > world.now + SignedDuration::from_hours(19)
                && next < world.now + SignedDuration::from_hours(20)
        );
        assert_eq!(world.round().0, Vec::<&str>::new());
    }

    #[test]
    fn a_month_of_rotation_never_leaves_a_certificate_untrusted() {
        let mut world = World::new();
        let mut rounds = 0;
        let end = world.now + SignedDuration::from_hours(24 * 30);
        let (_, mut next) = world.round();
        while world.now < end {
            world.now = next;
            assert!(world.sound(), "before the round at {}", world.now);
            next = world.round().1;
            assert!(world.sound(), "after the round at {}", world.now);
            assert!(world.authorities() <= 2);
            rounds += 1;
        }
        assert!(rounds < 80, "{rounds} rounds in thirty days");
    }

    #[test]
    fn a_new_authority_is_published_before_it_signs() {
        let mut world = World::new();
        world.round();
        world.now += SignedDuration::from_hours(7 * 24 * 4 / 5 + 1);
        // Leaves were renewed in between.
        let (written, _) = world.round();
        assert!(written.contains(&AUTHORITY));
        let mut world = World::new();
        world.round();
        let authority =
            certs::authority("kubevirt.io", world.now, world.wanted.life.duration).unwrap();
        world.secrets.insert(AUTHORITY, authority);
        let (written, next) = world.round();
        assert_eq!(
            written,
            Vec::<&str>::new(),
            "leaves of the old authority are good for a while"
        );
        assert_eq!(world.authorities(), 2);
        world.now = next;
        assert_eq!(world.round().0.len(), 3, "then the new one signs");
        assert!(world.sound());
    }

    #[test]
    fn a_lost_or_broken_secret_is_made_again() {
        let mut world = World::new();
        world.round();
        world.secrets.remove("api");
        assert_eq!(world.round().0, ["api"]);
        let broken = Pair {
            certificate: "junk".into(),
            key: "junk".into(),
        };
        world.secrets.insert("client", broken);
        assert_eq!(world.round().0, ["client"]);
        world.secrets.remove(AUTHORITY);
        assert!(world.round().0.contains(&AUTHORITY));
        assert!(world.sound());
    }

    #[test]
    fn a_shortened_life_replaces_longer_ones() {
        let mut world = World::new();
        world.round();
        world.now += SignedDuration::from_hours(2);
        for leaf in &mut world.wanted.leaves {
            leaf.life.duration = SignedDuration::from_hours(1);
            leaf.life.renew_before = SignedDuration::from_mins(12);
        }
        assert_eq!(world.round().0.len(), 3);
        assert_eq!(world.round().0.len(), 0);
    }
}
