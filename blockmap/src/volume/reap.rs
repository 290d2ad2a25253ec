//! Removal, slice by slice (law B10).
//!
//! A condemned file that nobody has open loses its last leaf, or a shared subtree
//! that hangs at its end, in each slice. A slice is a record: after a crash the
//! rest goes on from there. Nothing is freed in any other way.

use super::Volume;
use super::core::Class;
use super::file::{FileState, Map};
use crate::error::Result;
use crate::format::types::{FileId, Record};
use crate::lane::Io;
use crate::tree::{Fault, last_leaf_start};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Volume {
    /// There may be something to remove.
    pub(super) fn ask_reap(&self) {
        self.duty.reap.store(true, Ordering::Release);
        self.duty.any.store(true, Ordering::Release);
    }

    pub(super) async fn reap_task(self: Arc<Self>, io: Io) {
        if let Err(error) = self.reap_now(&io).await {
            tracing::warn!(%error, "removing a file's blocks stopped; it goes on at the next opening");
        }
        self.duty.reaping.store(false, Ordering::Release);
        self.announce();
    }

    /// Removes all that is condemned and not in use.
    pub(super) async fn reap_now(self: &Arc<Self>, io: &Io) -> Result<()> {
        let mut skip = 0;
        while let Some(id) = self.next_condemned(skip) {
            skip = id + 1;
            loop {
                match self.change_within(io, 0, |core| slice(core, id)).await {
                    Ok(true) => io.pause().await,
                    Ok(false) => break,
                    // One damaged file does not keep the others.
                    Err(e) if e.kind() == crate::ErrorKind::Corrupt => break,
                    Err(e) => return Err(e),
                }
            }
        }
        Ok(())
    }

    fn next_condemned(&self, from: FileId) -> Option<FileId> {
        self.core().shelf.condemned.range(from..).next().copied()
    }
}

/// One slice. False when there is nothing to do: in use, or gone.
fn slice(core: &mut super::core::Core, id: FileId) -> std::result::Result<bool, Fault> {
    let Some(file) = core.shelf.file(id)? else {
        core.shelf.condemned.remove(&id);
        return Ok(false);
    };
    if file.opens.load(Ordering::Acquire) > 0 {
        return Ok(false);
    }
    let cursor = next_cursor(core, &file)?;
    core.execute(Class::Removal, &Record::Slice { file: id, cursor })?;
    Ok(cursor != 0)
}

/// Where the next slice begins; 0 takes the file itself too.
fn next_cursor(
    core: &mut super::core::Core,
    file: &Arc<FileState>,
) -> std::result::Result<u64, Fault> {
    let version = file.load();
    let Map::Tree(tree) = &version.map else { return Ok(0) };
    let Some(root) = &tree.root else { return Ok(0) };
    let txn = core.view();
    let start = last_leaf_start(root, |addr| Ok(txn.count(addr)? > 1))?;
    Ok(match start {
        // The root itself is shared: one lowering ends it.
        None => 0,
        // A single leaf, or the first one.
        Some(_) if root.at.level == 0 => 0,
        Some(key) => key,
    })
}

#[cfg(test)]
mod tests {
    use crate::volume::{FormatSpec, Volume};
    use freehold_engine::{FormatOptions, format_target};

    /// The record that the last checkpoint has of a file speaks of blocks that
    /// are free: whoever still knows its number must not find it.
    #[test]
    fn b10_a_file_that_has_ended_is_not_found_in_an_older_checkpoint() {
        let medium = format_target("mem:16M", &FormatOptions::default()).expect("memory");
        let vol = Volume::format(medium, &FormatSpec::default()).expect("a store");
        let file = vol.create(b"f").expect("a file");
        vol.write_at(&file, &[1; 4096], 0).expect("it writes");
        vol.checkpoint().expect("a checkpoint");
        let id = file.id();
        drop(file);
        vol.remove(b"f").expect("it goes");
        let v = vol.clone();
        vol.run(move |io| async move { v.reap_now(&io).await }).expect("it is reaped");
        assert!(vol.core().shelf.condemned.is_empty());
        assert!(vol.core().shelf.file(id).expect("the node is in memory").is_none());
        vol.checkpoint().expect("a checkpoint");
        assert!(vol.core().shelf.gone.is_empty());
        assert!(vol.check().expect("it can be checked").clean());
    }
}
