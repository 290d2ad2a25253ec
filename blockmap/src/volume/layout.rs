//! Where the bytes of a lease are, and what has become of it.
//!
//! There may be a million leases, most of one extent, that are granted and left alone. So
//! the extent of such a one stands in place, and what few leases have stands apart, in one
//! piece of memory that is taken when it is first needed.

use super::grant::push;
use super::lease::LeasePiece;
use super::register::Registered;
use super::write::B;
use crate::format::types::{Addr, Extent};
use freehold_engine::memory::Booking;
use smallvec::SmallVec;

/// Extents of a file, as they are found.
pub(super) type Found = SmallVec<[(u64, Extent); 1]>;

/// Where the bytes of a lease are.
#[derive(Debug)]
pub(super) struct Layout {
    /// The first file block.
    start: u64,
    /// The first block on the medium, where the whole lease is one written extent.
    one: Addr,
    rare: Option<Box<Rare>>,
    /// File blocks.
    len: u32,
    /// Bytes of the last block that are not the lease's.
    tail: u16,
    pub(super) is: Is,
}

bitflags::bitflags! {
    /// What has become of a lease.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(super) struct Is: u8 {
        /// The session changed the map itself: to be looked up again.
        const STALE = 1;
        /// It has been given up, or taken.
        const GONE = 2;
        /// It is gone without its holder, and nothing was lost.
        const TAKEN = 4;
        /// It is gone by its holder.
        const RETURNED = 8;
        /// Its blocks are in quarantine: whatever still reaches them changes nobody's bytes.
        const KEPT = 16;
        /// It does not keep its file open any more.
        const LEFT = 32;
        /// It is a part of another lease.
        const PART = 64;
    }
}

/// What few leases have.
#[derive(Debug, Default)]
pub(super) struct Rare {
    /// What stands there, in order, where that is not one written extent; what nobody wrote
    /// is left out.
    parts: Option<Vec<(u64, Extent)>>,
    /// How often an operation of the session was let past it, stale or not.
    pub(super) changes: u64,
    /// Flushes behind a recall, which no pin shows.
    pub(super) commands: u64,
    pub(super) registered: Vec<Registered>,
    /// The medium's own memory, in use through a view.
    pub(super) booking: Option<Booking>,
}

impl Layout {
    /// File blocks, the byte at which they end, and what was found there. None for more
    /// blocks than a lease can have.
    pub(super) fn new((start, end): (u64, u64), end_byte: u64, found: &Found) -> Option<Self> {
        let len = u32::try_from(end.checked_sub(start)?).ok()?;
        let tail = (end * B).saturating_sub(end_byte).min(B - 1) as u16;
        let mut l = Layout { start, one: 0, rare: None, len, tail, is: Is::empty() };
        l.lay(found);
        Some(l)
    }

    fn lay(&mut self, found: &Found) {
        let whole = |e: &Extent| !e.unwritten && e.len == self.len;
        if let [(k, e)] = &found[..]
            && *k == self.start
            && whole(e)
        {
            self.one = e.phys;
            if let Some(rare) = &mut self.rare {
                rare.parts = None;
            }
            return;
        }
        let written = found.iter().filter(|(_, e)| !e.unwritten).copied();
        self.rare_mut().parts = Some(written.collect());
    }

    /// The same range is somewhere else now.
    pub(super) fn install(&mut self, other: &Layout) {
        self.tail = other.tail;
        self.lay(&other.extents().collect());
        self.is -= Is::STALE;
    }

    /// What is written in these blocks.
    fn among(&self, start: u64, end: u64) -> Found {
        let mut kept = Found::new();
        for (k, e) in self.extents() {
            let (from, to) = (k.max(start), (k + u64::from(e.len)).min(end));
            if from < to {
                let e = Extent { phys: e.phys + (from - k), len: (to - from) as u32, ..e };
                push(&mut kept, from, e);
            }
        }
        kept
    }

    /// What lies outside of these blocks is not the lease's any more.
    pub(super) fn trim(&mut self, start: u64, end: u64) {
        let kept = self.among(start, end);
        if end < self.end() {
            self.tail = 0;
        }
        (self.start, self.len) = (start, (end - start) as u32);
        self.lay(&kept);
    }

    /// Some blocks of it, as a layout of their own.
    pub(super) fn part(&self, start: u64, end: u64) -> Option<Layout> {
        let end_byte = self.end_byte().min(end * B);
        let mut part = Layout::new((start, end), end_byte, &self.among(start, end))?;
        part.is |= Is::PART;
        Some(part)
    }

    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// The file block behind the last.
    pub(super) fn end(&self) -> u64 {
        self.start + u64::from(self.len)
    }

    /// The byte of the file at which the lease's bytes end.
    pub(super) fn end_byte(&self) -> u64 {
        self.end() * B - u64::from(self.tail)
    }

    fn parts(&self) -> Option<&[(u64, Extent)]> {
        self.rare.as_ref()?.parts.as_deref()
    }

    fn whole(&self) -> (u64, Extent) {
        (self.start, Extent { phys: self.one, len: self.len, unwritten: false, own: false })
    }

    /// What is written there, in order; where nothing is, that is left out.
    pub(super) fn extents(&self) -> impl Iterator<Item = (u64, Extent)> {
        let parts = self.parts();
        let one = parts.is_none().then(|| self.whole());
        one.into_iter().chain(parts.into_iter().flatten().copied())
    }

    /// The last extent that begins at this block or before it.
    pub(super) fn extent_before(&self, block: u64) -> Option<(u64, Extent)> {
        match self.parts() {
            None => Some(self.whole()).filter(|_| block >= self.start),
            Some(parts) => {
                let i = begun(parts, block);
                i.checked_sub(1).map(|i| parts[i])
            }
        }
    }

    /// The range in pieces, holes included.
    pub(super) fn pieces(&self) -> Vec<LeasePiece> {
        let mut out = Vec::new();
        let mut at = self.start;
        let piece = |from: u64, to: u64, address: Option<u64>| {
            let end = (to * B).min(self.end_byte());
            (from * B < end).then(|| LeasePiece { offset: from * B, len: end - from * B, address })
        };
        for (k, e) in self.extents() {
            out.extend(piece(at, k, None));
            at = k + u64::from(e.len);
            out.extend(piece(k, at, Some(e.phys * B)));
        }
        out.extend(piece(at, self.end(), None));
        out
    }

    /// What few leases have, if this one has any of it.
    pub(super) fn rare(&self) -> Option<&Rare> {
        self.rare.as_deref()
    }

    pub(super) fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    pub(super) fn changes(&self) -> u64 {
        self.rare().map_or(0, |r| r.changes)
    }

    pub(super) fn commands(&self) -> u64 {
        self.rare().map_or(0, |r| r.commands)
    }

    pub(super) fn registered(&self) -> &[Registered] {
        self.rare().map_or(&[], |r| &r.registered)
    }

    pub(super) fn booking(&self) -> Option<&Booking> {
        self.rare()?.booking.as_ref()
    }
}

/// How many parts begin at a block or before it. Where they are about as long as each other,
/// as in a file that was written in small pieces, the first look finds that.
fn begun(parts: &[(u64, Extent)], block: u64) -> usize {
    let (Some((first, _)), Some((last, _))) = (parts.first(), parts.last()) else { return 0 };
    if block < *first {
        return 0;
    }
    if block >= *last {
        return parts.len();
    }
    // Blocks of a lease, and so its parts, have numbers of 32 bits.
    let guess = ((block - first) * (parts.len() - 1) as u64 / (last - first)) as usize;
    match parts[guess].0 <= block {
        true if block < parts[guess + 1].0 => guess + 1,
        true => guess + 1 + parts[guess + 1..].partition_point(|(k, _)| *k <= block),
        false => parts[..guess].partition_point(|(k, _)| *k <= block),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(k: u64, phys: u64, len: u32) -> (u64, Extent) {
        (k, Extent { phys, len, unwritten: false, own: true })
    }

    fn found(l: &Layout) -> Vec<(u64, u64, u32)> {
        l.extents().map(|(k, e)| (k, e.phys, e.len)).collect()
    }

    #[test]
    fn one_extent_stands_in_place() {
        assert_eq!(size_of::<Layout>(), 32);
        let one = Found::from_slice(&[run(10, 100, 8)]);
        let mut l = Layout::new((10, 18), 18 * B - 7, &one).expect("a layout");
        assert!(l.rare().is_none());
        assert_eq!((found(&l), l.end_byte()), (vec![(10, 100, 8)], 18 * B - 7));
        assert_eq!(l.extent_before(9), None);
        l.trim(12, 18);
        assert_eq!((found(&l), l.end_byte()), (vec![(12, 102, 6)], 18 * B - 7));
        l.trim(12, 14);
        assert_eq!((found(&l), l.start(), l.end_byte()), (vec![(12, 102, 2)], 12, 14 * B));
        assert!(l.rare().is_none());
    }

    #[test]
    fn several_stand_apart_and_what_nobody_wrote_is_left_out() {
        let mut mixed = Found::from_slice(&[run(0, 50, 2), run(3, 80, 2)]);
        mixed.push((5, Extent { phys: 90, len: 1, unwritten: true, own: false }));
        let mut l = Layout::new((0, 6), 6 * B, &mixed).expect("a layout");
        assert_eq!(found(&l), [(0, 50, 2), (3, 80, 2)]);
        assert_eq!(l.extent_before(2).map(|(k, _)| k), Some(0));
        assert_eq!(l.extent_before(4).map(|(k, _)| k), Some(3));
        let holes: Vec<_> =
            l.pieces().iter().map(|p| (p.offset / B, p.address.is_some())).collect();
        assert_eq!(holes, [(0, true), (2, false), (3, true), (5, false)]);
        let part = l.part(3, 5).expect("a part");
        assert!(part.rare().is_none());
        assert_eq!(found(&part), [(3, 80, 2)]);
        // It was written anew, in one piece.
        let whole = Found::from_slice(&[run(0, 7, 6)]);
        l.install(&Layout::new((0, 6), 6 * B, &whole).expect("a layout"));
        assert_eq!(found(&l), [(0, 7, 6)]);
    }

    #[test]
    fn nothing_written_is_not_block_0() {
        let l = Layout::new((0, 4), 4 * B, &Found::new()).expect("a layout");
        assert_eq!(found(&l), []);
        assert_eq!((l.extent_before(0), l.pieces().len()), (None, 1));
        assert!(Layout::new((0, 1 << 32), B << 32, &Found::new()).is_none());
    }

    #[test]
    fn the_part_before_a_block_is_found_however_they_lie() {
        let even: Vec<u64> = (0..40).map(|i| 100 + 2 * i).collect();
        let steep: Vec<u64> = (0..12).map(|i| 7 + (1 << i)).collect();
        let late: Vec<u64> = [0, 1, 2, 3, 1 << 20, (1 << 20) + 5].to_vec();
        let most = u64::from(u32::MAX);
        for keys in [vec![], vec![5], even, steep, late, vec![0, most - 1, most]] {
            let e = Extent { phys: 1, len: 1, unwritten: false, own: false };
            let parts: Vec<_> = keys.iter().map(|k| (*k, e)).collect();
            let near = keys.iter().flat_map(|k| [k.saturating_sub(1), *k, *k + 1]);
            for block in near.chain([0, 90, 1 << 19]) {
                let begun = parts.partition_point(|(k, _)| *k <= block);
                assert_eq!(super::begun(&parts, block), begun, "{keys:?} at {block}");
            }
        }
    }
}
