//! Chains of capabilities behind a description (linux/vfio.h, `struct
//! vfio_info_cap_header`): which parts of a region can be mapped, which addresses the
//! IOMMU has.
//!
//! They come from the kernel, which is trusted with more than this; but drivers add to them,
//! and a list is read with care whoever wrote it: each step leads forward, nothing is read
//! beyond the end, and what does not fit is refused by name.

use std::ops::Range;
use vfio_bindings::bindings::vfio;

/// One of them: from its header to the end of the description.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Capability<'a> {
    pub(super) id: u16,
    pub(super) bytes: &'a [u8],
}

/// What is wrong with a chain.
pub(super) type Wrong = &'static str;

/// Four bytes of a description.
pub(super) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Eight bytes of a description.
pub(super) fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The capabilities of a description that has `fixed` bytes before them. `first` is where the
/// first one begins, or 0.
pub(super) fn walk(info: &[u8], first: u32, fixed: usize) -> Result<Vec<Capability<'_>>, Wrong> {
    let (mut found, mut at, mut before) = (Vec::new(), first as usize, fixed.saturating_sub(1));
    while at != 0 {
        if at <= before {
            return Err("a list of capabilities that leads back");
        }
        before = at;
        let bytes = info.get(at..).ok_or("a capability beyond the end")?;
        // Behind the id is a version, of which there is one for each.
        let id = bytes.first_chunk().map(|id| u16::from_ne_bytes(*id));
        let (id, next) = id.zip(word(bytes, 4)).ok_or("a capability that is cut off")?;
        found.push(Capability { id, bytes });
        at = next as usize;
    }
    Ok(found)
}

/// Pairs of numbers behind a count: areas, ranges.
fn pairs(capability: &Capability<'_>) -> Result<Vec<(u64, u64)>, Wrong> {
    let bytes = capability.bytes;
    let count = word(bytes, 8).ok_or("a list that is cut off")? as usize;
    let list = bytes.get(16..).ok_or("a list that is cut off")?;
    if count > list.len() / 16 {
        return Err("a list of more than there is");
    }
    let pair = |at| long(list, at).zip(long(list, at + 8)).ok_or("a list that is cut off");
    (0..count).map(|number| pair(number * 16)).collect()
}

/// The parts of a region of `size` bytes that can be mapped: offset and length. None where no
/// capability says so: then it is all of it, if any.
pub(super) fn areas(found: &[Capability<'_>], size: u64) -> Result<Option<Vec<(u64, u64)>>, Wrong> {
    let id = vfio::VFIO_REGION_INFO_CAP_SPARSE_MMAP as u16;
    let Some(capability) = found.iter().find(|capability| capability.id == id) else {
        return Ok(None);
    };
    let areas = pairs(capability)?;
    let inside = |&(at, len): &(u64, u64)| at.checked_add(len).is_some_and(|end| end <= size);
    if !areas.iter().all(inside) {
        return Err("an area outside its region");
    }
    Ok(Some(areas))
}

/// The addresses that a type 1 IOMMU has for memory, if it says.
pub(super) fn addresses(found: &[Capability<'_>]) -> Result<Option<Vec<Range<u64>>>, Wrong> {
    let id = vfio::VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE as u16;
    let capability = found.iter().find(|capability| capability.id == id);
    Ok(capability.map(pairs).transpose()?.map(ordered))
}

/// How many maps may still be made, if it says.
pub(super) fn maps_left(found: &[Capability<'_>]) -> Option<u32> {
    let id = vfio::VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL as u16;
    word(found.iter().find(|capability| capability.id == id)?.bytes, 8)
}

/// Ranges given by first and last address, in order, without overlap, and without those that
/// are none. The very last address is left out, so that each has an end.
pub(super) fn ordered(mut ranges: Vec<(u64, u64)>) -> Vec<Range<u64>> {
    ranges.retain(|(first, last)| first <= last);
    ranges.sort_unstable();
    let mut done: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        let end = last.saturating_add(1);
        match done.last_mut() {
            Some(before) if first <= before.end => before.end = before.end.max(end),
            _ if first < end => done.push(first..end),
            _ => {}
        }
    }
    done
}

/// The `part`th of `of` shares of ranges: for functions that have one set of addresses
/// together, each of which gives out its own. No address is in two of them.
pub(super) fn share(ranges: &[Range<u64>], part: u64, of: u64) -> Vec<Range<u64>> {
    /// Shares begin and end at the largest pages.
    const UNIT: u64 = 1 << 30;
    let total: u128 = ranges.iter().map(|range| u128::from(range.end - range.start)).sum();
    let cut = |number: u64| (total * u128::from(number) / u128::from(of.max(1))) as u64;
    let (begin, end) = (cut(part), cut(part + 1));
    let (mut passed, mut found) = (0u64, Vec::new());
    for range in ranges {
        let len = range.end - range.start;
        let at = |place: u64| range.start.saturating_add(place.saturating_sub(passed).min(len));
        // Rounded alike at both sides of a cut.
        let rounded = |place: u64| match at(place) {
            place if place == range.start || place == range.end => place,
            place => place.next_multiple_of(UNIT).clamp(range.start, range.end),
        };
        let piece = rounded(begin)..rounded(end);
        if !piece.is_empty() {
            found.push(piece);
        }
        passed = passed.saturating_add(len);
    }
    found
}

#[cfg(test)]
mod tests;
