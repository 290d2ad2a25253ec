//! The workloads.

pub(crate) mod ageing;
pub(crate) mod c;
pub(crate) mod durable;
pub(crate) mod file;
pub(crate) mod guest;
pub(crate) mod journal;
pub(crate) mod lease;
pub(crate) mod map;
pub(crate) mod null;
pub(crate) mod nvme;
pub(crate) mod open;
pub(crate) mod reflink;
pub(crate) mod removal;
mod spdk;
pub(crate) mod tail;
pub(crate) mod window;

use crate::outcome::Outcome;
use crate::results::{Results, Side};
use crate::scale::Scale;
use crate::stage::Stage;
use std::cell::OnceCell;
use std::path::Path;

/// What each workload is given.
pub(crate) struct Site<'a> {
    /// The device of all sides.
    pub(crate) stage: &'a Stage,
    /// Made when it is first asked for.
    pub(crate) written: &'a OnceCell<Stage>,
    /// Where images lie.
    pub(crate) dir: &'a Path,
    pub(crate) scale: &'a Scale,
    /// Counts from zero.
    pub(crate) round: usize,
}

impl<'a> Site<'a> {
    /// A device of all sides whose every block was written before.
    pub(crate) fn written(&self) -> Outcome<&'a Stage> {
        let Some(size) = self.scale.written else { return Ok(self.stage) };
        if self.written.get().is_none() {
            let plain = !self.stage.is_device();
            let _ = self.written.set(Stage::written(self.dir, "written", size, plain)?);
        }
        Ok(self.written.get().unwrap_or(self.stage))
    }
}

/// A workload: its name, what it is, and which sides it is for.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// How it is measured: said in the document.
    pub(crate) how: &'static str,
    pub(crate) sides: &'static [Side],
    pub(crate) run: fn(&Site<'_>, Side, &mut Results) -> Outcome,
    /// One round is enough: it is long, or its figures do not scatter.
    pub(crate) once: bool,
    /// Not measured unless it is named.
    pub(crate) asked_for: bool,
}

const OURS: &[Side] = &[Side::Freehold];
const FILES: &[Side] = &[Side::Freehold, Side::Xfs, Side::Btrfs];

/// All of them, in the order of the document.
pub(crate) const ALL: &[Workload] = &[
    Workload {
        name: "reflink",
        title: "Durable reflink against extents",
        how: reflink::HOW,
        sides: FILES,
        run: reflink::run,
        once: false,
        asked_for: false,
    },
    Workload {
        name: "file",
        title: "4 KiB random reads and overwrites, before and after reflinks",
        how: file::HOW,
        sides: &Side::ALL,
        run: file::run,
        once: false,
        asked_for: false,
    },
    Workload {
        name: "durable",
        title: "Durable 4 KiB writes",
        how: durable::HOW,
        sides: &Side::ALL,
        run: durable::run,
        once: false,
        asked_for: false,
    },
    Workload {
        name: "open",
        title: "Opening after a crash",
        how: open::HOW,
        sides: FILES,
        run: open::run,
        once: false,
        asked_for: false,
    },
    Workload {
        name: "removal",
        title: "Unlink and truncate of a file of many extents",
        how: removal::HOW,
        sides: FILES,
        run: removal::run,
        once: false,
        asked_for: false,
    },
    Workload {
        name: "map",
        title: "A map of many extents",
        how: map::HOW,
        sides: OURS,
        run: map::run,
        once: true,
        asked_for: false,
    },
    Workload {
        name: "null",
        title: "Reads without a device",
        how: null::HOW,
        sides: OURS,
        run: null::run,
        once: false,
        asked_for: false,
    },
    Workload {
        name: "c",
        title: "Through the C library",
        how: c::HOW,
        sides: OURS,
        run: c::run,
        once: false,
        asked_for: false,
    },
    Workload {
        name: "lease",
        title: "Leases",
        how: lease::HOW,
        sides: OURS,
        run: lease::run,
        once: false,
        asked_for: false,
    },
    Workload {
        name: "window",
        title: "Durable 4 KiB writes where the CPU reaches the storage",
        how: window::HOW,
        sides: OURS,
        run: window::run,
        once: false,
        asked_for: false,
    },
    Workload {
        name: "nvme",
        title: "NVMe from user space",
        how: nvme::HOW,
        sides: OURS,
        run: nvme::run,
        once: false,
        asked_for: false,
    },
    Workload {
        name: "journal",
        title: "Durable 4 KiB writes with the journal in a Persistent Memory Region",
        how: journal::HOW,
        sides: OURS,
        run: journal::run,
        once: false,
        asked_for: false,
    },
    Workload {
        name: "tail",
        title: "Durable writes during checkpoints",
        how: tail::HOW,
        sides: OURS,
        run: tail::run,
        once: false,
        asked_for: false,
    },
    Workload {
        name: "ageing",
        title: "Ageing",
        how: ageing::HOW,
        sides: FILES,
        run: ageing::run,
        once: true,
        asked_for: false,
    },
    Workload {
        name: "guest",
        title: "Beside the kernel, in a guest",
        how: guest::HOW,
        sides: OURS,
        run: guest::run,
        once: false,
        asked_for: true,
    },
];
