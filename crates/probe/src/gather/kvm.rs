//! /dev/kvm, by trying.

use std::collections::BTreeMap;

use hardware::facts::{Attempt, Kvm, KvmDevice};
use host::kvm::{Examination, KvmVerdict, Step};

use crate::Options;
use crate::tree::Tree;

pub(super) fn kvm(tree: &Tree, options: &Options) -> Kvm {
    let mut nested = BTreeMap::new();
    for module in ["kvm_intel", "kvm_amd"] {
        if let Some(value) = tree.line(&format!("/sys/module/{module}/parameters/nested")) {
            nested.insert(module.to_owned(), value);
        }
    }
    let present = tree.exists("/dev/kvm");
    let kvm = Kvm {
        device: KvmDevice {
            present: Some(present),
            ..KvmDevice::default()
        },
        nested,
        ..Kvm::default()
    };
    if !tree.live() || !present || options.skip_kvm_run {
        return kvm;
    }
    tried(kvm, &host::kvm::examine(options.kvm_time_limit))
}

/// `kvm` with what the trial told.
fn tried(kvm: Kvm, trial: &Examination) -> Kvm {
    let attempt = |step| match trial.step(step) {
        None => Attempt::NotTried,
        Some(Ok(())) => Attempt::Worked,
        Some(Err(error)) => Attempt::failed(trial.errno, error),
    };
    let mut device = KvmDevice {
        open: attempt(Step::Open),
        api_version: trial.api_version,
        create_vm: attempt(Step::CreateVm),
        create_vcpu: attempt(Step::CreateVcpu),
        ..kvm.device
    };
    if let (KvmVerdict::ProbeFailed(why), Attempt::NotTried) = (&trial.verdict, &device.open) {
        device.open = Attempt::failed(None, why.as_str());
    }
    // A guest without interrupts is of no use, so the timer is part of what a
    // long-mode guest needs.
    let long_mode = match (attempt(Step::LongMode), attempt(Step::Timer)) {
        (Attempt::Worked, timer @ Attempt::Failed { .. }) => timer,
        (long_mode, _) => long_mode,
    };
    Kvm {
        device,
        run: attempt(Step::RealMode),
        long_mode,
        ..kvm
    }
}
