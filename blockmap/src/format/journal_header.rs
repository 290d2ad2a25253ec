//! The two headers of a journal that has a medium of its own: whose it is, and up to
//! which checkpoint. Whether it is the right one is the business of who opens the store.

use super::codec::{get, get_u64, put};
use super::header::{self, HEADER, HeaderFields, NO_ID};
use super::layout::{Layout, at, contiguous, end};
use super::types::{Addr, JournalHeader, Kind};
use super::{BLOCK, BLOCK_LIMIT, FormatError, Result};

/// The fields behind the header. The epoch is the header's generation.
pub const LAYOUT: Layout = &[("store_id", 64, 16), ("journal_id", 80, 16), ("ring_blocks", 96, 8)];

/// The first block of the ring.
pub const RING_START: Addr = 2;

const _: () = assert!(contiguous(LAYOUT, HEADER));

/// Writes a header that is to lie in slot `addr`, 0 or 1, into `block`.
pub fn encode(journal: &JournalHeader, addr: Addr, block: &mut [u8]) -> Result<()> {
    check(journal)?;
    check_slot(addr)?;
    {
        let b: &mut [u8; BLOCK] =
            block.try_into().map_err(|_| FormatError::Malformed("not one block of bytes"))?;
        put(b, const { at(LAYOUT, "store_id") }, journal.store_id);
        put(b, const { at(LAYOUT, "journal_id") }, journal.journal_id);
        put(b, const { at(LAYOUT, "ring_blocks") }, journal.ring_blocks.to_le_bytes());
    }
    let fields = HeaderFields {
        kind: Kind::Journal,
        addr,
        generation: journal.epoch,
        stamp: 0,
        entries: 0,
        payload_len: (end(LAYOUT) - HEADER) as u32,
        level: 0,
    };
    header::seal(block, &NO_ID, fields)
}

/// Reads slot `addr`. `BadMagic` where nothing of Freehold's lies.
pub fn decode(block: &[u8], addr: Addr) -> Result<JournalHeader> {
    check_slot(addr)?;
    let (head, payload) = header::open(block, &NO_ID, addr, None, Kind::Journal)?;
    if payload.len() != end(LAYOUT) - HEADER {
        return Err(FormatError::Malformed("a journal header of another length"));
    }
    if head.entries != 0 || head.stamp != 0 || head.level != 0 {
        return Err(FormatError::Malformed("a journal header has no entries, stamp or level"));
    }
    let b: &[u8; BLOCK] = block.try_into().map_err(|_| FormatError::Short("journal header"))?;
    let journal = JournalHeader {
        store_id: get(b, const { at(LAYOUT, "store_id") }),
        journal_id: get(b, const { at(LAYOUT, "journal_id") }),
        ring_blocks: get_u64(b, const { at(LAYOUT, "ring_blocks") }),
        epoch: head.generation,
    };
    check(&journal)?;
    Ok(journal)
}

fn check_slot(addr: Addr) -> Result<()> {
    match addr < RING_START {
        true => Ok(()),
        false => Err(FormatError::Malformed("a journal header lies in block 0 or 1")),
    }
}

fn check(journal: &JournalHeader) -> Result<()> {
    let bad = |what| Err(FormatError::Malformed(what));
    if journal.store_id == NO_ID || journal.journal_id == NO_ID {
        return bad("ids of stores and journals are not zero");
    }
    if journal.ring_blocks == 0 || journal.ring_blocks > BLOCK_LIMIT - RING_START {
        return bad("a ring of no length that can be");
    }
    if journal.epoch == 0 {
        return bad("checkpoints are counted from 1");
    }
    Ok(())
}
