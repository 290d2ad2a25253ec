//! Chains as kernels send them, and chains that lie.

use super::*;

const FIXED: usize = 32;

/// A description of `FIXED` bytes, then `tail`.
fn info(tail: &[u8]) -> Vec<u8> {
    [&[0xee; FIXED], tail].concat()
}

fn header(id: u16, next: u32) -> Vec<u8> {
    [&id.to_ne_bytes()[..], &1u16.to_ne_bytes(), &next.to_ne_bytes()].concat()
}

fn list(id: u16, next: u32, count: u32, list: &[(u64, u64)]) -> Vec<u8> {
    let mut bytes = [header(id, next), count.to_ne_bytes().to_vec(), vec![0; 4]].concat();
    list.iter().for_each(|(a, b)| bytes.extend([a.to_ne_bytes(), b.to_ne_bytes()].concat()));
    bytes
}

fn areas_of(first: u32, tail: &[u8], size: u64) -> Result<Option<Vec<(u64, u64)>>, Wrong> {
    let info = info(tail);
    areas(&walk(&info, first, FIXED)?, size)
}

#[test]
fn areas_and_addresses_are_found_behind_others() {
    let mut tail = list(3, 48, 0, &[]);
    tail.extend(list(1, 0, 2, &[(0, 0x1000), (0x3000, 0x1000)]));
    assert_eq!(areas_of(32, &tail, 0x4000), Ok(Some(vec![(0, 0x1000), (0x3000, 0x1000)])));
    assert_eq!(areas_of(32, &header(3, 0), 0x4000), Ok(None));
    assert_eq!(areas_of(0, &tail, 0x4000), Ok(None));
    assert_eq!(areas_of(32, &list(1, 0, 0, &[]), 0x4000), Ok(Some(vec![])));

    let mut tail = list(1, 80, 2, &[(0, 0xfedf_ffff), (0xfef0_0000, 0x7f_ffff_ffff)]);
    tail.extend(header(3, 0));
    tail.extend(65535u32.to_ne_bytes());
    let info = info(&tail);
    let found = walk(&info, 32, FIXED).unwrap();
    let ranges = addresses(&found).unwrap().unwrap();
    assert_eq!(ranges, [0..0xfee0_0000, 0xfef0_0000..0x80_0000_0000]);
    assert!(!ranges.iter().any(|range| range.contains(&0xfee0_0000)), "the interrupt window");
    assert_eq!(maps_left(&found), Some(65535));
    assert_eq!((addresses(&found[1..]), maps_left(&found[..1])), (Ok(None), None));
}

#[test]
fn chains_that_lie_are_refused() {
    let good = list(1, 0, 1, &[(0, 0x1000)]);
    for first in [1, 4, 31, 33 + good.len() as u32, 4000, u32::MAX] {
        assert!(areas_of(first, &good, 0x4000).is_err(), "first at {first}");
    }
    // A loop: to itself, and round two.
    assert!(areas_of(32, &header(9, 32), 0x4000).is_err());
    assert!(areas_of(32, &[header(9, 40), header(9, 32)].concat(), 0x4000).is_err());
    for next in [1, 31, 36, 4000, u32::MAX] {
        let what = areas_of(32, &list(9, next, 0, &[]), 0x4000);
        // 36 leads forward, into nothing of sense: it ends, whatever it means.
        assert!(what.is_err() || next == 36, "next {next}");
    }
    for count in [2, 1 << 28, u32::MAX] {
        assert!(areas_of(32, &list(1, 0, count, &[(0, 1)]), 0x4000).is_err(), "count {count}");
    }
    for area in [(0x3000, 0x1001), (u64::MAX, 2), (0x4001, 0), (0, u64::MAX)] {
        assert!(areas_of(32, &list(1, 0, 1, &[area]), 0x4000).is_err(), "{area:x?}");
    }
    for cut in 0..good.len() {
        assert!(areas_of(32, &good[..cut], 0x4000).is_err(), "cut at {cut}");
    }
}

#[test]
fn any_bytes_are_read_within_their_bounds() {
    let mut state = 7u64;
    for _ in 0..20_000 {
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize
        };
        let mut bytes: Vec<u8> = (0..next() % 160).map(|_| (next() % 7) as u8 * 8).collect();
        if let Some(place) = bytes.get_mut(FIXED + 4..FIXED + 8) {
            place.copy_from_slice(&((next() % 128) as u32).to_ne_bytes());
        }
        if let Ok(found) = walk(&bytes, (next() % 96) as u32, FIXED) {
            let _ = (areas(&found, 1 << 20), addresses(&found), maps_left(&found));
        }
    }
}

#[test]
fn ranges_come_out_in_order_and_apart() {
    assert_eq!(ordered(vec![(9, 3), (100, 199), (0, 9), (10, 20)]), [0..21, 100..200]);
    assert_eq!(ordered(vec![(0, 50), (20, 30), (60, 60)]), [0..51, 60..61]);
    assert_eq!(ordered(vec![(4096, u64::MAX), (0, 7)]), [0..8, 4096..u64::MAX]);
    assert_eq!(ordered(vec![(u64::MAX, u64::MAX)]), []);
    assert_eq!(ordered(vec![]), []);
}

#[test]
fn shares_have_no_address_in_common_and_lose_none() {
    const G: u64 = 1 << 30;
    let whole = [0..0xfee0_0000, 0xfef0_0000..512 * G];
    assert_eq!(share(&whole, 0, 1), whole);
    for of in [2, 3, 7, 16] {
        let all: Vec<_> = (0..of).flat_map(|part| share(&whole, part, of)).collect();
        assert!(all.windows(2).all(|two| two[0].end <= two[1].start), "{of}: {all:x?}");
        let bytes: u64 = all.iter().map(|range| range.end - range.start).sum();
        assert_eq!(bytes, whole.iter().map(|range| range.end - range.start).sum::<u64>());
        for part in 0..of {
            let bytes: u64 = share(&whole, part, of).iter().map(|r| r.end - r.start).sum();
            assert!(bytes > 512 * G / of - 3 * G, "{part} of {of} has {bytes:x}");
        }
    }
    assert_eq!(share(&[], 0, 2), []);
}
