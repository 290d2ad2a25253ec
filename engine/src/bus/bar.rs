//! Register spaces: mapped areas reached by volatile accesses, the rest by messages.
//!
//! A [`Bar`] is made by its transport from the [`Area`]s that could be mapped and a
//! [`Registers`] that carries all other accesses. It checks bounds and alignment;
//! what a register means is the driver's.

use crate::medium::{Error, ErrorKind, Result};
use std::fmt;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::Arc;

/// Accesses that no mapping carries.
pub trait Registers: Send + Sync {
    /// Reads `to.len()` bytes (4 or 8, aligned, inside the space) as one access.
    ///
    /// # Errors
    /// `Io` when the device refuses; `Gone`.
    fn read(&self, bar: u8, offset: u64, to: &mut [u8]) -> Result<()>;

    /// Writes `from.len()` bytes (4 or 8, aligned, inside the space) as one access.
    ///
    /// # Errors
    /// As [`Registers::read`].
    fn write(&self, bar: u8, offset: u64, from: &[u8]) -> Result<()>;

    /// Whether a store into mapped registers is noticed by whoever they belong to, as hardware
    /// does. A process at the other end has to be told when it sleeps.
    fn sees_stores(&self) -> bool {
        false
    }
}

/// Where the bytes of a mapping are in a file: for whoever maps them a second time.
#[derive(Debug, Clone, Copy)]
pub struct InFile<'a> {
    /// The file.
    pub file: BorrowedFd<'a>,
    /// Where in it the first byte is; a multiple of a page.
    pub offset: u64,
    /// It is mapped with MAP_SYNC, and has to be.
    pub sync: bool,
}

/// Device memory that is mapped into this process.
///
/// # Safety
/// `base` is aligned to a page; the `len` bytes there are mapped for reading and
/// writing, and stay so while the value lives; no reference to them exists; and an
/// access to any of them returns or traps nothing, whatever the other side does.
pub unsafe trait Mmio: Send + Sync {
    /// The first byte.
    fn base(&self) -> NonNull<u8>;

    /// How many bytes.
    fn len(&self) -> usize;

    /// True for an area of no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The file that has the bytes, where they can be mapped from it once more.
    fn file(&self) -> Option<InFile<'_>> {
        None
    }
}

/// A mapped part of a register space.
#[derive(Clone)]
pub struct Area {
    /// Where it begins in the space; a multiple of 8.
    pub offset: u64,
    /// The mapping.
    pub memory: Arc<dyn Mmio>,
}

impl Area {
    /// Where an access of `width` bytes lies, if it lies wholly in this area.
    fn place(&self, offset: u64, width: u64) -> Option<NonNull<u8>> {
        let within = offset.checked_sub(self.offset)?;
        if within.checked_add(width)? > self.memory.len() as u64 {
            return None;
        }
        // SAFETY: `within` is less than the mapping's length.
        Some(unsafe { self.memory.base().add(within as usize) })
    }
}

/// The space of one base address register. Cheap to clone.
#[derive(Clone)]
pub struct Bar {
    index: u8,
    len: u64,
    areas: Arc<[Area]>,
    others: Arc<dyn Registers>,
}

impl Bar {
    /// A space of `len` bytes, of which `areas` are mapped.
    pub fn new(index: u8, len: u64, areas: Vec<Area>, others: Arc<dyn Registers>) -> Self {
        Self { index, len, areas: areas.into(), others }
    }

    /// Bytes in it.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// True for a space of no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The parts that are mapped.
    pub fn areas(&self) -> &[Area] {
        &self.areas
    }

    /// Reads a register of 32 bits.
    ///
    /// # Errors
    /// `Invalid` outside the space or unaligned; what the transport says.
    pub fn read32(&self, offset: u64) -> Result<u32> {
        self.check(offset, 4)?;
        if let Some(at) = self.mapped(offset, 4) {
            // SAFETY: `place` found 4 bytes inside a live mapping, and the offset is
            // aligned, as the area's start is. Volatile: the device changes them.
            return Ok(u32::from_le(unsafe { at.cast::<u32>().as_ptr().read_volatile() }));
        }
        let mut bytes = [0; 4];
        self.others.read(self.index, offset, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Reads a register of 64 bits as one access.
    ///
    /// # Errors
    /// As [`Bar::read32`].
    pub fn read64(&self, offset: u64) -> Result<u64> {
        self.check(offset, 8)?;
        if let Some(at) = self.mapped(offset, 8) {
            // SAFETY: as in `read32`, with 8 bytes.
            return Ok(u64::from_le(unsafe { at.cast::<u64>().as_ptr().read_volatile() }));
        }
        let mut bytes = [0; 8];
        self.others.read(self.index, offset, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Writes a register of 32 bits.
    ///
    /// # Errors
    /// As [`Bar::read32`].
    pub fn write32(&self, offset: u64, value: u32) -> Result<()> {
        self.register(offset)?.write(value)
    }

    /// Writes a register of 64 bits as one access.
    ///
    /// # Errors
    /// As [`Bar::read32`].
    pub fn write64(&self, offset: u64, value: u64) -> Result<()> {
        self.check(offset, 8)?;
        if let Some(at) = self.mapped(offset, 8) {
            // SAFETY: as in `read64`; device memory may be written at any time.
            unsafe { at.cast::<u64>().as_ptr().write_volatile(value.to_le()) };
            return Ok(());
        }
        self.others.write(self.index, offset, &value.to_le_bytes())
    }

    /// A register of 32 bits that is written often: found once.
    ///
    /// # Errors
    /// `Invalid` outside the space or unaligned.
    pub fn register(&self, offset: u64) -> Result<Register> {
        self.check(offset, 4)?;
        Ok(Register { at: self.mapped(offset, 4), offset, bar: self.clone() })
    }

    fn mapped(&self, offset: u64, width: u64) -> Option<NonNull<u8>> {
        self.areas.iter().find_map(|area| area.place(offset, width))
    }

    fn check(&self, offset: u64, width: u64) -> Result<()> {
        match offset.checked_add(width) {
            Some(end) if end <= self.len && offset.is_multiple_of(width) => Ok(()),
            _ => Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "a register of {width} bytes at {offset:#x} is not in BAR {} of {:#x} bytes",
                    self.index, self.len
                ),
            )),
        }
    }
}

impl fmt::Debug for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bar")
            .field("index", &self.index)
            .field("len", &self.len)
            .field("mapped_areas", &self.areas.len())
            .finish_non_exhaustive()
    }
}

/// One register of 32 bits. Keeps its space mapped.
#[derive(Debug, Clone)]
pub struct Register {
    at: Option<NonNull<u8>>,
    offset: u64,
    bar: Bar,
}

// SAFETY: the pointer is into device memory that `bar` keeps mapped; it is used for
// volatile accesses alone, which any thread may make (`Mmio`).
unsafe impl Send for Register {}
// SAFETY: as above.
unsafe impl Sync for Register {}

impl Register {
    /// Writes it: one volatile store where it is mapped, else a message.
    ///
    /// # Errors
    /// What the transport says; none where it is mapped.
    #[inline]
    pub fn write(&self, value: u32) -> Result<()> {
        if let Some(at) = self.at {
            // SAFETY: found by `Bar::register` to be 4 aligned bytes of a mapping that
            // `self.bar` keeps alive.
            unsafe { at.cast::<u32>().as_ptr().write_volatile(value.to_le()) };
            return Ok(());
        }
        self.send(value)
    }

    /// Writes it by a message, though it be mapped: where the other side has to be
    /// woken, which a store does not do. Where stores are seen it is one.
    ///
    /// # Errors
    /// What the transport says.
    #[cold]
    pub fn send(&self, value: u32) -> Result<()> {
        if self.at.is_some() && self.bar.others.sees_stores() {
            return self.write(value);
        }
        self.bar.others.write(self.bar.index, self.offset, &value.to_le_bytes())
    }

    /// Whether a write is a store.
    pub fn is_mapped(&self) -> bool {
        self.at.is_some()
    }
}
