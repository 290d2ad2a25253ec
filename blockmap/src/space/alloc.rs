//! Choosing blocks: long runs for what is long, holes for what is short, nodes
//! apart from data.
//!
//! What a request is depends on how much its file may still need (`room`): a
//! file that grows, or is copied on write piece by piece, wants the blocks that
//! follow as well. From 1 MiB on a request begins in a long free run, large
//! ones where they are aligned; below that it takes the hole that fits best; a
//! few blocks go to stretches of 2 MiB that are mostly in use already, so that
//! free ones stay whole. Nodes have the last part of the store to themselves
//! while there is other space, because they come and go one by one.

use super::{Space, bits};
use crate::format::types::{Addr, GROUP_BLOCKS};
use crate::tree::{Fault, find};

/// The unit of alignment, and of what small requests fill up first: 2 MiB.
const STRETCH: u64 = 512;

/// Requests of so many blocks look for a long run: 1 MiB.
const LARGE: u64 = 256;

/// Requests of so many blocks look for the hole that fits best: 64 KiB.
const MEDIUM: u64 = 16;

/// The run that a file which may become large is begun in: 16 MiB.
const LONG: u64 = 4096;

/// Groups among which the best run is looked for.
const WINDOW: u64 = 8;

/// Stretches among which a small request looks for one in use: a group's.
const LOOK: u64 = GROUP_BLOCKS / STRETCH;

/// How many files that grow are kept apart.
const GROWING: usize = 32;

/// Room that files which grow may still need, as ranges of blocks; the latest
/// replaces the oldest. A hint: nothing is set aside.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rooms {
    ranges: [(Addr, Addr); GROWING],
    next: usize,
}

impl Rooms {
    fn add(&mut self, start: Addr, len: u64) {
        self.ranges[self.next] = (start, start + len);
        self.next = (self.next + 1) % GROWING;
    }

    /// What of a run lies behind the rooms that it begins in.
    fn behind(&self, start: Addr, n: u64) -> (Addr, u64) {
        let (mut at, end) = (start, start + n);
        while let Some((_, stop)) = self.ranges.iter().find(|(a, b)| *a <= at && at < *b) {
            at = *stop;
        }
        (at.min(end), end - at.min(end))
    }
}

/// How runs are compared.
#[derive(Debug, Clone, Copy)]
struct Want {
    /// What is to be taken.
    blocks: u64,
    /// What is hoped for: the shortest run of so many is best, else the longest.
    hope: u64,
}

impl Want {
    /// Whether a run of `n` is better than one of `best`.
    fn better(self, n: u64, best: u64) -> bool {
        match (n >= self.hope, best >= self.hope) {
            (true, true) => n < best,
            (enough, other) if enough != other => enough,
            _ => n > best,
        }
    }
}

impl Space {
    /// Sets aside up to `want` blocks in one run, at `goal` if that is free (0:
    /// the file has none yet), and says which. They are busy, not yet reachable.
    /// `size` is the file's, in blocks: a large file that grows is given room.
    ///
    /// With less than a whole run of `want` blocks to be had, gives the longest
    /// run found; never gives none without `NoSpace`.
    pub(crate) fn alloc(&mut self, goal: Addr, want: u64, size: u64) -> Result<(Addr, u64), Fault> {
        debug_assert!(want > 0);
        let want = want.min(GROUP_BLOCKS);
        if self.free == 0 {
            return Err(Fault::NoSpace);
        }
        if goal != 0
            && goal < self.blocks
            && let Some(run) = self.run_at(goal, want)?
        {
            return Ok(self.take(run));
        }
        let room = if goal == 0 { want } else { (size / 4).clamp(MEDIUM, LONG).max(want) };
        let run = self.choose(want, room)?;
        Ok(self.take(run))
    }

    /// A block for a node, in use at once.
    pub(crate) fn alloc_node(&mut self) -> Result<Addr, Fault> {
        if self.free == 0 {
            return Err(Fault::NoSpace);
        }
        let addr = match self.node_place()? {
            Some(addr) => addr,
            None => self.choose(1, 1)?.0,
        };
        self.take((addr, 1));
        self.node_goal = addr + 1;
        let (g, bit) = (addr / GROUP_BLOCKS, (addr % GROUP_BLOCKS) as usize);
        self.set_logical(g, bit, 1, true);
        Ok(addr)
    }

    /// Where the part of the store begins that is left to nodes.
    pub(super) fn node_start(blocks: u64) -> Addr {
        blocks - blocks / 32
    }

    fn take(&mut self, (start, len): (Addr, u64)) -> (Addr, u64) {
        let (g, bit) = (start / GROUP_BLOCKS, (start % GROUP_BLOCKS) as usize);
        self.set_busy(g, bit, len as usize, true);
        (start, len)
    }

    /// The free run that starts exactly at `goal`.
    fn run_at(&mut self, goal: Addr, want: u64) -> Result<Option<(Addr, u64)>, Fault> {
        let bit = (goal % GROUP_BLOCKS) as usize;
        let group = self.group(goal / GROUP_BLOCKS)?;
        Ok(bits::next_run(&group.busy, bit, want as usize)
            .filter(|(at, _)| *at == bit)
            .map(|(_, n)| (goal, n as u64)))
    }

    /// The next free block of the nodes' part, all around it.
    fn node_place(&mut self) -> Result<Option<Addr>, Fault> {
        let start = Self::node_start(self.blocks);
        if !(start..self.blocks).contains(&self.node_goal) {
            self.node_goal = start;
        }
        for (from, to) in [(self.node_goal, self.blocks), (start, self.node_goal)] {
            let mut at = from;
            while at < to {
                let g = at / GROUP_BLOCKS;
                if self.may_have(g, 1)?
                    && let Some(bit) =
                        bits::next_clear(&self.group(g)?.busy, (at % GROUP_BLOCKS) as usize)
                    && g * GROUP_BLOCKS + (bit as u64) < to
                {
                    return Ok(Some(g * GROUP_BLOCKS + bit as u64));
                }
                at = (g + 1) * GROUP_BLOCKS;
            }
        }
        Ok(None)
    }

    /// A run for data that cannot follow what its file has.
    fn choose(&mut self, want: u64, room: u64) -> Result<(Addr, u64), Fault> {
        if room < MEDIUM
            && let Some(run) = self.small(want)?
        {
            return Ok(run);
        }
        // Whoever begins to write a megabyte at once may go on.
        let hope = if want >= LARGE { room.max(LONG) } else { room };
        let wanted = Want { blocks: want, hope };
        let end = Self::node_start(self.blocks);
        let rooms = self.rooms;
        let found = match self.search(wanted, end, &rooms)? {
            None => self.search(wanted, self.blocks, &Rooms::default())?,
            found => found,
        };
        let (start, n) = found.ok_or(Fault::NoSpace)?;
        let start = align(start, n, want, hope);
        if room > want {
            self.rooms.add(start, room);
        }
        if room >= LARGE {
            self.rotor = start + want;
        }
        Ok((start, want.min(n)))
    }

    /// The best run before `end`, from the rotor's group on; the window's, or
    /// the first behind it that is long enough, else the longest of all.
    fn search(
        &mut self,
        want: Want,
        end: Addr,
        rooms: &Rooms,
    ) -> Result<Option<(Addr, u64)>, Fault> {
        if self.rotor >= end {
            self.rotor = 0;
        }
        let groups = end.div_ceil(GROUP_BLOCKS);
        let first = self.rotor / GROUP_BLOCKS;
        let mut best: Option<(Addr, u64)> = None;
        // The rotor's group comes first from the rotor on, and last wholly.
        for i in 0..=groups {
            let enough = best.is_some_and(|(_, n)| n >= want.blocks);
            if i >= WINDOW && enough {
                break;
            }
            let g = (first + i) % groups;
            // Better is not worth a read.
            if enough && !self.groups.contains_key(&g) {
                continue;
            }
            let from = if i == 0 { self.rotor % GROUP_BLOCKS } else { 0 };
            let least = best.map_or(1, |(_, n)| if n < want.hope { n + 1 } else { want.hope });
            if !self.may_have(g, least)? {
                continue;
            }
            let to = (end - g * GROUP_BLOCKS).min(GROUP_BLOCKS);
            if let Some((start, n)) = self.search_group(g, (from, to), want, rooms)?
                && best.is_none_or(|(_, b)| want.better(n, b))
            {
                best = Some((start, n));
            }
        }
        Ok(best)
    }

    /// Could this group have a run of `n`? Answers without reading its bitmap.
    fn may_have(&mut self, g: u64, n: u64) -> Result<bool, Fault> {
        Ok(match self.groups.get(&g) {
            Some(group) => u64::from(group.free) >= n && u64::from(group.longest) >= n,
            None => find(&self.tree, &g)?.is_none_or(|d| u64::from(d.free) >= n),
        })
    }

    /// The best run of a group between two bits.
    fn search_group(
        &mut self,
        g: u64,
        (from, to): (u64, u64),
        want: Want,
        rooms: &Rooms,
    ) -> Result<Option<(Addr, u64)>, Fault> {
        let group = self.group(g)?;
        let (mut best, mut longest): (Option<(Addr, u64)>, u64) = (None, 0);
        let mut at = from;
        while let Some((bit, n)) = bits::next_run(&group.busy, at as usize, (to - at) as usize) {
            let (bit, n) = (bit as u64, (n as u64).min(to.saturating_sub(bit as u64)));
            if n == 0 {
                break;
            }
            longest = longest.max(n);
            at = bit + n;
            if best.is_none_or(|(_, b)| want.better(n, b)) {
                let (start, n) = rooms.behind(g * GROUP_BLOCKS + bit, n);
                if n > 0 && best.is_none_or(|(_, b)| want.better(n, b)) {
                    best = Some((start, n));
                    if n == want.hope {
                        return Ok(best);
                    }
                }
            }
            if at >= to {
                break;
            }
        }
        if (from, to) == (0, GROUP_BLOCKS) {
            group.longest = longest as u32;
        }
        Ok(best)
    }

    /// A hole in a stretch that is in use for the greater part, or in the one
    /// that small requests are filling; else the start of a free one. None:
    /// nothing of the kind is near.
    fn small(&mut self, want: u64) -> Result<Option<(Addr, u64)>, Fault> {
        let end = Self::node_start(self.blocks) / STRETCH;
        if end == 0 {
            return Ok(None);
        }
        let mut free = None;
        let from = [self.small / STRETCH, self.hole / STRETCH];
        // What was freed behind the place is gone through again now and then.
        self.hole = if from[1] < from[0] { self.hole } else { u64::MAX };
        for (turn, from) in from.into_iter().enumerate() {
            if turn == 1 && (self.hole == u64::MAX || from >= end) {
                break;
            }
            for s in (from..end).take(LOOK as usize) {
                let (g, bit) = (s / LOOK, (s % LOOK * STRETCH) as usize);
                if !self.may_have(g, want)? {
                    continue;
                }
                let used = bits::count(&self.group(g)?.busy, bit, STRETCH as usize) as u64;
                if used == 0 && free.is_none() {
                    free = Some(s);
                }
                let current = s == self.small / STRETCH && used > 0;
                if (current || used >= STRETCH / 2)
                    && used + want <= STRETCH
                    && let Some(at) = self.hole_in(g, bit, want)?
                {
                    self.small = s * STRETCH;
                    return Ok(Some((g * GROUP_BLOCKS + at, want)));
                }
            }
            if turn == 1 {
                self.hole = (from + LOOK) * STRETCH;
            }
        }
        Ok(free.map(|s| {
            self.small = s * STRETCH;
            (self.small, want)
        }))
    }

    /// The first run of `want` blocks in the stretch at `bit`.
    fn hole_in(&mut self, g: u64, bit: usize, want: u64) -> Result<Option<u64>, Fault> {
        let group = self.group(g)?;
        let end = bit + STRETCH as usize;
        let mut at = bit;
        while let Some((start, n)) = bits::next_run(&group.busy, at, want as usize) {
            if start + want as usize > end {
                break;
            }
            if n as u64 == want {
                return Ok(Some(start as u64));
            }
            at = start + n;
        }
        Ok(None)
    }
}

/// Where in a run of `n` blocks at `start` to begin.
fn align(start: Addr, n: u64, want: u64, hope: u64) -> Addr {
    let up = start.next_multiple_of(STRETCH);
    let long = want >= STRETCH || (want >= LARGE && n >= hope);
    if long && up + want <= start + n { up } else { start }
}
