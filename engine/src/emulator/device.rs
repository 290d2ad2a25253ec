//! The controller as the server's device: regions, memory, interrupts, and when to
//! sleep.

use super::config::{CONFIG_BYTES, Effect};
use super::controller::{BAR0_BYTES, Controller, DOORBELL_PAGE, Rest, Vanish};
use super::dma::DmaTable;
use super::doorbell::PAGE;
use super::{cmb, region};
use crate::medium::{Error, ErrorKind, Result};
use crate::memory::PeerMemory;
use crate::nvme::spec::registers::CMBMSC;
use crate::vfio_user::server::{Device, DmaRegion, Interrupt, Region, Shared, Work};
use std::time::{Duration, Instant};

/// Regions as vfio-user numbers them: BAR0, and configuration space.
const BAR0: u32 = 0;
const CONFIG: u32 = 7;

/// Looks that find nothing before the clock is read.
const SPINS: u32 = 256;
/// How long it looks without sleeping after the last work: well above the time that a
/// client takes between two commands, so that a busy pair never sleeps.
const AWAKE: Duration = Duration::from_micros(500);
/// The first and the longest of the brief sleeps.
const BRIEF: Duration = Duration::from_micros(50);
const BRIEF_MOST: Duration = Duration::from_millis(1);
/// The longest sleep where only a message brings work.
const LONG: Duration = Duration::from_secs(3600);

/// What the server serves.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) controller: Controller,
    dma: DmaTable,
    /// Looks in a row that found nothing.
    idle: u32,
    /// Since when, once that was asked.
    idle_since: Option<Instant>,
    /// The next brief sleep.
    nap: Duration,
    /// A fault wants the process to end as if killed.
    pub(super) exits: bool,
}

impl Served {
    pub(super) fn new(controller: Controller) -> Self {
        Self {
            controller,
            dma: DmaTable::default(),
            idle: 0,
            idle_since: None,
            nap: BRIEF,
            exits: false,
        }
    }

    /// Bytes of the device's memory, for a client that does not map them.
    fn memory(&self, bar: u32) -> Result<&PeerMemory> {
        let found = match bar {
            cmb::BAR => self.controller.cmb().map(|cmb| cmb.aperture().memory()),
            _ => self.controller.region().map(|region| region.aperture().memory()),
        };
        found.ok_or_else(|| Error::new(ErrorKind::NotFound, "there is no such region"))
    }

    /// Commands name the controller's own memory by the address that it was told last.
    fn place_own_memory(&mut self) {
        if !self.dma.set_own(self.controller.own_memory()) {
            self.controller.refuse_own_memory();
        }
    }

    fn stay_awake(&mut self) {
        self.idle = 0;
        self.idle_since = None;
        self.nap = BRIEF;
    }

    /// What a look that found nothing leads to.
    fn rest(&mut self) -> Work {
        self.idle += 1;
        let syncing = self.controller.is_syncing();
        if syncing && !self.idle.is_multiple_of(SPINS) {
            // Whoever flushes may need this very processor for it. What comes by message does
            // not wait for that.
            std::thread::yield_now();
            return Work::Long;
        }
        if !self.idle.is_multiple_of(SPINS) {
            std::hint::spin_loop();
            return Work::Busy;
        }
        self.controller.put_some_down();
        let now = Instant::now();
        let since = *self.idle_since.get_or_insert(now);
        if now - since < AWAKE {
            return Work::Busy;
        }
        // The next look, after the sleep, finds the clock read at once.
        self.idle = SPINS - 1;
        match self.controller.prepare_to_rest(&self.dma) {
            Rest::Not => {
                self.stay_awake();
                Work::Busy
            }
            Rest::Briefly => {
                let nap = self.nap;
                self.nap = if syncing { BRIEF } else { (nap * 2).min(BRIEF_MOST) };
                Work::Sleep(nap)
            }
            Rest::UntilMessage(None) => Work::Sleep(LONG),
            Rest::UntilMessage(Some(due)) => Work::Sleep(due.saturating_duration_since(now)),
        }
    }
}

impl Device for Served {
    fn region(&self, index: u32) -> Region {
        match index {
            BAR0 => {
                let area = DOORBELL_PAGE..DOORBELL_PAGE + PAGE as u64;
                let file = self.controller.doorbells().file();
                Region {
                    len: BAR0_BYTES,
                    shared: Some(Shared { file, offset: 0, areas: vec![area] }),
                }
            }
            cmb::BAR => match self.controller.cmb() {
                None => Region::default(),
                Some(cmb) => {
                    let (len, file) = (cmb.aperture().len(), cmb.aperture().file());
                    let areas = std::iter::once(0..len).collect();
                    Region { len, shared: Some(Shared { file, offset: 0, areas }) }
                }
            },
            region::BAR => match self.controller.region() {
                None => Region::default(),
                Some(region) => {
                    let (len, file) = (region.aperture().len(), region.aperture().file());
                    let areas = std::iter::once(0..len).collect();
                    let shared = region.is_shared().then_some(Shared { file, offset: 0, areas });
                    Region { len, shared }
                }
            },
            CONFIG => Region { len: CONFIG_BYTES as u64, shared: None },
            _ => Region::default(),
        }
    }

    fn vectors(&self) -> u32 {
        u32::from(self.controller.vectors())
    }

    fn read(&mut self, region: u32, offset: u64, to: &mut [u8]) -> Result<()> {
        match region {
            BAR0 => {
                self.controller.read_bar(offset, to);
                if self.controller.vanishes() {
                    // Nothing is answered any more.
                    return Err(Error::new(ErrorKind::Gone, "a fault has ended the device"));
                }
            }
            cmb::BAR | region::BAR => self.memory(region)?.read(offset, to)?,
            _ => self.controller.config_mut().read(offset, to),
        }
        Ok(())
    }

    fn write(&mut self, region: u32, offset: u64, from: &[u8]) -> Result<()> {
        self.stay_awake();
        match region {
            BAR0 => {
                self.controller.write_bar(offset, from);
                if offset == CMBMSC {
                    self.place_own_memory();
                }
            }
            cmb::BAR | region::BAR => self.memory(region)?.write(offset, from)?,
            _ => {
                if self.controller.config_mut().write(offset, from) == Effect::Reset {
                    self.controller.function_reset();
                    self.place_own_memory();
                }
            }
        }
        Ok(())
    }

    fn dma_added(&mut self, memory: DmaRegion) -> Result<()> {
        self.dma.add(memory)
    }

    fn dma_removed(&mut self, iova: u64, len: u64) {
        self.dma.remove(iova, len);
    }

    fn attach(&mut self, vector: u32, interrupt: Option<Interrupt>) {
        self.controller.attach(vector, interrupt);
    }

    fn reset(&mut self) -> Result<()> {
        self.controller.function_reset();
        self.place_own_memory();
        Ok(())
    }

    fn client_gone(&mut self) {
        self.controller.client_gone();
        self.place_own_memory();
        self.stay_awake();
    }

    fn poll(&mut self) -> Work {
        if self.controller.poll(&self.dma) || self.controller.vanishes() {
            self.stay_awake();
            return match self.controller.take_vanish() {
                None if self.controller.is_slow() => Work::Long,
                None => Work::Busy,
                Some(how) => {
                    self.exits = how == Vanish::Exit;
                    Work::Leave
                }
            };
        }
        self.rest()
    }
}
