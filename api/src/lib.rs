//! Freehold: a storage engine that a database links.
//!
//! It takes a medium (a file today; a whole device in time), keeps files on it in
//! a reflink-aware, crash-safe block map, and moves bytes between them and memory
//! of its own without a copy in between.
//!
//! ```
//! use freehold::{FormatOptions, Store};
//!
//! # fn main() -> freehold::Result<()> {
//! let store = Store::format("mem:64M", &FormatOptions::default())?;
//! let table = store.create(b"table")?;
//! table.write_at(b"a row", 8192)?;
//! table.sync()?; // durable from here on
//!
//! let snapshot = table.reflink(b"table@monday")?; // constant time
//! table.write_at(b"A ROW", 8192)?; // copies one block
//!
//! let mut row = [0; 5];
//! snapshot.read_at(&mut row, 8192)?;
//! assert_eq!(&row, b"a row");
//! # Ok(())
//! # }
//! ```
//!
//! Calls on [`Store`] and [`File`] block; calls on [`Queue`] do not: they are
//! submitted and polled. Nothing here starts a thread, prints, or aborts.
#![forbid(unsafe_code)]

mod buffer;
mod file;
mod hold;
mod journal;
mod lease;
mod options;
mod pin;
mod queue;
mod registration;
mod registry;
mod seal;
mod session;
mod store;

pub use buffer::{LeaseBuffer, Memory, NotBytes};
pub use bytes::Bytes;
pub use file::{Extent, File, Iomap, IomapKind};
pub use freehold_blockmap::arbiter::{Access, Held, Kinds, State as HoldingState};
pub use freehold_blockmap::{
    AtomicLimits, CheckReport, DefragReport, DiffRange, Discarded, Entry as ListEntry, Error,
    ErrorKind, Event, FileStat, Finding, Holding, InFlight, JournalInfo, LEASE_TIME, LeaseInFlight,
    Listing, LostRecords, Place, RecoveryReport, Result, Space, Stats,
};
pub use freehold_engine::medium::{Fact, Value as FactValue};
pub use freehold_engine::memory::Buffer;
pub use freehold_engine::nvme::Timeouts;
pub use hold::Hold;
pub use lease::{Lease, LeaseExtent, LeaseOptions, LeaseState};
pub use options::{FormatOptions, OpenOptions};
pub use pin::{Pin, PinMut};
pub use queue::{BufferRefused, Completion, Queue, Refused};
pub use registration::{RegisteredExtent, Registration};
pub use seal::{Seal, SealOptions};
pub use session::Session;
pub use store::{Info, Store};

/// The examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
