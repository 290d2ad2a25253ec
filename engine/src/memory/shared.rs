//! Memory that several threads read and write at the same time.
//!
//! Bounds are checked here; how bytes move without a data race is `copy`'s
//! business. No reference to the memory is ever made.

use super::copy;
use super::map::Mapping;
use crate::medium::{BLOCK, Error, ErrorKind, Result};

/// A range of memory that is read and written by copies alone, from any
/// number of threads at once. What overlapping copies leave is any mixture.
#[derive(Debug)]
pub(crate) struct SharedMemory {
    map: Mapping,
}

impl SharedMemory {
    /// `len` bytes of zeroes, a multiple of 4096; taken from the system only
    /// as they are written.
    ///
    /// # Errors
    /// `Invalid` for a bad length, `Limit` when the system has no such range.
    pub(crate) fn new(len: u64) -> Result<Self> {
        match usize::try_from(len) {
            Ok(bytes)
                if bytes > 0 && bytes.is_multiple_of(BLOCK) && bytes <= isize::MAX as usize =>
            {
                Ok(Self { map: Mapping::new(bytes)? })
            }
            _ => Err(Error::new(
                ErrorKind::Invalid,
                format!("a size of {len} bytes is not a multiple of 4096 that fits in memory"),
            )),
        }
    }

    /// Checks a range and gives its first byte.
    fn range(&self, offset: u64, len: u64) -> Result<*mut u8> {
        match offset.checked_add(len) {
            Some(end) if end <= self.map.len() as u64 => {
                // SAFETY: `offset` is at most the length of the mapping.
                Ok(unsafe { self.map.base().as_ptr().add(offset as usize) })
            }
            _ => Err(Error::new(
                ErrorKind::Invalid,
                format!("bytes {offset}..+{len} lie outside the {} of the medium", self.map.len()),
            )),
        }
    }

    /// As `range`, for whole blocks.
    fn blocks(&self, offset: u64, len: u64) -> Result<*mut u8> {
        if !offset.is_multiple_of(BLOCK as u64) || !len.is_multiple_of(BLOCK as u64) {
            return Err(Error::new(ErrorKind::Invalid, "the range is not made of whole blocks"));
        }
        self.range(offset, len)
    }

    /// Checks that a range lies inside.
    ///
    /// # Errors
    /// `Invalid` outside the memory.
    pub(crate) fn check(&self, offset: u64, len: u64) -> Result<()> {
        self.range(offset, len).map(|_| ())
    }

    /// Copies bytes out.
    ///
    /// # Errors
    /// `Invalid` outside the memory.
    pub(crate) fn load(&self, offset: u64, to: &mut [u8]) -> Result<()> {
        let from = self.range(offset, to.len() as u64)?;
        // SAFETY: the range was checked and is reached by copies only; `to` is
        // a reference, so it is private and outside this mapping. The words
        // around the range exist because the mapping is made of whole pages.
        unsafe { copy::load(to.as_mut_ptr(), from, to.len()) };
        Ok(())
    }

    /// Copies bytes in.
    ///
    /// # Errors
    /// `Invalid` outside the memory.
    pub(crate) fn store(&self, offset: u64, from: &[u8]) -> Result<()> {
        let to = self.range(offset, from.len() as u64)?;
        // SAFETY: as in `load`.
        unsafe { copy::store(to, from.as_ptr(), from.len()) };
        Ok(())
    }

    /// Copies whole blocks to other blocks.
    ///
    /// # Errors
    /// `Invalid` outside the memory, for parts of blocks, for an overlap.
    pub(crate) fn transfer(&self, from: u64, to: u64, len: u64) -> Result<()> {
        let (source, target) = (self.blocks(from, len)?, self.blocks(to, len)?);
        if from.abs_diff(to) < len {
            return Err(Error::new(ErrorKind::Invalid, "a copy onto its own source"));
        }
        // SAFETY: both ranges were checked, are made of blocks, do not overlap
        // and are reached by copies only.
        unsafe { copy::transfer(target, source, len as usize) };
        Ok(())
    }

    /// Zeroes whole blocks.
    ///
    /// # Errors
    /// `Invalid` outside the memory or for parts of blocks.
    pub(crate) fn zero(&self, offset: u64, len: u64) -> Result<()> {
        let to = self.blocks(offset, len)?;
        // SAFETY: the range was checked, is made of blocks and reached by
        // copies only.
        unsafe { copy::zero(to, len as usize) };
        Ok(())
    }

    /// Zeroes whole blocks and gives their pages back to the system.
    ///
    /// # Errors
    /// `Invalid` outside the memory or for parts of blocks.
    pub(crate) fn discard(&self, offset: u64, len: u64) -> Result<()> {
        self.blocks(offset, len)?;
        // SAFETY: the range was checked, and no reference to this memory ever
        // exists.
        if unsafe { self.map.discard(offset as usize, len as usize) } {
            return Ok(());
        }
        self.zero(offset, len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_and_neighbours_stay() {
        let memory = SharedMemory::new(2 * 4096).unwrap();
        memory.store(4090, b"across a block").unwrap();
        let mut back = [0xffu8; 16];
        memory.load(4089, &mut back).unwrap();
        assert_eq!(&back, b"\0across a block\0");
        memory.transfer(4096, 0, 4096).unwrap();
        memory.load(0, &mut back[..8]).unwrap();
        assert_eq!(&back[..8], b" a block");
        memory.discard(4096, 4096).unwrap();
        memory.zero(0, 4096).unwrap();
        let mut all = vec![1u8; 8192];
        memory.load(0, &mut all).unwrap();
        assert!(all.iter().all(|&b| b == 0));
    }

    #[test]
    fn ranges_outside_are_refused() {
        let memory = SharedMemory::new(4096).unwrap();
        assert!(memory.store(4095, &[0; 2]).is_err());
        assert!(memory.load(u64::MAX, &mut [0; 2]).is_err());
        assert!(memory.store(4096, &[]).is_ok());
        assert!(memory.zero(0, 8192).is_err());
        assert!(memory.zero(8, 8).is_err());
        assert!(memory.transfer(0, 0, 4096).is_err());
        assert!(SharedMemory::new(0).is_err());
        assert!(SharedMemory::new(4097).is_err());
        assert!(SharedMemory::new(u64::MAX - 4095).is_err());
    }
}
