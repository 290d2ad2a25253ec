//! The controller: state, and who does what with it.
//!
//! Everything happens on the thread that calls: commands are executed whole, one
//! after another, in the call of [`Controller::poll`] that fetched them. So between
//! two calls no memory of the client is in use, which is what the answer to
//! DMA_UNMAP, a reset and a lost connection rely on. The exceptions are a command that
//! a fault delays: it touches nothing before its time, and looks its addresses up
//! then; and one whose data is written and is being made durable, which looks at no
//! memory of the client any more, but posts its completion.

mod admin;
mod events;
mod execute;
mod features;
mod identify;
mod io;
mod logs;
mod poll;
mod queues;
mod ranges;
mod registers;
mod sleep;

use super::aperture::Aperture;
use super::cmb::Cmb;
use super::config::ConfigSpace;
use super::disk::{Disk, Plan, Ticket};
use super::doorbell::Doorbells;
use super::fault::{Action, Faults};
use super::options::{Options, Profile, Traits};
use super::queue::{Cq, ShadowPages, Sq};
use super::random::mix;
use super::region::Region;
use super::transfer::Transfer;
use crate::medium::Result;
use crate::nvme::spec::command::Command;
use crate::nvme::spec::registers::{Aqa, Cc, Csts};
use crate::nvme::spec::status::Status;
use crate::vfio_user::server::Interrupt;
use events::Events;
use features::Features;
use logs::Logs;
pub(super) use registers::{BAR0_BYTES, DOORBELL_PAGE, MSIX_PENDING, MSIX_TABLE};
pub(super) use sleep::Rest;
use std::sync::Arc;
use std::time::Instant;

/// Commands that may wait at once, held back by a fault or for a flush.
const MOST_LATE: usize = 1024;

/// A namespace: its place on the disk.
#[derive(Debug, Clone, Copy)]
struct Namespace {
    /// First byte on the disk.
    start: u64,
    /// Logical blocks.
    blocks: u64,
}

/// The registers that are more than constants (Base 1.4, 3.1).
#[derive(Debug, Clone, Copy, Default)]
struct Registers {
    cc: Cc,
    csts: Csts,
    aqa: Aqa,
    asq: u64,
    acq: u64,
    /// INTMS and INTMC: kept, without effect, because there are message-signalled
    /// interrupts alone.
    mask: u32,
}

/// What a handler of a command says.
enum Outcome {
    /// Completed, with dword 0 or a status.
    Done(std::result::Result<u32, Status>),
    /// It is done when this has ended.
    Syncing(Ticket),
    /// It stays outstanding: an asynchronous event request.
    Outstanding,
}

/// A command that is not completed yet.
#[derive(Debug, Clone, Copy)]
struct Late {
    until: Until,
    qid: u16,
    command: Command,
}

/// What it waits for.
#[derive(Debug, Clone, Copy)]
enum Until {
    /// A fault holds it back: it is executed then.
    Due(Instant),
    /// All but that has been done.
    Synced(Ticket),
}

/// Why the emulator shall stop serving, said by a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Vanish {
    /// Close the connection.
    Close,
    /// End as if killed.
    Exit,
}

/// The controller. See the module.
#[derive(Debug)]
pub(super) struct Controller {
    traits: Traits,
    profile: Profile,
    lba_shift: u32,
    /// Blocks of the atomic unit that is kept across a kill.
    atomic_blocks: u16,
    namespaces: Vec<Namespace>,
    disk: Disk,
    region: Option<Region>,
    cmb: Option<Cmb>,
    serial: u64,
    started: Instant,
    registers: Registers,
    config: ConfigSpace,
    doorbells: Doorbells,
    /// By queue identifier; 0 is the admin queue.
    sqs: Vec<Option<Sq>>,
    cqs: Vec<Option<Cq>>,
    /// Submission queues that are there, in the order of their making.
    active: Vec<u16>,
    shadow: Option<ShadowPages>,
    /// The last admin doorbell came by a message: the client knows how to wake us.
    rings_by_message: bool,
    features: Features,
    events: Events,
    logs: Logs,
    faults: Faults,
    late: Vec<Late>,
    vanish: Option<Vanish>,
    irqs: Vec<Option<Interrupt>>,
    msix_table: Box<[u8; 4096]>,
    transfer: Transfer,
    /// Room for the largest transfer, and for a second one to compare with.
    scratch: Vec<u8>,
    /// Completion queues that were posted to in this look.
    posted: Vec<u16>,
    /// Looks at the queues since the last sweep over unused doorbells.
    looks: u32,
}

impl Controller {
    /// A controller that is powered up and not enabled, over the disk of the options.
    ///
    /// # Errors
    /// What the options or the backing make impossible.
    pub(super) fn new(options: &Options) -> Result<Self> {
        options.check()?;
        let len = options.total().unwrap_or(0);
        let plan = Plan {
            backing: &options.backing,
            len,
            cache: options.cache_unit(),
            seed: options.seed,
        };
        let disk = Disk::open(&plan)?;
        let region = options.region.as_ref();
        let region = region.map(|r| Region::new(r, options.volatile_cache, options.seed));
        let region = region.transpose()?;
        let cmb = options.cmb.map(Cmb::new).transpose()?;
        let traits = Traits::of(options, disk.is_volatile());
        let mut start = 0;
        let namespaces = options.namespaces.iter().map(|size| {
            let namespace = Namespace { start, blocks: size / u64::from(options.lba) };
            start += size;
            namespace
        });
        let namespaces: Vec<_> = namespaces.collect();
        let slots = usize::from(traits.queues) + 1;
        // A file keeps its identity; memory is new each time.
        let serial = disk.identity().map_or_else(
            || mix(options.seed ^ u64::from(std::process::id()) << 32),
            |(device, inode)| mix(device.rotate_left(32) ^ inode),
        );
        let mut irqs = Vec::new();
        irqs.resize_with(usize::from(traits.vectors()), || None);
        Ok(Self {
            profile: options.profile,
            lba_shift: options.lba.trailing_zeros(),
            atomic_blocks: (options.atomic.unwrap_or(options.lba) / options.lba) as u16,
            namespaces,
            serial,
            started: Instant::now(),
            registers: Registers::default(),
            config: config(&traits, cmb.as_ref(), region.as_ref()),
            doorbells: Doorbells::new()?,
            sqs: none(slots),
            cqs: none(slots),
            active: Vec::new(),
            shadow: None,
            rings_by_message: false,
            features: Features::new(&traits),
            events: Events::default(),
            logs: Logs::default(),
            faults: Faults::new(&options.faults, options.seed),
            late: Vec::new(),
            vanish: None,
            irqs,
            msix_table: Box::new([0; 4096]),
            transfer: Transfer::default(),
            scratch: vec![0; 2 * traits.max_transfer() as usize],
            posted: Vec::new(),
            looks: 0,
            disk,
            region,
            cmb,
            traits,
        })
    }

    /// Ends all queues and what is in flight: a controller level reset (Base 1.4,
    /// 7.3.2). What was written stays written.
    fn reset(&mut self) {
        self.sqs.iter_mut().for_each(|sq| *sq = None);
        self.cqs.iter_mut().for_each(|cq| *cq = None);
        self.active.clear();
        self.late.clear();
        self.posted.clear();
        self.shadow = None;
        self.rings_by_message = false;
        self.features = Features::new(&self.traits);
        self.events = Events::default();
        self.doorbells.clear();
        self.registers.csts = Csts(0);
    }

    /// A function reset: as if the power had come on, but the disk and its cache stay.
    pub(super) fn function_reset(&mut self) {
        self.reset();
        self.registers = Registers::default();
        self.config = config(&self.traits, self.cmb.as_ref(), self.region.as_ref());
        if let Some(cmb) = &mut self.cmb {
            cmb.reset();
        }
        if let Some(region) = &mut self.region {
            region.reset();
        }
        self.msix_table.fill(0);
    }

    /// The client has gone: nothing of it is left, not even its interrupts.
    pub(super) fn client_gone(&mut self) {
        self.function_reset();
        self.irqs.iter_mut().for_each(|irq| *irq = None);
        if let Some(cmb) = &self.cmb {
            cmb.clear();
        }
        self.vanish = None;
    }

    /// Writes what is cached through, because the emulator ends.
    ///
    /// # Errors
    /// When it is not known to be durable.
    pub(super) fn flush(&mut self) -> std::result::Result<(), super::disk::Trouble> {
        self.disk.flush()?;
        match self.region.as_mut().map_or(Ok(()), Region::put_down) {
            Ok(()) => Ok(()),
            Err(_) => Err(super::disk::Trouble::NotDurable),
        }
    }

    /// The Persistent Memory Region.
    pub(super) fn region(&self) -> Option<&Region> {
        self.region.as_ref()
    }

    /// The Controller Memory Buffer.
    pub(super) fn cmb(&self) -> Option<&Cmb> {
        self.cmb.as_ref()
    }

    /// Memory of the controller's own, and the address that commands name it by.
    pub(super) fn own_memory(&self) -> Option<(u64, &Arc<Aperture>)> {
        let cmb = self.cmb.as_ref()?;
        Some((cmb.base()?, cmb.aperture()))
    }

    /// That address cannot be: the client's memory is there.
    pub(super) fn refuse_own_memory(&mut self) {
        if let Some(cmb) = &mut self.cmb {
            cmb.refuse();
        }
    }

    /// A barrier of the region, unless a fault has chosen it.
    fn barrier(&mut self) {
        let Some(region) = &mut self.region else { return };
        match self.faults.strike_barrier() {
            None => region.barrier(),
            Some(Action::Region { error, health }) => region.spoil(error, health),
            Some(Action::Vanish { exit }) => {
                region.put_some_down(true);
                self.vanish = Some(if exit { Vanish::Exit } else { Vanish::Close });
            }
            // Others strike commands alone.
            Some(_) => {}
        }
    }

    /// Now and then: some of what was stored to the region gets durable before a barrier.
    pub(super) fn put_some_down(&mut self) {
        if let Some(region) = &mut self.region {
            region.put_some_down(false);
        }
    }

    /// The controller has met what it cannot go on from: CSTS.CFS (Base 1.4, 9.5).
    fn fail(&mut self) {
        self.registers.csts = self.registers.csts.with_cfs(1);
    }

    /// Whether commands are fetched: enabled, ready, not shut down, not failed, and
    /// allowed to reach memory.
    fn is_running(&self) -> bool {
        let csts = self.registers.csts;
        csts.rdy() == 1 && csts.cfs() == 0 && csts.shst() == 0 && self.config.is_bus_master()
    }

    /// Whether a fault has asked the server to do something.
    pub(super) fn vanishes(&self) -> bool {
        self.vanish.is_some()
    }

    /// What a fault has asked the server to do, once.
    pub(super) fn take_vanish(&mut self) -> Option<Vanish> {
        self.vanish.take()
    }

    /// Interrupt vectors that can be attached.
    pub(super) fn vectors(&self) -> u16 {
        self.traits.vectors()
    }

    /// Gives a vector its interrupt, or takes it away. Whoever attaches one looks for
    /// completions that came before by himself.
    pub(super) fn attach(&mut self, vector: u32, interrupt: Option<Interrupt>) {
        if let Some(slot) = self.irqs.get_mut(vector as usize) {
            *slot = interrupt;
        }
    }

    /// The doorbells' file.
    pub(super) fn doorbells(&self) -> &Doorbells {
        &self.doorbells
    }

    /// The space of configuration registers.
    pub(super) fn config_mut(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }
}

/// The space of configuration registers after a reset.
fn config(traits: &Traits, cmb: Option<&Cmb>, region: Option<&Region>) -> ConfigSpace {
    let cmb = cmb.map_or(0, |cmb| cmb.aperture().len());
    let region = region.map_or(0, |region| region.aperture().len());
    ConfigSpace::new(traits.vendor, traits.vectors(), cmb, region)
}

fn none<T>(count: usize) -> Vec<Option<T>> {
    let mut slots = Vec::new();
    slots.resize_with(count, || None);
    slots
}
