//! A device for tests: some registers, a shared page, DMA on command, and a log.

use freehold_engine::medium::{Error, ErrorKind, Result};
use freehold_engine::vfio_user::server::{
    Device, DmaMemory, DmaRegion, Interrupt, Region, Shared, Work,
};
use rustix::fs::{MemfdFlags, SealFlags};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Bytes of a page.
pub const PAGE: u64 = 4096;
/// MSI-X vectors of the toy.
pub const VECTORS: u32 = 4;

/// Registers of BAR 0. Others below [`PAGE`] are plain memory; the page behind them is
/// shared.
pub mod reg {
    /// Address of DMA memory, 64 bits.
    pub const ADDRESS: u64 = 0x10;
    /// Bytes of it, 32 bits.
    pub const COUNT: u64 = 0x18;
    /// Written: reads so many bytes there, adds 1 to each, writes them back.
    pub const GO: u64 = 0x20;
    /// Written: signals the vector that was written.
    pub const SIGNAL: u64 = 0x38;
    /// Written: refused, with the kind of error that the number stands for.
    pub const FAIL: u64 = 0x28;
    /// Written: the device leaves.
    pub const LEAVE: u64 = 0x30;
}

/// What happened to a toy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Memory was added: address and length.
    Added(u64, u64),
    /// Memory was taken back.
    Removed(u64, u64),
    /// A vector was attached (or not).
    Attached(u32, bool),
    /// It was reset.
    Reset,
    /// The client is gone.
    Gone,
}

/// How a test speaks to a toy that is served.
#[derive(Debug, Default)]
pub struct Control {
    /// What happened.
    pub log: Mutex<Vec<Event>>,
    /// Taking memory back waits until this is true...
    pub quiet: AtomicBool,
    /// ... if this is.
    pub slow: AtomicBool,
    /// It never sleeps.
    pub busy: AtomicBool,
    /// Pieces of memory and vectors that it has from its client.
    pub held: AtomicUsize,
}

impl Control {
    fn note(&self, event: Event) {
        self.log.lock().unwrap().push(event);
    }

    /// What happened since this was called last.
    ///
    /// # Panics
    /// If the server's thread panicked.
    pub fn events(&self) -> Vec<Event> {
        std::mem::take(&mut self.log.lock().unwrap())
    }

    /// Whether something happened, and is not yet taken.
    ///
    /// # Panics
    /// If the server's thread panicked.
    pub fn saw(&self, event: Event) -> bool {
        self.log.lock().unwrap().contains(&event)
    }
}

/// The device.
#[derive(Debug)]
pub struct Toy {
    control: Arc<Control>,
    registers: Vec<u8>,
    config: Vec<u8>,
    shared: Arc<OwnedFd>,
    memory: Vec<DmaRegion>,
    vectors: Vec<Option<Interrupt>>,
    leave: bool,
}

impl Toy {
    /// A toy in its first state.
    ///
    /// # Panics
    /// If the system has no memory for it.
    pub fn new(control: Arc<Control>) -> Self {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let shared = rustix::fs::memfd_create("toy", flags).unwrap();
        rustix::fs::ftruncate(&shared, 2 * PAGE).unwrap();
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&shared, seals).unwrap();
        let mut config = vec![0; PAGE as usize];
        config[..4].copy_from_slice(&[0x86, 0x80, 0x45, 0x58]);
        Self {
            control,
            registers: vec![0; PAGE as usize],
            config,
            shared: Arc::new(shared),
            memory: Vec::new(),
            vectors: vec![None; VECTORS as usize],
            leave: false,
        }
    }

    fn count(&self) {
        let held = self.memory.len() + self.vectors.iter().flatten().count();
        self.control.held.store(held, Ordering::Relaxed);
    }

    fn number(&self, at: u64) -> u64 {
        u64::from_le_bytes(self.registers[at as usize..][..8].try_into().unwrap())
    }

    /// One DMA: read, change, write back.
    fn go(&self) -> Result<()> {
        let (address, count) = (self.number(reg::ADDRESS), self.number(reg::COUNT) as u32);
        let end = address.saturating_add(count.into());
        let found = self.memory.iter().find(|m| m.iova <= address && end <= m.iova + m.len);
        let none = || Error::new(ErrorKind::NotFound, "no such DMA memory");
        let memory = found.ok_or_else(none)?;
        let (at, mut bytes) = (address - memory.iova, vec![0; count as usize]);
        let failed = |e| Error::new(ErrorKind::Io, format!("{e}"));
        match &memory.memory {
            DmaMemory::File { file, offset } => {
                rustix::io::pread(file, &mut bytes, offset + at).map_err(failed)?;
            }
            DmaMemory::Messages(remote) => remote.read(at, &mut bytes)?,
        }
        bytes.iter_mut().for_each(|byte| *byte = byte.wrapping_add(1));
        match &memory.memory {
            DmaMemory::File { file, offset } => {
                rustix::io::pwrite(file, &bytes, offset + at).map_err(failed)?;
            }
            DmaMemory::Messages(remote) => remote.write(at, &bytes)?,
        }
        Ok(())
    }
}

impl Device for Toy {
    fn region(&self, index: u32) -> Region {
        match index {
            0 => Region {
                len: 2 * PAGE,
                shared: Some(Shared {
                    file: Arc::clone(&self.shared),
                    offset: 0,
                    areas: std::iter::once(PAGE..2 * PAGE).collect(),
                }),
            },
            7 => Region { len: PAGE, shared: None },
            _ => Region::default(),
        }
    }

    fn vectors(&self) -> u32 {
        VECTORS
    }

    fn read(&mut self, region: u32, offset: u64, to: &mut [u8]) -> Result<()> {
        let refused = |_| Error::new(ErrorKind::Io, "the shared page cannot be read");
        match (region, offset) {
            (0, PAGE..) => rustix::io::pread(&*self.shared, to, offset).map(drop).map_err(refused),
            (0, _) => copy(&self.registers, offset, to),
            _ => copy(&self.config, offset, to),
        }
    }

    fn write(&mut self, region: u32, offset: u64, from: &[u8]) -> Result<()> {
        if region == 0 && offset >= PAGE {
            let refused = |_| Error::new(ErrorKind::Io, "the shared page cannot be written");
            return rustix::io::pwrite(&*self.shared, from, offset).map(drop).map_err(refused);
        }
        let space = if region == 0 { &mut self.registers } else { &mut self.config };
        let outside = || Error::new(ErrorKind::Invalid, "outside the plain registers");
        let place = space.get_mut(offset as usize..).and_then(|s| s.get_mut(..from.len()));
        place.ok_or_else(outside)?.copy_from_slice(from);
        match (region, offset, from.first()) {
            (0, reg::GO, _) => self.go()?,
            (0, reg::SIGNAL, Some(&vector)) => {
                if let Some(Some(interrupt)) = self.vectors.get(usize::from(vector)) {
                    interrupt.signal();
                }
            }
            (0, reg::FAIL, Some(1)) => return Err(Error::new(ErrorKind::Unsupported, "no")),
            (0, reg::FAIL, Some(2)) => return Err(Error::new(ErrorKind::Limit, "no")),
            (0, reg::FAIL, _) => return Err(Error::new(ErrorKind::Io, "no")),
            (0, reg::LEAVE, _) => self.leave = true,
            _ => {}
        }
        Ok(())
    }

    fn dma_added(&mut self, memory: DmaRegion) -> Result<()> {
        self.control.note(Event::Added(memory.iova, memory.len));
        self.memory.push(memory);
        self.count();
        Ok(())
    }

    fn dma_removed(&mut self, iova: u64, len: u64) {
        let end = Instant::now() + Duration::from_secs(30);
        let (slow, quiet) = (&self.control.slow, &self.control.quiet);
        while slow.load(Ordering::Relaxed) && !quiet.load(Ordering::Relaxed) {
            assert!(Instant::now() < end, "nobody lets the toy go on");
            std::thread::sleep(Duration::from_millis(1));
        }
        let before = self.memory.len();
        self.memory.retain(|m| (m.iova, m.len) != (iova, len));
        assert_eq!(self.memory.len(), before - 1, "{iova:#x}..+{len:#x} was never added");
        self.count();
        self.control.note(Event::Removed(iova, len));
    }

    fn attach(&mut self, vector: u32, interrupt: Option<Interrupt>) {
        self.control.note(Event::Attached(vector, interrupt.is_some()));
        self.vectors[vector as usize] = interrupt;
        self.count();
    }

    fn reset(&mut self) -> Result<()> {
        self.registers.fill(0);
        self.control.note(Event::Reset);
        Ok(())
    }

    fn client_gone(&mut self) {
        self.leave = false;
        self.control.note(Event::Gone);
    }

    fn poll(&mut self) -> Work {
        if self.leave {
            return Work::Leave;
        }
        if self.control.busy.load(Ordering::Relaxed) {
            return Work::Busy;
        }
        Work::Sleep(Duration::from_secs(1))
    }
}

/// Copies out of plain registers.
fn copy(from: &[u8], offset: u64, to: &mut [u8]) -> Result<()> {
    let outside = || Error::new(ErrorKind::Invalid, "outside the plain registers");
    let place = from.get(offset as usize..).and_then(|s| s.get(..to.len()));
    to.copy_from_slice(place.ok_or_else(outside)?);
    Ok(())
}
