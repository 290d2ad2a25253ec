//! A user's queue: plain operations go straight to the device, all others become
//! tasks of the queue's lane.

use super::Volume;
use super::drive::Idle;
use super::file::{FileHandle, FileState, Piece};
use super::lease_io::LeaseRefused;
use super::logged::LOGGED_MOST;
use super::together::place_of;
use super::write::check_range;
use crate::arbiter::Flags;
use crate::error::{Error, Result};
use crate::format::BLOCK;
use crate::lane::{Finished, Inner, Lane, Plain};
use freehold_engine::latch::Owner;
use freehold_engine::memory::Buffer;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// A submission that was not taken. Nothing happened; the buffer comes back.
#[derive(Debug)]
pub struct Refused {
    /// The buffer as it was given; none for operations without one.
    pub buf: Option<Buffer>,
    /// None: the queue is full; poll and try again. Otherwise why not.
    pub error: Option<Error>,
}

impl Refused {
    fn full(buf: Buffer) -> Self {
        Refused { buf: Some(buf), error: None }
    }

    fn because(buf: Buffer, e: Error) -> Self {
        Refused { buf: Some(buf), error: Some(e) }
    }
}

/// Of so many polls that find nothing one looks after the lanes of others.
const LOOKS: u32 = 16;

/// Submission and completion of reads, writes and syncs. One thread at a time;
/// may move between threads. Dropping it waits for nothing.
pub struct VolumeQueue {
    pub(super) port: Port,
    pub(super) owner: Owner,
    /// Polls that found nothing while something waited.
    idle: u32,
    /// A fill or flush on its way back to who submitted it.
    pub(super) refused: Option<LeaseRefused>,
}

/// What a queue is for, apart from the right to enter its lane.
pub(super) struct Port {
    pub(super) vol: Arc<Volume>,
    pub(super) lane: Arc<Lane>,
    pub(super) max_transfer: usize,
    /// The same in blocks.
    pub(super) max_blocks: u32,
}

impl Volume {
    /// A queue with room for `depth` operations, or as many as the medium grants.
    ///
    /// # Errors
    /// `Limit` and the like, from the medium, with what to raise.
    pub fn queue(self: &Arc<Self>, depth: u32) -> Result<VolumeQueue> {
        let (lane, owner) = self.new_owned_lane(depth.max(1))?;
        let most = self.medium.geometry().max_transfer;
        let (max_transfer, max_blocks) = (most as usize, most / BLOCK as u32);
        let port = Port { vol: self.clone(), lane, max_transfer, max_blocks };
        Ok(VolumeQueue { port, owner, idle: 0, refused: None })
    }
}

impl VolumeQueue {
    /// Memory for I/O; its length is rounded up to whole blocks.
    ///
    /// # Errors
    /// `Limit` when the system gives no memory.
    pub fn buffer(&self, len: usize) -> Result<Buffer> {
        Ok(self.port.vol.medium.pool().take(len.max(1))?)
    }

    /// Reads up to the buffer's length at any offset; short at the end of the
    /// file, zeroes behind that.
    ///
    /// # Errors
    /// [`Refused`] without an error when the queue is full.
    pub fn read(
        &mut self,
        file: &FileHandle,
        off: u64,
        buf: Buffer,
        tag: u64,
    ) -> std::result::Result<(), Refused> {
        let VolumeQueue { port, owner, .. } = self;
        if let Err(e) = port.vol.not_in_action() {
            return Err(Refused::because(buf, e));
        }
        let mut inner = port.lane.enter(owner);
        let buf = match port.plain_read(&mut inner, file, off, buf, tag) {
            Ok(()) => return Ok(()),
            Err(buf) => buf,
        };
        if !inner.has_room() {
            return Err(Refused::full(buf));
        }
        port.vol.spawn_read(&mut inner, &port.lane, file, (off, tag), buf);
        Ok(())
    }

    /// Writes the whole buffer at any offset; the file grows as needed. Durable
    /// after a sync.
    ///
    /// # Errors
    /// [`Refused`] without an error when the queue is full; with one when the store
    /// cannot be written or the range is beyond what a file can have.
    pub fn write(
        &mut self,
        file: &FileHandle,
        off: u64,
        buf: Buffer,
        tag: u64,
    ) -> std::result::Result<(), Refused> {
        let writable = self.port.vol.health.writable();
        if let Err(e) = writable.and_then(|()| check_range(off, buf.len() as u64)) {
            return Err(Refused::because(buf, e));
        }
        self.submit_write(file, off, buf, (tag, false))
    }

    /// As [`VolumeQueue::write`]; the bytes are durable when it completes.
    ///
    /// # Errors
    /// As there.
    pub fn write_durable(
        &mut self,
        file: &FileHandle,
        off: u64,
        buf: Buffer,
        tag: u64,
    ) -> std::result::Result<(), Refused> {
        let writable = self.port.vol.health.writable();
        if let Err(e) = writable.and_then(|()| check_range(off, buf.len() as u64)) {
            return Err(Refused::because(buf, e));
        }
        self.submit_write(file, off, buf, (tag, true))
    }

    fn submit_write(
        &mut self,
        file: &FileHandle,
        off: u64,
        buf: Buffer,
        (tag, durable): (u64, bool),
    ) -> std::result::Result<(), Refused> {
        let VolumeQueue { port, owner, .. } = self;
        if let Err(e) = port.vol.not_in_action() {
            return Err(Refused::because(buf, e));
        }
        let mut inner = port.lane.enter(owner);
        let place = (&**file.state(), off);
        // Law B7: where the journal is in a window, that is the shortest way.
        let log = durable && buf.len() <= LOGGED_MOST && port.vol.ring.logs_all();
        let tried = match log {
            true => Err(buf),
            false => port.vol.plain_write(&port.lane, &mut inner, place, buf, (tag, durable)),
        };
        let Err(buf) = tried else { return Ok(()) };
        if !inner.has_room() {
            return Err(Refused::full(buf));
        }
        let (vol, file) = (port.vol.clone(), file.clone());
        let len = buf.len();
        inner.spawn(&port.lane, |io| async move {
            let io = io.of(file.session());
            let (result, buf) = if durable {
                vol.durable_task(&io, file.state(), off, buf, len).await
            } else {
                vol.write_task(&io, file.state(), off, buf, len).await
            };
            io.finish(Finished { tag, result, buf, lease: None });
        });
        Ok(())
    }

    /// Makes durable all that has completed of the file: bytes, size, map, name.
    ///
    /// # Errors
    /// [`Refused`] without an error when the queue is full.
    pub fn sync(&mut self, file: &FileHandle, tag: u64) -> std::result::Result<(), Refused> {
        let VolumeQueue { port, owner, .. } = self;
        if let Err(e) = port.vol.not_in_action() {
            return Err(Refused { buf: None, error: Some(e) });
        }
        let mut inner = port.lane.enter(owner);
        if !inner.has_room() {
            return Err(Refused { buf: None, error: None });
        }
        let (vol, file) = (port.vol.clone(), file.clone());
        inner.spawn(&port.lane, |io| async move {
            let io = io.of(file.session());
            let result = vol.sync_file(&io, file.state()).await.map(|()| 0);
            io.finish(Finished { tag, result, buf: None, lease: None });
        });
        Ok(())
    }

    /// Drives this queue and the store's own work; appends what has finished and
    /// says how many. Never sleeps.
    pub fn poll<T: From<Finished>>(&mut self, done: &mut Vec<T>) -> usize {
        let VolumeQueue { port, owner, idle, .. } = self;
        if port.vol.not_in_action().is_err() {
            return 0;
        }
        let before = done.len();
        let waits = {
            let mut inner = port.lane.enter(owner);
            inner.step_into(&port.lane, done);
            inner.has_tasks()
        };
        let n = done.len() - before;
        port.vol.maintain();
        if waits {
            port.vol.act();
            // Not each time: to look into the lane of another user interrupts that.
            if n == 0 {
                if idle.is_multiple_of(LOOKS) {
                    port.vol.assist(&port.lane);
                }
                *idle = idle.wrapping_add(1);
            }
        }
        n
    }

    /// Sleeps until something can be polled, or the time is over.
    ///
    /// # Errors
    /// `Gone` when the medium has vanished.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<()> {
        let VolumeQueue { port, owner, .. } = self;
        port.vol.not_in_action()?;
        let end = timeout.map(|t| Instant::now() + t);
        let mut idle = Idle::default();
        loop {
            {
                let mut inner = port.lane.enter(owner);
                inner.step(&port.lane);
                if !inner.done.is_empty() || inner.idle() {
                    drop(inner);
                    port.vol.hand_over();
                    return Ok(());
                }
            }
            if port.vol.act() || port.vol.maintain() || idle.helps() && port.vol.assist(&port.lane)
            {
                continue;
            }
            let now = Instant::now();
            let left = match end {
                Some(e) if e <= now => return Ok(()),
                Some(e) => (e - now).min(Duration::from_millis(1)),
                None => Duration::from_millis(1),
            };
            idle.over(port.vol.nap(port.lane.enter(owner), left));
        }
    }
}

impl Port {
    /// A read of whole blocks of one written extent. Gives the buffer back when
    /// it is not that simple.
    fn plain_read(
        &self,
        inner: &mut Inner,
        file: &FileHandle,
        off: u64,
        buf: Buffer,
        tag: u64,
    ) -> std::result::Result<(), Buffer> {
        if !off.is_multiple_of(BLOCK as u64) || buf.len() > self.max_transfer {
            return Err(buf);
        }
        let Some(i) = inner.take_place() else { return Err(buf) };
        // Published before the look-up (law B3), and before asking who has the bytes.
        self.lane.slots.publish(i as usize, &self.vol.epoch);
        if inner.together.is_of(file) && self.may_keep_back(inner, file) {
            self.keep_back(inner, file, (i, off, tag), buf);
            return Ok(());
        }
        let state = file.state();
        let place = if state.guards.hinder(Flags::READS) {
            None
        } else {
            let v = state.version.load();
            if v.is_large() && inner.has_company() && self.may_keep_back(inner, file) {
                self.keep_back(inner, file, (i, off, tag), buf);
                return Ok(());
            }
            let found = v.lookup(off / BLOCK as u64);
            place_of(&self.vol, &v, (off, buf.len()), found)
        };
        let Some((at, bytes)) = place else {
            inner.give_up(&self.lane, i);
            return Err(buf);
        };
        let plain = Plain::read(tag, at, (bytes, buf.len()));
        inner.begin_plain(&self.lane, i, plain, buf).map_err(|(b, _)| b)
    }
}

impl Volume {
    /// A read as a task. There is room for one.
    pub(super) fn spawn_read(
        self: &Arc<Self>,
        inner: &mut Inner,
        lane: &Arc<Lane>,
        file: &FileHandle,
        (off, tag): (u64, u64),
        buf: Buffer,
    ) {
        let want = buf.len();
        // The task's own handle: the file keeps its blocks until it is done (law B10).
        let (vol, file) = (self.clone(), file.clone());
        let taken = inner.spawn(lane, |io| async move {
            let io = io.of(file.session());
            let (result, buf) = vol.read_task(&io, file.state(), off, buf, want).await;
            io.finish(Finished { tag, result, buf, lease: None });
        });
        debug_assert!(taken, "room was kept for it");
    }
}

impl Volume {
    /// An overwrite in place: whole blocks, written, this file's alone. A durable
    /// one is a write with forced unit access, if all that the way to it needs is
    /// durable. Gives the buffer back when it is not that simple.
    pub(super) fn plain_write(
        &self,
        lane: &Lane,
        inner: &mut Inner,
        (file, off): (&FileState, u64),
        buf: Buffer,
        (tag, durable): (u64, bool),
    ) -> std::result::Result<(), Buffer> {
        let (start, blocks) = (off / BLOCK as u64, (buf.len() / BLOCK) as u64);
        let most = self.medium.geometry().max_transfer as usize;
        if !off.is_multiple_of(BLOCK as u64) || buf.len() > most {
            return Err(buf);
        }
        let Some(i) = inner.take_place() else { return Err(buf) };
        // Published before the look at the copiers and the look-up (laws B3, B6).
        let end = start + blocks;
        lane.slots.publish_write(i as usize, &self.epoch, file.id, start, end);
        let alone = (!file.locks.busy() || !file.locks.overlaps(start, end))
            && !file.guards.hinder(Flags::WRITES);
        // Law B7: what a crash would replay is not overwritten.
        let logged = file.logged.overlaps(start, end, self.marked.load(Ordering::Acquire))
            && !crate::sabotage::breaks("place-over-logged");
        let free = alone && !logged;
        let found = free.then(|| in_place(file, off, buf.len() as u64)).flatten();
        // The version names its record before it is shown: looked at afterwards.
        let settled = !durable || file.last_seq.load(Ordering::Acquire) <= self.durable();
        let Some(at) = found.filter(|_| settled) else {
            inner.give_up(lane, i);
            return Err(buf);
        };
        let plain = Plain::write(tag, at, buf.len(), durable);
        inner.begin_plain(lane, i, plain, buf).map_err(|(b, _)| b)
    }
}

/// Where the whole range may be overwritten in place, by the fast way of law B1.
fn in_place(file: &FileState, off: u64, len: u64) -> Option<u64> {
    let v = file.version.load();
    if off + len > v.size {
        return None;
    }
    match v.lookup(off / BLOCK as u64) {
        Ok(Piece::Extent { e, current })
            if current && e.own && !e.unwritten && u64::from(e.len) >= len / BLOCK as u64 =>
        {
            Some(e.phys)
        }
        _ => None,
    }
}

impl Drop for VolumeQueue {
    fn drop(&mut self) {
        self.port.lane.leave(&mut self.owner);
    }
}

impl std::fmt::Debug for VolumeQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("VolumeQueue")
    }
}
