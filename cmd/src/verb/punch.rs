//! `freehold punch`: free a range of a file.

use super::FileRange;
use crate::failure::Outcome;

/// Free a range of a file; it reads as zeroes.
///
/// The size stays. Blocks that the range covers in part are kept and their
/// bytes set to zero.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    range: FileRange,
}

pub(crate) fn run(args: &Args) -> Outcome {
    args.range.change(|file, offset, length| file.punch(offset, length))
}
