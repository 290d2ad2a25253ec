//! Finding a number's place among ascending ones, for maps too large for the
//! processor's caches: what counts is how many lines are waited for one by one.

use freehold_engine::rcu;

/// Entries around the guess that are looked at without a branch that depends on them: one
/// before it and those behind.
const WINDOW: usize = 3;

/// How far from there a walk goes on before the search is halved: about two lines.
const NEAR: usize = 5;

/// How many of the entries have a key at or before `key`; `start` is where to look first.
///
/// A binary search waits for a line at each of its first steps. The keys of a
/// random or a regular map are spread evenly between the bounds that the parent
/// gives, so the place can be guessed ([`guess`]) without reading any entry, and is right
/// to within a line or two. Where it is not (keys of any kind may come, bounds may be
/// missing or wrong), what is left is halved: a binary search and a few steps.
#[inline]
pub(super) fn after<T>(entries: &[T], of: impl Fn(&T) -> u64, key: u64, start: usize) -> usize {
    if entries.is_empty() {
        return 0;
    }
    let start = start.min(entries.len() - 1);
    let end = (start + WINDOW).min(entries.len());
    let below = entries[start..end].iter().filter(|e| of(e) <= key).count();
    if below == 0 {
        let from = start.saturating_sub(NEAR);
        match entries[from..start].iter().rposition(|e| of(e) <= key) {
            Some(i) => from + i + 1,
            None => entries[..from].partition_point(|e| of(e) <= key),
        }
    } else if start + below < end {
        start + below
    } else {
        let near = &entries[end..(end + NEAR).min(entries.len())];
        match near.iter().position(|e| of(e) > key) {
            Some(i) => end + i,
            None => {
                let from = end + near.len();
                from + entries[from..].partition_point(|e| of(e) <= key)
            }
        }
    }
}

/// Where the window begins in which the key would be, if as many keys as there are entries
/// were spread evenly between the bounds, or, where these are not known, between the first
/// and the last.
#[inline]
pub(super) fn guess<T>(
    entries: &[T],
    of: impl Fn(&T) -> u64,
    key: u64,
    bounds: Option<(u64, u64)>,
) -> usize {
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return 0 };
    let (lo, hi) = bounds.unwrap_or_else(|| (of(first), of(last)));
    // Halved they fit a signed number, which is one instruction to convert.
    let float = |n: u64| (n >> 1) as i64 as f64;
    let part = float(key.saturating_sub(lo)) / float(hi.saturating_sub(lo)).max(1.0);
    ((part * entries.len() as i64 as f64) as i64 as usize).saturating_sub(1).min(entries.len() - 1)
}

/// Asks for the entries at which [`after`] looks first.
#[inline]
pub(super) fn prefetch<T>(entries: &[T], start: usize) {
    let window = &entries[start.min(entries.len())..(start + WINDOW).min(entries.len())];
    // The lines of a window are two or three; entries are as long as half of one.
    for e in window.iter().step_by(2).chain(window.last()) {
        rcu::prefetch(e);
    }
}

#[cfg(test)]
mod tests {
    use super::{after, guess};

    /// The same answers as a binary search gives, for even, uneven and extreme keys.
    #[test]
    fn any_spread_of_keys() {
        let spreads: [fn(u64) -> u64; 6] = [
            |i| 2 * i,
            |i| i * i * i,
            |i| 1u64 << (i % 64).min(62),
            |i| u64::MAX - 500 + i,
            |i| if i < 60 { i } else { u64::MAX - 200 + i },
            |i| if i == 0 { 0 } else { u64::MAX / 2 + i * i },
        ];
        for spread in spreads {
            let mut keys: Vec<u64> = (0..150).map(spread).collect();
            keys.sort_unstable();
            keys.dedup();
            for n in 0..keys.len() {
                let entries: Vec<(u64, ())> = keys[..n].iter().map(|k| (*k, ())).collect();
                let near = keys.iter().flat_map(|k| [k.saturating_sub(1), *k, k.saturating_add(1)]);
                for key in near.chain([0, u64::MAX]) {
                    let want = entries.partition_point(|(k, _)| *k <= key);
                    let bounds = [None, Some((0, u64::MAX)), Some((9, 3)), Some((key, key))];
                    for b in bounds {
                        let start = guess(&entries, |e| e.0, key, b);
                        let found = after(&entries, |e| e.0, key, start);
                        assert_eq!(found, want, "{key} among {n}, {b:?}");
                    }
                }
            }
        }
    }
}
