//! Verbs that move what lies behind a range: collapse and insert.
//!
//! Each is one record, and its cost does not depend on how much is moved: the part
//! of the map behind the range is moved as a whole (see `tree::node::Child`).
//!
//! Law B5 in a form that neither path of law B1 can see: every block keeps its one
//! owner, but a block that is overwritten in place before the record is durable
//! would, after a crash, show the new bytes at its old place in the file. So the
//! range from the first moved block on is held until the record is durable, and
//! these verbs are durable when they return. Nor may a read in flight that found the
//! block at its old place see the new bytes: it is waited for, too.

use super::Volume;
use super::admit::{Asks, asks};
use super::core::{Class, Core};
use super::file::{FileHandle, FileState};
use super::range_ops::tail_for;
use super::ranges::last_end;
use super::write::{B, MAX_SIZE, check_range};
use crate::arbiter::Change;
use crate::error::{Error, ErrorKind, Result};
use crate::format::BLOCK_LIMIT;
use crate::format::types::{Record, Seq};
use crate::lane::Io;
use crate::tree::Fault;
use std::sync::Arc;

impl Volume {
    /// Takes a range out of the file: what lies behind it moves down, and the file
    /// gets shorter by as much. In multiples of 4096 bytes. Happens wholly or not
    /// at all, and is durable when it returns. Blocks until writes in flight
    /// behind the range's start have landed.
    ///
    /// # Errors
    /// `Invalid` if the offset or the length is no multiple of 4096, or if the
    /// range reaches the file's end (that is a truncate); `ReadOnly`, `Poisoned`.
    pub fn collapse(self: &Arc<Self>, file: &FileHandle, off: u64, len: u64) -> Result<()> {
        check_blocks(off, len)?;
        let (vol, file) = (self.clone(), file.clone());
        self.run_as(file.session(), move |io| async move {
            vol.collapse_task(&io, file.state(), off, len).await
        })
    }

    async fn collapse_task(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        off: u64,
        len: u64,
    ) -> Result<()> {
        self.health.writable()?;
        let range = (off / B, u64::MAX);
        let _held = self
            .hold_asking(io, file, &[range], |v| match len > 0 && off + len < v.size {
                true => asks(&[Change::Cut, Change::Shrink], &[range]),
                false => Asks::new(),
            })
            .await?;
        if off + len >= file.load().size {
            return Err(invalid("the range reaches the file's end: truncate the file instead"));
        }
        if len == 0 {
            return Ok(());
        }
        let (seq, removed) = self.change(io, |core| take_out(core, file, off / B, len / B)).await?;
        if removed {
            self.ask_reap();
        }
        self.hold_until_durable(io, seq).await
    }

    /// Makes room in the file: what lies at the offset or behind it moves up, and
    /// between is a hole, which reads as zeroes. In multiples of 4096 bytes.
    /// Happens wholly or not at all, and is durable when it returns. Blocks until
    /// writes in flight behind the offset have landed.
    ///
    /// # Errors
    /// `Invalid` if the offset or the length is no multiple of 4096, if the offset
    /// is at the file's end or behind it (that is a truncate), or if the file would
    /// get longer than any can be; `NoSpace`, `ReadOnly`, `Poisoned`.
    pub fn insert(self: &Arc<Self>, file: &FileHandle, off: u64, len: u64) -> Result<()> {
        check_blocks(off, len)?;
        let (vol, file) = (self.clone(), file.clone());
        self.run_as(file.session(), move |io| async move {
            vol.insert_task(&io, file.state(), off, len).await
        })
    }

    async fn insert_task(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        off: u64,
        len: u64,
    ) -> Result<()> {
        self.health.writable()?;
        let range = (off / B, u64::MAX);
        let _held = self
            .hold_asking(io, file, &[range], |v| match len > 0 && off < v.size {
                true => asks(&[Change::Cut, Change::Grow], &[range]),
                false => Asks::new(),
            })
            .await?;
        let size = file.load().size;
        if off >= size {
            return Err(invalid("the offset is not inside the file: truncate it to its new size"));
        }
        if len > MAX_SIZE - size {
            return Err(invalid("the file would get longer than any can be"));
        }
        if len == 0 {
            return Ok(());
        }
        let seq = self
            .change(io, |core| {
                let end = last_end(&file.load())?.unwrap_or(0);
                if end > off / B && end > BLOCK_LIMIT - len / B {
                    let why = "blocks would get behind the end of all files";
                    return Err(Fault::Refused(invalid(why)));
                }
                let record = Record::Insert { file: file.id, start: off / B, len: len / B };
                core.execute(Class::Normal, &record)
            })
            .await?;
        self.hold_until_durable(io, seq).await
    }

    /// The caller holds what was moved: nobody writes there before it is durable.
    async fn hold_until_durable(self: &Arc<Self>, io: &Io, seq: Seq) -> Result<()> {
        if crate::sabotage::breaks("place-over-move") {
            return Ok(());
        }
        self.sync_to(io, seq).await?;
        self.readers_gone(io).await;
        Ok(())
    }
}

fn take_out(
    core: &mut Core,
    file: &FileState,
    start: u64,
    len: u64,
) -> std::result::Result<(Seq, bool), Fault> {
    let tail = tail_for(core, &file.load(), start, Some(start + len))?;
    let record = Record::Collapse { file: file.id, start, len, tail };
    Ok((core.execute(Class::Removal, &record)?, tail != 0))
}

fn check_blocks(off: u64, len: u64) -> Result<()> {
    check_range(off, len)?;
    if off.is_multiple_of(B) && len.is_multiple_of(B) {
        return Ok(());
    }
    Err(invalid("the offset and the length must be multiples of 4096"))
}

fn invalid(why: &str) -> Error {
    Error::new(ErrorKind::Invalid, why)
}
