//! Bytes in memory, taken from the system as they are written.

use super::{Done, Trouble};

/// Bytes of a chunk. Large enough that the system gives it lazily, page by page.
const CHUNK: usize = 1 << 20;

/// A range of bytes; what was never written is zero and takes no memory.
#[derive(Debug)]
pub(super) struct Chunks {
    chunks: Vec<Option<Vec<u8>>>,
}

/// The parts of a range within chunks: chunk, offset in it, offset in the range, length.
fn parts(at: u64, len: u64) -> impl Iterator<Item = (usize, usize, u64, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let place = at + done;
        let (chunk, offset) = ((place / CHUNK as u64) as usize, (place % CHUNK as u64) as usize);
        let count = (len - done).min((CHUNK - offset) as u64);
        let part = (chunk, offset, done, count as usize);
        done += count;
        Some(part)
    })
}

impl Chunks {
    pub(super) fn new(len: u64) -> Self {
        let mut chunks = Vec::new();
        chunks.resize_with(len.div_ceil(CHUNK as u64) as usize, || None);
        Self { chunks }
    }

    /// The chunk, made if it is not there.
    fn chunk(&mut self, chunk: usize) -> Done<&mut Vec<u8>> {
        let slot = &mut self.chunks[chunk];
        if slot.is_none() {
            // A trial that fails where the real one would abort the process.
            Vec::<u8>::new().try_reserve_exact(CHUNK).map_err(|_| Trouble::NoSpace)?;
        }
        Ok(slot.get_or_insert_with(|| vec![0; CHUNK]))
    }

    /// The bytes in one piece, if they are there.
    pub(super) fn slice(&self, at: u64, len: usize) -> Option<&[u8]> {
        let offset = (at % CHUNK as u64) as usize;
        let chunk = self.chunks.get((at / CHUNK as u64) as usize)?.as_ref()?;
        chunk.get(offset..offset.checked_add(len)?)
    }

    /// The bytes in one piece, to be written; made if they are not there.
    pub(super) fn slice_mut(&mut self, at: u64, len: usize) -> Option<&mut [u8]> {
        let offset = (at % CHUNK as u64) as usize;
        let index = (at / CHUNK as u64) as usize;
        if index >= self.chunks.len() || offset.checked_add(len)? > CHUNK {
            return None;
        }
        self.chunk(index).ok()?.get_mut(offset..offset + len)
    }

    pub(super) fn read(&self, at: u64, to: &mut [u8]) {
        for (chunk, offset, done, count) in parts(at, to.len() as u64) {
            let to = &mut to[done as usize..done as usize + count];
            match &self.chunks[chunk] {
                Some(bytes) => to.copy_from_slice(&bytes[offset..offset + count]),
                None => to.fill(0),
            }
        }
    }

    pub(super) fn write(&mut self, at: u64, from: &[u8]) -> Done {
        for (chunk, offset, done, count) in parts(at, from.len() as u64) {
            let from = &from[done as usize..done as usize + count];
            self.chunk(chunk)?[offset..offset + count].copy_from_slice(from);
        }
        Ok(())
    }

    /// Zeroes a range; whole chunks go back to the system.
    pub(super) fn zero(&mut self, at: u64, len: u64) {
        for (chunk, offset, _, count) in parts(at, len) {
            if count == CHUNK {
                self.chunks[chunk] = None;
            } else if let Some(bytes) = &mut self.chunks[chunk] {
                bytes[offset..offset + count].fill(0);
            }
        }
    }

    /// Bytes of a range whose chunks are there.
    pub(super) fn allocated(&self, at: u64, len: u64) -> u64 {
        let there = parts(at, len).filter(|(chunk, ..)| self.chunks[*chunk].is_some());
        there.map(|(.., count)| count as u64).sum()
    }
}
