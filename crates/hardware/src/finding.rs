//! What a check says, before the catalogue adds its id and why it matters.

use crate::verdict::{Fix, Status};

/// One finding of a check on one subject.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub(crate) subject: String,
    pub(crate) status: Status,
    pub(crate) evidence: String,
    pub(crate) remedy: String,
    pub(crate) fix: Option<Fix>,
}

impl Finding {
    pub(crate) fn new(
        status: Status,
        evidence: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            subject: String::new(),
            status,
            evidence: evidence.into(),
            remedy: remedy.into(),
            fix: None,
        }
    }

    pub(crate) fn pass(evidence: impl Into<String>) -> Self {
        Self::new(Status::Pass, evidence, "")
    }

    pub(crate) fn skip(evidence: impl Into<String>) -> Self {
        Self::new(Status::Skip, evidence, "")
    }

    pub(crate) fn warn(evidence: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Status::Warn, evidence, remedy)
    }

    pub(crate) fn fail(evidence: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Status::Fail, evidence, remedy)
    }

    pub(crate) fn on(mut self, subject: impl Into<String>) -> Self {
        self.subject = subject.into();
        self
    }

    pub(crate) fn fixed_by(mut self, fix: Fix) -> Self {
        self.fix = Some(fix);
        self
    }

    /// The only finding of its check.
    pub(crate) fn alone(self) -> Vec<Self> {
        vec![self]
    }
}
