//! How much is measured: the whole, a quick run, or just enough to see that it works.

use std::time::Duration;

/// The sizes of a run.
#[derive(Debug, Clone)]
pub(crate) struct Scale {
    /// How its documents call it.
    pub(crate) name: &'static str,
    /// Length of a measurement that is limited by time.
    pub(crate) time: Duration,
    /// Rounds, unless the command line says another number.
    pub(crate) repeat: usize,
    /// Bytes of the device.
    pub(crate) device: u64,
    /// Bytes of the device that was written whole before; none: the other one is used.
    pub(crate) written: Option<u64>,
    /// Bytes of the file that is read, overwritten and reflinked.
    pub(crate) file: u64,
    /// Writes after a reflink, in blocks.
    pub(crate) after: u64,
    /// Extents of the files that are reflinked on all sides.
    pub(crate) extents: &'static [u64],
    /// Extents of the large map, ours alone.
    pub(crate) map: u64,
    /// Extents of the file that is removed: ours, theirs.
    pub(crate) removed: (u64, u64),
    /// Sizes of the stores that are opened after a crash.
    pub(crate) opened: &'static [u64],
    /// Random small writes before the crash.
    pub(crate) fills: &'static [u64],
    /// Pins, or small reads through a lease, that are timed at once.
    pub(crate) pins: u64,
    /// Leases that are granted, or taken at once.
    pub(crate) leases: u64,
    /// Reads of an NVMe controller that are timed at once.
    pub(crate) reads: u64,
    /// Bytes of the store that is aged.
    pub(crate) aged: u64,
    /// How many times its size is written meanwhile.
    pub(crate) churn: u64,
}

impl Scale {
    /// The whole.
    pub(crate) fn full() -> Scale {
        Scale {
            name: "full",
            time: Duration::from_millis(1500),
            repeat: 3,
            device: 64 << 30,
            written: Some(5 << 30),
            file: 1 << 30,
            after: 131_072,
            extents: &[1, 1_000, 100_000, 400_000],
            map: 10_000_000,
            removed: (1_000_000, 100_000),
            opened: &[1 << 30, 1 << 40],
            fills: &[0, 131_000],
            pins: 2_000_000,
            leases: 10_000,
            reads: 400_000,
            aged: 1 << 30,
            churn: 20,
        }
    }

    /// Two or three minutes.
    pub(crate) fn quick() -> Scale {
        Scale {
            name: "quick",
            time: Duration::from_millis(700),
            repeat: 1,
            written: Some(3 << 30),
            file: 512 << 20,
            after: 65_536,
            extents: &[1, 1_000, 100_000],
            map: 2_000_000,
            removed: (200_000, 50_000),
            churn: 6,
            ..Scale::full()
        }
    }

    /// Seconds: figures of no worth.
    pub(crate) fn tiny() -> Scale {
        Scale {
            name: "tiny",
            time: Duration::from_millis(30),
            repeat: 1,
            device: 256 << 20,
            written: None,
            file: 4 << 20,
            after: 512,
            extents: &[1, 100],
            map: 2_000,
            removed: (500, 500),
            opened: &[64 << 20],
            fills: &[0, 500],
            pins: 2_000,
            leases: 200,
            reads: 2_000,
            aged: 64 << 20,
            churn: 1,
        }
    }
}
