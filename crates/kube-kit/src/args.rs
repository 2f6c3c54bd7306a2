//! Command lines of components: `--flag value` and `--flag=value`, nothing more.
//!
//! Components are started by manifests that we render, so a small parser that
//! refuses what it does not know is worth more than help pages.

use std::ffi::OsString;
use std::str::FromStr;

use anyhow::{Context, anyhow, bail};

/// The arguments after the component's name.
#[derive(Debug)]
pub struct Args {
    inner: pico_args::Arguments,
}

impl Args {
    /// From the arguments without the program's name.
    #[must_use]
    pub fn new(args: Vec<OsString>) -> Self {
        Self {
            inner: pico_args::Arguments::from_vec(args),
        }
    }

    /// Whether the flag `name` (with its dashes) is given. Takes it away.
    pub fn flag(&mut self, name: &'static str) -> bool {
        self.inner.contains(name)
    }

    /// The value of option `name` (with its dashes), if it is given.
    ///
    /// # Errors
    /// When the value is missing or cannot be read as `T`.
    pub fn option<T>(&mut self, name: &'static str) -> anyhow::Result<Option<T>>
    where
        T: FromStr,
        T::Err: std::fmt::Display,
    {
        let text: Option<String> = self
            .inner
            .opt_value_from_str(name)
            .with_context(|| format!("reading option {name}"))?;
        text.map(|text| {
            text.parse::<T>()
                .map_err(|error| anyhow!("option {name}: found {text:?}: {error}"))
        })
        .transpose()
    }

    /// The value of option `name`, or `default`.
    ///
    /// # Errors
    /// As [`Args::option`].
    pub fn or<T>(&mut self, name: &'static str, default: T) -> anyhow::Result<T>
    where
        T: FromStr,
        T::Err: std::fmt::Display,
    {
        Ok(self.option(name)?.unwrap_or(default))
    }

    /// The value of option `name`, which must be given.
    ///
    /// # Errors
    /// As [`Args::option`], and when it is not there.
    pub fn required<T>(&mut self, name: &'static str) -> anyhow::Result<T>
    where
        T: FromStr,
        T::Err: std::fmt::Display,
    {
        self.option(name)?
            .ok_or_else(|| anyhow!("option {name} is required and was not given"))
    }

    /// The value of option `name`, else of the environment variable `variable`.
    ///
    /// # Errors
    /// As [`Args::option`], and when neither is there or the variable is empty.
    pub fn or_variable(&mut self, name: &'static str, variable: &str) -> anyhow::Result<String> {
        if let Some(value) = self.option(name)? {
            return Ok(value);
        }
        match std::env::var(variable) {
            Ok(value) if !value.is_empty() => Ok(value),
            _ => bail!("expected option {name} or environment variable {variable}, found neither"),
        }
    }

    /// Refuses what no one has asked for.
    ///
    /// # Errors
    /// When arguments are left.
    pub fn finish(self) -> anyhow::Result<()> {
        let rest = self.inner.finish();
        match rest.first() {
            None => Ok(()),
            Some(first) => bail!("unknown argument {first:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn args(list: &[&str]) -> Args {
        Args::new(list.iter().map(OsString::from).collect())
    }

    #[test]
    fn both_spellings_are_read() {
        let mut given = args(&["--port", "8443", "--name=x", "--verbose"]);
        assert_eq!(given.required::<u16>("--port").unwrap(), 8443);
        assert_eq!(given.required::<String>("--name").unwrap(), "x");
        assert!(given.flag("--verbose"));
        assert!(!given.flag("--other"));
        given.finish().unwrap();
    }

    #[test]
    fn bad_missing_and_unknown_are_refused_with_their_name() {
        let mut given = args(&["--port", "many", "--extra"]);
        let error = given.required::<u16>("--port").unwrap_err().to_string();
        assert!(
            error.contains("--port") && error.contains("many"),
            "{error}"
        );
        assert!(
            given
                .required::<String>("--name")
                .unwrap_err()
                .to_string()
                .contains("--name")
        );
        assert!(given.finish().unwrap_err().to_string().contains("--extra"));
    }
}
