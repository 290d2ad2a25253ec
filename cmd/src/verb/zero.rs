//! `freehold zero`: make a range of a file read as zeroes.

use super::FileRange;
use crate::failure::Outcome;

/// Make a range of a file read as zeroes; it keeps its blocks.
///
/// The size stays. Holes get blocks, and blocks that others share are replaced
/// by the file's own, so that writes to the range find space.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    range: FileRange,
}

pub(crate) fn run(args: &Args) -> Outcome {
    args.range.change(|file, offset, length| file.zero(offset, length))
}
