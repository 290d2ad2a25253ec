//! `freehold collapse`: take a range out of a file.

use super::FileRange;
use crate::failure::Outcome;

/// Take a range out of a file; what lies behind it moves down.
///
/// The file gets shorter by as much, however large it is in the same time. Offset
/// and length are multiples of 4K.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    range: FileRange,
}

pub(crate) fn run(args: &Args) -> Outcome {
    args.range.change(|file, offset, length| file.collapse(offset, length))
}
