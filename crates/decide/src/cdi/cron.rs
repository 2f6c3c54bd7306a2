//! DataImportCrons: an image that changes is imported again, and a DataSource stands for
//! the newest import that is whole.
//!
//! ```text
//!   CronJob ─► pod that asks the registry ─► digest ─► DataVolume ─► DataSource
//!                                            (annotation)   (status)
//! ```
//! The pod runs in the cron's namespace and has no account, so whoever writes a URL reaches
//! no more with it than with a pod of his own. What it found comes as its last word. Each
//! step is written down before the next is taken: a controller that starts anew goes on.
//!
//! Source of names, reasons and messages: CDI pkg/controller/dataimportcron-controller.go.

pub mod objects;
pub mod schedule;
#[cfg(test)]
mod tests;

use api::cdi::names::{DATA_IMPORT_CRON_LABEL, annotations as note};
use api::cdi::{
    ClaimSource, DataImportCron, DataImportCronStatus, DataSource, DataVolume, ImportStatus,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::{Value, json};

use super::cluster::Cluster;
use super::worker::note as of_claim;
use super::{datasource, state};
use crate::conditions::said;
use crate::plan::{Event, Plan, Step};

/// How many imports are kept when nobody says.
const KEPT: usize = 3;

/// What to do for a cron.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Make a Job, DataVolume or DataSource; a Job that is there was made before.
    Create(Value),
    /// Make or change a CronJob or DataSource.
    Apply(Value),
    /// Merge patch of the cron.
    Patch(Value),
    /// Merge patch of the cron's status.
    PatchStatus(Value),
    /// Merge patch of an import's claim.
    PatchClaim {
        /// Name of the claim.
        name: String,
        /// The patch.
        patch: Value,
    },
    /// Delete an import.
    DeleteVolume {
        /// Name of the DataVolume.
        name: String,
        /// Its uid.
        uid: String,
    },
}

/// A look at the source that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// When.
    pub ended: Timestamp,
    /// The digest, or why there is none.
    pub found: Result<String, String>,
}

impl Look {
    /// Reads it from the pod that looked, if that has ended.
    #[must_use]
    pub fn read(pod: &Pod) -> Option<Self> {
        let phase = state::phase(pod);
        if !matches!(phase, "Succeeded" | "Failed") {
            return None;
        }
        let status = pod.status.as_ref()?;
        let container = status.container_statuses.iter().flatten().next();
        let ended = container
            .and_then(|one| one.state.as_ref()?.terminated.as_ref()?.finished_at.clone())
            .or_else(|| {
                let changes = status.conditions.iter().flatten();
                changes
                    .filter_map(|one| one.last_transition_time.clone())
                    .max_by_key(|time| time.0)
            })
            .or_else(|| pod.metadata.creation_timestamp.clone())?;
        let word = state::last_word(pod).unwrap_or_default();
        let found = match word.digest {
            Some(digest) if phase == "Succeeded" && is_digest(&digest) => Ok(digest),
            _ => Err(word
                .error
                .or_else(|| status.message.clone())
                .unwrap_or_else(|| {
                    "the pod that looks at the source ended without a word".to_owned()
                })),
        };
        Some(Self {
            ended: ended.0,
            found,
        })
    }
}

/// `sha256:` and 64 hexadecimal digits: anything else goes into no URL and no name.
fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| {
        hex.len() == 64
            && hex
                .bytes()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    })
}

/// An import: its DataVolume and its claim.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Import<'a> {
    /// The DataVolume.
    pub volume: Option<&'a DataVolume>,
    /// The claim of its name.
    pub claim: Option<&'a PersistentVolumeClaim>,
}

impl Import<'_> {
    fn is_there(&self) -> bool {
        self.volume.is_some() || self.claim.is_some()
    }

    fn is_leaving(&self) -> bool {
        let leaves = |meta: &ObjectMeta| meta.deletion_timestamp.is_some();
        self.volume.is_some_and(|volume| leaves(&volume.metadata))
            || self.claim.is_some_and(|claim| leaves(&claim.metadata))
    }

    fn phase(&self) -> &str {
        let status = self.volume.and_then(|volume| volume.status.as_ref());
        status.map_or("", |status| status.phase.as_str())
    }

    fn is_whole(&self) -> bool {
        self.phase() == "Succeeded" && !self.is_leaving()
    }

    /// It has failed before, or for good.
    fn is_in_trouble(&self) -> bool {
        let status = self.volume.and_then(|volume| volume.status.as_ref());
        status.is_some_and(|status| status.phase == "Failed" || status.restart_count > 0)
    }

    /// Why it does not get on.
    fn trouble(&self) -> Option<&str> {
        let status = self.volume?.status.as_ref()?;
        let running = status
            .conditions
            .iter()
            .find(|one| one.type_ == "Running")?;
        Some(running.message.as_str()).filter(|text| self.is_in_trouble() && !text.is_empty())
    }

    fn last_use(&self) -> &str {
        let claim = self.claim.and_then(|claim| of_claim(claim, note::LAST_USE));
        let volume = || {
            let notes = self.volume?.metadata.annotations.as_ref()?;
            notes.get(note::LAST_USE).map(String::as_str)
        };
        claim.or_else(volume).unwrap_or_default()
    }
}

/// What is known about a cron.
pub struct Observed<'a> {
    /// The cron.
    pub cron: &'a DataImportCron,
    /// The DataSource of the name that it manages.
    pub source: Option<&'a DataSource>,
    /// The cron that the DataSource's label names is there and manages it.
    pub rival: bool,
    /// What the cron's CronJob was rendered from, if that is there.
    pub job: Option<&'a str>,
    /// The last look that ended.
    pub look: Option<&'a Look>,
    /// DataVolumes with the cron's label, and their claims.
    pub imports: Vec<Import<'a>>,
    /// DataVolume and claim of a name, whosever they are.
    pub find: &'a dyn Fn(&str) -> Import<'a>,
    /// The cluster.
    pub cluster: &'a Cluster,
}

impl<'a> Observed<'a> {
    fn label_of(meta: &ObjectMeta) -> Option<&str> {
        let labels = meta.labels.as_ref()?;
        labels.get(DATA_IMPORT_CRON_LABEL).map(String::as_str)
    }

    fn note(&self, name: &str) -> Option<&'a str> {
        let notes = self.cron.metadata.annotations.as_ref()?;
        notes.get(name).map(String::as_str)
    }

    /// The DataSource is somebody else's: he is named.
    fn stranger(&self) -> Option<String> {
        let source = self.source?;
        let name = &self.cron.spec.managed_data_source;
        match Self::label_of(&source.metadata) {
            Some(label) if Some(label) == self.cron.metadata.name.as_deref() => None,
            Some(label) if self.rival => Some(format!(
                "DataSource {name} is already managed by DataImportCron {label}"
            )),
            // Its cron is gone.
            Some(_) => None,
            None => Some(format!(
                "DataSource {name} is there and was made by nobody's cron; delete it, or name another one in managedDataSource"
            )),
        }
    }

    /// Whether an object of an import's name holds the image of `digest`.
    fn is_ours(&self, import: &Import<'_>, digest: &str) -> bool {
        let own = |meta: &ObjectMeta| Self::label_of(meta) == self.cron.metadata.name.as_deref();
        let url = objects::pinned(objects::url(self.cron), digest);
        match (import.volume, import.claim) {
            (Some(volume), _) => {
                let source = volume.spec.source.as_ref();
                let from = source.and_then(|source| source.registry.as_ref()?.url.as_ref());
                own(&volume.metadata) || from == Some(&url)
            }
            (None, Some(claim)) => own(&claim.metadata),
            (None, None) => true,
        }
    }
}

/// Decides on a cron.
#[must_use]
pub fn decide(seen: &Observed<'_>, now: Timestamp) -> Plan<Op> {
    let mut plan = Plan::default();
    let cron = seen.cron;
    if cron.metadata.deletion_timestamp.is_some() {
        // What is to go with it has it as owner.
        return plan;
    }
    let old = cron.status.clone().unwrap_or_default();
    let mut new = old.clone();
    if let Some(who) = seen.stranger() {
        let conditions = [
            (
                "Progressing",
                "False",
                "NoImport",
                "No current import".to_owned(),
            ),
            ("UpToDate", "False", "ErrDataSourceAlreadyManaged", who),
        ];
        told(&mut plan, &old, new, conditions, now);
        return plan;
    }
    follow(seen, &mut plan);
    if !plan.steps.is_empty() {
        return plan;
    }
    let looked = seen.note(note::LAST_CRON_TIME);
    new.last_execution_timestamp = looked.and_then(|text| text.parse().ok()).map(Time);

    let digest = seen
        .note(note::DESIRED_DIGEST)
        .filter(|text| is_digest(text));
    let mut current = new.current_imports.first().cloned();
    let mut import = current.as_ref().map_or_else(Import::default, |current| {
        (seen.find)(&current.data_volume_name)
    });
    if let Some(digest) = digest
        && wants(current.as_ref(), &import, digest)
    {
        let name = objects::import_name(cron, digest);
        import = (seen.find)(&name);
        if !seen.is_ours(&import, digest) {
            let message = format!(
                "expected no DataVolume or claim {name} that is not an import of {digest}, found one; delete it"
            );
            let conditions = [
                ("Progressing", "False", "ErrImportExists", message),
                outdated(),
            ];
            told(&mut plan, &old, new, conditions, now);
            return plan;
        }
        if import.is_leaving() {
            // Its end comes as an event.
        } else if !import.is_there() {
            plan.steps.push(Step {
                op: Op::Create(objects::data_volume(cron, digest, now)),
                done: None,
                failed: Some("ErrImportNotCreated"),
            });
        }
        if !import.is_leaving() {
            let made = ImportStatus {
                data_volume_name: name,
                digest: digest.to_owned(),
            };
            new.current_imports = vec![made.clone()];
            current = Some(made);
        }
    }
    let whole = current.as_ref().filter(|_| import.is_whole());
    if let Some(whole) = whole {
        succeed(seen, whole, &mut new, &mut plan, now);
    }
    stand_for(seen, &new, &mut plan);
    let conditions = [
        progressing(&import),
        up_to_date(seen, digest, current.as_ref(), &import),
    ];
    let settled = plan.steps.is_empty();
    if whole.is_some() {
        new.source_format = Some("pvc".to_owned());
    }
    told(&mut plan, &old, new, conditions, now);
    if settled && let Some(current) = &current {
        collect(seen, current, &import, &mut plan);
    }
    plan
}

/// Keeps the CronJob, and writes down what the last look found.
fn follow(seen: &Observed<'_>, plan: &mut Plan<Op>) {
    let cron = seen.cron;
    // An empty schedule: nobody looks, somebody else writes the digest.
    if !cron.spec.schedule.is_empty() {
        let job = objects::cron_job(cron, seen.cluster);
        let wanted = job["metadata"]["annotations"][note::RENDERED].as_str();
        if seen.job.is_none() {
            // In this order: whoever dies in between begins again.
            plan.push(Op::Create(objects::initial_job(cron, seen.cluster)));
        }
        if seen.job != wanted {
            plan.push(Op::Apply(job));
        }
    }
    let Some(look) = seen.look else { return };
    let before: Option<Timestamp> = seen
        .note(note::LAST_CRON_TIME)
        .and_then(|text| text.parse().ok());
    if before.is_some_and(|before| before >= look.ended) {
        return;
    }
    let mut notes = json!({ note::LAST_CRON_TIME: look.ended.to_string() });
    let done = match &look.found {
        Ok(digest) => {
            notes[note::DESIRED_DIGEST] = json!(digest);
            None
        }
        Err(why) => Some(Event {
            warning: true,
            reason: "PollFailed",
            message: why.clone(),
        }),
    };
    plan.steps.push(Step {
        op: Op::Patch(json!({ "metadata": { "annotations": notes } })),
        done,
        failed: None,
    });
}

/// Whether `digest` is to be imported now: nothing is, what is has come to an end, or does
/// not come to one.
fn wants(current: Option<&ImportStatus>, import: &Import<'_>, digest: &str) -> bool {
    match current {
        None => true,
        Some(_) if !import.is_there() => true,
        Some(current) if current.digest == digest => false,
        Some(_) => import.is_whole() || import.is_leaving() || import.is_in_trouble(),
    }
}

/// The current import is whole: it is the newest.
fn succeed(
    seen: &Observed<'_>,
    whole: &ImportStatus,
    new: &mut DataImportCronStatus,
    plan: &mut Plan<Op>,
    now: Timestamp,
) {
    let cron = seen.cron;
    let name = &whole.data_volume_name;
    let claim = ClaimSource {
        namespace: cron.metadata.namespace.clone().unwrap_or_default(),
        name: name.clone(),
    };
    if new.last_imported_pvc.as_ref() == Some(&claim) {
        return;
    }
    plan.push(Op::PatchClaim {
        name: name.clone(),
        patch: json!({ "metadata": {
            "labels": { DATA_IMPORT_CRON_LABEL: cron.metadata.name },
            "annotations": { note::LAST_USE: format!("{now:.9}") },
        } }),
    });
    new.last_imported_pvc = Some(claim);
    new.last_import_timestamp = Some(Time(now));
}

/// Keeps the DataSource for the newest import that is whole.
fn stand_for(seen: &Observed<'_>, new: &DataImportCronStatus, plan: &mut Plan<Op>) {
    let import = new.last_imported_pvc.as_ref();
    let object = objects::data_source(seen.cron, import.map(|claim| claim.name.as_str()));
    match seen.source {
        None => plan.push(Op::Create(object)),
        Some(source) => {
            let label = Observed::label_of(&source.metadata);
            let right = import.is_none() || source.spec.source.pvc.as_ref() == import;
            if !right || label != seen.cron.metadata.name.as_deref() {
                plan.push(Op::Apply(object));
            }
        }
    }
}

/// Deletes what is not to be kept: imports that came to nothing, and the whole ones used
/// longest ago. The newest always stays.
fn collect(seen: &Observed<'_>, current: &ImportStatus, import: &Import<'_>, plan: &mut Plan<Op>) {
    if !import.is_whole() {
        return;
    }
    let name = |import: &Import<'_>| {
        let volume = import.volume.map(|volume| &volume.metadata);
        volume
            .and_then(|meta| meta.name.clone())
            .unwrap_or_default()
    };
    let mut others: Vec<&Import<'_>> = seen
        .imports
        .iter()
        .filter(|one| !one.is_leaving() && name(one) != current.data_volume_name)
        .collect();
    others.sort_by(|a, b| {
        let rank = |import: &Import<'_>| (import.is_whole(), import.last_use().to_owned());
        rank(b).cmp(&rank(a))
    });
    let keep = match seen.cron.spec.imports_to_keep {
        Some(number) => usize::try_from(number).unwrap_or(KEPT).max(1),
        None => KEPT,
    };
    let forever = seen.cron.spec.garbage_collect.as_deref() == Some("Never");
    for (at, old) in others.into_iter().enumerate() {
        // The current one counts, and comes first.
        let kept = old.is_whole() && (forever || at + 1 < keep);
        if let Some(volume) = old.volume.filter(|_| !kept) {
            plan.push(Op::DeleteVolume {
                name: name(old),
                uid: volume.metadata.uid.clone().unwrap_or_default(),
            });
        }
    }
}

/// Type, status, reason and message of a condition.
type Said = (&'static str, &'static str, &'static str, String);

fn outdated() -> Said {
    (
        "UpToDate",
        "False",
        "Outdated",
        "Source digest updated since last import".to_owned(),
    )
}

fn progressing(import: &Import<'_>) -> Said {
    let (status, reason, message) = match import.phase() {
        "" | "Succeeded" => ("False", "NoImport", "No current import".to_owned()),
        "ImportScheduled" => ("False", "ImportScheduled", "Import is scheduled".to_owned()),
        "ImportInProgress" => (
            "True",
            "ImportProgressing",
            "Import is progressing".to_owned(),
        ),
        phase => {
            let why = import.trouble().map(|why| format!(": {why}"));
            let message = format!("Import DataVolume phase {phase}{}", why.unwrap_or_default());
            ("False", reason(phase), message)
        }
    };
    ("Progressing", status, reason, message)
}

/// Phases of DataVolumes as reasons.
fn reason(phase: &str) -> &'static str {
    [
        "Pending",
        "PVCBound",
        "WaitForFirstConsumer",
        "PendingPopulation",
        "Failed",
        "Paused",
    ]
    .into_iter()
    .find(|known| *known == phase)
    .unwrap_or("Unknown")
}

fn up_to_date(
    seen: &Observed<'_>,
    digest: Option<&str>,
    current: Option<&ImportStatus>,
    import: &Import<'_>,
) -> Said {
    let (status, reason, message) = match (digest, current) {
        (Some(digest), Some(current)) if current.digest != digest => return outdated(),
        (Some(_), None) => return outdated(),
        (_, Some(_)) if import.is_whole() => {
            ("True", "UpToDate", "Latest import is up to date".to_owned())
        }
        (_, Some(_)) => (
            "False",
            "ImportProgressing",
            "Import is progressing".to_owned(),
        ),
        (None, None) => {
            let why = seen.look.and_then(|look| look.found.as_ref().err());
            let message = match why {
                Some(why) => format!("No source digest: {why}"),
                None => "No source digest".to_owned(),
            };
            ("False", "NoDigest", message)
        }
    };
    ("UpToDate", status, reason, message)
}

/// Writes the status if it differs.
fn told(
    plan: &mut Plan<Op>,
    old: &DataImportCronStatus,
    mut new: DataImportCronStatus,
    conditions: [Said; 2],
    now: Timestamp,
) {
    let conditions =
        conditions.map(|(type_, status, reason, message)| said(type_, status, reason, &message));
    new.conditions = datasource::dated(&old.conditions, conditions.to_vec(), now);
    if new != *old {
        plan.push(Op::PatchStatus(json!({ "status": new })));
    }
}
