//! start, stop, restart (patches) and pause, unpause (virt-handler).

use std::sync::Arc;

use api::subresource::{PauseOptions, RestartOptions, StartOptions, StopOptions};
use decide::subresource::{self as decision, Plan, Refusal};
use http::{Method, Request};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Bytes};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::answer::{self, Answer};
use crate::app::App;
use crate::catalog::Resource;
use crate::objects::Failure;
use crate::router::Target;

/// Bodies of verbs are a few words; more is a mistake.
const BODY: usize = 64 * 1024;

/// How often a verb is decided anew when somebody else changes the object
/// between our reading and our patch.
const TRIES: u32 = 4;

/// What is asked of a VirtualMachine: the body of its request, and the decision.
pub(crate) trait MachineVerb: DeserializeOwned + Default {
    /// Looks at the body alone, before anything is read.
    fn check(&self) -> Result<(), Refusal> {
        Ok(())
    }
    /// What to patch.
    fn decide(&self, vm: &Value, vmi: Option<&Value>) -> Result<Plan, Refusal>;
    /// The body's `dryRun`.
    fn dry_run(&self) -> &[String];
}

impl MachineVerb for StartOptions {
    fn decide(&self, vm: &Value, vmi: Option<&Value>) -> Result<Plan, Refusal> {
        decision::start(vm, vmi, self)
    }
    fn dry_run(&self) -> &[String] {
        &self.dry_run
    }
}

impl MachineVerb for StopOptions {
    fn decide(&self, vm: &Value, vmi: Option<&Value>) -> Result<Plan, Refusal> {
        decision::stop(vm, vmi, self)
    }
    fn dry_run(&self) -> &[String] {
        &self.dry_run
    }
}

impl MachineVerb for RestartOptions {
    fn check(&self) -> Result<(), Refusal> {
        decision::restart_options(self)
    }
    fn decide(&self, vm: &Value, vmi: Option<&Value>) -> Result<Plan, Refusal> {
        decision::restart(vm, vmi, self)
    }
    fn dry_run(&self) -> &[String] {
        &self.dry_run
    }
}

/// start, stop or restart, by its options: reads, decides and patches, again
/// when somebody was faster. Success is 202.
pub(crate) async fn machine<V, B>(
    app: &Arc<App>,
    target: &Target<'_>,
    request: Request<B>,
) -> Result<Answer, Refusal>
where
    V: MachineVerb,
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let verb: V = options(request).await?;
    verb.check()?;
    let dry_run = is_dry_run(verb.dry_run())?;
    let mut tries = 0;
    loop {
        tries += 1;
        let vm = app.machine(target).await?;
        let vmi = app.find(Resource::Instance, target).await?;
        let plan = verb.decide(&vm, vmi.as_ref())?;
        match app.carry_out(target, &plan, dry_run).await {
            Ok(()) => return Ok(answer::empty(202)),
            Err(Failure::Raced(_)) if tries < TRIES => {}
            Err(Failure::Raced(why)) => {
                return Err(Refusal::conflict(
                    target.resource.subject(),
                    target.name,
                    &why,
                ));
            }
            Err(Failure::Refused(why)) => return Err(Refusal::internal(why)),
        }
    }
}

/// Stops the vCPUs, or lets them go on.
pub(crate) async fn pause<B>(
    app: &Arc<App>,
    target: &Target<'_>,
    request: Request<B>,
    paused: bool,
) -> Result<Answer, Refusal>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let options: PauseOptions = options(request).await?;
    let vmi = app.instance(target).await?;
    let verb = if paused {
        decision::pause(&vmi)?;
        "pause"
    } else {
        let vm = app.find(Resource::Machine, target).await?;
        decision::unpause(vm.as_ref(), &vmi)?;
        "unpause"
    };
    told(app, target, &vmi, verb, &options).await
}

/// A reboot that the guest does itself. Upstream takes no options.
pub(crate) async fn soft_reboot(app: &Arc<App>, target: &Target<'_>) -> Result<Answer, Refusal> {
    let vmi = app.instance(target).await?;
    decision::soft_reboot(&vmi)?;
    told(app, target, &vmi, "softreboot", &PauseOptions::default()).await
}

/// The reset button. Upstream takes no options.
pub(crate) async fn reset(app: &Arc<App>, target: &Target<'_>) -> Result<Answer, Refusal> {
    let vmi = app.instance(target).await?;
    let outcome = told(app, target, &vmi, "reset", &PauseOptions::default()).await;
    outcome.map_err(|refusal| decision::reset_failed(&vmi, refusal))
}

/// Passes the verb to the instance's node. Success is 200.
async fn told(
    app: &Arc<App>,
    target: &Target<'_>,
    vmi: &Value,
    verb: &str,
    options: &PauseOptions,
) -> Result<Answer, Refusal> {
    let node = decision::node(vmi)?;
    if is_dry_run(&options.dry_run)? {
        return Ok(answer::empty(200));
    }
    let path = format!(
        "/v1/namespaces/{}/virtualmachineinstances/{}/{verb}",
        target.namespace, target.name
    );
    app.handlers
        .tell(node, Method::PUT, &path)
        .await
        .map_err(|error| error.refusal())?;
    Ok(answer::empty(200))
}

fn is_dry_run(dry_run: &[String]) -> Result<bool, Refusal> {
    match dry_run {
        [] => Ok(false),
        all if all.iter().all(|word| word == "All") => Ok(true),
        other => Err(Refusal::bad_request(format!(
            "expected dryRun to be [\"All\"], found {other:?}"
        ))),
    }
}

/// The body as JSON or YAML; absent means the defaults.
async fn options<B, T>(request: Request<B>) -> Result<T, Refusal>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    T: DeserializeOwned + Default,
{
    let unreadable = |error: String| {
        Refusal::bad_request(format!(
            "Can not unmarshal Request body to struct, error: {error}"
        ))
    };
    let body = Limited::new(request.into_body(), BODY)
        .collect()
        .await
        .map_err(|error| unreadable(error.to_string()))?;
    let body = body.to_bytes();
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(T::default());
    }
    // YAML holds JSON.
    let options: Option<T> =
        serde_yaml::from_slice(&body).map_err(|error| unreadable(error.to_string()))?;
    Ok(options.unwrap_or_default())
}
