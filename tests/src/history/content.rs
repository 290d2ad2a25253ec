//! What a file holds, in the oracle: sparse, cheap to copy, with every written
//! byte saying where it comes from.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of a block.
pub const BLOCK: u64 = 4096;

/// What a device keeps or loses together.
pub const SECTOR: u64 = 512;

/// Bytes that carry one tag.
const CELL: u64 = 16;

type Block = [u8; BLOCK as usize];

const ZERO: &Block = &[0; BLOCK as usize];

/// A file's bytes. Those behind the end are zeroes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// Bytes.
    pub size: u64,
    blocks: BTreeMap<u64, Arc<Block>>,
}

/// The bytes that a write puts at a place of a file: each 16 say which file was
/// written, by which operation, and where.
pub fn tagged(file: u32, tag: u32, offset: u64, len: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity((len + CELL) as usize);
    let first = offset / CELL;
    for cell in first..(offset + len).div_ceil(CELL) {
        out.extend_from_slice(&(file as u16 | 0x8000).to_le_bytes());
        out.extend_from_slice(&[0xf7, 0xee]);
        out.extend_from_slice(&tag.to_le_bytes());
        out.extend_from_slice(&cell.to_le_bytes());
    }
    let skip = (offset - first * CELL) as usize;
    out.drain(..skip);
    out.truncate(len as usize);
    out
}

/// What some bytes of a file say of themselves, for messages.
pub fn describe(bytes: &[u8], offset: u64) -> String {
    let skip = (offset.next_multiple_of(CELL) - offset) as usize;
    let Some(cell) = bytes.get(skip..skip + CELL as usize) else {
        return format!("{bytes:02x?}");
    };
    if bytes.iter().all(|b| *b == 0) {
        return "zeroes".to_owned();
    }
    if cell[2..4] != [0xf7, 0xee] {
        return format!("untagged bytes {cell:02x?}");
    }
    let number =
        |r: std::ops::Range<usize>| cell[r].iter().rev().fold(0u64, |n, b| n << 8 | u64::from(*b));
    let file = number(0..2) & 0x7fff;
    format!("file {file}, write {}, offset {:#x}", number(4..8), number(8..16) * CELL)
}

impl Content {
    /// One block; zeroes where nothing was written.
    pub fn block(&self, index: u64) -> &[u8; BLOCK as usize] {
        self.blocks.get(&index).map_or(ZERO, |b| b)
    }

    /// The blocks that hold anything.
    pub fn blocks(&self) -> impl Iterator<Item = u64> + '_ {
        self.blocks.keys().copied()
    }

    /// Up to `len` bytes, as many as the file has.
    pub fn read(&self, offset: u64, len: u64) -> Vec<u8> {
        let end = self.size.min(offset.saturating_add(len));
        let mut out = Vec::with_capacity(end.saturating_sub(offset) as usize);
        let mut at = offset;
        while at < end {
            let (index, skip) = (at / BLOCK, at % BLOCK);
            let n = (BLOCK - skip).min(end - at);
            out.extend_from_slice(&self.block(index)[skip as usize..(skip + n) as usize]);
            at += n;
        }
        out
    }

    /// Bytes `at..at + to.len()`, whatever the size is.
    pub fn peek(&self, at: u64, to: &mut [u8]) {
        let skip = (at % BLOCK) as usize;
        to.copy_from_slice(&self.block(at / BLOCK)[skip..skip + to.len()]);
    }

    /// Writes; the file grows as needed.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let skip = (at % BLOCK) as usize;
            let n = (BLOCK as usize - skip).min(bytes.len() - done);
            let block = self.blocks.entry(at / BLOCK).or_insert_with(|| Arc::new(*ZERO));
            Arc::make_mut(block)[skip..skip + n].copy_from_slice(&bytes[done..done + n]);
            done += n;
        }
        if !bytes.is_empty() {
            self.size = self.size.max(offset + bytes.len() as u64);
        }
    }

    /// Zeroes in `start..end`; the size stays.
    pub fn zero(&mut self, start: u64, end: u64) {
        let inside: Vec<u64> =
            self.blocks.range(start / BLOCK..end.div_ceil(BLOCK)).map(|(k, _)| *k).collect();
        for index in inside {
            let base = index * BLOCK;
            let (a, b) = (start.max(base) - base, end.min(base + BLOCK) - base);
            if b - a == BLOCK {
                self.blocks.remove(&index);
            } else if let Some(block) = self.blocks.get_mut(&index) {
                Arc::make_mut(block)[a as usize..b as usize].fill(0);
            }
        }
    }

    /// Another size; what is cut off is gone, what is added is zeroes.
    pub fn truncate(&mut self, size: u64) {
        if size < self.size {
            self.zero(size, u64::MAX - BLOCK);
        }
        self.size = size;
    }

    /// Takes blocks out; those behind move down.
    pub fn collapse(&mut self, offset: u64, len: u64) {
        self.zero(offset, offset + len);
        let behind = self.blocks.split_off(&(offset / BLOCK));
        self.blocks.extend(behind.into_iter().map(|(k, b)| (k - len / BLOCK, b)));
        self.size -= len;
    }

    /// Moves blocks up, so that there is a hole.
    pub fn insert(&mut self, offset: u64, len: u64) {
        let behind = self.blocks.split_off(&(offset / BLOCK));
        self.blocks.extend(behind.into_iter().map(|(k, b)| (k + len / BLOCK, b)));
        self.size += len;
    }

    /// Takes `len` bytes of another content to a place of this one; both places
    /// are at block boundaries.
    pub fn share(&mut self, at: u64, from: &Content, from_at: u64, len: u64) {
        self.zero(at, at + len);
        for index in 0..len.div_ceil(BLOCK) {
            if let Some(block) = from.blocks.get(&(from_at / BLOCK + index)) {
                self.blocks.insert(at / BLOCK + index, block.clone());
            }
        }
        self.size = self.size.max(at + len);
    }
}
