//! Where two files differ, told from their maps: shared subtrees are not looked into.

use super::Volume;
use super::file::{FileHandle, Map, Version};
use super::write::B;
use crate::error::{Error, ErrorKind, Result};
use crate::tree::{Diff, Walker};
use std::ops::Range;
use std::sync::Arc;

/// Differences found before others have a turn.
const AT_ONCE: usize = 1024;

/// Bytes at one place of two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiffRange {
    /// First byte.
    pub offset: u64,
    /// How many.
    pub len: u64,
}

impl Volume {
    /// Where two files of this store have different blocks, in order, neighbours
    /// joined, both as they are at one moment. Outside of these ranges they hold the
    /// same bytes; inside, bytes may be equal by chance. Holes and unwritten blocks are
    /// the same. What one file has past the end of the other differs.
    ///
    /// The cost is in what differs, not in the size: what reflinks still share is passed
    /// over as whole subtrees. While it runs, no freed block is reused. Blocks.
    ///
    /// # Errors
    /// `Invalid` for files of two stores; `Corrupt`, `Io`.
    pub fn diff(self: &Arc<Self>, a: &FileHandle, b: &FileHandle) -> Result<Vec<DiffRange>> {
        if !Arc::ptr_eq(a.volume(), b.volume()) {
            return Err(Error::new(ErrorKind::Invalid, "the two files are in different stores"));
        }
        let (vol, a, b) = (self.clone(), a.clone(), b.clone());
        self.run(move |io| async move {
            // Law B3: no node that these versions name is reused.
            let _seen = io.seen(&vol.epoch);
            // At one moment, or a node that was changed in its block between two would
            // pass for the same.
            let (x, y) = {
                let _core = vol.core();
                (a.state().load(), b.state().load())
            };
            let mut diff = Diff::new(walker(&x), walker(&y));
            let end = x.size.min(y.size);
            let mut out = Vec::new();
            loop {
                let begun = out.len();
                let more = vol
                    .look(&io, |_| {
                        while out.len() < begun + AT_ONCE {
                            match diff.next()? {
                                Some(found) if bytes(found, end).is_empty() => return Ok(false),
                                Some(found) => put(&mut out, bytes(found, end)),
                                None => return Ok(false),
                            }
                        }
                        Ok(true)
                    })
                    .await?;
                if !more {
                    break;
                }
                io.pause().await;
            }
            put(&mut out, end..x.size.max(y.size));
            Ok(out)
        })
    }
}

fn walker(v: &Version) -> Walker {
    match &v.map {
        Map::Inline { extents, .. } => Walker::of_extents(extents),
        Map::Tree(tree) => Walker::of_tree(tree),
    }
}

/// Which bytes before `end` these blocks hold. A damaged map may have blocks where no
/// file can.
fn bytes((block, blocks): (u64, u64), end: u64) -> Range<u64> {
    let to = block.saturating_add(blocks).saturating_mul(B).min(end);
    block.saturating_mul(B).min(to)..to
}

/// Adds a range, to the last one if it touches that.
fn put(out: &mut Vec<DiffRange>, Range { start: from, end: to }: Range<u64>) {
    if from >= to {
        return;
    }
    match out.last_mut() {
        Some(last) if last.offset + last.len == from => last.len += to - from,
        _ => out.push(DiffRange { offset: from, len: to - from }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_behind_all_files_are_behind_the_end() {
        assert_eq!(bytes((2, 3), 4 * B + 9), 2 * B..4 * B + 9);
        assert!(bytes((5, 1), 4 * B + 9).is_empty());
        for block in [1 << 52, (1 << 52) + 1, u64::MAX] {
            assert!(bytes((block, u64::MAX), i64::MAX as u64).is_empty());
        }
        assert_eq!(bytes((1, u64::MAX), i64::MAX as u64), B..i64::MAX as u64);
    }
}
