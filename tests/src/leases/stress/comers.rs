//! Those who come: they change, share, move and free what others have leased.

use super::super::world::B;
use super::stamp::{check, stamp};
use super::{Arena, FAMILIES, NAMES, REACH};
use crate::random::Random;
use freehold_blockmap::arbiter::Kinds;
use freehold_blockmap::{Error, FileHandle, SealCore, SealSpec, SessionCore};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

struct Comer<'a> {
    arena: &'a Arena,
    thread: usize,
    random: Random,
    who: Arc<SessionCore>,
    seals: Vec<SealCore>,
    version: u32,
}

pub(super) fn run(arena: &Arena, thread: usize, random: Random) -> Result<(), String> {
    let who = arena.vol.new_session();
    let mut c = Comer { arena, thread, random, who, seals: Vec::new(), version: 0 };
    while !arena.over() {
        c.step()?;
        arena.totals.operations.fetch_add(1, Ordering::Relaxed);
    }
    c.seals.clear();
    Ok(())
}

impl Comer<'_> {
    fn open(&mut self, family: u8) -> Option<FileHandle> {
        let name = Arena::name(family, self.random.next_u64());
        let vol = &self.arena.vol;
        let file = vol.open_file(&name).or_else(|_| vol.create(&name));
        // Some act for the store's own session.
        let own = self.random.one_in(5);
        let file = self.arena.allow("open", file)?;
        Some(if own { file } else { file.for_session(self.who.id()) })
    }

    fn block(&mut self) -> u64 {
        self.random.below(REACH)
    }

    fn step(&mut self) -> Result<(), String> {
        let family = self.random.below(u64::from(FAMILIES)) as u8;
        let Some(file) = self.open(family) else { return Ok(()) };
        let kind = self.random.below(30);
        self.version += 1;
        self.arena.does(self.thread, format!("operation {kind} on file {}", file.id()));
        let done = match kind {
            0..=5 => self.write(&file, family),
            6..=8 => return self.read(&file, family),
            9..=15 => self.cut(&file, kind),
            16..=20 => self.name(&file, family, kind),
            21 | 22 => self.share(&file, family),
            23 => self.arena.vol.defrag(&file, 0, REACH * B).map(drop),
            24 | 25 => self.arena.vol.checkpoint(),
            26 => self.arena.vol.sync_handle(&file),
            27 | 28 => self.seal(&file),
            _ => self.end_session(),
        };
        self.arena.allow(&format!("operation {kind}"), done);
        if self.random.one_in(3) {
            self.seals.pop();
        }
        Ok(())
    }

    fn write(&mut self, file: &FileHandle, family: u8) -> Result<(), Error> {
        let vol = &self.arena.vol;
        let whole = self.random.one_in(2);
        let part = if whole { 0 } else { self.random.below(B) };
        let off = self.random.below(REACH) * B + part;
        let len = match whole {
            true => (1 + self.random.below(4)) * B,
            false => 1 + self.random.below(6000),
        };
        let bytes = stamp(family, self.version, off, len as usize, false);
        match self.random.below(8) {
            0 | 1 => vol.write_durable_at(file, &bytes, off),
            2 => {
                let far = off + 8 * B;
                let more = stamp(family, self.version, far, 3000, false);
                vol.write_atomic(file, &[(off, &bytes), (far.max(off + len), &more)])
            }
            _ => vol.write_at(file, &bytes, off),
        }
    }

    fn read(&mut self, file: &FileHandle, family: u8) -> Result<(), String> {
        let off = self.block() * B;
        let mut bytes = vec![0; (4 * B) as usize];
        let done = self.arena.vol.read_at(file, &mut bytes, off);
        let Some(n) = self.arena.allow("read", done) else { return Ok(()) };
        check(&bytes[..n], off, family, false).map_err(|e| format!("an ordinary read: {e}"))
    }

    fn cut(&mut self, file: &FileHandle, kind: u64) -> Result<(), Error> {
        let vol = &self.arena.vol;
        let (at, n) = (self.random.below(REACH) * B, (1 + self.random.below(4)) * B);
        let odd = if self.random.one_in(3) { self.random.below(B) } else { 0 };
        match kind {
            9 => vol.truncate(file, at + odd),
            10 => vol.truncate(file, if self.random.one_in(2) { 0 } else { REACH * B + odd }),
            11 | 12 => vol.punch(file, at + odd, n),
            13 => vol.zero(file, at + odd, n),
            14 if file.size() > REACH * B => vol.collapse(file, at, n),
            14 => vol.insert(file, at, n),
            _ => vol.allocate(file, at, n),
        }
    }

    fn name(&mut self, file: &FileHandle, family: u8, kind: u64) -> Result<(), Error> {
        let vol = &self.arena.vol;
        let [a, b] = [0, 1].map(|_| Arena::name(family, self.random.below(u64::from(NAMES))));
        match kind {
            16 => vol.remove(&a),
            17 => vol.rename(&a, &b),
            18 => vol.remove(&a).and_then(|()| vol.create(&a)).map(drop),
            _ => {
                let _ = vol.remove(&b);
                vol.reflink_file(file, &b).map(drop)
            }
        }
    }

    fn share(&mut self, file: &FileHandle, family: u8) -> Result<(), Error> {
        let Some(onto) = self.open(family) else { return Ok(()) };
        let (from, to) = (self.block() * B, self.block() * B);
        let len = (1 + self.random.below(5)) * B;
        self.arena.vol.reflink_range(file, from, &onto, to, len)
    }

    fn seal(&mut self, file: &FileHandle) -> Result<(), Error> {
        let kinds = Kinds::from_bits_truncate(1 << self.random.below(6));
        let (breakable, timeout) = (self.random.one_in(2), Duration::from_millis(4));
        let spec = SealSpec { kinds, breakable, timeout };
        let range = (self.block() * B, (1 + self.random.below(6)) * B);
        let seal = self.arena.vol.seal(file, &self.who, range, spec)?;
        if self.seals.len() < 2 {
            self.seals.push(seal);
        }
        Ok(())
    }

    fn end_session(&mut self) -> Result<(), Error> {
        let old = std::mem::replace(&mut self.who, self.arena.vol.new_session());
        self.arena.vol.end_session(&old)
    }
}
