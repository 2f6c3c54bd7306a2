//! `edgevirt`: from bare edge nodes to a cluster that runs virtual machines.
//!
//! The installer's way: flags, environment and file become [`settings::Settings`];
//! a verb takes them and does its work; [`output`] is the only place that prints.

mod ansible;
mod apply;
mod cli;
mod cluster;
mod demo;
mod deploy;
mod doctor;
mod image;
mod interrupt;
mod output;
mod preflight;
mod render;
mod settings;
mod ssh;
mod validate;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use output::Output;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let out = Output::new(cli.color, cli.quiet);
    match run(cli, &out) {
        Ok(code) => code,
        Err(error) => {
            out.error(&error);
            ExitCode::from(1)
        }
    }
}

fn run(cli: Cli, out: &Output) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Preflight(args) => preflight::run(&args, out),
        Command::Render(args) => render::run(&settings::load(&args.settings)?, &args, out),
        Command::Apply(args) => apply::run(&args, out),
        Command::Deploy(args) => deploy::run(&settings::load(&args.settings)?, &args, out),
        Command::Validate(args) => validate::run(&args, out),
        Command::Demo(args) => demo::run(&args, out),
        Command::Doctor(command) => doctor::run(&command, out),
        Command::Image(args) => image::run(args),
    }
}
