//! `freehold completions`: what a shell needs to complete our command line.

use crate::failure::Outcome;
use crate::{cli, output};
use clap::CommandFactory;

/// Write a shell's completions to standard output.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell
    shell: clap_complete::Shell,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut cli::Cli::command(), "freehold", &mut text);
    output::bytes(&text)
}
