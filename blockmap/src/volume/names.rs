//! Verbs on names.

use super::Volume;
use super::core::{Class, Core};
use super::file::FileHandle;
use crate::error::{Error, ErrorKind, Result};
use crate::format::types::{FileId, NAME_MAX, Record};
use crate::tree::{Fault, find};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Checkpoints that closing writes at the most, while removals go on beside it.
const CLOSING: u32 = 4;

/// Is this a name that a file can have?
pub(super) fn check_name(name: &[u8]) -> Result<()> {
    let why = if name.is_empty() {
        "it is empty".to_owned()
    } else if name.len() > NAME_MAX {
        format!("it has {} bytes, and {NAME_MAX} are the most", name.len())
    } else if name.contains(&0) {
        "it contains a NUL byte".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::Invalid, format!("this cannot be a file's name: {why}")))
}

pub(super) fn shown(name: &[u8]) -> String {
    format!("'{}'", name.escape_ascii())
}

pub(super) fn not_found(name: &[u8]) -> Fault {
    let message = format!("there is no file {} in the store", shown(name));
    Fault::Refused(Error::new(ErrorKind::NotFound, message))
}

pub(super) fn exists(name: &[u8]) -> Fault {
    let message = format!("there is a file {} already", shown(name));
    Fault::Refused(Error::new(ErrorKind::Exists, message))
}

impl Core {
    /// The file of that name.
    pub(super) fn named(&self, name: &[u8]) -> std::result::Result<Option<FileId>, Fault> {
        find(&self.shelf.names, &name.into())
    }
}

impl Volume {
    /// A new, empty file. Blocks for memory, and for I/O only where part of the
    /// name tree must be read; durable after a sync.
    ///
    /// # Errors
    /// `Exists`; `Invalid` for a name that is empty, over 255 bytes, or contains NUL.
    pub fn create(self: &Arc<Self>, name: &[u8]) -> Result<FileHandle> {
        check_name(name)?;
        let (vol, name) = (self.clone(), name.to_vec());
        self.run(move |io| async move {
            vol.change(&io, |core| {
                if core.named(&name)?.is_some() {
                    return Err(exists(&name));
                }
                let file = core.shelf.next_file;
                core.execute(Class::Normal, &Record::Create { file, name: name.clone() })?;
                Ok(FileHandle::new(&vol, &core.shelf.need(file)?))
            })
            .await
        })
    }

    /// Opens a file by name.
    ///
    /// # Errors
    /// `NotFound`; `Corrupt` if its record cannot be read.
    pub fn open_file(self: &Arc<Self>, name: &[u8]) -> Result<FileHandle> {
        check_name(name)?;
        let (vol, name) = (self.clone(), name.to_vec());
        self.run(move |io| async move {
            vol.look(&io, |v| {
                let mut core = v.core();
                let id = core.named(&name)?.ok_or_else(|| not_found(&name))?;
                Ok(FileHandle::new(&vol, &core.shelf.need(id)?))
            })
            .await
        })
    }

    /// Takes a name away. The file's blocks are freed once nobody has it open.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn remove(self: &Arc<Self>, name: &[u8]) -> Result<()> {
        check_name(name)?;
        let (vol, name) = (self.clone(), name.to_vec());
        self.run(move |io| async move {
            vol.change(&io, |core| {
                core.named(&name)?.ok_or_else(|| not_found(&name))?;
                core.execute(Class::Removal, &Record::Remove { name: name.clone() })?;
                Ok(())
            })
            .await?;
            vol.ask_reap();
            Ok(())
        })
    }

    /// Gives a file another name; a file that had that name is removed in the same step.
    ///
    /// # Errors
    /// `NotFound` for the old name.
    pub fn rename(self: &Arc<Self>, from: &[u8], to: &[u8]) -> Result<()> {
        check_name(from)?;
        check_name(to)?;
        let (vol, from, to) = (self.clone(), from.to_vec(), to.to_vec());
        self.run(move |io| async move {
            vol.change(&io, |core| {
                core.named(&from)?.ok_or_else(|| not_found(&from))?;
                if from == to {
                    return Ok(());
                }
                let record = Record::Rename { from: from.clone(), to: to.clone() };
                core.execute(Class::Normal, &record)?;
                Ok(())
            })
            .await?;
            vol.ask_reap();
            Ok(())
        })
    }

    /// Makes one file durable: its bytes, its size, its map, its name. Blocks.
    ///
    /// # Errors
    /// `Poisoned` if anything was lost.
    pub fn sync_handle(self: &Arc<Self>, file: &FileHandle) -> Result<()> {
        let (vol, state) = (self.clone(), file.state().clone());
        self.run_as(file.session(), move |io| async move { vol.sync_file(&io, &state).await })
    }

    /// Everything that has completed, on every queue, is durable when this returns.
    ///
    /// # Errors
    /// `Poisoned` if anything was lost.
    pub fn sync(self: &Arc<Self>) -> Result<()> {
        let vol = self.clone();
        self.run(move |io| async move {
            for file in vol.files_in_memory() {
                vol.windows_back(&file)?;
            }
            let last = vol.core().journal.last_seq();
            vol.sync_to(&io, last).await
        })
    }

    /// Writes a checkpoint and waits for it.
    ///
    /// # Errors
    /// `Poisoned`, `ReadOnly`.
    pub fn checkpoint(self: &Arc<Self>) -> Result<()> {
        self.health.writable()?;
        let vol = self.clone();
        self.run(move |io| async move { vol.next_checkpoint(&io).await })
    }

    /// Ends the store's work: all is durable and a checkpoint holds it, so that
    /// the next opening replays nothing. Handles that are left keep working.
    ///
    /// # Errors
    /// `Poisoned` if anything was lost.
    pub fn close(self: &Arc<Self>) -> Result<()> {
        if self.health.is_read_only() {
            return Ok(());
        }
        // A removal may go on beside a checkpoint and leave a record behind its cut.
        for _ in 0..CLOSING {
            self.sync()?;
            // What a checkpoint under way has taken over is in none yet.
            let writing = self.duty.checkpointing.load(Ordering::Acquire);
            let quiet = !writing && {
                let core = self.core();
                core.dirty.is_empty() && core.journal.used() <= 2
            };
            if quiet || self.health.writable().is_err() {
                return Ok(());
            }
            self.checkpoint()?;
        }
        Ok(())
    }
}
