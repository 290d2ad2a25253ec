//! Maps that are larger than the memory that a store may take for them: reads,
//! writes, reflinks and checks go on, within the budget, and give the right bytes.

use freehold::{ErrorKind, File, OpenOptions, Store};
use freehold_engine::medium::Medium;
use freehold_engine::mem::MemMedium;
use freehold_engine::sim::{SimMedium, SimOptions, Survival};
use freehold_tests::random::Random;
use freehold_tests::specimen::surgery::Surgery;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const B: u64 = 4096;
const BUDGET: u64 = 256 << 10;

fn options(bytes: u64) -> OpenOptions {
    OpenOptions { cache_bytes: Some(bytes), ..OpenOptions::default() }
}

/// A store with a cache of the given size on memory, and a file of so many extents
/// of one block: every second block of it.
fn spread(extents: u64, cache: u64) -> (Arc<dyn Medium>, Store, File) {
    let medium: Arc<dyn Medium> = Arc::new(MemMedium::new(extents * B * 2 + (64 << 20)).unwrap());
    Store::format_on(medium.clone()).unwrap().close().unwrap();
    let store = Store::open_on(medium.clone(), &options(cache)).unwrap();
    let file = store.create(b"f").unwrap();
    for i in 0..extents {
        file.allocate(i * 2 * B, B).unwrap();
    }
    store.checkpoint().unwrap();
    (medium, store, file)
}

/// A block that says what it is.
fn tagged(block: u64, tag: u64) -> Vec<u8> {
    let mut bytes = vec![0; B as usize];
    bytes[..8].copy_from_slice(&block.to_le_bytes());
    bytes[8..16].copy_from_slice(&tag.to_le_bytes());
    bytes
}

fn holds(file: &File, block: u64, tag: Option<u64>) {
    let mut is = vec![1; B as usize];
    let n = file.read_at(&mut is, block * B).unwrap();
    let want = tag.map_or(vec![0; B as usize], |tag| tagged(block, tag));
    assert_eq!(is[..n], want[..n], "block {block}");
}

#[test]
fn a_map_ten_times_the_budget_works() {
    const EXTENTS: u64 = 120_000;
    let (medium, store, file) = spread(EXTENTS, BUDGET);
    assert!(EXTENTS * 24 > 10 * BUDGET, "the map is not that large");
    let mut random = Random::new(1);
    let mut model: BTreeMap<u64, u64> = BTreeMap::new();
    let mut copies: Vec<(File, BTreeMap<u64, u64>)> = Vec::new();
    for i in 0..4000u64 {
        let block = random.below(EXTENTS * 2);
        file.write_at(&tagged(block, i), block * B).unwrap();
        model.insert(block, i);
        let other = random.below(EXTENTS * 2 - 2);
        holds(&file, other, model.get(&other).copied());
        if i % 1000 == 500 {
            copies.push((file.reflink(format!("copy {i}").as_bytes()).unwrap(), model.clone()));
        }
        if let Some((copy, was)) = copies.get_mut(random.below(4) as usize) {
            holds(copy, block, was.get(&block).copied());
            copy.write_at(&tagged(block, i), block * B).unwrap();
            was.insert(block, i);
        }
    }
    let report = store.check().unwrap();
    assert!(report.clean(), "{:?}", report.findings);
    let stats = store.stats();
    assert!(stats.cache_evictions > 1000, "{stats:?}");
    assert_eq!(stats.cache_budget, BUDGET);
    for (file, model) in copies.iter().chain([&(file, model)]) {
        for (block, tag) in model {
            holds(file, *block, Some(*tag));
        }
    }
    // At rest nothing holds anything, and the last who read made room.
    let used = store.stats().cache_used;
    assert!(used <= BUDGET * 5 / 4, "{used} bytes in memory");
    copies.clear();
    store.close().unwrap();
    let store = Store::open_on(medium, &options(64 << 10)).unwrap();
    assert!(store.check().unwrap().clean());
}

#[test]
fn nodes_are_evicted_under_readers() {
    const EXTENTS: u64 = 20_000;
    let (_medium, store, file) = spread(EXTENTS, 64 << 10);
    for block in 0..200 {
        file.write_at(&tagged(block * 100, block * 100), block * 100 * B).unwrap();
    }
    let over = AtomicBool::new(false);
    let end = &over;
    std::thread::scope(|scope| {
        for seed in 0..3 {
            let file = file.clone();
            scope.spawn(move || {
                let mut random = Random::new(seed);
                while !end.load(Ordering::Relaxed) {
                    let block = random.below(200) * 100;
                    holds(&file, block, Some(block));
                    let e = file.extent_at(block * B).unwrap();
                    assert!(e.address.is_some() && e.length >= B);
                }
            });
        }
        // Beside them, the map changes and checkpoints are written.
        let mut random = Random::new(9);
        for i in 0..1500 {
            let block = random.below(EXTENTS) * 2 + 1;
            if block % 100 != 0 {
                file.write_at(&tagged(block, i), block * B).unwrap();
            }
        }
        end.store(true, Ordering::Relaxed);
    });
    assert!(store.stats().cache_evictions > 100);
    assert!(store.check().unwrap().clean());
}

#[test]
fn damage_to_an_evicted_node_is_reported() {
    let sim = SimMedium::new(SimOptions { blocks: 16_384, ..SimOptions::default() });
    Store::format_on(sim.medium()).unwrap().close().unwrap();
    let store = Store::open_on(sim.medium(), &options(16 << 10)).unwrap();
    let (f, g) = (store.create(b"f").unwrap(), store.create(b"g").unwrap());
    for i in 0..3000 {
        f.allocate(i * 2 * B, B).unwrap();
        g.allocate(i * 2 * B, B).unwrap();
    }
    store.checkpoint().unwrap();
    let leaf = Surgery::on(&sim.image()).leaves(b"f")[2];
    // It was in memory when it was written; the other file takes its place there.
    for i in 0..3000 {
        g.extent_at(i * 2 * B).unwrap();
    }
    sim.corrupt(leaf.addr, 100, 1).unwrap();
    let bad = (0..3000).filter(|i| f.extent_at(i * 2 * B).is_err()).count();
    assert!((10..1000).contains(&bad), "{bad} look-ups met the damage");
    let mut buf = [0; 1];
    let met = (0..3000).find_map(|i| f.read_at(&mut buf, i * 2 * B).err()).expect("it is met");
    assert_eq!(met.kind(), ErrorKind::Corrupt);
    assert!(met.to_string().contains(&leaf.addr.to_string()), "{met}");
    assert_eq!(g.read_at(&mut buf, 0).unwrap(), 1, "the other file is untouched");
    let report = store.check().unwrap();
    assert!(report.findings.iter().any(|f| f.address == leaf.addr), "{:?}", report.findings);
}

/// Changes that outrun the checkpoints wait, so that neither memory nor a replay
/// grows beyond the bound.
#[test]
fn what_a_replay_makes_is_bounded() {
    let sim = SimMedium::new(SimOptions { blocks: 65_536, ..SimOptions::default() });
    Store::format_on(sim.medium()).unwrap().close().unwrap();
    let store = Store::open_on(sim.medium(), &options(BUDGET)).unwrap();
    let file = store.create(b"f").unwrap();
    for i in 0..15_000 {
        file.allocate(i * 2 * B, B).unwrap();
    }
    store.checkpoint().unwrap();
    let before = store.stats().checkpoints;
    let mut random = Random::new(3);
    let nodes = BUDGET / B;
    for _ in 0..2000 {
        file.allocate((random.below(15_000) * 2 + 1) * B, B).unwrap();
        assert!(store.stats().cache_dirty < 2 * BUDGET);
    }
    assert!(store.stats().checkpoints - before > 2000 / nodes / 4, "too few checkpoints");
    file.sync().unwrap();
    let sim = sim.reopen_with(Survival::Everything, 1);
    let store = Store::open_on(sim.medium(), &OpenOptions::default()).unwrap();
    let (records, stats) = (store.recovery().records, store.stats());
    assert!(records < 4 * nodes, "{records} records to replay");
    assert!(stats.cache_dirty < 4 * BUDGET && stats.nodes_read < 8 * nodes, "{stats:?}");
    assert!(store.check().unwrap().clean());
}

#[test]
fn a_cache_that_is_too_small_is_refused() {
    let medium: Arc<dyn Medium> = Arc::new(MemMedium::new(16 << 20).unwrap());
    Store::format_on(medium.clone()).unwrap().close().unwrap();
    let refused = Store::open_on(medium.clone(), &options(16_383)).map(drop).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(refused.to_string().contains("16384"), "{refused}");
    assert!(Store::open_on(medium, &options(16_384)).is_ok());
}
