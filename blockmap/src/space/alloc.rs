//! Choosing blocks: near the goal, in long runs, files apart from each other.

use super::{Space, bits};
use crate::format::types::{Addr, GROUP_BLOCKS};
use crate::tree::{Fault, find};

/// Room left behind a new run for its file to grow into: 1 MiB.
const APART: u64 = 256;

/// Runs at least this long start at a multiple of it where they can: 2 MiB.
const ALIGNED: u64 = 512;

impl Space {
    /// Sets aside up to `want` blocks in one run, at `goal` if that is free (0:
    /// anywhere), and says which. They are busy, not yet reachable.
    ///
    /// With less than a whole run of `want` blocks to be had, gives the longest
    /// run found; never gives none without `NoSpace`.
    pub(crate) fn alloc(&mut self, goal: Addr, want: u64) -> Result<(Addr, u64), Fault> {
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
        let run = self.search(want)?;
        self.rotor = run.0 + run.1.max(APART);
        Ok(self.take(run))
    }

    /// A block for a node, in use at once.
    pub(crate) fn alloc_node(&mut self) -> Result<Addr, Fault> {
        let (addr, _) = self.alloc(self.node_goal, 1)?;
        self.node_goal = addr + 1;
        let (g, bit) = (addr / GROUP_BLOCKS, (addr % GROUP_BLOCKS) as usize);
        self.set_logical(g, bit, 1, true);
        Ok(addr)
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

    /// The first run of `want` blocks from the rotor on, or the longest there is.
    fn search(&mut self, want: u64) -> Result<(Addr, u64), Fault> {
        if self.rotor >= self.blocks {
            self.rotor = 0;
        }
        let groups = self.group_count();
        let first = self.rotor / GROUP_BLOCKS;
        let mut best: Option<(Addr, u64)> = None;
        for i in 0..=groups {
            let g = (first + i) % groups;
            let from = if i == 0 { (self.rotor % GROUP_BLOCKS) as usize } else { 0 };
            let enough = best.map_or(1, |(_, n)| n + 1);
            if !self.may_have(g, enough)? {
                continue;
            }
            if let Some((bit, n)) = self.search_group(g, from, want)?
                && n >= enough
            {
                best = Some((g * GROUP_BLOCKS + bit as u64, n));
                if n >= want {
                    break;
                }
            }
        }
        best.ok_or(Fault::NoSpace)
    }

    /// Could this group have a run of `n`? Answers without reading its bitmap.
    fn may_have(&mut self, g: u64, n: u64) -> Result<bool, Fault> {
        Ok(match self.groups.get(&g) {
            Some(group) => u64::from(group.free) >= n && u64::from(group.longest) >= n,
            None => find(&self.tree, &g)?.is_none_or(|d| u64::from(d.free) >= n),
        })
    }

    /// The best run of a group: the first of `want` blocks (aligned if that
    /// is long), else the longest.
    fn search_group(
        &mut self,
        g: u64,
        from: usize,
        want: u64,
    ) -> Result<Option<(usize, u64)>, Fault> {
        let group = self.group(g)?;
        let mut best: Option<(usize, u64)> = None;
        let mut at = from;
        while let Some((bit, n)) = bits::next_run(&group.busy, at, GROUP_BLOCKS as usize) {
            let n = n as u64;
            if n >= want {
                return Ok(Some((align(bit as u64, n, want) as usize, want)));
            }
            if best.is_none_or(|(_, b)| n > b) {
                best = Some((bit, n));
            }
            at = bit + n as usize;
        }
        if from == 0 {
            group.longest = best.map_or(0, |(_, n)| n as u32);
        }
        Ok(best)
    }
}

/// Where in a run of `n` blocks at `bit` to put `want` of them.
fn align(bit: u64, n: u64, want: u64) -> u64 {
    if want < ALIGNED {
        return bit;
    }
    let up = bit.next_multiple_of(ALIGNED);
    if up + want <= bit + n { up } else { bit }
}
