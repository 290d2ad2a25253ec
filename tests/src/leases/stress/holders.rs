//! Those who hold: they take leases and use them, return them promptly, late, or never.

use super::super::world::B;
use super::stamp::{check, stamp};
use super::{Arena, FAMILIES, REACH};
use crate::random::Random;
use freehold_blockmap::arbiter::Access;
use freehold_blockmap::{Finished, LeaseAt, LeaseCore, LeaseSpec, SessionCore, VolumeQueue};
use freehold_engine::memory::{View, ViewHold, ViewPinMut};
use freehold_engine::pin::State;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long a holder that does not answer is watched, if nobody asks for its lease.
const PATIENCE: Duration = Duration::from_millis(9);

struct Holder<'a> {
    arena: &'a Arena,
    thread: usize,
    random: Random,
    who: Arc<SessionCore>,
    queue: VolumeQueue,
    version: u32,
}

pub(super) fn run(arena: &Arena, thread: usize, random: Random) -> Result<(), String> {
    let queue = arena.vol.queue(8).map_err(super::text)?;
    let who = arena.vol.new_session();
    let mut h = Holder { arena, thread, random, who, queue, version: 0 };
    while !arena.over() {
        h.step()?;
    }
    h.arena.does(thread, "the end of its session");
    arena.allow("the end of a session", arena.vol.end_session(&h.who));
    Ok(())
}

/// Where a lease is.
struct Held {
    lease: Arc<LeaseCore>,
    family: u8,
    start: u64,
    len: u64,
}

impl Holder<'_> {
    fn step(&mut self) -> Result<(), String> {
        let family = self.random.below(u64::from(FAMILIES)) as u8;
        let name = Arena::name(family, self.random.next_u64());
        let Ok(file) = self.arena.vol.open_file(&name) else { return Ok(()) };
        let file = file.for_session(self.who.id());
        let blocks = file.size().div_ceil(B).min(REACH);
        if blocks == 0 {
            return Ok(());
        }
        let first = self.random.below(blocks);
        let n = 1 + self.random.below((blocks - first).min(6));
        let access = *self.random.pick(&Access::ALL);
        let max_hold = Duration::from_millis(self.random.below(3));
        self.arena.does(self.thread, format!("{access:?} lease on {first}+{n} of {}", file.id()));
        let spec = LeaseSpec { access, max_hold };
        let lease = self.arena.vol.lease(&file, &self.who, (first * B, n * B), spec);
        let Some(lease) = self.arena.allow("a lease", lease) else { return Ok(()) };
        self.arena.totals.leases.fetch_add(1, Ordering::Relaxed);
        let (start, end) = lease.range();
        let held = Held { lease, family, start, len: end - start };
        let rounds = 1 + self.random.below(4);
        for _ in 0..rounds {
            self.version += 1;
            let uses = if held.lease.is_stale() { 2 } else { self.random.below(4) };
            self.arena.does(self.thread, format!("use {uses} of {:?}", held.lease));
            match uses {
                0 | 1 if self.arena.window && access == Access::Exclusive => {
                    self.exclusively(&held)?;
                }
                0 | 1 if self.arena.window => self.window(&held)?,
                2 => drop(self.arena.allow("a refresh", self.arena.vol.refresh(&held.lease))),
                _ => self.commands(&held)?,
            }
        }
        if held.lease.pins().state() != State::Held {
            self.arena.totals.revoked.fetch_add(1, Ordering::Relaxed);
        }
        self.give_back(&held);
        self.who.take_events();
        if self.random.one_in(40) {
            let old = std::mem::replace(&mut self.who, self.arena.vol.new_session());
            self.arena.allow("the end of a session", self.arena.vol.end_session(&old));
        }
        Ok(())
    }

    fn give_back(&mut self, held: &Held) {
        let vol = &self.arena.vol;
        match self.random.below(3) {
            0 => drop(self.arena.allow("a return", vol.return_lease(&held.lease))),
            1 if held.len > B => {
                let keep = (held.start, held.start + B);
                self.arena.allow("a return of a part", vol.return_part(&held.lease, keep));
            }
            _ => {}
        }
    }

    /// Through memory: as long as it is asked to stop, a little longer, or much too long.
    fn window(&mut self, held: &Held) -> Result<(), String> {
        let Some(view) = self.arena.allow("a view", held.lease.view()) else { return Ok(()) };
        let Ok(pin) = view.hold() else { return Ok(()) };
        let writes = held.lease.access() == Access::Write;
        if writes {
            let bytes = stamp(held.family, self.version, held.start, held.len as usize, false);
            pin.store(0, &bytes).map_err(|e| e.to_string())?;
        }
        let before = snapshot(&pin);
        look(held, &view, &pin)?;
        let begun = Instant::now();
        match self.random.below(3) {
            0 => {}
            1 => {
                while begun.elapsed() < PATIENCE && held.lease.pins().state() == State::Held {
                    std::thread::yield_now();
                }
            }
            _ => {
                while begun.elapsed() < PATIENCE && held.lease.pins().state() != State::Revoked {
                    std::thread::yield_now();
                }
                if held.lease.pins().state() == State::Revoked {
                    self.stale(held, &pin)?;
                }
            }
        }
        if held.lease.access() == Access::Stable && before != snapshot(&pin) {
            return Err(format!("a reference of {:?} saw its bytes change", held.lease));
        }
        Ok(())
    }

    /// Through `&mut` references: nobody else sees or changes these bytes, and when they are
    /// long revoked they are nobody's.
    fn exclusively(&mut self, held: &Held) -> Result<(), String> {
        let Some(mut view) = self.arena.allow("a view", held.lease.view()) else { return Ok(()) };
        let (len, bytes) = (view.len() as usize, self.version);
        let bytes = stamp(held.family, bytes, held.start, len, false);
        let Ok(mut pin) = view.pin_mut() else { return Ok(()) };
        let mut before = Vec::with_capacity(len);
        pin.parts_mut().for_each(|part| before.extend_from_slice(part));
        check(&before, held.start, held.family, false)
            .map_err(|e| format!("a reference of {:?}: {e}", held.lease))?;
        let put = |pin: &mut ViewPinMut<'_>, bytes: &[u8]| {
            let mut at = 0;
            for part in pin.parts_mut() {
                part.copy_from_slice(&bytes[at..at + part.len()]);
                at += part.len();
            }
        };
        put(&mut pin, &bytes);
        let (begun, late) = (Instant::now(), self.random.one_in(2));
        while late && begun.elapsed() < PATIENCE && held.lease.pins().state() != State::Revoked {
            std::thread::yield_now();
        }
        let mut after = Vec::with_capacity(len);
        pin.parts_mut().for_each(|part| after.extend_from_slice(part));
        if after != bytes {
            return Err(format!("somebody wrote under a reference of {:?}", held.lease));
        }
        if held.lease.pins().state() == State::Revoked {
            self.arena.totals.stale.fetch_add(1, Ordering::Relaxed);
            put(&mut pin, &stamp(held.family, self.version, held.start, len, true));
            std::thread::sleep(Duration::from_micros(self.random.below(900)));
        }
        Ok(())
    }

    /// The lease was revoked and the pin is there still.
    fn stale(&mut self, held: &Held, pin: &ViewHold) -> Result<(), String> {
        self.arena.totals.stale.fetch_add(1, Ordering::Relaxed);
        for _ in 0..1 + self.random.below(6) {
            let mut bytes = vec![0; held.len as usize];
            pin.load(0, &mut bytes).map_err(|e| e.to_string())?;
            check(&bytes, held.start, held.family, true)
                .map_err(|e| format!("a stale pin of {:?}: {e}", held.lease))?;
            if held.lease.access() == Access::Write {
                let bytes = stamp(held.family, self.version, held.start, bytes.len(), true);
                pin.store(0, &bytes).map_err(|e| e.to_string())?;
            }
            std::thread::sleep(Duration::from_micros(self.random.below(900)));
        }
        Ok(())
    }

    /// Through commands of a queue.
    fn commands(&mut self, held: &Held) -> Result<(), String> {
        let writes = held.lease.access().writes();
        let blocks = held.len.div_ceil(B) as usize;
        let mut sent = 0;
        for _ in 0..1 + self.random.below(3) {
            let mut buf = self.queue.buffer(blocks * B as usize).map_err(super::text)?;
            let at = LeaseAt::new(held.start);
            let taken = if writes && self.random.one_in(2) {
                let bytes = stamp(held.family, self.version, held.start, buf.len(), false);
                buf.copy_from_slice(&bytes);
                self.queue.flush(&held.lease, at, buf, (1, self.random.one_in(6)))
            } else {
                self.queue.fill(&held.lease, at, buf, 0)
            };
            match taken {
                Ok(()) => sent += 1,
                Err(r) => match r.error {
                    Some(e) => drop(self.arena.allow("a command", Err::<(), _>(e))),
                    None => break,
                },
            }
        }
        self.arena.totals.commands.fetch_add(sent, Ordering::Relaxed);
        let mut done: Vec<Finished> = Vec::new();
        while (done.len() as u64) < sent {
            self.queue.poll(&mut done);
            self.queue.wait(Some(Duration::from_millis(1))).map_err(super::text)?;
        }
        for one in done {
            let Some(n) = self.arena.allow("a command", one.result) else { continue };
            let Some(buf) = one.buf.filter(|_| one.tag == 0) else { continue };
            check(&buf[..n.min(buf.len())], held.start, held.family, false)
                .map_err(|e| format!("a fill through {:?}: {e}", held.lease))?;
        }
        Ok(())
    }
}

fn snapshot(pin: &ViewHold) -> Vec<u8> {
    pin.parts().flat_map(|part| part.iter().copied()).collect()
}

/// What is seen while the lease is held was written by nobody stale.
fn look(held: &Held, view: &View, pin: &ViewHold) -> Result<(), String> {
    let mut bytes = vec![0; view.len() as usize];
    if held.lease.access() == Access::Exclusive {
        return Ok(());
    }
    pin.load(0, &mut bytes).map_err(|e| e.to_string())?;
    let stale = held.lease.pins().state() != State::Held;
    check(&bytes, held.start, held.family, stale)
        .map_err(|e| format!("a pin of {:?} (stale: {stale}): {e}", held.lease))
}
