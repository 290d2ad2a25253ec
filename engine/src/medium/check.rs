//! The rules that every medium applies to an operation before it takes it.
//!
//! What a single medium refuses beyond that (a foreign pool, a lost device) is
//! with that medium.

use super::{BLOCK, Error, ErrorKind, Geometry, Op, Rejected, Result};

/// Checks an operation against the geometry: ranges, lengths, support.
///
/// # Errors
/// `Invalid` or `Unsupported`.
pub(crate) fn check(op: &Op, geometry: &Geometry) -> Result<()> {
    match op {
        Op::Compare { .. } if !geometry.compare => supported(false, "compare"),
        Op::Read { at, buf } | Op::Write { at, buf, .. } | Op::Compare { at, buf } => {
            transfer(*at, buf.len(), geometry)
        }
        other => check_other(other, geometry),
    }
}

/// Whether [`check`] has nothing against the place of a transfer of so many bytes.
#[inline]
pub(crate) fn is_place(at: u64, len: usize, geometry: &Geometry) -> bool {
    let blocks = (len / BLOCK) as u64;
    len != 0
        && len.is_multiple_of(BLOCK)
        && at.checked_add(blocks).is_some_and(|end| end <= geometry.blocks)
}

/// Checks a transfer: where, and how many bytes.
fn transfer(at: u64, len: usize, geometry: &Geometry) -> Result<()> {
    if len == 0 || !len.is_multiple_of(BLOCK) || len > geometry.max_transfer as usize {
        return Err(wrong_length(len, geometry));
    }
    range(at, (len / BLOCK) as u64, geometry)
}

/// Checks an operation without a buffer.
fn check_other(op: &Op, geometry: &Geometry) -> Result<()> {
    match op {
        Op::Read { .. } | Op::Write { .. } | Op::Compare { .. } => Ok(()),
        Op::Flush => Ok(()),
        Op::WriteZeroes { at, count } => range(*at, *count, geometry),
        Op::Deallocate { at, count } => {
            supported(geometry.deallocate, "deallocate")?;
            range(*at, *count, geometry)
        }
        Op::Copy { from, to, count } => {
            supported(geometry.copy, "copy")?;
            range(*from, *count, geometry)?;
            range(*to, *count, geometry)?;
            if from.abs_diff(*to) < *count {
                return Err(Error::new(
                    ErrorKind::Invalid,
                    format!("a copy of {count} blocks from {from} to {to} overlaps itself"),
                ));
            }
            Ok(())
        }
    }
}

/// An operation sent back because it never will be taken.
pub(crate) fn reject(op: Op, error: Error) -> Rejected {
    Rejected { op, error: Some(error) }
}

/// An operation sent back because the queue is full.
pub(crate) fn full(op: Op) -> Rejected {
    Rejected { op, error: None }
}

fn range(at: u64, count: u64, geometry: &Geometry) -> Result<()> {
    match at.checked_add(count) {
        Some(end) if count > 0 && end <= geometry.blocks => Ok(()),
        _ => Err(outside(at, count, geometry)),
    }
}

#[cold]
fn wrong_length(len: usize, geometry: &Geometry) -> Error {
    let most = geometry.max_transfer;
    let text = format!("a transfer of {len} bytes: it must be a multiple of {BLOCK} up to {most}");
    Error::new(ErrorKind::Invalid, text)
}

#[cold]
fn outside(at: u64, count: u64, geometry: &Geometry) -> Error {
    let blocks = geometry.blocks;
    let text = format!("blocks {at}..+{count} are not in a medium of {blocks} blocks");
    Error::new(ErrorKind::Invalid, text)
}

fn supported(yes: bool, what: &str) -> Result<()> {
    if yes {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Unsupported, format!("this medium has no {what} operation")))
}
