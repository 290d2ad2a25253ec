//! `freehold insert`: make room in a file.

use super::FileRange;
use crate::failure::Outcome;

/// Make room in a file: what lies at the offset or behind it moves up.
///
/// Between is a hole, which reads as zeroes; the file gets longer by as much,
/// however large it is in the same time. Offset and length are multiples of 4K.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    range: FileRange,
}

pub(crate) fn run(args: &Args) -> Outcome {
    args.range.change(|file, offset, length| file.insert(offset, length))
}
