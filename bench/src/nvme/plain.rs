//! A polled loop that reads 4 KiB blocks and checks nothing: no time-outs, no resets, no
//! lost or unknown completions, no buffers of anybody else's, no queue for others to use.
//! What it does is the least that NVMe asks of a host, with the doorbells that the driver
//! writes: shadows where the controller offers them.

use super::place;
use crate::BLOCK;
use freehold_engine::bus::{Bar, Function, Register};
use freehold_engine::medium::{Error, ErrorKind, Result};
use freehold_engine::memory::{DmaPages, Pool};
use freehold_engine::nvme;
use freehold_engine::nvme::spec::command::{Command, Cqe};
use freehold_engine::nvme::spec::feature;
use freehold_engine::nvme::spec::identify::{
    IdentifyController, IdentifyNamespace, OACS_DOORBELL_BUFFER, cns,
};
use freehold_engine::nvme::spec::registers::{self as reg, Aqa, Cap, Cc, Csts};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

/// Entries of the admin rings.
const ADMIN: u32 = 8;
const PAGE: usize = 4096;
/// Bit of the phase tag in the upper word of a completion.
const PHASE: u64 = 1 << 48;

/// A controller, one queue pair of it, and a block of memory for each command.
#[derive(Debug)]
pub struct Plain {
    /// Kept: its end takes the controller's mappings with it.
    _function: Arc<dyn Function>,
    _pool: Pool,
    admin: Rings,
    rings: Rings,
    blocks: DmaPages,
    count: u64,
    shift: u32,
    /// Doorbells that were written, or their shadows.
    bells: u64,
}

/// A pair of rings.
#[derive(Debug)]
struct Rings {
    sq: DmaPages,
    cq: DmaPages,
    sq_mask: u32,
    cq_mask: u32,
    tail: u32,
    rung: u32,
    head: u32,
    told: u32,
    phase: u64,
    gather: u32,
    sq_bell: Bell,
    cq_bell: Bell,
}

/// A doorbell, and its shadow if there is one.
#[derive(Debug)]
struct Bell {
    register: Register,
    shadow: Option<(Arc<DmaPages>, usize)>,
}

impl Bell {
    #[inline]
    fn write(&self, new: u32, old: u32) -> Result<()> {
        let Some((pages, at)) = &self.shadow else {
            fence(Ordering::Release);
            return self.register.write(new);
        };
        pages.store32_release(*at, new);
        fence(Ordering::SeqCst);
        let event = pages.load32(PAGE + *at);
        if reg::crosses_event(event as u16, new as u16, old as u16) {
            return self.register.send(new);
        }
        Ok(())
    }
}

impl Rings {
    fn new(pool: &Pool, entries: u32, sq_bell: Bell, cq_bell: Bell) -> Result<Rings> {
        let cq_entries = (2 * entries).max(64);
        Ok(Rings {
            sq: pool.pages(entries as usize * Command::BYTES)?,
            cq: pool.pages(cq_entries as usize * Cqe::BYTES)?,
            sq_mask: entries - 1,
            cq_mask: cq_entries - 1,
            tail: 0,
            rung: 0,
            head: 0,
            told: 0,
            phase: PHASE,
            gather: cq_entries / 4,
            sq_bell,
            cq_bell,
        })
    }

    #[inline]
    fn push(&mut self, command: &Command) {
        self.sq.store_words(self.tail as usize * Command::BYTES, &command.0);
        self.tail = (self.tail + 1) & self.sq_mask;
    }

    #[inline]
    fn ring(&mut self) -> Result<u64> {
        if self.tail == self.rung {
            return Ok(0);
        }
        let old = std::mem::replace(&mut self.rung, self.tail);
        self.sq_bell.write(self.tail, old)?;
        Ok(1)
    }

    /// The upper word of the next completion, if it is there.
    #[inline]
    fn take(&mut self) -> Option<u64> {
        let word = self.cq.load64_acquire(self.head as usize * Cqe::BYTES + 8);
        if word & PHASE != self.phase {
            return None;
        }
        self.head = (self.head + 1) & self.cq_mask;
        if self.head == 0 {
            self.phase ^= PHASE;
        }
        Some(word)
    }

    #[inline]
    fn tell(&mut self) -> Result<u64> {
        if (self.head.wrapping_sub(self.told) & self.cq_mask) < self.gather {
            return Ok(0);
        }
        let old = std::mem::replace(&mut self.told, self.head);
        self.cq_bell.write(self.head, old)?;
        Ok(1)
    }
}

impl Plain {
    /// Brings the controller up, with one queue pair for `depth` commands.
    ///
    /// # Errors
    /// What the controller refuses.
    pub fn open(function: Arc<dyn Function>, depth: u32) -> Result<Plain> {
        let bar = function.bar(0)?;
        let pool = nvme::pool(&function)?;
        let stride = Cap(bar.read64(reg::CAP)?).dstrd() as u32;
        let mut admin = enable(function.as_ref(), &bar, &pool, stride)?;
        let data = pool.pages(PAGE)?;
        run(&mut admin, &Command::identify(cns::CONTROLLER, 0).with_prps(data.iova(), 0))?;
        let controller = IdentifyController::from_bytes(page(&data));
        let shadows = if controller.oacs() & OACS_DOORBELL_BUFFER != 0 {
            let pages = Arc::new(pool.pages(2 * PAGE)?);
            let at = pages.iova();
            run(&mut admin, &Command::doorbell_buffer(at, at + PAGE as u64))?;
            Some(pages)
        } else {
            None
        };
        run(&mut admin, &Command::identify(cns::NAMESPACE, 1).with_prps(data.iova(), 0))?;
        let namespace = IdentifyNamespace::from_bytes(page(&data));
        let shift = 12 - u32::from(namespace.current_format().lbads);
        let bell = |offset: u64, shadow: u64| -> Result<Bell> {
            let shadow = shadows.clone().map(|pages| (pages, shadow as usize));
            Ok(Bell { register: bar.register(offset)?, shadow })
        };
        let entries = (depth + 1).next_power_of_two();
        let rings = Rings::new(
            &pool,
            entries,
            bell(reg::sq_doorbell(1, stride), reg::shadow_sq(1, stride))?,
            bell(reg::cq_doorbell(1, stride), reg::shadow_cq(1, stride))?,
        )?;
        run(&mut admin, &Command::set_features(feature::id::QUEUES, 0))?;
        run(&mut admin, &Command::create_cq(1, rings.cq_mask + 1, rings.cq.iova(), None))?;
        run(&mut admin, &Command::create_sq(1, entries, rings.sq.iova(), 1))?;
        let blocks = pool.pages(depth as usize * PAGE)?;
        let (count, _function) = (namespace.nsze() >> shift, function);
        Ok(Plain { _function, _pool: pool, admin, rings, blocks, count, shift, bells: 0 })
    }

    /// Reads `count` blocks at random places, `depth` at a time (not more than it was
    /// opened for); gives how many a second.
    ///
    /// # Errors
    /// What a doorbell by message reports.
    pub fn read(&mut self, depth: u32, count: u64) -> Result<f64> {
        let start = Instant::now();
        let mut begun = 0;
        for slot in 0..u64::from(depth).min(count) {
            self.push(slot as u16, begun);
            begun += 1;
        }
        self.bells += self.rings.ring()?;
        let mut ended = 0;
        while ended < count {
            let before = ended;
            while let Some(word) = self.rings.take() {
                ended += 1;
                if begun < count {
                    self.push((word >> 32) as u16, begun);
                    begun += 1;
                }
            }
            if ended == before {
                std::hint::spin_loop();
                continue;
            }
            self.bells += self.rings.tell()? + self.rings.ring()?;
        }
        Ok(count as f64 / start.elapsed().as_secs_f64())
    }

    /// Doorbells, or their shadows, that were written so far.
    pub fn bells(&self) -> u64 {
        self.bells
    }

    #[inline]
    fn push(&mut self, slot: u16, number: u64) {
        let at = place(number, self.count) << self.shift;
        let address = self.blocks.iova() + u64::from(slot) * BLOCK;
        let read = Command::read(1, at, 1 << self.shift).with_cid(slot).with_prps(address, 0);
        self.rings.push(&read);
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        // Nothing is in flight; what the controller still has goes with its connection.
        let _ = run(&mut self.admin, &Command::delete_sq(1));
        let _ = run(&mut self.admin, &Command::delete_cq(1));
    }
}

/// Starts the controller with its admin rings.
fn enable(function: &dyn Function, bar: &Bar, pool: &Pool, stride: u32) -> Result<Rings> {
    let mut command = [0; 2];
    function.config(4, &mut command)?;
    // Memory space and bus master.
    function.set_config(4, &(u16::from_le_bytes(command) | 6).to_le_bytes())?;
    bar.write32(reg::CC, 0)?;
    until_ready(bar, 0)?;
    let bell = |offset| Ok::<_, Error>(Bell { register: bar.register(offset)?, shadow: None });
    let (sq, cq) = (bell(reg::sq_doorbell(0, stride))?, bell(reg::cq_doorbell(0, stride))?);
    let mut admin = Rings::new(pool, ADMIN, sq, cq)?;
    admin.cq_mask = ADMIN - 1;
    admin.gather = 1;
    let sizes = Aqa(0).with_asqs(ADMIN - 1).with_acqs(ADMIN - 1);
    bar.write32(reg::AQA, sizes.0)?;
    bar.write64(reg::ASQ, admin.sq.iova())?;
    bar.write64(reg::ACQ, admin.cq.iova())?;
    let enable = Cc(0).with_en(1).with_iosqes(Command::LOG2).with_iocqes(Cqe::LOG2);
    bar.write32(reg::CC, enable.0)?;
    until_ready(bar, 1)?;
    Ok(admin)
}

/// One page of what the controller has told.
fn page(data: &DmaPages) -> [u8; PAGE] {
    let mut bytes = [0; PAGE];
    data.read(0, &mut bytes);
    bytes
}

/// Waits until CSTS.RDY is as it is wanted.
fn until_ready(bar: &Bar, wanted: u32) -> Result<()> {
    let give_up = Instant::now() + Duration::from_secs(10);
    while Csts(bar.read32(reg::CSTS)?).rdy() != wanted {
        if Instant::now() > give_up {
            return Err(Error::new(ErrorKind::Io, "the controller does not get ready"));
        }
    }
    Ok(())
}

/// Runs an admin command.
fn run(rings: &mut Rings, command: &Command) -> Result<()> {
    rings.push(command);
    rings.ring()?;
    let give_up = Instant::now() + Duration::from_secs(10);
    let word = loop {
        if let Some(word) = rings.take() {
            break word;
        }
        if Instant::now() > give_up {
            return Err(Error::new(ErrorKind::Io, "an admin command does not end"));
        }
    };
    rings.tell()?;
    match word >> 49 {
        0 => Ok(()),
        status => Err(Error::new(ErrorKind::Io, format!("an admin command failed: {status:#x}"))),
    }
}
