//! Addresses that a device uses for memory (IOVA): who has which.
//!
//! Pure: nothing is mapped here. A transport takes addresses before it maps, and
//! gives them back only when the unmap has succeeded.

use super::ranges::Ranges;
use crate::medium::{Error, ErrorKind, Result};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// Hands out address ranges of one device. An address that was given back is the
/// last to be given again, so that a stray access meets nothing for as long as
/// possible; the page at address 0 is never given.
///
/// # Examples
/// ```
/// use freehold_engine::memory::iova::Allocator;
/// // What an Intel IOMMU offers: no addresses of the interrupt window.
/// let usable = [0..=0xfedf_ffff, 0xfef0_0000..=0x7f_ffff_ffff];
/// let mut addresses = Allocator::new(&usable, 4096 | 2 << 20)?;
/// let at = addresses.take(4 << 20, 2 << 20)?;
/// assert_eq!(at % (2 << 20), 0);
/// addresses.give_back(at, 4 << 20)?;
/// # Ok::<(), freehold_engine::medium::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Allocator {
    free: Ranges,
    /// First address and length of what is out.
    held: BTreeMap<u64, u64>,
    /// The sizes of page that the device maps, as a mask of powers of two.
    page_sizes: u64,
    /// Where the search goes on.
    next: u64,
}

impl Allocator {
    /// All addresses of `usable` that make whole pages. `page_sizes` has a bit for each
    /// size of page, as VFIO and vfio-user tell it.
    ///
    /// # Errors
    /// `Unsupported` when the device has no page of 4096 bytes (each smaller one will
    /// do as well) or no usable page at all.
    pub fn new(usable: &[RangeInclusive<u64>], page_sizes: u64) -> Result<Self> {
        let page = smallest(page_sizes);
        if page == 0 || page > 4096 {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("the device maps pages of {page} bytes at least; 4096 are needed"),
            ));
        }
        let page = 4096;
        let mut free = Ranges::default();
        for range in usable {
            let (first, last) = (*range.start(), *range.end());
            // The page at 0 would look like no address at all.
            let Some(first) = first.max(page).checked_next_multiple_of(page) else { continue };
            // One past the last whole page; the very last one is never needed.
            let end = last.saturating_add(1) & !(page - 1);
            if first < end {
                free.insert(first, end - 1);
            }
        }
        let allocator = Self { free, held: BTreeMap::new(), page_sizes, next: 0 };
        if allocator.free.find(page, page, 0).is_none() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "the device has no usable address for memory",
            ));
        }
        Ok(allocator)
    }

    /// The best alignment for a range: the largest page of the device that is not
    /// longer than it, and at least 4096.
    pub fn alignment(&self, len: u64) -> u64 {
        // All bits up to the highest one of the length.
        let up_to = u64::MAX >> len.max(1).leading_zeros();
        let fitting = (self.page_sizes & up_to).max(1);
        (1 << (63 - fitting.leading_zeros())).max(4096)
    }

    /// Takes `len` bytes of addresses, a multiple of 4096, aligned to `align`, a power
    /// of two.
    ///
    /// # Errors
    /// `Invalid` for another length or alignment; `Limit` when no such range is free.
    pub fn take(&mut self, len: u64, align: u64) -> Result<u64> {
        check(len, align)?;
        let align = align.max(4096);
        let Some(at) = self.free.find(len, align, self.next) else {
            let text = format!("no {len} bytes of device addresses aligned to {align} are free");
            return Err(Error::new(ErrorKind::Limit, text));
        };
        self.free.remove(at, at + (len - 1));
        self.held.insert(at, len);
        self.next = at.saturating_add(len);
        Ok(at)
    }

    /// Takes away addresses that are spoken for, as those of a device's own memory are.
    ///
    /// # Errors
    /// `Busy` when one of them is out; then nothing was taken away.
    pub fn exclude(&mut self, range: RangeInclusive<u64>) -> Result<()> {
        let (first, last) = (*range.start(), *range.end());
        let before = self.held.range(..=last).next_back();
        if before.is_some_and(|(&at, &len)| at + (len - 1) >= first) {
            let text = format!("device addresses {first:#x}..={last:#x} are in use");
            return Err(Error::new(ErrorKind::Busy, text));
        }
        self.free.remove(first & !4095, last | 4095);
        Ok(())
    }

    /// Gives a range back that [`take`](Self::take) gave: wholly, and once.
    ///
    /// # Errors
    /// `Invalid` for any other range; then nothing happened.
    pub fn give_back(&mut self, iova: u64, len: u64) -> Result<()> {
        if self.held.get(&iova) != Some(&len) {
            let text = format!("device addresses {iova:#x}..+{len:#x} are not out as one range");
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        self.held.remove(&iova);
        self.free.insert(iova, iova + (len - 1));
        Ok(())
    }

    /// Bytes of addresses that are out.
    pub fn held(&self) -> u64 {
        self.held.values().sum()
    }
}

/// The smallest size in a mask of sizes; 0 for none.
fn smallest(page_sizes: u64) -> u64 {
    page_sizes & page_sizes.wrapping_neg()
}

fn check(len: u64, align: u64) -> Result<()> {
    if len == 0 || !len.is_multiple_of(4096) || !align.is_power_of_two() {
        let text = format!("device addresses for {len} bytes aligned to {align}: 4096 is the unit");
        return Err(Error::new(ErrorKind::Invalid, text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::test_rng::Rng;

    const PAGE: u64 = 4096;

    /// Whatever is taken is usable, aligned, nobody else's, and comes back.
    #[test]
    fn random_histories_never_overlap_nor_lose_addresses() {
        for seed in 0..300 {
            let mut rng = Rng::new(seed);
            let usable = [0..=0x1_ffff, 0x4_0800..=0x9_07ff, 0x20_0000..=0x2f_ffff];
            let mut all = Allocator::new(&usable, PAGE | 0x1_0000).unwrap();
            let room: u64 = all.free.iter().map(|(first, last)| last - first + 1).sum();
            let mut out: Vec<(u64, u64)> = Vec::new();
            for _ in 0..200 {
                if rng.below(3) > 0 || out.is_empty() {
                    let len = (1 + rng.below(24)) * PAGE;
                    let align = all.alignment(len).max(1 << rng.below(17));
                    let Ok(at) = all.take(len, align) else { continue };
                    assert_eq!((at % align, at % PAGE), (0, 0));
                    assert!(
                        at > 0
                            && usable
                                .iter()
                                .any(|r| r.contains(&at) && r.contains(&(at + len - 1)))
                    );
                    assert!(out.iter().all(|&(o, l)| at + len <= o || o + l <= at), "seed {seed}");
                    out.push((at, len));
                } else {
                    let (at, len) = out.swap_remove(rng.below(out.len() as u64) as usize);
                    assert!(all.give_back(at, len + PAGE).is_err());
                    all.give_back(at, len).unwrap();
                    assert!(all.give_back(at, len).is_err(), "given back twice");
                }
                assert_eq!(all.held(), out.iter().map(|o| o.1).sum::<u64>());
                let free: u64 = all.free.iter().map(|(first, last)| last - first + 1).sum();
                assert_eq!(free + all.held(), room, "addresses were lost, seed {seed}");
            }
        }
    }

    #[test]
    fn an_address_is_reused_as_late_as_possible() {
        let mut all = Allocator::new(&[0..=0xffff], PAGE).unwrap();
        let first = all.take(PAGE, PAGE).unwrap();
        all.give_back(first, PAGE).unwrap();
        let later: Vec<u64> = (0..14).map(|_| all.take(PAGE, PAGE).unwrap()).collect();
        assert!(!later.contains(&first));
        assert_eq!(all.take(PAGE, PAGE).unwrap(), first);
        assert_eq!(all.take(PAGE, PAGE).unwrap_err().kind(), ErrorKind::Limit);
    }

    #[test]
    fn alignment_is_the_largest_page_that_fits() {
        let all = Allocator::new(&[0..=u64::MAX], 4096 | 2 << 20 | 1 << 30).unwrap();
        let cases = [(4096, 4096), (8192, 4096), ((2 << 20) - 4096, 4096), (2 << 20, 2 << 20)];
        for (len, align) in cases {
            assert_eq!(all.alignment(len), align, "{len}");
        }
        assert_eq!(all.alignment(3 << 30), 1 << 30);
        assert_eq!(all.alignment((1 << 30) + 4096), 1 << 30);
        assert_eq!(Allocator::new(&[0..=u64::MAX], 512).unwrap().alignment(4096), 4096);
    }

    #[test]
    fn what_a_device_cannot_map_is_refused() {
        for (usable, pages) in [
            (vec![0..=u64::MAX], 0),
            (vec![0..=u64::MAX], 1 << 16),
            (vec![], 4096),
            (vec![0..=4095], 4096),
        ] {
            let refused = Allocator::new(&usable, pages).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Unsupported);
        }
        let mut all = Allocator::new(&[0..=u64::MAX, 7..=9], 4096 | 512).unwrap();
        for (len, align) in [(0, 4096), (100, 4096), (4096, 3), (4096, 0)] {
            assert_eq!(all.take(len, align).unwrap_err().kind(), ErrorKind::Invalid);
        }
        assert_eq!(all.take(1 << 63, 1 << 63).unwrap_err().kind(), ErrorKind::Limit);
    }

    #[test]
    fn excluded_addresses_are_not_given() {
        let mut all = Allocator::new(&[0..=0xffff], PAGE).unwrap();
        let out = all.take(PAGE, PAGE).unwrap();
        assert_eq!(all.exclude(out..=out).unwrap_err().kind(), ErrorKind::Busy);
        all.exclude(0x8100..=0x8101).unwrap();
        let rest: Vec<u64> = std::iter::from_fn(|| all.take(PAGE, PAGE).ok()).collect();
        assert_eq!(rest.len(), 13);
        assert!(!rest.contains(&0x8000));
    }
}
