//! The steps of a trial, in order; the first that fails ends it.

use std::io;
use std::time::Duration;

use hardware::facts::{Attempt, TrialStep};

use super::Wanted;
use super::journal::{Journal, Undo};
use super::system::System;

const DRIVER: &str = "vfio-pci";
/// What vfio-pci brings along, in the order in which it can be taken out.
const MODULES: [&str; 7] = [
    "vfio_pci",
    "vfio_pci_core",
    "vfio_iommu_type1",
    "vfio_virqfd",
    "vfio",
    "iommufd",
    "irqbypass",
];
/// How long a virtual function may take to appear, and /dev/vfio/N: a driver's
/// reset of the physical function takes a second or two.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks.
const GLANCE: Duration = Duration::from_millis(20);

/// A step that failed ends the rest.
struct Ended;

/// Runs the steps, announcing each change in the journal.
pub(super) fn run(wanted: &Wanted, system: &impl System, journal: &mut Journal) -> Vec<TrialStep> {
    let mut trial = Trial {
        folder: format!("/sys/bus/pci/devices/{}", wanted.address),
        functions: wanted.functions,
        system,
        journal,
        steps: Vec::new(),
    };
    // The steps say themselves where it ended.
    let _ = trial.all();
    trial.steps
}

struct Trial<'a, S> {
    folder: String,
    functions: u32,
    system: &'a S,
    journal: &'a mut Journal,
    steps: Vec<TrialStep>,
}

impl<S: System> Trial<'_, S> {
    fn all(&mut self) -> Result<(), Ended> {
        self.create()?;
        let function = self.appear()?;
        self.bind(&function)?;
        let group = self.open(&function)?;
        let attached = self.system.attach_group(&group);
        self.ended("attach", &group, "", attached)
    }

    /// Notes how a step ended.
    fn ended(
        &mut self,
        name: &str,
        path: &str,
        value: &str,
        result: io::Result<()>,
    ) -> Result<(), Ended> {
        let outcome = match &result {
            Ok(()) => Attempt::Worked,
            Err(error) => Attempt::failed(error.raw_os_error(), error.to_string()),
        };
        self.steps.push(TrialStep {
            name: name.to_owned(),
            path: path.to_owned(),
            value: value.to_owned(),
            outcome,
        });
        result.map_err(|_| Ended)
    }

    /// Ends a step that failed; one that worked goes on.
    fn must(
        &mut self,
        name: &str,
        path: &str,
        value: &str,
        result: io::Result<()>,
    ) -> Result<(), Ended> {
        match result {
            Ok(()) => Ok(()),
            failed => self.ended(name, path, value, failed),
        }
    }

    fn announce(&mut self, undo: &Undo) -> io::Result<()> {
        self.journal.announce(undo).map_err(io::Error::other)
    }

    /// Journal first, then the value.
    fn set(&mut self, path: &str, value: &str, before: &str) -> io::Result<()> {
        self.announce(&Undo::Value {
            path: path.to_owned(),
            ours: value.to_owned(),
            before: before.to_owned(),
        })?;
        self.system.write(path, value)
    }

    /// No driver shall take the new functions: their probing takes a second
    /// each, and the driver's folder cannot unbind meanwhile.
    fn create(&mut self) -> Result<(), Ended> {
        let autoprobe = format!("{}/sriov_drivers_autoprobe", self.folder);
        // Kernels before 4.12 do not have it.
        if let Ok(before) = self.system.read(&autoprobe)
            && before != "0"
        {
            let set = self.set(&autoprobe, "0", &before);
            self.must("create", &autoprobe, "0", set)?;
        }
        let path = format!("{}/sriov_numvfs", self.folder);
        let value = self.functions.to_string();
        let set = self.set(&path, &value, "0");
        self.ended("create", &path, &value, set)
    }

    /// The address of the first function, once all are there.
    fn appear(&mut self) -> Result<String, Ended> {
        let link = |index: u32| format!("{}/virtfn{index}", self.folder);
        let last = link(self.functions.saturating_sub(1));
        let first = link(0);
        let there = self.wait(&last) && self.wait(&first);
        let found = self.system.link_name(&first).filter(|_| there);
        let result = match found {
            Some(_) => Ok(()),
            None => Err(io::Error::other(format!(
                "expected it within {} s, found nothing",
                PATIENCE.as_secs()
            ))),
        };
        self.ended("appear", &last, "", result)?;
        found.ok_or(Ended)
    }

    fn wait(&self, path: &str) -> bool {
        let mut waited = Duration::ZERO;
        while !self.system.exists(path) {
            if waited >= PATIENCE {
                return false;
            }
            self.system.pause(GLANCE);
            waited += GLANCE;
        }
        true
    }

    fn bind(&mut self, function: &str) -> Result<(), Ended> {
        let driver = format!("/sys/bus/pci/drivers/{DRIVER}");
        let device = format!("/sys/bus/pci/devices/{function}");
        if !self.system.exists(&driver) {
            let loaded = self.load();
            self.must("bind", "modprobe", DRIVER, loaded)?;
        }
        let path = format!("{device}/driver_override");
        let set = self.set(&path, DRIVER, "");
        self.must("bind", &path, DRIVER, set)?;
        let link = format!("{device}/driver");
        if let Some(other) = self.system.link_name(&link).filter(|name| name != DRIVER) {
            // The function is ours and goes away: its driver need not come back.
            let path = format!("/sys/bus/pci/drivers/{other}/unbind");
            let unbound = self.system.write(&path, function);
            self.must("bind", &path, function, unbound)?;
        }
        // drivers_probe would answer 0 also where vfio-pci refused the function.
        let path = format!("{driver}/bind");
        let bound = self
            .announce(&Undo::Unbind {
                device: function.to_owned(),
                driver: DRIVER.to_owned(),
            })
            .and_then(|()| self.system.write(&path, function));
        let found = self.system.link_name(&link);
        let result = match (found.as_deref(), bound) {
            (Some(DRIVER), _) => Ok(()),
            (_, Err(error)) => Err(error),
            (found, Ok(())) => Err(io::Error::other(format!(
                "expected {link} to name {DRIVER}, found {}",
                found.unwrap_or("no driver")
            ))),
        };
        self.ended("bind", &path, function, result)
    }

    fn load(&mut self) -> io::Result<()> {
        let absent = MODULES
            .iter()
            .filter(|module| !self.system.exists(&format!("/sys/module/{module}")))
            .map(|module| (*module).to_owned())
            .collect();
        self.announce(&Undo::Unload { modules: absent })?;
        self.system.load(DRIVER)?;
        // The IOMMU's half is another module: the kernel asks for it by itself
        // when a container is opened, unless its way to modprobe is closed.
        self.system.load("vfio_iommu_type1")
    }

    fn open(&mut self, function: &str) -> Result<String, Ended> {
        let link = format!("/sys/bus/pci/devices/{function}/iommu_group");
        let Some(group) = self.system.link_name(&link) else {
            let absent = Err(io::Error::other("it is in no IOMMU group"));
            return self.ended("open", &link, "", absent).and(Err(Ended));
        };
        let path = format!("/dev/vfio/{group}");
        self.wait(&path);
        let result = match self.system.open_group(&path) {
            Ok(true) => Ok(()),
            Ok(false) => Err(io::Error::other(format!(
                "group {group} is not viable: another device of it is bound to an ordinary driver"
            ))),
            Err(error) => Err(error),
        };
        self.ended("open", &path, "", result)?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests;
