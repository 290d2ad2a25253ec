//! The operations of the tables: what the file looks like before, and what is done.

use super::cells::{Column, Held};
use freehold_blockmap::arbiter::{Access, Kinds};
use freehold_blockmap::{Error, ErrorKind, FileHandle, LeaseSpec, SealSpec, SessionCore, Volume};
use std::sync::Arc;
use std::time::Duration;

pub(super) const B: u64 = 4096;

/// The store, and who acts on what.
pub(super) struct World {
    pub vol: Arc<Volume>,
    /// The file, as the session that acts has it.
    pub file: FileHandle,
    /// Who acts.
    pub who: Arc<SessionCore>,
    /// Another file of 16 blocks.
    pub other: FileHandle,
}

type Act = fn(&World) -> Result<(), Error>;

/// What the file is like before anything is held.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Whole,
    /// Block 5 is a hole.
    Hole,
    /// The last block is filled in part.
    Part,
}

pub(super) struct Row {
    pub name: &'static str,
    shape: Shape,
    pub act: Act,
}

impl Row {
    pub(super) fn named(name: &str) -> Option<Row> {
        ROWS.iter().find(|(n, ..)| *n == name).map(|(name, shape, act)| Row {
            name,
            shape: *shape,
            act: *act,
        })
    }

    /// A writable lease has neither holes nor shared blocks in it.
    pub(super) fn cannot_meet(&self, column: &Column) -> bool {
        let writes = matches!(column.held, Held::Lease(Access::Write | Access::Exclusive));
        writes && self.shape == Shape::Hole
    }

    /// A store with the file in its shape.
    pub(super) fn world(&self, who: Arc<SessionCore>, vol: Arc<Volume>) -> World {
        let file = vol.create(b"f").expect("a file");
        let bytes = if self.shape == Shape::Part { 15 * B + 100 } else { 16 * B };
        vol.write_at(&file, &vec![1; bytes as usize], 0).expect("it writes");
        if self.shape == Shape::Hole {
            vol.punch(&file, 5 * B, B).expect("a hole");
        }
        let other = vol.create(b"other").expect("a file");
        vol.write_at(&other, &[2; 16 * 4096], 0).expect("it writes");
        vol.sync().expect("it syncs");
        let id = who.id();
        World { vol, file: file.for_session(id), who, other: other.for_session(id) }
    }
}

fn grant(w: &World, access: Access) -> Result<(), Error> {
    let spec = LeaseSpec { access, max_hold: Duration::ZERO };
    w.vol.lease(&w.file, &w.who, (0, w.file.size()), spec).map(drop)
}

fn seal(w: &World, kinds: Kinds) -> Result<(), Error> {
    let spec = SealSpec { kinds, breakable: false, timeout: Duration::from_millis(400) };
    w.vol.seal(&w.file, &w.who, (0, 16 * B), spec).map(drop)
}

/// The bytes at a place, through the ordinary way.
fn read(w: &World, file: &FileHandle, at: u64) -> Result<(), Error> {
    w.vol.read_at(file, &mut [0; 4096], at).map(drop)
}

const ROWS: &[(&str, Shape, Act)] = &[
    ("read", Shape::Whole, |w| read(w, &w.file, 4 * B)),
    ("overwrite", Shape::Whole, |w| w.vol.write_at(&w.file, &[3; 4096], 4 * B)),
    ("overwrite-part", Shape::Whole, |w| w.vol.write_at(&w.file, &[3; 100], 4 * B + 7)),
    ("write-new", Shape::Hole, |w| w.vol.write_at(&w.file, &[3; 4096], 5 * B)),
    ("append", Shape::Part, |w| w.vol.write_at(&w.file, &[3; 8192], 15 * B + 100)),
    ("write-atomic", Shape::Whole, |w| {
        w.vol.write_atomic(&w.file, &[(B, &[3; 10]), (9 * B, &[3; 4096])])
    }),
    ("allocate", Shape::Hole, |w| w.vol.allocate(&w.file, 5 * B, B)),
    ("allocate-past", Shape::Part, |w| w.vol.allocate(&w.file, 16 * B, 2 * B)),
    ("truncate-down", Shape::Whole, |w| w.vol.truncate(&w.file, 8 * B)),
    ("truncate-up", Shape::Part, |w| w.vol.truncate(&w.file, 20 * B)),
    ("punch", Shape::Whole, |w| w.vol.punch(&w.file, 4 * B, B)),
    ("zero", Shape::Whole, |w| w.vol.zero(&w.file, 4 * B, B)),
    ("collapse", Shape::Whole, |w| w.vol.collapse(&w.file, 4 * B, B)),
    ("insert", Shape::Whole, |w| w.vol.insert(&w.file, 4 * B, B)),
    ("reflink-from", Shape::Whole, |w| w.vol.reflink_file(&w.file, b"copy").map(drop)),
    ("reflink-onto", Shape::Whole, |w| w.vol.reflink_file(&w.other, b"f").map(drop)),
    ("reflink-range-from", Shape::Whole, |w| {
        w.vol.reflink_range(&w.file, 4 * B, &w.other, 0, 2 * B)
    }),
    ("reflink-range-onto", Shape::Whole, |w| {
        w.vol.reflink_range(&w.other, 0, &w.file, 4 * B, 2 * B)
    }),
    ("rename", Shape::Whole, |w| w.vol.rename(b"f", b"g")),
    ("rename-over", Shape::Whole, |w| w.vol.rename(b"other", b"f").and(gone(w))),
    ("unlink", Shape::Whole, |w| w.vol.remove(b"f").and(gone(w))),
    ("grant-read", Shape::Whole, |w| grant(w, Access::Read)),
    ("grant-stable", Shape::Whole, |w| grant(w, Access::Stable)),
    ("grant-write", Shape::Whole, |w| grant(w, Access::Write)),
    ("grant-exclusive", Shape::Whole, |w| grant(w, Access::Exclusive)),
    ("grant-write-new", Shape::Hole, |w| grant(w, Access::Write)),
    ("grant-exclusive-new", Shape::Hole, |w| grant(w, Access::Exclusive)),
    ("delegate", Shape::Whole, |_| Ok(())),
    ("set-layout", Shape::Whole, |w| seal(w, Kinds::LAYOUT)),
    ("set-shrink", Shape::Whole, |w| seal(w, Kinds::SHRINK)),
    ("set-grow", Shape::Whole, |w| seal(w, Kinds::GROW)),
    ("set-write", Shape::Whole, |w| seal(w, Kinds::WRITE)),
    ("set-future-write", Shape::Whole, |w| seal(w, Kinds::FUTURE_WRITE)),
    ("set-seal", Shape::Whole, |w| seal(w, Kinds::SEAL)),
    ("defrag", Shape::Whole, |w| w.vol.defrag(&w.file, 0, 16 * B).map(drop)),
    ("sync", Shape::Whole, |w| w.vol.sync_handle(&w.file)),
    ("diff", Shape::Whole, |w| w.vol.diff(&w.file, &w.other).map(drop)),
    ("iomap", Shape::Whole, |w| w.vol.iomap(&w.file, 0, 16 * B).map(drop)),
    ("check", Shape::Whole, |w| match w.vol.check()?.clean() {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::Corrupt, "the check found something")),
    }),
    ("checkpoint", Shape::Whole, |w| w.vol.checkpoint()),
    ("close-file", Shape::Whole, |w| {
        drop(w.file.clone());
        Ok(())
    }),
    ("close-store", Shape::Whole, |w| w.vol.recall_all(w.who.id())),
    ("session-end", Shape::Whole, |w| w.vol.end_session(&w.who)),
    ("process-exit", Shape::Whole, |_| Ok(())),
    ("fork", Shape::Whole, |_| Ok(())),
];

/// The name is gone and the blocks are not: whoever has it open reads on.
fn gone(w: &World) -> Result<(), Error> {
    let mut first = [0; 4096];
    let exclusive = w
        .vol
        .holdings()
        .iter()
        .any(|h| h.what == freehold_blockmap::arbiter::Held::Lease(Access::Exclusive));
    // Reading would ask for an Exclusive lease back, which is another row.
    if !exclusive {
        w.vol.read_at(&w.file, &mut first, 0)?;
        assert_eq!(first, [1; 4096]);
    }
    Ok(())
}
