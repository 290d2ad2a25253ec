//! Sets of addresses as ranges: found by length and alignment, removed, joined again.

use std::collections::BTreeMap;

/// Free addresses: first to last, both included, so that the whole of `u64` fits.
/// Ranges neither overlap nor touch.
#[derive(Debug, Clone, Default)]
pub(super) struct Ranges {
    by_first: BTreeMap<u64, u64>,
}

impl Ranges {
    /// Adds a range; what is there already stays there once.
    pub(super) fn insert(&mut self, mut first: u64, mut last: u64) {
        if first > last {
            return;
        }
        // What overlaps or touches is joined: it begins before our end and ends
        // after our start.
        while let Some((&at, &end)) = self.by_first.range(..=last.saturating_add(1)).next_back() {
            if end.saturating_add(1) < first {
                break;
            }
            self.by_first.remove(&at);
            (first, last) = (first.min(at), last.max(end));
        }
        self.by_first.insert(first, last);
    }

    /// Takes a range out; parts that are not there are passed over.
    pub(super) fn remove(&mut self, first: u64, last: u64) {
        while let Some((&at, &end)) = self.by_first.range(..=last).next_back() {
            if end < first || first > last {
                break;
            }
            self.by_first.remove(&at);
            if end > last {
                self.by_first.insert(last + 1, end);
            }
            if at < first {
                self.by_first.insert(at, first - 1);
                break;
            }
        }
    }

    /// The first address from `from` on, or else from the beginning on, at which
    /// `len` bytes aligned to `align` (a power of two) are free. `len` is not zero.
    pub(super) fn find(&self, len: u64, align: u64, from: u64) -> Option<u64> {
        // The range that `from` lies in begins before it.
        let inside = self.by_first.range(..=from).next_back().map_or(from, |(&at, _)| at);
        let later = self.by_first.range(inside..).map(|(&at, &end)| (at.max(from), end));
        let all = self.by_first.iter().map(|(&at, &end)| (at, end));
        later.chain(all).find_map(|(first, last)| {
            let at = first.checked_add(align - 1)? & !(align - 1);
            (at.checked_add(len - 1)? <= last).then_some(at)
        })
    }

    /// Whether an address is in the set.
    #[cfg(test)]
    pub(super) fn contains(&self, address: u64) -> bool {
        self.by_first.range(..=address).next_back().is_some_and(|(_, &end)| end >= address)
    }

    /// The ranges, in order.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.by_first.iter().map(|(&first, &last)| (first, last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::test_rng::Rng;

    /// Against a set of single addresses.
    #[test]
    fn random_histories_agree_with_a_set_of_addresses() {
        for seed in 0..200 {
            let (mut rng, mut ranges) = (Rng::new(seed), Ranges::default());
            let mut model = [false; 64];
            for _ in 0..60 {
                let (a, b) = (rng.below(64), rng.below(64));
                let (first, last) = (a.min(b), a.max(b));
                let add = rng.below(2) == 0;
                if add {
                    ranges.insert(first, last)
                } else {
                    ranges.remove(first, last)
                }
                model[first as usize..=last as usize].fill(add);
                let held: Vec<bool> = (0..64).map(|at| ranges.contains(at)).collect();
                assert_eq!(held, model, "seed {seed}");
                let all: Vec<_> = ranges.iter().collect();
                assert!(all.windows(2).all(|w| w[0].1 + 1 < w[1].0), "{all:?}");
                let (len, align, from) = (1 + rng.below(9), 1 << rng.below(4), rng.below(64));
                let fits = |at: u64| {
                    at.is_multiple_of(align)
                        && at + len <= 64
                        && model[at as usize..(at + len) as usize].iter().all(|&x| x)
                };
                let expect = (from..64).find(|&at| fits(at)).or((0..64).find(|&at| fits(at)));
                assert_eq!(ranges.find(len, align, from), expect, "seed {seed} {all:?}");
            }
        }
    }

    #[test]
    fn the_ends_of_the_address_space_do_not_wrap() {
        let mut ranges = Ranges::default();
        ranges.insert(0, u64::MAX);
        ranges.remove(u64::MAX, u64::MAX);
        assert!(!ranges.contains(u64::MAX));
        ranges.insert(u64::MAX - 1, u64::MAX);
        assert_eq!(ranges.iter().collect::<Vec<_>>(), [(0, u64::MAX)]);
        ranges.remove(0, u64::MAX - 3);
        assert_eq!(ranges.find(3, 1, 0), Some(u64::MAX - 2));
        assert_eq!(ranges.find(4, 1, 0), None);
        assert_eq!(ranges.find(1, 8, u64::MAX), None);
        ranges.insert(5, 4);
        assert!(!ranges.contains(4));
    }
}
