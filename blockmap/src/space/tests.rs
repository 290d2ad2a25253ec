//! Where blocks are put: what is long stays long, also after much use.

use super::Space;
use crate::cache::Cache;
use crate::format::types::{Addr, GROUP_BLOCKS};
use crate::tree::Tree;

fn space(blocks: u64) -> Space {
    Space::new(blocks, Tree { root: None }, blocks, Cache::new(1 << 30))
}

/// Takes a run as a write does.
fn take(s: &mut Space, goal: Addr, want: u64, size: u64) -> (Addr, u64) {
    let (start, len) = s.alloc(goal, want, size).expect("there is room");
    s.claim(start, len).expect("it was set aside");
    (start, len)
}

/// Gives a run back, as if its checkpoint were superseded.
fn give(s: &mut Space, (start, len): (Addr, u64)) {
    s.free(start, len).expect("it was taken");
    s.reclaim(start, len);
}

/// The blocks of a file that is written in pieces of 1 MiB, joined.
fn write(s: &mut Space, blocks: u64) -> Vec<(Addr, u64)> {
    let (mut runs, mut goal, mut size) = (Vec::<(Addr, u64)>::new(), 0, 0);
    while size < blocks {
        let mut left = (blocks - size).min(256);
        let piece = left;
        while left > 0 {
            let (start, len) = take(s, goal, left, size);
            match runs.last_mut() {
                Some((a, n)) if *a + *n == start => *n += len,
                _ => runs.push((start, len)),
            }
            left -= len;
            goal = start + len;
        }
        size += piece;
    }
    runs
}

#[test]
fn large_runs_are_aligned_and_small_ones_stay_together() {
    let mut s = space(4 * GROUP_BLOCKS);
    let small: Vec<Addr> = (0..100).map(|_| take(&mut s, 0, 3, 0).0).collect();
    assert!(small.iter().all(|a| *a < 512), "small files are spread: {small:?}");
    let (large, len) = take(&mut s, 0, 2048, 0);
    assert_eq!((large % 512, len), (0, 2048));
    assert!(large >= 512, "a large file begins among small ones");
    let node = s.alloc_node().expect("there is room");
    assert!(node >= Space::node_start(4 * GROUP_BLOCKS), "a node lies among data");
}

#[test]
fn files_that_grow_side_by_side_are_not_interleaved() {
    let mut s = space(8 * GROUP_BLOCKS);
    let mut files = [(0u64, 0u64, 0u64); 8];
    for _ in 0..2048 {
        for (goal, size, extents) in &mut files {
            let (start, len) = take(&mut s, *goal, 1, *size);
            *extents += u64::from(start != *goal);
            (*goal, *size) = (start + len, *size + len);
        }
    }
    for (_, _, extents) in files {
        assert!(extents <= 40, "8 MiB written block by block are in {extents} extents");
    }
}

#[test]
fn the_last_blocks_are_found_wherever_they_are() {
    let mut s = space(GROUP_BLOCKS + 100);
    let mut taken = Vec::new();
    while let Ok(run) = s.alloc(0, 512, 0) {
        s.claim(run.0, run.1).expect("it was set aside");
        taken.push(run);
    }
    assert_eq!(s.free_blocks(), 0);
    assert_eq!(taken.iter().map(|r| r.1).sum::<u64>(), GROUP_BLOCKS + 100);
    for at in [0, 5000, GROUP_BLOCKS - 1, GROUP_BLOCKS + 99] {
        s.free(at, 1).expect("it was taken");
        s.reclaim(at, 1);
        let found = if at % 2 == 0 { s.alloc(0, 9, 0) } else { s.alloc_node().map(|a| (a, 1)) };
        assert_eq!(found.expect("one block is free"), (at, 1));
        if at % 2 == 0 {
            s.claim(at, 1).expect("it was set aside");
        }
    }
}

/// Fills, then replaces files of all sizes for twenty times the size of the
/// store. Freed blocks come back in batches, as after a checkpoint.
#[test]
fn free_space_stays_in_long_runs_under_churn() {
    let blocks = 8 * GROUP_BLOCKS;
    let mut s = space(blocks);
    let mut x = 1u64;
    let mut random = move |n: u64| {
        x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (x >> 33) % n
    };
    let mut size = move || {
        let power = random(13);
        (1 << power) + random(1 << power)
    };
    let mut pick = 7u64;
    let mut files: Vec<Vec<(Addr, u64)>> = Vec::new();
    let mut waiting: Vec<(Addr, u64)> = Vec::new();
    let (mut live, mut written) = (0, 0);
    while written < 20 * blocks {
        while live < blocks * 7 / 10 {
            let n = size();
            files.push(write(&mut s, n));
            (live, written) = (live + n, written + n);
        }
        pick = pick.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let gone = files.swap_remove((pick >> 33) as usize % files.len());
        for (start, len) in gone {
            live -= len;
            s.free(start, len).expect("it was taken");
            waiting.push((start, len));
        }
        if waiting.iter().map(|w| w.1).sum::<u64>() > s.free_blocks() / 2 {
            waiting.drain(..).for_each(|(start, len)| s.reclaim(start, len));
        }
    }
    let extents: usize = files.iter().map(Vec::len).sum();
    let each = extents as f64 / files.len() as f64;
    let mut used: Vec<(Addr, u64)> = files.concat();
    used.extend(&waiting);
    used.sort_unstable();
    let gaps = used.windows(2).map(|w| w[1].0 - w[0].0 - w[0].1).filter(|g| *g > 0);
    let (long, all) = gaps.fold((0, 0), |(l, a), g| (l + if g >= 512 { g } else { 0 }, a + g));
    let share = long as f64 / all as f64;
    println!("{each:.2} extents for each file, {share:.2} of the free space in runs of 2 MiB");
    assert!(each < 1.6, "{each} extents for each file");
    assert!(share > 0.8, "{share} of the free space is in runs of 2 MiB");
    files.into_iter().flatten().for_each(|run| give(&mut s, run));
}
