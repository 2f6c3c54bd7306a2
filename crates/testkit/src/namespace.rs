//! A namespace for one test, gone when the test ends.

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use crate::program::{Output, kubectl, virtctl};
use crate::wait::eventually;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A namespace that is deleted on drop.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes a namespace whose name begins with `test-` and `what`.
    ///
    /// # Panics
    /// When the cluster refuses.
    #[must_use]
    pub fn new(what: &str) -> Self {
        let name = format!(
            "test-{what}-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let _ = kubectl(&["create", "namespace", &name], None).expect_ok("create namespace");
        Self { name }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `kubectl` in this namespace.
    #[must_use]
    pub fn kubectl(&self, words: &[&str]) -> Output {
        kubectl(&self.with_namespace(words), None)
    }

    /// `kubectl create -f -` in this namespace.
    #[must_use]
    pub fn create(&self, manifest: &str) -> Output {
        kubectl(&self.with_namespace(&["create", "-f", "-"]), Some(manifest))
    }

    /// `virtctl` in this namespace.
    #[must_use]
    pub fn virtctl(&self, words: &[&str]) -> Output {
        virtctl(&self.with_namespace(words))
    }

    /// The object, or `Null` when there is none.
    ///
    /// # Panics
    /// When kubectl prints what is no JSON.
    #[must_use]
    pub fn get(&self, kind: &str, name: &str) -> Value {
        let output = self.kubectl(&["get", kind, name, "-o", "json", "--ignore-not-found"]);
        if output.stdout.trim().is_empty() {
            return Value::Null;
        }
        serde_json::from_str(&output.stdout).expect("JSON of kubectl")
    }

    /// The items of a list, chosen by a label selector.
    ///
    /// # Panics
    /// When kubectl prints what is no JSON.
    #[must_use]
    pub fn list(&self, kind: &str, selector: &str) -> Vec<Value> {
        let text = self
            .kubectl(&["get", kind, "-l", selector, "-o", "json"])
            .expect_ok("kubectl get");
        let list: Value = serde_json::from_str(&text).expect("JSON of kubectl");
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// Waits until `pointer` of the object has that value.
    ///
    /// # Panics
    /// When it does not get it in two minutes.
    pub fn wait_for(&self, kind: &str, name: &str, pointer: &str, wanted: &str) {
        eventually(&format!("{kind} {name}: {pointer} = {wanted}"), || {
            let object = self.get(kind, name);
            let found = object
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or("");
            if found == wanted {
                Ok(())
            } else {
                Err(format!("{found:?} in {}", object["status"]))
            }
        });
    }

    /// Waits until the object is gone.
    ///
    /// # Panics
    /// When it is still there after two minutes.
    pub fn wait_gone(&self, kind: &str, name: &str) {
        eventually(&format!("{kind} {name} gone"), || {
            let object = self.get(kind, name);
            if object.is_null() {
                Ok(())
            } else {
                Err(object.to_string())
            }
        });
    }

    fn with_namespace<'a>(&'a self, words: &[&'a str]) -> Vec<&'a str> {
        let mut all = vec!["--namespace", self.name.as_str()];
        all.extend_from_slice(words);
        all
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // VMs first, with no grace: a namespace's deletion waits for guests to shut down.
        let _ = kubectl(
            &[
                "--namespace",
                &self.name,
                "delete",
                "vm,vmi",
                "--all",
                "--wait=false",
            ],
            None,
        );
        let _ = kubectl(&["delete", "namespace", &self.name, "--wait=false"], None);
    }
}
