//! A store, some sessions, and the steps that the histories of leases are made of.

use crate::cases::Verdict;
use freehold_blockmap::arbiter::{Access, Kinds};
use freehold_blockmap::{
    Error, ErrorKind, Event, FileHandle, FormatSpec, LeaseAt, LeaseCore, LeaseSpec, SealCore,
    SealSpec, SessionCore, Volume, VolumeQueue,
};
use freehold_engine::pin::State;
use freehold_engine::sim::{CachedMedium, Hold, OpKind, SimMedium, SimOptions, Survival};
use freehold_engine::{FormatOptions, format_target};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Bytes of a block.
pub(super) const B: u64 = 4096;

/// What does not happen within this time does not happen.
pub(super) const LONG: Duration = Duration::from_secs(20);

/// What is to go on waiting is watched for so long.
const WATCHED: Duration = Duration::from_millis(4);

/// A store with a file `f` of 16 blocks, whose bytes are all 1, and two sessions.
pub struct World {
    pub(super) vol: Arc<Volume>,
    /// Who holds.
    pub(super) holder: Arc<SessionCore>,
    /// Who comes.
    pub(super) comer: Arc<SessionCore>,
    /// As the one who comes has it.
    pub(super) file: FileHandle,
    pub(super) sim: Option<SimMedium>,
}

/// Any error as a text that says its kind.
pub(super) fn text(e: Error) -> String {
    format!("{:?}: {e}", e.kind())
}

/// Fails with a text unless something holds.
pub(super) fn demand(holds: bool, what: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(what()) }
}

/// Fails unless it was refused in this way.
pub(super) fn refused<T>(what: &str, kind: ErrorKind, done: Result<T, Error>) -> Verdict {
    match done {
        Err(e) if e.kind() == kind => Ok(()),
        Err(e) => Err(format!("{what}: {}, and should be {kind:?}", text(e))),
        Ok(_) => Err(format!("{what} was not refused with {kind:?}")),
    }
}

/// Waits for something that somebody else does.
pub(super) fn wait(what: &str, mut over: impl FnMut() -> bool) -> Verdict {
    let begun = Instant::now();
    while !over() {
        if begun.elapsed() > LONG {
            return Err(format!("{what} did not come about"));
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

impl World {
    /// On memory, which is a window.
    pub(super) fn memory() -> Result<World, String> {
        let medium =
            format_target("mem:16M", &FormatOptions::default()).map_err(|e| e.to_string())?;
        let vol = Volume::format(medium, &FormatSpec::default()).map_err(text)?;
        World::on(vol, None)
    }

    /// On the simulated medium.
    pub(super) fn sim(seed: u64) -> Result<World, String> {
        let options = SimOptions { seed, blocks: 4096, ..SimOptions::default() };
        let sim = SimMedium::new(options);
        let vol = Volume::format(sim.medium(), &FormatSpec::default()).map_err(text)?;
        World::on(vol, Some(sim))
    }

    /// The same on a window behind a cache, the file's blocks in 16 places.
    pub(super) fn window(medium: &CachedMedium) -> Result<World, String> {
        let vol = Volume::format(Arc::new(medium.clone()), &FormatSpec::default()).map_err(text)?;
        let w = Self::on(vol, None)?;
        drop(w.vol.reflink(b"f", b"g").map_err(text)?);
        for block in (0..16).step_by(2) {
            w.overwrite(block, 1)?;
        }
        w.vol.remove(b"g").map_err(text)?;
        w.vol.checkpoint().map_err(text)?;
        Ok(w)
    }

    fn on(vol: Arc<Volume>, sim: Option<SimMedium>) -> Result<World, String> {
        vol.set_lease_time(LONG);
        let file = vol.create(b"f").map_err(text)?;
        vol.write_at(&file, &[1; 16 * B as usize], 0).map_err(text)?;
        vol.sync().map_err(text)?;
        let (holder, comer) = (vol.new_session(), vol.new_session());
        let file = file.for_session(comer.id());
        Ok(World { vol, holder, comer, file, sim })
    }

    /// Overdue at once, from now on.
    pub(super) fn hurry(&self) {
        self.vol.set_lease_time(Duration::from_millis(1));
    }

    /// The file as somebody has it.
    pub(super) fn of(&self, who: &Arc<SessionCore>) -> FileHandle {
        self.file.clone().for_session(who.id())
    }

    /// A lease of the holder on some blocks.
    pub(super) fn lease(
        &self,
        access: Access,
        first: u64,
        blocks: u64,
    ) -> Result<Arc<LeaseCore>, String> {
        self.lease_of(&self.holder, access, (first * B, blocks * B)).map_err(text)
    }

    /// A lease on some bytes of the file.
    pub(super) fn lease_of(
        &self,
        who: &Arc<SessionCore>,
        access: Access,
        range: (u64, u64),
    ) -> Result<Arc<LeaseCore>, Error> {
        let spec = LeaseSpec { access, max_hold: Duration::ZERO };
        self.vol.lease(&self.of(who), who, range, spec)
    }

    pub(super) fn seal(
        &self,
        who: &Arc<SessionCore>,
        kinds: Kinds,
        timeout: Duration,
    ) -> Result<SealCore, Error> {
        let spec = SealSpec { kinds, breakable: false, timeout };
        self.vol.seal(&self.of(who), who, (0, 16 * B), spec)
    }

    /// Begins something on a thread of its own.
    pub(super) fn begin<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Arc<Volume>, &FileHandle) -> T + Send + 'static,
    ) -> Running<T> {
        let (vol, file) = (self.vol.clone(), self.file.clone());
        Running(std::thread::spawn(move || act(&vol, &file)))
    }

    pub(super) fn overwrite(&self, block: u64, byte: u8) -> Verdict {
        self.vol.write_at(&self.file, &[byte; B as usize], block * B).map_err(text)
    }

    /// A block as the one who comes reads it.
    pub(super) fn block(&self, block: u64) -> Result<Vec<u8>, String> {
        read(&self.vol, &self.file, block)
    }

    /// A block that is the same byte all over.
    pub(super) fn holds(&self, block: u64, byte: u8) -> Verdict {
        holds(&self.vol, &self.file, block, byte)
    }

    pub(super) fn queue(&self) -> Result<VolumeQueue, String> {
        self.vol.queue(16).map_err(text)
    }

    /// Keeps writes in flight from now on.
    pub(super) fn hold_writes(&self) {
        let hold = Hold { kind: Some(OpKind::Write), tags: 0..1 << 40 };
        self.sim.as_ref().expect("the simulated medium").hold(hold);
    }

    pub(super) fn release(&self) {
        self.sim.as_ref().expect("the simulated medium").release();
    }

    /// The store after a power failure.
    pub(super) fn after_crash(&self, survival: Survival, seed: u64) -> Result<World, String> {
        let sim = self.sim.as_ref().expect("the simulated medium").reopen_with(survival, seed);
        let vol = Volume::open(sim.medium(), &Default::default()).map_err(text)?;
        demand(vol.holdings().is_empty() && vol.inflight().is_empty(), || {
            "a seal or a lease survived a crash".into()
        })?;
        sound(&vol)?;
        let (holder, comer) = (vol.new_session(), vol.new_session());
        let file = vol.open_file(b"f").map_err(text)?.for_session(comer.id());
        Ok(World { vol, holder, comer, file, sim: Some(sim) })
    }
}

/// Something that another thread does.
pub(super) struct Running<T>(JoinHandle<T>);

impl<T> Running<T> {
    pub(super) fn is_over(&self) -> bool {
        self.0.is_finished()
    }

    /// Fails if it has come to its end: it was to wait.
    pub(super) fn waits(&self, what: &str) -> Verdict {
        std::thread::sleep(WATCHED);
        demand(!self.0.is_finished(), || format!("{what} did not wait"))
    }

    /// What became of it.
    pub(super) fn end(self, what: &str) -> Result<T, String> {
        wait(what, || self.0.is_finished())?;
        self.0.join().map_err(|_| format!("{what} panicked"))
    }
}

/// A block as it is read in the ordinary way.
pub(super) fn read(vol: &Arc<Volume>, file: &FileHandle, block: u64) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0; B as usize];
    let n = vol.read_at(file, &mut bytes, block * B).map_err(text)?;
    bytes.truncate(n);
    Ok(bytes)
}

pub(super) fn holds(vol: &Arc<Volume>, file: &FileHandle, block: u64, byte: u8) -> Verdict {
    let got = read(vol, file, block)?;
    let wrong = got.iter().find(|b| **b != byte);
    demand(wrong.is_none() && got.len() == B as usize, || {
        format!("block {block} of file {} holds {:?}, not {byte}", file.id(), wrong)
    })
}

/// `check` finds nothing.
pub(super) fn sound(vol: &Arc<Volume>) -> Verdict {
    let report = vol.check().map_err(text)?;
    demand(report.clean(), || format!("check finds {:?}", report.findings))
}

/// Submits a flush of one byte over some blocks, and does not wait for it.
pub(super) fn flush(
    queue: &mut VolumeQueue,
    lease: &Arc<LeaseCore>,
    (first, blocks): (u64, u64),
    byte: u8,
) -> Result<(), Error> {
    let mut buf = queue.buffer((blocks * B) as usize)?;
    buf.fill(byte);
    queue.flush(lease, LeaseAt::new(first * B), buf, (7, false)).map_err(why)
}

pub(super) fn fill(
    queue: &mut VolumeQueue,
    lease: &Arc<LeaseCore>,
    (first, blocks): (u64, u64),
) -> Result<(), Error> {
    let buf = queue.buffer((blocks * B) as usize)?;
    queue.fill(lease, LeaseAt::new(first * B), buf, 8).map_err(why)
}

fn why(refused: freehold_blockmap::Refused) -> Error {
    let full = || Error::new(ErrorKind::Limit, "the queue is full");
    refused.error.unwrap_or_else(full)
}

/// Polls until one operation has finished, and gives its buffer.
pub(super) fn finish(queue: &mut VolumeQueue) -> Result<Vec<u8>, Error> {
    let mut done: Vec<freehold_blockmap::Finished> = Vec::new();
    let begun = Instant::now();
    while queue.poll(&mut done) == 0 {
        if begun.elapsed() > LONG {
            return Err(Error::new(ErrorKind::Io, "nothing has finished"));
        }
        queue.wait(Some(Duration::from_millis(1)))?;
    }
    let one = done.remove(0);
    one.result.map(|_| one.buf.map(|b| b.to_vec()).unwrap_or_default())
}

pub(super) fn flushed(
    queue: &mut VolumeQueue,
    lease: &Arc<LeaseCore>,
    at: (u64, u64),
    byte: u8,
) -> Result<(), Error> {
    flush(queue, lease, at, byte)?;
    finish(queue).map(drop)
}

/// The lease is held still, and the same.
pub(super) fn held(lease: &LeaseCore) -> Verdict {
    let state = lease.pins().state();
    demand(state == State::Held, || format!("{lease:?} is {state:?}"))
}

/// The lease was taken or revoked.
pub(super) fn ended(lease: &LeaseCore) -> Verdict {
    demand(lease.pins().state() == State::Revoked, || {
        format!("{lease:?} is {:?}", lease.pins().state())
    })
}

/// The recall that a session was told of, if it was.
pub(super) fn recalled(who: &SessionCore) -> Option<(Duration, bool)> {
    who.take_events().into_iter().find_map(|e| match e {
        Event::Recall { grace, may_flush, .. } => Some((grace, may_flush)),
        _ => None,
    })
}
