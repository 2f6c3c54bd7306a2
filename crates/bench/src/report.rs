//! The findings and their table.

use serde::Serialize;

/// All findings of one run.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    findings: Vec<Finding>,
}

/// One number beside what it is to be compared with.
#[derive(Debug, Serialize)]
struct Finding {
    what: String,
    unit: &'static str,
    ours: f64,
    goal: Option<f64>,
    beside: Option<Beside>,
}

/// Upstream's number, or the limit of the same run.
#[derive(Debug, Serialize)]
struct Beside {
    what: &'static str,
    value: f64,
}

impl Report {
    /// Adds a number with no goal, such as the limit itself.
    pub(crate) fn add(&mut self, what: impl Into<String>, unit: &'static str, ours: f64) {
        self.push(what.into(), unit, ours, None, None);
    }

    /// Adds a number that is to be at most `goal`, beside another.
    pub(crate) fn compare(
        &mut self,
        what: impl Into<String>,
        unit: &'static str,
        ours: f64,
        goal: f64,
        beside: (&'static str, f64),
    ) {
        let (name, value) = beside;
        self.push(
            what.into(),
            unit,
            ours,
            Some(goal),
            Some(Beside { what: name, value }),
        );
    }

    fn push(
        &mut self,
        what: String,
        unit: &'static str,
        ours: f64,
        goal: Option<f64>,
        beside: Option<Beside>,
    ) {
        self.findings.push(Finding {
            what,
            unit,
            ours,
            goal,
            beside,
        });
    }

    /// The table, one finding a line.
    pub(crate) fn table(&self) -> String {
        let mut text = format!(
            "{:<52} {:>10} {:>10} {:>8}  {}\n",
            "WHAT", "OURS", "AT MOST", "HELD", "BESIDE"
        );
        for f in &self.findings {
            let goal = f.goal.map(|g| format!("{g:.2}")).unwrap_or_default();
            let held = match f.goal {
                Some(goal) if f.ours <= goal => "yes",
                Some(_) => "no",
                None => "",
            };
            let beside = f
                .beside
                .as_ref()
                .map(|b| format!("{:.2} {}", b.value, b.what))
                .unwrap_or_default();
            let what = format!("{} [{}]", f.what, f.unit);
            text.push_str(&format!(
                "{what:<52} {:>10.2} {goal:>10} {held:>8}  {beside}\n",
                f.ours
            ));
        }
        text
    }
}
