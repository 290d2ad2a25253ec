//! A controller made by hand, in this process and without a thread: it acts when a
//! register is written, and does what a test tells it, however wrong.

use crate::bus::{Area, Bar, DmaLimits, DmaMap, Function, Mmio, Registers};
use crate::medium::{Error, ErrorKind, Result};
use crate::nvme::spec::command::{Command, Cqe, admin, nvm};
use crate::nvme::spec::identify::{
    IdentifyController, IdentifyNamespace, LbaFormat, OACS_DOORBELL_BUFFER, cns,
};
use crate::nvme::spec::registers::{
    ACQ, AQA, ASQ, CAP, CC, CMBLOC, CMBMSC, CMBSTS, CMBSZ, CSTS, Cap, Cc, CmbLoc, CmbMsc, CmbSz,
    Csts, DOORBELLS, PMRCAP, PMRCTL, PMRSTS, PmrCap,
};
use crate::nvme::spec::status::Status;
use rustix::event::{EventfdFlags, PollFlags, eventfd};
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

pub(super) const BLOCKS: u64 = 1024;
const BAR: u64 = 0x2000;

/// A ring pair as the controller sees it.
#[derive(Default)]
struct Pair {
    sq: u64,
    cq: u64,
    sq_entries: u32,
    cq_entries: u32,
    head: u32,
    tail: u32,
    phase: bool,
}

/// What the controller is like, and what it has.
#[derive(Default)]
pub(super) struct State {
    registers: BTreeMap<u64, u64>,
    maps: Vec<(u64, u64, usize)>,
    pairs: BTreeMap<u16, Pair>,
    /// I/O commands that were fetched and are not answered.
    pub(super) held: Vec<(u16, Command)>,
    /// Fetched commands are answered at once, and well.
    pub(super) obeys: bool,
    /// CSTS.RDY never goes away again.
    pub(super) stuck: bool,
    pub(super) fatal: bool,
    /// Every register reads as all ones.
    pub(super) vanished: bool,
    /// The link is broken.
    pub(super) cut: bool,
    /// Memory without a file can be mapped, as through the kernel's VFIO.
    pub(super) foreign: bool,
    pub(super) vectors: u32,
    /// Memory is not taken back.
    pub(super) clings: bool,
    /// It can be released, and whether it was.
    pub(super) releases: bool,
    pub(super) released: bool,
    /// What optional commands it has.
    pub(super) oncs: u16,
    /// What becomes of identify data before the driver gets them.
    pub(super) garble: Option<fn(&mut [u8], u64)>,
    /// What `garble` is told.
    pub(super) seed: u64,
    /// How often it was enabled.
    pub(super) starts: u32,
    /// Doorbell writes of I/O queues.
    pub(super) rings: u32,
    /// Further bits of CAP.
    pub(super) cap: u64,
    /// What PMRSTS says, one after another; the last for ever.
    pub(super) pmr_status: VecDeque<u32>,
    /// Reads of PMRSTS, and values that PMRCTL was given.
    pub(super) barriers: u32,
    pub(super) pmr_control: Vec<u32>,
    /// A controller reset disables the region.
    pub(super) pmr_forgets: bool,
    /// The memory buffer, in BAR 2, shown by CMBMSC.CRE; and what CMBSZ says of it.
    pub(super) cmb: Option<Arc<Memory>>,
    pub(super) cmb_size: u32,
    /// CDPCILS: lists need not lie where their queues do.
    pub(super) lists_apart: bool,
    /// Writes of CMBMSC: how wide, and what.
    pub(super) cmb_control: Vec<(usize, u64)>,
    /// It does not take the address.
    pub(super) cmb_refuses: bool,
    /// It offers shadow doorbells, and asks to be told of each.
    pub(super) shadowed: bool,
    /// Where it asks for that.
    events: Option<u64>,
    /// What BAR 4 maps.
    pub(super) region: Option<Arc<Memory>>,
}

/// Memory of the fake device.
pub(super) struct Memory(NonNull<u8>, usize);

impl Memory {
    /// Whole pages, zeroed; leaked, because a test's windows may outlive the test's fake.
    pub(super) fn new(pages: usize) -> Arc<Self> {
        let memory = vec![Aligned([0; 4096]); pages].leak();
        Arc::new(Self(NonNull::from(memory).cast(), pages * 4096))
    }

    /// Eight bytes of it.
    pub(super) fn load(&self, at: usize) -> u64 {
        assert!(at + 8 <= self.1 && at.is_multiple_of(8));
        // SAFETY: inside, aligned, never freed; volatile, as everybody's accesses are.
        unsafe { self.0.add(at).cast::<u64>().read_volatile() }
    }
}

#[derive(Clone)]
#[repr(align(4096))]
#[expect(dead_code, reason = "its bytes are reached by its address")]
struct Aligned([u8; 4096]);

// SAFETY: an address of memory that is never freed, used by volatile accesses alone.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

// SAFETY: whole pages that are never freed and to which no reference is left.
unsafe impl Mmio for Memory {
    fn base(&self) -> NonNull<u8> {
        self.0
    }

    fn len(&self) -> usize {
        self.1
    }
}

/// The function that has it.
pub(super) struct Fake(Arc<Space>, Arc<OnceLock<bool>>, Option<OwnedFd>);

struct Space(Mutex<State>);

impl Fake {
    pub(super) fn new() -> Arc<Self> {
        let state = State { obeys: true, oncs: 0x0d, ..State::default() };
        Arc::new(Self(Arc::new(Space(Mutex::new(state))), Arc::default(), None))
    }

    /// With an eventfd that tells when the link is broken.
    pub(super) fn with_alarm() -> Arc<Self> {
        let state = State { obeys: true, oncs: 0x0d, ..State::default() };
        let alarm = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
        Arc::new(Self(Arc::new(Space(Mutex::new(state))), Arc::default(), Some(alarm)))
    }

    /// Breaks the link, and tells.
    pub(super) fn alarm(&self) {
        self.state().cut = true;
        rustix::io::write(self.2.as_ref().unwrap(), &1u64.to_ne_bytes()).unwrap();
    }

    /// With a memory buffer of so many pages in BAR 2, in which this may lie.
    pub(super) fn with_buffer(pages: usize, allows: CmbSz) -> Arc<Self> {
        let fake = Self::new();
        {
            let mut state = fake.state();
            state.cap = Cap(0).with_cmbs(1).0;
            state.cmb = Some(Memory::new(pages));
            state.lists_apart = true;
            state.cmb_size = allows.with_sz(pages as u32).0;
        }
        fake
    }

    /// With a region of so many pages in BAR 4, of which PMRCAP says this.
    pub(super) fn with_region(pages: usize, pmrcap: PmrCap) -> Arc<Self> {
        let fake = Self::new();
        {
            let mut state = fake.state();
            state.cap = Cap(0).with_pmrs(1).0;
            state.registers.insert(PMRCAP, pmrcap.0.into());
            state.region = Some(Memory::new(pages));
        }
        fake
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap()
    }
}

impl State {
    /// How many mappings there are.
    pub(super) fn mapped(&self) -> usize {
        self.maps.len()
    }

    /// Where a device address is in this process.
    pub(super) fn place_of(&self, iova: u64) -> usize {
        self.place(iova, 1)
    }

    pub(super) fn load(&self, iova: u64, len: usize) -> Vec<u8> {
        let at = self.place(iova, len);
        // SAFETY: a test's driver keeps what it maps mapped; nobody has references there.
        (0..len).map(|i| unsafe { ((at + i) as *const u8).read_volatile() }).collect()
    }

    fn store(&self, iova: u64, bytes: &[u8]) {
        let at = self.place(iova, bytes.len());
        for (i, &byte) in bytes.iter().enumerate() {
            // SAFETY: as in `load`.
            unsafe { ((at + i) as *mut u8).write_volatile(byte) };
        }
    }

    /// The last address of the memory buffer, if it is in force.
    fn buffer(&self) -> Option<(u64, u64, usize)> {
        let memory = self.cmb.as_ref()?;
        let &(8, value) = self.cmb_control.last()? else { return None };
        let control = CmbMsc(value);
        let place = (control.cba() << 12, memory.1 as u64, memory.0.as_ptr().addr());
        (control.cmse() == 1).then_some(place)
    }

    /// Whether an address lies in the memory buffer.
    pub(super) fn in_buffer(&self, iova: u64) -> bool {
        self.buffer().is_some_and(|(at, len, _)| (at..at + len).contains(&iova))
    }

    /// Panics for what was never mapped: a stray access.
    fn place(&self, iova: u64, len: usize) -> usize {
        if let Some((at, size, address)) = self.buffer()
            && at <= iova
            && iova + len as u64 <= at + size
        {
            return address + (iova - at) as usize;
        }
        let inside = |m: &&(u64, u64, usize)| m.0 <= iova && iova + len as u64 <= m.0 + m.1;
        let map = self.maps.iter().find(inside).expect("the driver maps what it names");
        map.2 + (iova - map.0) as usize
    }

    /// Where a queue's submission ring is.
    pub(super) fn ring_of(&self, qid: u16) -> u64 {
        self.pairs[&qid].sq
    }

    /// Posts a completion, right or wrong.
    pub(super) fn post(&mut self, qid: u16, cqe: impl FnOnce(u16, bool) -> Cqe) {
        let pair = self.pairs.get_mut(&qid).expect("the queue exists");
        let cqe = cqe(pair.head as u16, pair.phase);
        let at = pair.cq + u64::from(pair.tail) * Cqe::BYTES as u64;
        pair.tail = (pair.tail + 1) % pair.cq_entries;
        pair.phase ^= pair.tail == 0;
        self.store(at, &cqe.to_bytes());
    }

    /// Completes a command of a queue.
    pub(super) fn complete(&mut self, qid: u16, cid: u16, status: Status) {
        self.post(qid, |head, phase| Cqe::new(0, head, qid, cid, status, phase));
    }

    /// Completes all that is held.
    pub(super) fn complete_held(&mut self) {
        for (qid, command) in std::mem::take(&mut self.held) {
            self.complete(qid, command.cid(), Status::SUCCESS);
        }
    }

    fn fetch(&mut self, qid: u16, tail: u32) {
        while let Some(pair) = self.pairs.get_mut(&qid).filter(|pair| pair.head != tail) {
            let at = pair.sq + u64::from(pair.head) * Command::BYTES as u64;
            pair.head = (pair.head + 1) % pair.sq_entries;
            let command = Command::from_bytes(&self.load(at, 64).try_into().unwrap());
            match qid {
                0 => self.administer(command),
                _ if self.obeys => self.obey(qid, command),
                _ => self.held.push((qid, command)),
            }
        }
    }

    fn obey(&mut self, qid: u16, command: Command) {
        if command.opcode() == nvm::READ {
            // One page says what was read; the rest stays.
            self.store(command.prp1(), &command.slba().to_le_bytes());
        }
        self.complete(qid, command.cid(), Status::SUCCESS);
    }

    fn administer(&mut self, command: Command) {
        let qid = command.cdw(10) as u16;
        let entries = (command.cdw(10) >> 16) + 1;
        match command.opcode() {
            admin::IDENTIFY if command.cdw(10) == u32::from(cns::CONTROLLER) => {
                let mut id = IdentifyController::new();
                id.set_sqes(0x66);
                id.set_cqes(0x44);
                id.set_mdts(2);
                id.set_oncs(self.oncs);
                id.set_oacs(if self.shadowed { OACS_DOORBELL_BUFFER } else { 0 });
                self.identify(command.prp1(), id.as_bytes());
            }
            admin::IDENTIFY => {
                let mut id = IdentifyNamespace::new();
                id.set_nsze(BLOCKS);
                id.set_lba_format(0, LbaFormat { metadata: 0, lbads: 12, performance: 0 });
                self.identify(command.prp1(), id.as_bytes());
            }
            admin::CREATE_CQ => {
                let pair = Pair {
                    cq: command.prp1(),
                    cq_entries: entries,
                    phase: true,
                    ..Pair::default()
                };
                self.pairs.insert(qid, pair);
            }
            admin::CREATE_SQ => {
                let pair = self.pairs.get_mut(&qid).expect("its completion queue exists");
                (pair.sq, pair.sq_entries) = (command.prp1(), entries);
            }
            admin::DOORBELL_BUFFER => self.events = Some(command.prp2()),
            _ => {}
        }
        self.post(0, |head, phase| {
            Cqe::new(0x0007_0007, head, 0, command.cid(), Status::SUCCESS, phase)
        });
    }

    /// Gives identify data, as they are or spoiled.
    fn identify(&mut self, at: u64, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        if let Some(garble) = self.garble {
            garble(&mut bytes, self.seed);
        }
        self.store(at, &bytes);
    }

    fn configure(&mut self, cc: Cc) {
        let was = Cc(self.registers.get(&CC).map_or(0, |v| *v as u32));
        self.registers.insert(CC, cc.0.into());
        if cc.en() == 1 && was.en() == 0 {
            self.starts += 1;
            let (asq, acq) = (self.registers[&ASQ], self.registers[&ACQ]);
            let entries = (self.registers[&AQA] as u32 & 0xfff) + 1;
            let pair = Pair {
                sq: asq,
                cq: acq,
                sq_entries: entries,
                cq_entries: entries,
                phase: true,
                ..Pair::default()
            };
            if self.pmr_forgets {
                self.registers.remove(&PMRCTL);
            }
            self.pairs = BTreeMap::from([(0, pair)]);
            self.held.clear();
            self.events = None;
            self.fatal = false;
        }
    }

    fn status(&self) -> u32 {
        let enabled = Cc(self.registers.get(&CC).map_or(0, |v| *v as u32)).en();
        let shut = self.registers.get(&CC).is_some_and(|v| Cc(*v as u32).shn() != 0);
        Csts(0)
            .with_rdy(if self.stuck { 1 } else { enabled })
            .with_cfs(self.fatal.into())
            .with_shst(if shut { 2 } else { 0 })
            .0
    }
}

fn broken() -> Error {
    Error::new(ErrorKind::Gone, "the link is cut")
}

impl Registers for Space {
    fn read(&self, _: u8, offset: u64, to: &mut [u8]) -> Result<()> {
        let mut state = self.0.lock().unwrap();
        if state.cut {
            return Err(broken());
        }
        let value = match offset {
            _ if state.vanished => u64::MAX,
            CAP => Cap(state.cap).with_mqes(63).with_cqr(1).with_to(1).with_css(1).0,
            CMBLOC | CMBSZ => {
                let shown = state.cmb_control.last().is_some_and(|(_, v)| CmbMsc(*v).cre() == 1);
                let value = if offset == CMBLOC {
                    CmbLoc(0).with_bir(2).with_cdpcils(state.lists_apart.into()).0
                } else {
                    state.cmb_size
                };
                if shown { value.into() } else { 0 }
            }
            CMBSTS => u64::from(state.cmb_refuses),
            PMRSTS => {
                state.barriers += 1;
                let next = state.pmr_status.front().copied().unwrap_or(0);
                if state.pmr_status.len() > 1 {
                    state.pmr_status.pop_front();
                }
                next.into()
            }
            CSTS => state.status().into(),
            _ => state.registers.get(&offset).copied().unwrap_or(0),
        };
        to.copy_from_slice(&value.to_le_bytes()[..to.len()]);
        Ok(())
    }

    fn write(&self, _: u8, offset: u64, from: &[u8]) -> Result<()> {
        let mut state = self.0.lock().unwrap();
        if state.cut {
            return Err(broken());
        }
        let mut bytes = [0; 8];
        bytes[..from.len()].copy_from_slice(from);
        let value = u64::from_le_bytes(bytes);
        match offset {
            CC => state.configure(Cc(value as u32)),
            CMBMSC => state.cmb_control.push((from.len(), value)),
            _ if offset >= DOORBELLS => {
                let number = (offset - DOORBELLS) / 4;
                state.rings += u32::from(number > 1);
                if let Some(events) = state.events.filter(|_| number > 1) {
                    state.store(events + number * 4, &(value as u32).to_le_bytes());
                }
                if number.is_multiple_of(2) {
                    state.fetch((number / 2) as u16, value as u32);
                }
            }
            _ => {
                if offset == PMRCTL {
                    state.pmr_control.push(value as u32);
                }
                state.registers.insert(offset, value);
            }
        }
        Ok(())
    }
}

impl Function for Fake {
    fn name(&self) -> &str {
        "fake"
    }

    fn config(&self, _: u16, to: &mut [u8]) -> Result<()> {
        to.fill(0);
        Ok(())
    }

    fn set_config(&self, _: u16, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn bar(&self, index: u8) -> Result<Bar> {
        let space: Arc<dyn Registers> = Arc::<Space>::clone(&self.0);
        let state = self.state();
        let found = match index {
            2 => state.cmb.as_ref(),
            4 => state.region.as_ref(),
            _ => None,
        };
        if let Some(found) = found {
            let memory: Arc<dyn Mmio> = Arc::<Memory>::clone(found);
            let len = memory.len() as u64;
            return Ok(Bar::new(index, len, vec![Area { offset: 0, memory }], space));
        }
        Ok(Bar::new(index, BAR, Vec::new(), space))
    }

    fn dma_limits(&self) -> DmaLimits {
        let ranges = std::iter::once(0..1 << 40).collect();
        DmaLimits { ranges, page_sizes: 4096, max_maps: 16, foreign_memory: self.state().foreign }
    }

    unsafe fn map(&self, map: &DmaMap<'_>) -> Result<()> {
        assert!(map.file.is_some() || self.state().foreign, "memory without a file");
        self.state().maps.push((map.iova, map.len, map.address));
        Ok(())
    }

    fn unmap(&self, iova: u64, _: u64) -> Result<()> {
        if self.state().clings {
            return Err(broken());
        }
        self.state().maps.retain(|map| map.0 != iova);
        Ok(())
    }

    fn reset(&self) -> Result<()> {
        Err(Error::new(ErrorKind::Unsupported, "it has no such reset"))
    }

    fn vectors(&self) -> u32 {
        self.state().vectors
    }

    fn attach(&self, vector: u32, _: Option<BorrowedFd<'_>>) -> Result<()> {
        match vector < self.vectors() {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::Invalid, "it has no such vector")),
        }
    }

    fn check(&self) -> Result<()> {
        if self.state().cut { Err(broken()) } else { Ok(()) }
    }

    fn link_fd(&self) -> Option<BorrowedFd<'_>> {
        self.2.as_ref().map(|alarm| alarm.as_fd())
    }

    fn link_events(&self) -> PollFlags {
        PollFlags::IN
    }

    fn release(&self) -> bool {
        let mut state = self.state();
        if !state.releases {
            return false;
        }
        state.released = true;
        if !state.clings {
            state.maps.clear();
        }
        *self.1.get_or_init(|| !state.clings)
    }

    fn released(&self) -> Option<Arc<OnceLock<bool>>> {
        self.state().releases.then(|| Arc::clone(&self.1))
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.release();
    }
}

impl std::fmt::Debug for Fake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fake").finish_non_exhaustive()
    }
}
