//! What the five trees differ in: keys, values, and how entries are cut and joined.

use super::Fault;
use crate::format::types::{Extent, FileId, FileRecord, GroupDesc};
use crate::format::{CountRun, Counts, EntryCodec, Extents, Files, Names, Space};
use crate::txn::Txn;

/// The parts of an entry before, inside and after a range of keys.
pub(crate) struct Cut<K, V> {
    pub(crate) left: Option<(K, V)>,
    pub(crate) mid: Option<(K, V)>,
    pub(crate) right: Option<(K, V)>,
}

impl<K, V> Cut<K, V> {
    fn whole(k: K, v: V) -> Self {
        Cut { left: None, mid: Some((k, v)), right: None }
    }
}

/// A tree's entries. Entries are points unless they say that they are runs.
pub(crate) trait Schema:
    EntryCodec<Key: Send + Sync, Val: Send + Sync> + Sized + Send + Sync + 'static
{
    /// Nodes may have several parents and values may be counted.
    const SHARED: bool = false;
    /// The word for errors.
    const WHAT: &'static str;

    /// The key as a number, if it is one.
    fn number(_k: &Self::Key) -> u64 {
        0
    }

    /// Where among these entries a key may be, if that can be guessed. Between which numbers
    /// they lie, where that is known, helps.
    fn guess<T>(
        _entries: &[T],
        _of: impl Fn(&T) -> &Self::Key,
        _key: &Self::Key,
        _bounds: Option<(u64, u64)>,
    ) -> usize {
        0
    }

    /// How many of these entries have a key at or before this one, which may be near `guess`.
    fn after<T>(
        entries: &[T],
        of: impl Fn(&T) -> &Self::Key,
        key: &Self::Key,
        _guess: usize,
    ) -> usize {
        entries.partition_point(|e| of(e) <= key)
    }

    /// Asks for the entries at which `after` looks first, where that can be known.
    fn prefetch<T>(_entries: &[T], _guess: usize) {}

    /// Bytes of memory that a key takes apart from itself.
    fn apart(_k: &Self::Key) -> usize {
        0
    }

    /// Entries are runs of keys, not points.
    fn is_run() -> bool {
        false
    }

    /// Does the entry, which starts at or before `at`, contain it or reach past it?
    fn reaches(k: &Self::Key, _v: &Self::Val, at: &Self::Key) -> bool {
        k >= at
    }

    /// Cuts an entry at the ends of `[lo, hi)`; `hi` none is the end of the tree.
    fn cut(
        k: &Self::Key,
        v: &Self::Val,
        _lo: &Self::Key,
        _hi: Option<&Self::Key>,
    ) -> Cut<Self::Key, Self::Val> {
        Cut::whole(k.clone(), v.clone())
    }

    /// One entry in place of two neighbours, where they fit.
    fn merge(
        _a: &(Self::Key, Self::Val),
        _b: &(Self::Key, Self::Val),
    ) -> Option<(Self::Key, Self::Val)> {
        None
    }

    /// One more parent for what the value owns.
    fn share(_txn: &mut Txn<'_>, _v: &Self::Val) -> Result<(), Fault> {
        Ok(())
    }

    /// One parent fewer for what the value owns.
    fn release(_txn: &mut Txn<'_>, _v: &Self::Val) -> Result<(), Fault> {
        Ok(())
    }

    /// What the value owns stays held by an owner who is not gone for good.
    fn hold(_txn: &mut Txn<'_>, _v: &Self::Val) {}

    /// Law B1: forgets that the value is this file's own.
    fn disown(_v: &mut Self::Val) {}

    /// The key moved by so much, modulo 2^64. Only keys of extents are ever moved.
    fn moved(k: &Self::Key, by: u64) -> Self::Key {
        debug_assert_eq!(by, 0);
        k.clone()
    }
}

impl Schema for Names {
    const WHAT: &'static str = "name tree";

    fn apart(k: &Box<[u8]>) -> usize {
        k.len() + 16
    }
}

impl Schema for Files {
    const WHAT: &'static str = "file tree";
}

impl Schema for Space {
    const WHAT: &'static str = "space tree";
}

// The value types, so that a reader sees here what each tree holds.
const _: fn(FileId, FileRecord, GroupDesc) = |_, _, _| {};

impl Schema for Counts {
    const WHAT: &'static str = "count tree";

    fn number(k: &u64) -> u64 {
        *k
    }

    fn guess<T>(
        entries: &[T],
        of: impl Fn(&T) -> &u64,
        key: &u64,
        bounds: Option<(u64, u64)>,
    ) -> usize {
        super::search::guess(entries, |e| *of(e), *key, bounds)
    }

    fn after<T>(entries: &[T], of: impl Fn(&T) -> &u64, key: &u64, guess: usize) -> usize {
        super::search::after(entries, |e| *of(e), *key, guess)
    }

    fn prefetch<T>(entries: &[T], guess: usize) {
        super::search::prefetch(entries, guess);
    }

    fn is_run() -> bool {
        true
    }

    fn reaches(k: &u64, v: &CountRun, at: &u64) -> bool {
        k.saturating_add(u64::from(v.len)) > *at
    }

    fn cut(k: &u64, v: &CountRun, lo: &u64, hi: Option<&u64>) -> Cut<u64, CountRun> {
        let run = |from: u64, to: u64| {
            (from < to).then(|| (from, CountRun { len: (to - from) as u32, count: v.count }))
        };
        let (start, end) = (*k, k + u64::from(v.len));
        let (a, b) = bounds(start, end, *lo, hi);
        Cut { left: run(start, a), mid: run(a, b), right: run(b, end) }
    }

    fn merge(a: &(u64, CountRun), b: &(u64, CountRun)) -> Option<(u64, CountRun)> {
        let fits = a.0 + u64::from(a.1.len) == b.0 && a.1.count == b.1.count;
        let len = a.1.len.checked_add(b.1.len).filter(|_| fits)?;
        Some((a.0, CountRun { len, count: a.1.count }))
    }
}

impl Schema for Extents {
    const SHARED: bool = true;
    const WHAT: &'static str = "extent tree";

    fn number(k: &u64) -> u64 {
        *k
    }

    fn guess<T>(
        entries: &[T],
        of: impl Fn(&T) -> &u64,
        key: &u64,
        bounds: Option<(u64, u64)>,
    ) -> usize {
        super::search::guess(entries, |e| *of(e), *key, bounds)
    }

    fn after<T>(entries: &[T], of: impl Fn(&T) -> &u64, key: &u64, guess: usize) -> usize {
        super::search::after(entries, |e| *of(e), *key, guess)
    }

    fn prefetch<T>(entries: &[T], guess: usize) {
        super::search::prefetch(entries, guess);
    }

    fn is_run() -> bool {
        true
    }

    fn reaches(k: &u64, v: &Extent, at: &u64) -> bool {
        k.saturating_add(u64::from(v.len)) > *at
    }

    fn cut(k: &u64, v: &Extent, lo: &u64, hi: Option<&u64>) -> Cut<u64, Extent> {
        let (start, end) = (*k, k + u64::from(v.len));
        let part = |from: u64, to: u64| {
            let e = Extent { phys: v.phys + (from - start), len: (to - from) as u32, ..*v };
            (from, e)
        };
        let piece = |from: u64, to: u64| (from < to).then(|| part(from, to));
        let (a, b) = bounds(start, end, *lo, hi);
        Cut { left: piece(start, a), mid: piece(a, b), right: piece(b, end) }
    }

    /// Neighbours merge only when their `own` bits agree, so nothing is lost
    /// and nothing is claimed (law B1 would allow the AND).
    fn merge(a: &(u64, Extent), b: &(u64, Extent)) -> Option<(u64, Extent)> {
        let (x, y) = (&a.1, &b.1);
        let fits = a.0 + u64::from(x.len) == b.0
            && x.phys + u64::from(x.len) == y.phys
            && x.unwritten == y.unwritten
            && x.own == y.own;
        let len = x.len.checked_add(y.len).filter(|_| fits)?;
        Some((a.0, Extent { len, ..*x }))
    }

    fn share(txn: &mut Txn<'_>, v: &Extent) -> Result<(), Fault> {
        txn.raise(v.phys, u64::from(v.len))
    }

    fn release(txn: &mut Txn<'_>, v: &Extent) -> Result<(), Fault> {
        txn.lower(v.phys, u64::from(v.len))
    }

    fn hold(txn: &mut Txn<'_>, v: &Extent) {
        txn.hold(v.phys, u64::from(v.len));
    }

    fn disown(v: &mut Extent) {
        v.own = false;
    }

    fn moved(k: &u64, by: u64) -> u64 {
        k.wrapping_add(by)
    }
}

/// `[lo, hi)` inside `[start, end)`.
fn bounds(start: u64, end: u64, lo: u64, hi: Option<&u64>) -> (u64, u64) {
    let a = lo.clamp(start, end);
    let b = hi.map_or(end, |h| (*h).clamp(start, end));
    (a, b.max(a))
}
