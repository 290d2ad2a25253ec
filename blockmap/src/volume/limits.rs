//! Numbers that no store reaches. The format can say them; whoever counts on
//! from them overflows. So they are refused where they come in, as damage.

use super::file::UNKNOWN;
use super::write::MAX_SIZE;
use crate::error::{Error, Result};
use crate::format::types::{FileRecord, Record, Superblock};
use crate::format::{BLOCK, BLOCK_LIMIT};
use crate::tree::Fault;

/// Checkpoints, groups, positions, records, sharings and files stay below this: a
/// thousand million of each every second take a hundred years.
const COUNT: u64 = 1 << 62;

/// Can a store have come so far?
pub(super) fn superblock(sb: &Superblock) -> Result<()> {
    let counts = [sb.checkpoint, sb.cut_seq, sb.cut_group, sb.cut_pos, sb.share_gen, sb.next_file];
    if counts.iter().all(|n| *n < COUNT) {
        return Ok(());
    }
    let slot = super::Volume::slot(sb.checkpoint);
    Err(Error::corrupt("superblock", slot, "it counts further than any store has come"))
}

/// Can a file be so?
pub(super) fn file(id: u64, record: &FileRecord) -> std::result::Result<(), Fault> {
    // Not every file's blocks are counted.
    let sums = [record.blocks, record.extents].iter().all(|n| *n <= BLOCK_LIMIT || *n == UNKNOWN);
    if record.size <= MAX_SIZE && record.share_gen < COUNT && id < COUNT && sums {
        return Ok(());
    }
    Err(Fault::corrupt("file record", id, "one of its numbers is beyond what can be"))
}

/// A file's size when some of its blocks, not the last, were taken out.
pub(super) fn without(size: u64, start: u64, len: u64) -> std::result::Result<u64, Fault> {
    let end = (start + len).checked_mul(BLOCK as u64).filter(|end| *end < size);
    end.map(|_| size - len * BLOCK as u64)
        .ok_or_else(|| Fault::corrupt("journal", start, "more was taken out than is there"))
}

/// A file's size when so many blocks were put in.
pub(super) fn longer(size: u64, len: u64) -> std::result::Result<u64, Fault> {
    let more = len.checked_mul(BLOCK as u64).and_then(|more| size.checked_add(more));
    more.filter(|size| *size <= MAX_SIZE)
        .ok_or_else(|| Fault::corrupt("journal", size, "a file longer than any can be"))
}

/// Can this have happened when things had been shared so often?
pub(super) fn record(record: &Record, shared: u64) -> std::result::Result<(), Fault> {
    let (size, id, share_gen) = match record {
        Record::Create { file, .. } => (0, *file, None),
        Record::Reflink { to, share_gen, .. } => (0, *to, Some(*share_gen)),
        Record::ReflinkRange { size, share_gen, tail, .. } => (*size, *tail, Some(*share_gen)),
        Record::Truncate { size, tail, .. } => (*size, *tail, None),
        Record::Punch { tail, .. } | Record::Collapse { tail, .. } => (0, *tail, None),
        Record::Map { size, .. } | Record::Convert { size, .. } | Record::Grow { size, .. } => {
            (*size, 0, None)
        }
        Record::Mark { .. }
        | Record::Remove { .. }
        | Record::Rename { .. }
        | Record::Insert { .. }
        | Record::Data { .. }
        | Record::Slice { .. } => return Ok(()),
    };
    let why = if size > MAX_SIZE {
        "a file longer than any can be"
    } else if id >= COUNT {
        "more files than can be"
    } else if share_gen.is_some_and(|n| n != shared + 1) {
        "shares that are not counted one by one"
    } else {
        return Ok(());
    };
    Err(Fault::corrupt("journal", 0, why))
}
