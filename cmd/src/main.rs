//! The `freehold` program: every operation of the store from a shell, a
//! benchmark, and a demonstration that proves itself.
#![forbid(unsafe_code)]

mod cli;
mod failure;
mod janitor;
mod name;
mod output;
mod pattern;
mod progress;
mod size;
mod table;
mod verb;

use clap::Parser;
use std::io::IsTerminal;
use std::process::ExitCode;

fn main() -> ExitCode {
    let command = cli::Cli::parse();
    trace();
    match verb::run(command.verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Sends what the library tells through `tracing` to stderr, as far as
/// `FREEHOLD_LOG` asks for it (`FREEHOLD_LOG=debug`); nothing without it.
fn trace() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("FREEHOLD_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("off"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}
