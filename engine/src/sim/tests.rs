//! What a crash may do, what it may not, and that both can be told apart.

use super::*;
use crate::medium::{Completion, Op};
use std::collections::BTreeSet;
use std::time::Duration;

/// Seeds of crashes that a test looks at; its assertion names the one that
/// failed, which repeats it.
const SEEDS: u64 = 200;

fn sim(options: SimOptions) -> SimMedium {
    SimMedium::new(SimOptions { blocks: 64, ..options })
}

fn plain() -> SimMedium {
    sim(SimOptions::default())
}

fn filled(medium: &SimMedium, blocks: usize, byte: u8) -> crate::memory::Buffer {
    let mut buf = medium.pool().take(blocks * BLOCK).unwrap();
    buf.fill(byte);
    buf
}

fn write(medium: &SimMedium, at: u64, byte: u8, fua: bool) -> Op {
    Op::Write { at, buf: filled(medium, 1, byte), fua }
}

fn drain(queue: &mut dyn Queue) -> Vec<Completion> {
    let mut done = Vec::new();
    while queue.in_flight() > 0 {
        queue.wait(None).unwrap();
        queue.poll(&mut done);
    }
    done
}

/// Does one operation and expects it to succeed.
fn run(queue: &mut dyn Queue, op: Op) -> Completion {
    queue.submit(0, op).unwrap();
    let mut done = drain(queue);
    assert_eq!(done.len(), 1);
    let only = done.remove(0);
    only.result.clone().unwrap();
    only
}

fn read(medium: &SimMedium, queue: &mut dyn Queue, at: u64) -> Vec<u8> {
    let buf = medium.pool().take(BLOCK).unwrap();
    run(queue, Op::Read { at, buf }).buf.unwrap().to_vec()
}

/// The bytes with which the sectors of a block begin.
fn sectors(block: &Block, size: usize) -> Vec<u8> {
    block
        .chunks(size)
        .map(|sector| {
            assert!(sector.iter().all(|&b| b == sector[0]), "torn below {size} bytes");
            sector[0]
        })
        .collect()
}

#[test]
fn m1_a_flush_covers_what_completed_before_it_was_submitted() {
    let medium = plain();
    let mut queue = medium.queue(8).unwrap();
    run(&mut *queue, write(&medium, 3, 1, false));
    run(&mut *queue, Op::Flush);
    run(&mut *queue, write(&medium, 4, 2, false));
    for seed in 0..SEEDS {
        let after = medium.reopen(seed);
        assert_eq!(*after.peek(3), [1; BLOCK], "seed {seed}: a durable write was lost");
    }
}

#[test]
fn m1_a_flush_does_not_cover_what_was_in_flight_with_it() {
    let medium = sim(SimOptions { in_order: true, ..SimOptions::default() });
    let mut queue = medium.queue(8).unwrap();
    queue.submit(1, write(&medium, 3, 1, false)).unwrap();
    queue.submit(2, Op::Flush).unwrap();
    assert_eq!(drain(&mut *queue).len(), 2);
    let lost = (0..SEEDS).filter(|&seed| *medium.reopen(seed).peek(3) == [0; BLOCK]).count();
    assert!(lost > 0, "no crash lost a write that no flush covered");
}

#[test]
fn a_forced_write_is_durable_and_buries_what_was_before_it() {
    let medium = plain();
    let mut queue = medium.queue(8).unwrap();
    run(&mut *queue, write(&medium, 3, 1, false));
    run(&mut *queue, write(&medium, 3, 2, true));
    for seed in 0..SEEDS {
        assert_eq!(*medium.reopen(seed).peek(3), [2; BLOCK], "seed {seed}");
    }
}

#[test]
fn what_is_not_durable_is_kept_lost_torn_and_reordered() {
    let medium = plain();
    let mut queue = medium.queue(8).unwrap();
    run(&mut *queue, write(&medium, 3, 1, true));
    run(&mut *queue, write(&medium, 3, 2, false));
    run(&mut *queue, write(&medium, 3, 3, false));
    let (mut whole, mut torn) = (BTreeSet::new(), 0);
    for seed in 0..SEEDS {
        let block = medium.reopen(seed).peek(3);
        let found = sectors(&block, 512);
        assert!(found.iter().all(|b| (1..=3).contains(b)), "seed {seed}: bytes from nowhere");
        if found.iter().all(|&b| b == found[0]) {
            whole.insert(found[0]);
        } else {
            torn += 1;
        }
    }
    assert_eq!(whole, BTreeSet::from([1, 2, 3]), "an outcome that law M1 allows never happened");
    assert!(torn > 0, "no crash tore a write");
}

#[test]
fn writes_to_different_blocks_survive_in_any_combination() {
    let medium = plain();
    let mut queue = medium.queue(8).unwrap();
    run(&mut *queue, write(&medium, 1, 7, false));
    run(&mut *queue, write(&medium, 2, 7, false));
    let outcomes: BTreeSet<_> = (0..SEEDS)
        .map(|seed| {
            let after = medium.reopen(seed);
            (*after.peek(1) == [7; BLOCK], *after.peek(2) == [7; BLOCK])
        })
        .collect();
    assert_eq!(outcomes.len(), 4, "{outcomes:?}");
}

#[test]
fn an_atomic_write_is_never_torn() {
    let medium = sim(SimOptions { atomic_bytes: 2 * BLOCK as u32, ..SimOptions::default() });
    let mut queue = medium.queue(8).unwrap();
    let op = Op::Write { at: 5, buf: filled(&medium, 2, 9), fua: false };
    run(&mut *queue, op);
    run(&mut *queue, Op::Write { at: 10, buf: filled(&medium, 3, 9), fua: false });
    let mut torn = 0;
    for seed in 0..SEEDS {
        let after = medium.reopen(seed);
        let both = [after.peek(5), after.peek(6)];
        let all = |byte| both.iter().all(|b| **b == [byte; BLOCK]);
        assert!(all(0) || all(9), "seed {seed}: an atomic write was torn");
        torn += usize::from(after.peek(10) != after.peek(12));
    }
    assert!(torn > 0, "a write above the atomic size was never torn");
}

#[test]
fn writes_that_survive_may_land_in_another_order() {
    let options = SimOptions { atomic_bytes: 4 * BLOCK as u32, ..SimOptions::default() };
    let medium = sim(options);
    let mut queue = medium.queue(8).unwrap();
    run(&mut *queue, Op::Write { at: 0, buf: filled(&medium, 2, 1), fua: false });
    run(&mut *queue, Op::Write { at: 1, buf: filled(&medium, 2, 2), fua: false });
    let outcomes: BTreeSet<[u8; 3]> = (0..SEEDS)
        .map(|seed| {
            let after = medium.reopen(seed);
            std::array::from_fn(|block| after.peek(block as u64)[0])
        })
        .collect();
    // Neither, the first, the second, both in order, both in the other order.
    let all = [[0, 0, 0], [1, 1, 0], [0, 2, 2], [1, 2, 2], [1, 1, 2]];
    assert_eq!(outcomes, BTreeSet::from(all));
}

#[test]
fn what_was_never_submitted_leaves_no_trace() {
    let medium = plain();
    let mut queue = medium.queue(1).unwrap();
    medium.hold_tags(0..1);
    queue.submit(0, write(&medium, 1, 1, false)).unwrap();
    let refused = queue.submit(1, write(&medium, 2, 2, false)).unwrap_err();
    assert!(refused.error.is_none(), "the queue is full");
    for seed in 0..SEEDS {
        assert_eq!(*medium.reopen(seed).peek(2), [0; BLOCK], "seed {seed}");
    }
}

#[test]
fn a_crash_comes_at_its_step_and_ends_everything() {
    for step in 0..4 {
        let medium = plain();
        let mut queue = medium.queue(8).unwrap();
        medium.crash_at(step);
        for tag in 0..4u64 {
            let taken = queue.submit(tag, write(&medium, tag, 1, false));
            match taken {
                Ok(()) => assert!(tag <= step),
                Err(rejected) => {
                    assert!(tag > step, "step {step} tag {tag}");
                    assert_eq!(rejected.error.unwrap().kind(), ErrorKind::Gone);
                }
            }
        }
        assert!(medium.is_dead());
        let done = drain(&mut *queue);
        assert_eq!(done.len() as u64, step + 1);
        for completion in done {
            assert_eq!(completion.result.unwrap_err().kind(), ErrorKind::Gone);
            assert!(completion.buf.is_some(), "the buffer comes back");
        }
        assert_eq!(medium.queue(1).unwrap_err().kind(), ErrorKind::Gone);
    }
}

#[test]
fn a_write_in_flight_at_the_crash_may_land() {
    let medium = plain();
    let mut queue = medium.queue(8).unwrap();
    medium.crash_at(0);
    queue.submit(0, write(&medium, 1, 1, true)).unwrap();
    let outcomes: BTreeSet<Vec<u8>> =
        (0..SEEDS).map(|seed| sectors(&medium.reopen(seed).peek(1), 512)).collect();
    assert!(outcomes.contains(&vec![0; 8]) && outcomes.contains(&vec![1; 8]));
    assert!(outcomes.len() > 2, "it was never torn");
    assert_eq!(*medium.reopen_with(Survival::Nothing, 1).peek(1), [0; BLOCK]);
    assert_eq!(*medium.reopen_with(Survival::Everything, 1).peek(1), [1; BLOCK]);
}

#[test]
fn the_same_seed_goes_the_same_way() {
    let history = |seed: u64| {
        let medium = sim(SimOptions { seed, ..SimOptions::default() });
        let mut queue = medium.queue(32).unwrap();
        for tag in 0..32u64 {
            let byte = tag as u8 + 1;
            queue.submit(tag, write(&medium, tag % 5, byte, tag % 7 == 0)).unwrap();
        }
        let mut done = Vec::new();
        queue.poll(&mut done);
        queue.poll(&mut done);
        let tags: Vec<u64> = done.iter().map(|c| c.tag).collect();
        let after = medium.reopen(seed + 1);
        (tags, (0..5).map(|b| after.peek(b).to_vec()).collect::<Vec<_>>())
    };
    for seed in 0..20 {
        assert_eq!(history(seed), history(seed), "seed {seed}");
    }
    assert_ne!(history(1).0, history(2).0, "the order does not depend on the seed");
}

#[test]
fn completions_come_late_and_out_of_order_unless_asked_otherwise() {
    let orders = |in_order| {
        let medium = sim(SimOptions { in_order, ..SimOptions::default() });
        let mut queue = medium.queue(16).unwrap();
        for tag in 0..16 {
            queue.submit(tag, write(&medium, tag, 1, false)).unwrap();
        }
        let mut first = Vec::new();
        queue.poll(&mut first);
        let mut tags: Vec<u64> = first.iter().map(|c| c.tag).collect();
        tags.extend(drain(&mut *queue).iter().map(|c| c.tag));
        (first.len(), tags)
    };
    let (first, tags) = orders(true);
    assert_eq!((first, tags), (16, (0..16).collect()));
    let (first, tags) = orders(false);
    assert!(first < 16 && tags != (0..16).collect::<Vec<_>>());
    assert_eq!(tags.iter().collect::<BTreeSet<_>>().len(), 16, "each completes once");
}

#[test]
fn a_liar_loses_what_it_confirmed() {
    let medium = plain();
    medium.set_liar(true);
    let mut queue = medium.queue(8).unwrap();
    run(&mut *queue, write(&medium, 1, 1, false));
    run(&mut *queue, Op::Flush);
    run(&mut *queue, write(&medium, 2, 2, true));
    let lost = |block| (0..SEEDS).any(|seed| *medium.reopen(seed).peek(block) == [0; BLOCK]);
    assert!(lost(1) && lost(2), "the lie makes no difference");
}

#[test]
fn without_a_volatile_cache_a_completed_write_is_durable() {
    let medium = sim(SimOptions { volatile_cache: false, ..SimOptions::default() });
    let mut queue = medium.queue(8).unwrap();
    run(&mut *queue, write(&medium, 1, 1, false));
    run(&mut *queue, Op::WriteZeroes { at: 1, count: 1 });
    run(&mut *queue, write(&medium, 2, 1, false));
    for seed in 0..SEEDS {
        let after = medium.reopen(seed);
        assert_eq!((after.peek(1)[0], after.peek(2)[0]), (0, 1), "seed {seed}");
    }
}

#[test]
fn errors_come_when_planned() {
    let medium = plain();
    let mut queue = medium.queue(8).unwrap();
    medium.fail(FailPlan::once(OpKind::Write, 1));
    medium.fail(FailPlan::sticky(OpKind::Flush, 0));
    medium.fail(FailPlan { error: ErrorKind::Reset, ..FailPlan::once(OpKind::Read, 0) });
    let mut kinds = Vec::new();
    let mut ops = vec![
        write(&medium, 1, 1, false),
        write(&medium, 1, 2, false),
        write(&medium, 1, 3, false),
        Op::Flush,
        Op::Flush,
    ];
    for _ in 0..2 {
        ops.push(Op::Read { at: 1, buf: medium.pool().take(BLOCK).unwrap() });
    }
    for op in ops {
        queue.submit(0, op).unwrap();
        kinds.push(drain(&mut *queue).remove(0).result.err().map(|e| e.kind()));
    }
    let (io, reset) = (Some(ErrorKind::Io), Some(ErrorKind::Reset));
    assert_eq!(kinds, [None, io, None, io, io, reset, None]);
    let lost = (0..SEEDS).any(|seed| *medium.reopen(seed).peek(1) == [0; BLOCK]);
    assert!(lost, "a flush that failed made something durable");
}

#[test]
fn held_operations_stay_in_flight_until_released() {
    let medium = plain();
    let mut queue = medium.queue(8).unwrap();
    medium.hold(Hold { kind: Some(OpKind::Read), tags: 0..u64::MAX });
    let buf = medium.pool().take(BLOCK).unwrap();
    queue.submit(1, Op::Read { at: 0, buf }).unwrap();
    queue.submit(2, write(&medium, 0, 1, false)).unwrap();
    let mut done = Vec::new();
    for _ in 0..100 {
        queue.wait(Some(Duration::ZERO)).unwrap();
        queue.poll(&mut done);
    }
    assert_eq!(done.len(), 1);
    assert_eq!(done[0].tag, 2);
    let other = medium.clone();
    let waiter = std::thread::spawn(move || {
        queue.wait(None).unwrap();
        let mut done = Vec::new();
        queue.poll(&mut done);
        done.len()
    });
    other.release();
    assert_eq!(waiter.join().unwrap(), 1);
}

#[test]
fn a_read_in_flight_with_a_write_may_see_both() {
    let mut mixtures = 0;
    for seed in 0..SEEDS {
        let medium = sim(SimOptions { seed, ..SimOptions::default() });
        let mut queue = medium.queue(8).unwrap();
        queue.submit(1, write(&medium, 0, 1, false)).unwrap();
        let buf = medium.pool().take(BLOCK).unwrap();
        queue.submit(2, Op::Read { at: 0, buf }).unwrap();
        let done = drain(&mut *queue);
        let buf = done.into_iter().find(|c| c.tag == 2).unwrap().buf.unwrap();
        let block: &Block = buf.first_chunk().unwrap();
        let found: BTreeSet<u8> = sectors(block, 512).into_iter().collect();
        mixtures += usize::from(found.len() == 2);
        assert_eq!(read(&medium, &mut *queue, 0), [1; BLOCK], "seed {seed}: later it is there");
    }
    assert!(mixtures > 0, "no read ever saw a write in part");
}

#[test]
fn a_deallocated_block_reads_as_anything_but_its_neighbours_stay() {
    let mut seen = BTreeSet::new();
    for seed in 0..SEEDS {
        let medium = sim(SimOptions { seed, ..SimOptions::default() });
        let mut queue = medium.queue(8).unwrap();
        for at in 0..3 {
            run(&mut *queue, write(&medium, at, 1, true));
        }
        run(&mut *queue, Op::Deallocate { at: 1, count: 1 });
        let after = medium.reopen(seed);
        assert_eq!((after.peek(0)[0], after.peek(2)[0]), (1, 1), "seed {seed}");
        seen.insert(after.peek(1)[0]);
    }
    assert!(seen.len() >= 3, "{seen:?}");
}

#[test]
fn m3_a_loss_refuses_flushes_and_writes_for_ever() {
    let medium = plain();
    let mut queue = medium.queue(8).unwrap();
    run(&mut *queue, write(&medium, 1, 1, true));
    queue.submit(7, write(&medium, 2, 2, false)).unwrap();
    medium.lose(3);
    assert_eq!(medium.losses(), 1);
    assert_eq!(drain(&mut *queue).remove(0).result.unwrap_err().kind(), ErrorKind::Gone);
    for op in [Op::Flush, write(&medium, 1, 1, false)] {
        let rejected = queue.submit(1, op).unwrap_err();
        assert_eq!(rejected.error.unwrap().kind(), ErrorKind::Gone);
    }
    assert_eq!(read(&medium, &mut *queue, 1), [1; BLOCK], "what was durable is still there");
    let mut fresh = medium.queue(1).unwrap();
    assert!(fresh.submit(1, Op::Flush).is_err(), "other queues too");
}

#[test]
fn a_dropped_queue_leaves_its_writes_to_chance() {
    let outcomes: BTreeSet<u8> = (0..SEEDS)
        .map(|seed| {
            let medium = plain();
            let mut queue = medium.queue(8).unwrap();
            queue.submit(1, write(&medium, 1, 1, false)).unwrap();
            drop(queue);
            let mut other = medium.queue(8).unwrap();
            run(&mut *other, write(&medium, 2, 1, false));
            run(&mut *other, Op::Flush);
            assert_eq!(medium.pool().taken(), 0, "a buffer was kept");
            medium.reopen(seed).peek(1)[0]
        })
        .collect();
    assert_eq!(outcomes, BTreeSet::from([0, 1]));
}

#[test]
fn stores_are_lost_by_words_until_they_are_persisted() {
    let medium = sim(SimOptions { window: true, ..SimOptions::default() });
    let window = medium.window().unwrap();
    window.store(4096 - 16, &[1; 32]).unwrap();
    window.persist(4096 - 16, 8).unwrap();
    let mut back = [0; 32];
    window.load(4096 - 16, &mut back).unwrap();
    assert_eq!(back, [1; 32]);
    let mut outcomes = BTreeSet::new();
    for seed in 0..SEEDS {
        let after = medium.reopen(seed);
        let (first, second) = (after.peek(0), after.peek(1));
        let mut bytes = first[4080..].to_vec();
        bytes.extend_from_slice(&second[..16]);
        let words: Vec<u8> = bytes
            .chunks(8)
            .map(|w| {
                assert!(w.iter().all(|&b| b == w[0]), "seed {seed}: torn below 8 bytes");
                w[0]
            })
            .collect();
        assert_eq!(words[0], 1, "seed {seed}: a persisted word was lost");
        outcomes.insert(words);
    }
    assert!(outcomes.len() >= 4, "{outcomes:?}");
}

#[test]
fn persisting_does_not_undo_and_is_not_undone() {
    let medium = sim(SimOptions { window: true, ..SimOptions::default() });
    let mut queue = medium.queue(8).unwrap();
    let window = medium.window().unwrap();
    run(&mut *queue, write(&medium, 0, 1, false));
    window.store(64, &[2; 8]).unwrap();
    window.persist(64, 8).unwrap();
    run(&mut *queue, Op::Flush);
    window.store(128, &[3; 8]).unwrap();
    run(&mut *queue, Op::Flush);
    let mut unsaved = BTreeSet::new();
    for seed in 0..SEEDS {
        let block = medium.reopen(seed).peek(0);
        assert_eq!((block[63], block[64], block[72]), (1, 2, 1), "seed {seed}");
        unsaved.insert(block[128]);
    }
    assert_eq!(unsaved, BTreeSet::from([1, 3]), "a flush of the queue persists no stores");
}

#[test]
fn another_threads_persist_does_not_count() {
    let medium = sim(SimOptions { window: true, ..SimOptions::default() });
    medium.window().unwrap().store(0, &[1; 8]).unwrap();
    let other = medium.clone();
    std::thread::spawn(move || other.window().unwrap().persist(0, 8).unwrap()).join().unwrap();
    assert!((0..SEEDS).any(|seed| medium.reopen(seed).peek(0)[0] == 0));
}

#[test]
fn steps_and_statistics_count_what_was_submitted() {
    let medium = sim(SimOptions { copy: true, ..SimOptions::default() });
    let mut queue = medium.queue(8).unwrap();
    run(&mut *queue, Op::Write { at: 0, buf: filled(&medium, 3, 1), fua: true });
    run(&mut *queue, write(&medium, 9, 1, false));
    run(&mut *queue, Op::Copy { from: 0, to: 20, count: 2 });
    run(&mut *queue, Op::WriteZeroes { at: 0, count: 2 });
    run(&mut *queue, Op::Deallocate { at: 30, count: 2 });
    run(&mut *queue, Op::Flush);
    assert_eq!(read(&medium, &mut *queue, 21), [1; BLOCK]);
    let stats = medium.stats();
    assert_eq!(medium.steps(), 6);
    assert_eq!((stats.writes, stats.write_bytes, stats.forced), (2, 4 * 4096, 1));
    assert_eq!((stats.copies, stats.zeroes, stats.deallocates), (1, 1, 1));
    assert_eq!((stats.flushes, stats.reads, stats.read_bytes), (1, 1, 4096));
}

#[test]
fn peek_poke_and_corrupt_see_the_durable_bytes() {
    let medium = plain();
    let mut queue = medium.queue(8).unwrap();
    run(&mut *queue, write(&medium, 1, 1, false));
    assert_eq!(medium.peek(1)[0], 0, "not durable yet");
    run(&mut *queue, Op::Flush);
    medium.corrupt(1, 100, 0x81).unwrap();
    assert_eq!((medium.peek(1)[99], medium.peek(1)[100]), (1, 0x80));
    assert_eq!(read(&medium, &mut *queue, 1)[100], 0x80);
    medium.poke(1, &[5; BLOCK]).unwrap();
    assert_eq!(read(&medium, &mut *queue, 1), [5; BLOCK]);
    assert!(medium.poke(64, &[0; BLOCK]).is_err());
    assert!(medium.corrupt(0, BLOCK, 1).is_err());
    let copy =
        SimMedium::with_image(SimOptions { blocks: 64, ..Default::default() }, medium.image());
    assert_eq!(*copy.peek(1), [5; BLOCK]);
}

/// Some writes, flushes and writes in flight, always the same.
fn some_work(medium: &SimMedium) {
    let mut queue = medium.queue(8).unwrap();
    for i in 0..12u8 {
        let _ = queue.submit(u64::from(i), write(medium, u64::from(i % 5), i + 1, i == 7));
        if i % 4 == 2 {
            let _ = queue.submit(100, Op::Flush);
        }
        queue.poll(&mut Vec::new());
    }
}

#[test]
fn a_kept_crash_is_what_dying_there_leaves() {
    let kept = plain();
    kept.keep_crashes();
    some_work(&kept);
    assert_eq!(kept.crashes(), 15);
    for step in 0..kept.crashes() {
        let dead = plain();
        dead.crash_at(step as u64);
        some_work(&dead);
        assert!(dead.is_dead());
        for seed in 0..20 {
            for survival in [Survival::Random, Survival::Nothing, Survival::Everything] {
                let (a, b) =
                    (kept.crash_of(step, survival, seed), dead.reopen_with(survival, seed));
                for block in 0..5 {
                    assert_eq!(a.peek(block), b.peek(block), "step {step}, seed {seed}");
                }
            }
        }
    }
}
