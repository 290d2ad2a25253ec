//! Ranges in one group's bitmap. A set bit is a block in use.

use crate::format::bitmap::WORDS as BITMAP_WORDS;

/// One group's bits.
pub(crate) type Words = [u64; BITMAP_WORDS];

const BITS: usize = BITMAP_WORDS * 64;

/// The mask of bits `from..to` of one word.
fn mask(from: usize, to: usize) -> u64 {
    debug_assert!(from < to && to <= 64);
    (u64::MAX >> (64 - (to - from))) << from
}

/// Calls `f(word index, mask)` for each word that the range touches.
fn each(start: usize, len: usize, mut f: impl FnMut(usize, u64)) {
    let end = start + len;
    let mut at = start;
    while at < end {
        let word = at / 64;
        let stop = end.min((word + 1) * 64);
        f(word, mask(at % 64, stop - word * 64));
        at = stop;
    }
}

/// Sets or clears a range.
pub(crate) fn fill(words: &mut Words, start: usize, len: usize, on: bool) {
    each(start, len, |w, m| if on { words[w] |= m } else { words[w] &= !m });
}

/// Set bits in a range.
pub(crate) fn count(words: &Words, start: usize, len: usize) -> usize {
    let mut n = 0;
    each(start, len, |w, m| n += (words[w] & m).count_ones() as usize);
    n
}

/// The first clear bit at or after `from`.
pub(crate) fn next_clear(words: &Words, from: usize) -> Option<usize> {
    let mut w = from / 64;
    if w >= BITMAP_WORDS {
        return None;
    }
    let mut word = !words[w] & (u64::MAX << (from % 64));
    while word == 0 {
        w += 1;
        if w == BITMAP_WORDS {
            return None;
        }
        word = !words[w];
    }
    Some(w * 64 + word.trailing_zeros() as usize)
}

/// The first run of clear bits at or after `from`: where it starts and how
/// long it is, looking no further than `most`.
pub(crate) fn next_run(words: &Words, from: usize, most: usize) -> Option<(usize, usize)> {
    let start = next_clear(words, from)?;
    // One block at a time is what random writes ask for: look at one word then.
    let stop = start.saturating_add(most).min(BITS);
    let mut at = start;
    while at < stop {
        let left = words[at / 64] >> (at % 64);
        if left != 0 {
            at += left.trailing_zeros() as usize;
            break;
        }
        at = (at / 64 + 1) * 64;
    }
    Some((start, at.min(stop) - start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_across_words() {
        let mut w = [0u64; BITMAP_WORDS];
        fill(&mut w, 60, 10, true);
        assert_eq!(count(&w, 0, BITS), 10);
        assert_eq!(count(&w, 64, 6), 6);
        assert_eq!(next_clear(&w, 60), Some(70));
        assert_eq!(next_run(&w, 0, 100), Some((0, 60)));
        assert_eq!(next_run(&w, 61, 5), Some((70, 5)));
        assert_eq!(next_run(&w, 70, 500), Some((70, 500)));
        fill(&mut w, 128, 1, true);
        assert_eq!(next_run(&w, 61, 500), Some((70, 58)));
        assert_eq!(next_run(&w, 61, 58), Some((70, 58)));
        assert_eq!(next_run(&w, 129, BITS), Some((129, BITS - 129)));
        fill(&mut w, 0, BITS, true);
        assert_eq!(next_clear(&w, 0), None);
        fill(&mut w, BITS - 1, 1, false);
        assert_eq!(next_run(&w, 0, 9), Some((BITS - 1, 1)));
    }
}
