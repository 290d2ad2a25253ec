//! The Persistent Memory Region of a controller (Base 1.4, 4.8): found, enabled, judged, and
//! used as a window. docs/windows.md says what it promises.
//!
//! Here is what the registers say, as pure functions: their values are a stranger's word.
//! `region` is the region while it is used, `medium` the medium over it.

mod medium;
mod region;
#[cfg(test)]
mod tests;

pub(super) use medium::{Use, open};
pub(super) use region::facts;

use super::spec::registers::{ALL_ONES, Cap, PmrCap, PmrSts};
use crate::medium::{Error, ErrorKind, Result};
use std::time::Duration;

/// The longest that a region may take to become ready, whatever it says.
const LONGEST: Duration = Duration::from_secs(600);
/// The shortest that is waited for one.
const SHORTEST: Duration = Duration::from_millis(500);

/// The read behind which earlier writes are durable (3.1.18, PMRWBM).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Barrier {
    /// Of PMRSTS, bit 1.
    Status,
    /// Of any place of the region, bit 0.
    Region,
}

/// What PMRCAP says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Abilities {
    /// The base address register that the region is.
    bar: u8,
    barrier: Barrier,
    /// How long it may take to become ready.
    ready: Duration,
}

/// What PMRSTS says of a region that is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Sound,
    /// What it held was not restored, or not all of it.
    NotRestored,
    /// Writes are thrown away.
    ReadOnly,
    /// Reads may be wrong, and writes may not last.
    Unreliable,
}

impl Health {
    /// For people.
    fn text(self) -> &'static str {
        match self {
            Health::Sound => "sound",
            Health::NotRestored => "contents not restored",
            Health::ReadOnly => "read only",
            Health::Unreliable => "unreliable",
        }
    }
}

fn unsupported(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unsupported, what)
}

/// What a controller can do with its region.
///
/// # Errors
/// `Unsupported`, with the field's name.
fn abilities(cap: Cap, pmr: PmrCap) -> Result<Abilities> {
    if cap.pmrs() == 0 {
        return Err(unsupported("it has no Persistent Memory Region (CAP.PMRS)"));
    }
    let refuse = |what: String| Err(unsupported(format!("{what} (PMRCAP {:08x}h)", pmr.0)));
    // BAR 0 has the registers.
    if !(2..=5).contains(&pmr.bir()) {
        return refuse(format!("its region is said to be in BAR {} (PMRCAP.BIR)", pmr.bir()));
    }
    let barrier = match (pmr.pmrwbm() & 0b10, pmr.pmrwbm() & 0b01) {
        (0, 0) => return refuse("nothing makes writes to its region durable (PMRWBM)".into()),
        (0, _) => Barrier::Region,
        _ => Barrier::Status,
    };
    let unit = match pmr.pmrtu() {
        0 => Duration::from_millis(500),
        1 => Duration::from_secs(60),
        other => return refuse(format!("its time-out has unit {other} (PMRTU)")),
    };
    let ready = (unit * pmr.pmrto()).clamp(SHORTEST, LONGEST);
    Ok(Abilities { bar: pmr.bir() as u8, barrier, ready })
}

/// How a region is. None while it is not ready.
///
/// # Errors
/// `Gone` for all ones; `Io` for an error of its writes, and for what nobody has defined.
fn health(value: u32) -> Result<Option<Health>> {
    let status = PmrSts(value);
    let failed = |what: &str| {
        let text = format!("{what} (PMRSTS {value:08x}h)");
        Err(Error::new(ErrorKind::Io, text))
    };
    if value == ALL_ONES {
        let text = "the controller is not there any more: PMRSTS reads as all ones";
        return Err(Error::new(ErrorKind::Gone, text));
    }
    if status.nrdy() == 1 {
        return Ok(None);
    }
    if status.err() != 0 {
        return failed("writes to the region may not have been saved (ERR)");
    }
    match status.hsts() {
        0 => Ok(Some(Health::Sound)),
        1 => Ok(Some(Health::NotRestored)),
        2 => Ok(Some(Health::ReadOnly)),
        3 => Ok(Some(Health::Unreliable)),
        _ => failed("the region's health is none that is known (HSTS)"),
    }
}

/// Whether writes are durable behind a barrier that was answered so. `at_opening`: how it
/// was then.
///
/// # Errors
/// What went wrong with them.
fn judge(value: u32, at_opening: Health) -> Result<()> {
    let what = match health(value)? {
        Some(Health::Sound) => return Ok(()),
        // It held something else when it was opened, and was taken for what it is.
        Some(Health::NotRestored) if at_opening == Health::NotRestored => return Ok(()),
        Some(health) => health.text(),
        None => "not ready",
    };
    let text = format!("the region is {what}: what was written may be lost (PMRSTS {value:08x}h)");
    Err(Error::new(ErrorKind::Io, text))
}
