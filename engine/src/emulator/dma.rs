//! The table of the memory that the client gave, by I/O virtual address.
//!
//! The server changes it between two looks of the controller, on the same thread;
//! nothing keeps what it found in it from one command to the next. So when a mapping
//! is taken out, nothing uses it.

use super::aperture::Aperture;
use super::guest::{BadAddress, Guest, Reach, Whose};
use crate::bus::DmaAccess;
use crate::medium::{Error, ErrorKind, Result};
use crate::memory::PeerMemory;
use crate::vfio_user::server::{DmaMemory, DmaRegion, RemoteMemory};
use std::cell::Cell;
use std::os::fd::AsFd;
use std::sync::Arc;

/// How the bytes of a mapping are reached.
#[derive(Debug)]
enum Memory {
    Peer(PeerMemory),
    /// The controller's own: its memory buffer.
    Own(Arc<Aperture>),
    Remote(RemoteMemory),
}

/// One mapping.
#[derive(Debug)]
struct Mapped {
    iova: u64,
    len: u64,
    access: DmaAccess,
    memory: Memory,
}

impl Mapped {
    fn is_own(&self) -> bool {
        matches!(self.memory, Memory::Own(_))
    }

    /// Memory that is touched without messages.
    #[inline]
    fn near(&self) -> Option<&PeerMemory> {
        match &self.memory {
            Memory::Peer(memory) => Some(memory),
            Memory::Own(aperture) => Some(aperture.memory()),
            Memory::Remote(_) => None,
        }
    }

    fn allows(&self, write: bool) -> bool {
        match self.access {
            DmaAccess::Read => !write,
            DmaAccess::Write => write,
            DmaAccess::ReadWrite => true,
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct DmaTable {
    /// In the order of addresses, without overlap.
    mapped: Vec<Mapped>,
    /// Where the last address was found.
    last: Cell<usize>,
}

impl DmaTable {
    /// Adds a mapping.
    ///
    /// # Errors
    /// `Invalid` for one that overlaps another; what the system refuses.
    pub(super) fn add(&mut self, region: DmaRegion) -> Result<()> {
        let DmaRegion { iova, len, access, memory } = region;
        let Some(place) = self.room(iova, len) else {
            return Err(Error::new(ErrorKind::Invalid, "the mapping overlaps another"));
        };
        let memory = match memory {
            DmaMemory::File { file, offset } => {
                let writable = access != DmaAccess::Read;
                Memory::Peer(PeerMemory::new(file.as_fd(), offset, len, writable)?)
            }
            DmaMemory::Messages(remote) => Memory::Remote(remote),
        };
        self.mapped.insert(place, Mapped { iova, len, access, memory });
        Ok(())
    }

    /// Takes a mapping out and unmaps it.
    pub(super) fn remove(&mut self, iova: u64, len: u64) {
        let it = |m: &Mapped| m.iova == iova && m.len == len && !m.is_own();
        self.mapped.retain(|mapped| !it(mapped));
    }

    /// Where the controller's own memory is from now on. False, with none of it anywhere,
    /// where the client's is.
    pub(super) fn set_own(&mut self, own: Option<(u64, &Arc<Aperture>)>) -> bool {
        self.mapped.retain(|mapped| !mapped.is_own());
        let Some((iova, aperture)) = own else { return true };
        let (len, access) = (aperture.len(), DmaAccess::ReadWrite);
        let Some(place) = self.room(iova, len) else { return false };
        let memory = Memory::Own(Arc::clone(aperture));
        self.mapped.insert(place, Mapped { iova, len, access, memory });
        true
    }

    /// The place of a mapping that overlaps none.
    fn room(&self, iova: u64, len: u64) -> Option<usize> {
        let place = self.mapped.partition_point(|mapped| mapped.iova < iova);
        let end = iova.checked_add(len);
        let before = place.checked_sub(1).map(|i| &self.mapped[i]);
        let overlaps = end.is_none()
            || before.is_some_and(|mapped| mapped.iova + mapped.len > iova)
            || self.mapped.get(place).is_some_and(|mapped| Some(mapped.iova) < end);
        (!overlaps && len > 0).then_some(place)
    }

    /// The mapping of an address, and how far into it that is.
    #[inline]
    fn find(&self, iova: u64) -> Reach<(&Mapped, u64)> {
        if let Some(mapped) = self.mapped.get(self.last.get()) {
            let offset = iova.wrapping_sub(mapped.iova);
            if offset < mapped.len {
                return Ok((mapped, offset));
            }
        }
        let after = self.mapped.partition_point(|mapped| mapped.iova <= iova);
        let place = after.checked_sub(1).ok_or(BadAddress)?;
        let mapped = &self.mapped[place];
        let offset = iova - mapped.iova;
        if offset >= mapped.len {
            return Err(BadAddress);
        }
        self.last.set(place);
        Ok((mapped, offset))
    }

    /// Runs a function for each piece of a range that lies in one mapping: with the
    /// mapping, the offset in it, the offset in the range, and the length.
    #[inline]
    fn pieces(
        &self,
        iova: u64,
        len: u64,
        write: bool,
        mut each: impl FnMut(&Mapped, u64, u64, u64) -> Reach,
    ) -> Reach {
        let mut done = 0;
        while done < len {
            let at = iova.checked_add(done).ok_or(BadAddress)?;
            let (mapped, offset) = self.find(at)?;
            if !mapped.allows(write) {
                return Err(BadAddress);
            }
            let count = (mapped.len - offset).min(len - done);
            each(mapped, offset, done, count)?;
            done += count;
        }
        Ok(())
    }
}

/// Whatever went wrong, the address was no good.
fn reach<T>(result: Result<T>) -> Reach<T> {
    result.map_err(|error| {
        tracing::debug!(%error, "the client's memory was not reached");
        BadAddress
    })
}

impl Guest for DmaTable {
    #[inline]
    fn load(&self, iova: u64, to: &mut [u8]) -> Reach {
        self.pieces(iova, to.len() as u64, false, |mapped, offset, done, count| {
            let to = &mut to[done as usize..(done + count) as usize];
            reach(match &mapped.memory {
                Memory::Peer(memory) => memory.read(offset, to),
                Memory::Own(aperture) => aperture.memory().read(offset, to),
                Memory::Remote(memory) => memory.read(offset, to),
            })
        })
    }

    #[inline]
    fn store(&self, iova: u64, from: &[u8]) -> Reach {
        self.pieces(iova, from.len() as u64, true, |mapped, offset, done, count| {
            let from = &from[done as usize..(done + count) as usize];
            reach(match &mapped.memory {
                Memory::Peer(memory) => memory.write(offset, from),
                Memory::Own(aperture) => aperture.memory().write(offset, from),
                Memory::Remote(memory) => memory.write(offset, from),
            })
        })
    }

    #[inline]
    fn load_words<const N: usize>(&self, iova: u64) -> Reach<[u64; N]> {
        let mut words = [0; N];
        let (mapped, offset) = self.find(iova)?;
        match mapped.near() {
            Some(memory) if mapped.allows(false) && mapped.len - offset >= 8 * N as u64 => {
                for (i, word) in words.iter_mut().enumerate() {
                    *word = u64::from_le(reach(memory.load64(offset + 8 * i as u64))?);
                }
            }
            _ => {
                for (i, word) in words.iter_mut().enumerate() {
                    let mut bytes = [0; 8];
                    self.load(iova.checked_add(8 * i as u64).ok_or(BadAddress)?, &mut bytes)?;
                    *word = u64::from_le_bytes(bytes);
                }
            }
        }
        Ok(words)
    }

    #[inline]
    fn store_pair(&self, iova: u64, words: [u64; 2]) -> Reach {
        let (mapped, offset) = self.find(iova)?;
        if !mapped.allows(true) || mapped.len - offset < 16 {
            return Err(BadAddress);
        }
        match &mapped.memory {
            Memory::Own(aperture) => {
                let memory = aperture.memory();
                reach(memory.store64(offset, words[0].to_le()))?;
                reach(memory.store64_release(offset + 8, words[1].to_le()))
            }
            Memory::Peer(memory) => {
                reach(memory.store64(offset, words[0].to_le()))?;
                reach(memory.store64_release(offset + 8, words[1].to_le()))
            }
            Memory::Remote(memory) => {
                reach(memory.write(offset, &words[0].to_le_bytes()))?;
                reach(memory.write(offset + 8, &words[1].to_le_bytes()))
            }
        }
    }

    #[inline]
    fn load32(&self, iova: u64) -> Reach<u32> {
        let (mapped, offset) = self.find(iova)?;
        if !mapped.allows(false) {
            return Err(BadAddress);
        }
        match &mapped.memory {
            Memory::Peer(memory) => reach(memory.load32_acquire(offset)).map(u32::from_le),
            Memory::Own(aperture) => {
                reach(aperture.memory().load32_acquire(offset)).map(u32::from_le)
            }
            Memory::Remote(memory) => {
                let mut bytes = [0; 4];
                reach(memory.read(offset, &mut bytes))?;
                Ok(u32::from_le_bytes(bytes))
            }
        }
    }

    #[inline]
    fn store32(&self, iova: u64, value: u32) -> Reach {
        let (mapped, offset) = self.find(iova)?;
        if !mapped.allows(true) {
            return Err(BadAddress);
        }
        match &mapped.memory {
            Memory::Peer(memory) => reach(memory.store32_release(offset, value.to_le())),
            Memory::Own(aperture) => {
                reach(aperture.memory().store32_release(offset, value.to_le()))
            }
            Memory::Remote(memory) => reach(memory.write(offset, &value.to_le_bytes())),
        }
    }

    #[inline]
    fn has(&self, iova: u64, len: u64, write: bool) -> bool {
        self.pieces(iova, len, write, |_, _, _, _| Ok(())).is_ok()
    }

    fn whose(&self, iova: u64, len: u64) -> Whose {
        let (mut own, mut client, mut done) = (false, false, 0);
        while done < len {
            let Some(at) = iova.checked_add(done) else { break };
            let Ok((mapped, offset)) = self.find(at) else { break };
            match mapped.is_own() {
                true => own = true,
                false => client = true,
            }
            done += (mapped.len - offset).min(len - done);
        }
        match (own, client) {
            (true, true) => Whose::Both,
            (true, false) => Whose::Controllers,
            (false, _) => Whose::Clients,
        }
    }
}
