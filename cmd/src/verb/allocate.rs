//! `freehold allocate`: give a range of a file blocks of its own.

use super::FileRange;
use crate::failure::Outcome;

/// Allocate a range of a file, unshared.
///
/// Holes become unwritten blocks, which read as zeroes; shared blocks are
/// copied. Later writes to the range cannot run out of space.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    range: FileRange,
}

pub(crate) fn run(args: &Args) -> Outcome {
    args.range.change(|file, offset, length| file.allocate(offset, length))
}
