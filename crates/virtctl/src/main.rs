//! virtctl: start, stop, reach and see virtual machines from a command line.
//! Installed as `kubectl-virt` it is `kubectl virt`.
//!
//! Verbs, flags, sentences and exit codes are upstream's (pkg/virtctl), so
//! scripts and habits go on to work. Errors go to stderr, exit code 1.

mod cli;
mod cluster;
mod completion;
mod console;
mod image_upload;
mod output;
mod portforward;
mod refused;
mod ssh;
mod stream;
mod target;
mod terminal;
mod verbs;
mod version;
mod vnc;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use cli::{Cli, Verb};
use output::{err, out};

fn main() -> ExitCode {
    let program = cli::program_name(&std::env::args().next().unwrap_or_default());
    let command = Cli::command()
        .name("virtctl")
        .bin_name(program.clone())
        .display_name(program.clone());
    let cli = match command
        .clone()
        .try_get_matches()
        .and_then(|matches| Cli::from_arg_matches(&matches))
    {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => {
            err(error.render().to_string().trim_end());
            return ExitCode::FAILURE;
        }
        Err(help) => {
            out(help.render().to_string().trim_end());
            return ExitCode::SUCCESS;
        }
    };
    // Some other provider may be compiled in by a dependency; ring is ours.
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        err("the TLS provider was set up twice");
    }
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            err(format!("cannot set up the runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(run(cli, command, &program));
    // A thread may still wait for the keyboard.
    runtime.shutdown_background();
    match outcome {
        Ok(code) => code,
        Err(error) => {
            err(format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli, mut command: clap::Command, program: &str) -> anyhow::Result<ExitCode> {
    let connection = &cli.connection;
    let Some(verb) = cli.verb else {
        out(command.render_help().to_string().trim_end());
        return Ok(ExitCode::SUCCESS);
    };
    match verb {
        Verb::Start(args) => verbs::start(connection, &args).await?,
        Verb::Stop(args) => verbs::stop(connection, &args).await?,
        Verb::Restart(args) => verbs::restart(connection, &args).await?,
        Verb::Pause(args) => verbs::pause(connection, &args).await?,
        Verb::Unpause(args) => verbs::unpause(connection, &args).await?,
        Verb::SoftReboot(args) => verbs::soft_reboot(connection, &args.name).await?,
        Verb::Reset(args) => verbs::reset(connection, &args.name).await?,
        Verb::Console(args) => console::run(connection, &args).await?,
        Verb::Vnc(args) => vnc::run(connection, args).await?,
        Verb::PortForward(args) => portforward::run(connection, args).await?,
        Verb::Ssh(args) => return ssh::ssh(connection, &args).await,
        Verb::Scp(args) => return ssh::scp(connection, &args).await,
        Verb::ImageUpload(args) => image_upload::run(connection, &args).await?,
        Verb::Version(args) => version::run(connection, &args).await?,
        Verb::Completion(args) => completion::run(args.shell, &mut command)?,
        Verb::Other(words) => return Err(refused::why(&words, program)),
    }
    Ok(ExitCode::SUCCESS)
}
