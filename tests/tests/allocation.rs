//! In steady state, I/O allocates nothing.

use freehold_engine::counting::{Counting, allocations};
use freehold_engine::medium::{BLOCK, Completion, Medium, Op};
use freehold_engine::mem::MemMedium;
use freehold_engine::{FormatOptions, OpenOptions, format_target, open};
use std::sync::Arc;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One round of every kind of work, with a buffer cut and joined.
fn round(
    medium: &Arc<dyn Medium>,
    queue: &mut dyn freehold_engine::medium::Queue,
    done: &mut Vec<Completion>,
) {
    let mut first = medium.pool().take(2 * BLOCK).unwrap();
    let second = first.split_off(BLOCK);
    let read = medium.pool().take(16 * BLOCK).unwrap();
    let ops = [
        Op::Write { at: 1, buf: first, fua: false },
        Op::Write { at: 9, buf: second, fua: true },
        Op::Read { at: 100, buf: read },
        Op::WriteZeroes { at: 30, count: 4 },
        Op::Deallocate { at: 50, count: 4 },
        Op::Flush,
    ];
    for (tag, op) in ops.into_iter().enumerate() {
        assert!(queue.submit(tag as u64, op).is_ok());
    }
    while queue.in_flight() > 0 {
        queue.wait(None).unwrap();
        queue.poll(done);
    }
    assert!(done.iter().all(|c| c.result.is_ok()));
    let mut part = |tag| {
        let index = done.iter().position(|c| c.tag == tag).unwrap();
        done.swap_remove(index).buf.unwrap()
    };
    let (mut first, second) = (part(0), part(1));
    assert!(first.unsplit(second).is_ok());
    done.clear();
}

#[test]
fn steady_state_allocates_nothing() {
    let path = format!("{}/allocation-{}.fh", env!("CARGO_TARGET_TMPDIR"), std::process::id());
    let uri = format!("file:{path}");
    drop(format_target(&uri, &FormatOptions { size: Some(4 << 20), force: false }).unwrap());
    for io_uring in [None, Some(true), Some(false)] {
        let medium: Arc<dyn Medium> = match io_uring {
            None => Arc::new(MemMedium::new(4 << 20).unwrap()),
            Some(io_uring) => open(&uri, &OpenOptions { io_uring, ..Default::default() }).unwrap(),
        };
        let mut queue = medium.queue(8).unwrap();
        let mut done = Vec::with_capacity(8);
        round(&medium, &mut *queue, &mut done);
        let before = allocations();
        assert!(before > 0, "nothing is counted");
        for _ in 0..20 {
            round(&medium, &mut *queue, &mut done);
        }
        assert_eq!(allocations(), before, "I/O allocates on {medium:?}");
    }
    std::fs::remove_file(path).unwrap();
}
