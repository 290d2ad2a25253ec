//! Histories: operations of the public API, what they must do, and a driver that
//! does them on a real store and compares.
//!
//! Every operation can be carried out in every state (what is missing gives the
//! error that the API promises), so any part of a history is a history, and a
//! failing one can be made shorter by leaving things out.

mod content;
mod drive;
mod full;
mod make;
mod oracle;
mod shrink;

pub use content::{BLOCK, Content, SECTOR, describe, tagged};
pub use drive::{Driver, Failure};
pub use full::{all_comes_back, clean, verify};
pub use make::{Taste, make};
pub use oracle::{Effect, State, Touch};
pub use shrink::shrink;

/// How a file is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// By its name, for this operation only.
    Name(u8),
    /// Through a handle that an earlier operation opened.
    Slot(u8),
}

/// When a batch of writes syncs its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Not at all.
    Never,
    /// In the midst of its writes, and so for what was there before.
    During,
    /// When all have completed.
    After,
    /// Each write is durable when it completes.
    Each,
}

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Op {
    Create {
        name: u8,
    },
    Open {
        slot: u8,
        name: u8,
    },
    Close {
        slot: u8,
    },
    Write {
        who: Who,
        off: u64,
        len: u64,
        tag: u32,
    },
    /// A write that is durable when it returns.
    Durable {
        who: Who,
        off: u64,
        len: u64,
        tag: u32,
    },
    /// Writes to places that do not overlap, through a queue, all in flight at once.
    Batch {
        who: Who,
        parts: Vec<(u64, u64)>,
        tag: u32,
        sync: When,
    },
    /// Writes to several places, all or nothing.
    Atomic {
        who: Who,
        parts: Vec<(u64, u64)>,
        tag: u32,
    },
    /// Writes one block every so many, so that each is an extent of its own.
    Scatter {
        who: Who,
        first: u64,
        step: u64,
        count: u64,
        tag: u32,
    },
    Read {
        who: Who,
        off: u64,
        len: u64,
    },
    Truncate {
        who: Who,
        size: u64,
    },
    Punch {
        who: Who,
        off: u64,
        len: u64,
    },
    /// Moves blocks together: nobody sees it.
    Defrag {
        who: Who,
        off: u64,
        len: u64,
    },
    Zero {
        who: Who,
        off: u64,
        len: u64,
    },
    Collapse {
        who: Who,
        off: u64,
        len: u64,
    },
    Insert {
        who: Who,
        off: u64,
        len: u64,
    },
    Allocate {
        who: Who,
        off: u64,
        len: u64,
    },
    Reflink {
        who: Who,
        to: u8,
    },
    ReflinkRange {
        from: Who,
        off: u64,
        to: Who,
        to_off: u64,
        len: u64,
    },
    Rename {
        from: u8,
        to: u8,
    },
    Remove {
        name: u8,
    },
    List {
        prefix: u8,
        delimiter: bool,
        after: Option<u8>,
        limit: u8,
    },
    /// Compares the whole of a file: bytes, numbers, map.
    Look {
        who: Who,
    },
    /// Compares where two files differ with their bytes.
    Diff {
        a: Who,
        b: Who,
    },
    Sync {
        who: Who,
    },
    SyncAll,
    Checkpoint,
    /// Closes the store and opens it again.
    Reopen,
}

/// The names that histories use. Some share prefixes, one is as long as a name can be.
pub fn name(index: u8) -> Vec<u8> {
    match index {
        0..=5 => vec![b'a' + index],
        6 => vec![b'z'; 255],
        7 => b"\xff\xfe".to_vec(),
        _ => format!("dir{}/file{index}", index % 3).into_bytes(),
    }
}

/// A history, an operation a line.
pub fn listed(ops: &[Op]) -> String {
    ops.iter().map(|op| format!("    Op::{op:?},\n")).collect()
}
