//! `freehold man`: manual pages, made from the command line's own help.

use crate::failure::{Failure, Outcome};
use crate::{cli, output};
use clap::CommandFactory;
use std::path::{Path, PathBuf};

/// Write manual pages.
///
/// One page to standard output, the program's or a verb's; or all of them
/// into a directory.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write this verb's page
    verb: Option<String>,
    /// Write freehold.1 and a page for each verb into this directory
    #[arg(long, value_name = "DIR", conflicts_with = "verb")]
    dir: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let mut program = cli::Cli::command().disable_help_subcommand(true);
    program.build();
    if let Some(dir) = &args.dir {
        return all(program, dir);
    }
    let command = match &args.verb {
        None => program,
        Some(verb) => program
            .find_subcommand(verb)
            .filter(|command| !command.is_hide_set())
            .cloned()
            .ok_or_else(|| {
                Failure::usage(format!("there is no verb {verb}: see `freehold --help`"))
            })?,
    };
    let (_, page) = render(command)?;
    output::bytes(&page)
}

/// Writes the program's page and one for each verb.
fn all(program: clap::Command, dir: &Path) -> Outcome {
    std::fs::create_dir_all(dir).map_err(|e| Failure::local(dir, "cannot make", &e))?;
    let verbs: Vec<_> = program.get_subcommands().filter(|c| !c.is_hide_set()).cloned().collect();
    for command in std::iter::once(program).chain(verbs) {
        let (name, page) = render(command)?;
        let path = dir.join(name);
        std::fs::write(&path, page).map_err(|e| Failure::local(&path, "cannot write", &e))?;
    }
    Ok(())
}

/// A command's page and the name of its file.
fn render(command: clap::Command) -> Outcome<(String, Vec<u8>)> {
    let man = clap_mangen::Man::new(command);
    let mut page = Vec::new();
    man.render(&mut page).map_err(Failure::new)?;
    Ok((man.get_filename(), page))
}
