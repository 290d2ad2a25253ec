//! Steps that fail, fall short or are cut off, as no healthy disk shows them.

use super::open::open_locked;
use super::shared::Shared;
use super::table::{Next, SYNC, Table};
use super::task::{Step, Task};
use crate::medium::{BLOCK, ErrorKind, Op};
use crate::open::OpenOptions;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use std::path::PathBuf;

const EIO: i32 = -5;

/// A file of 64 blocks that goes with the value.
struct Scratch {
    path: PathBuf,
    shared: Shared,
}

impl Scratch {
    fn new(name: &str, direct: bool) -> Self {
        let path = std::env::temp_dir().join(format!("freehold-{}-{name}", std::process::id()));
        std::fs::write(&path, vec![0; 64 * BLOCK]).unwrap();
        let options = OpenOptions { direct, ..OpenOptions::default() };
        let opened = open_locked(&path, &options).unwrap();
        let shared = Shared::new(opened, "file:scratch", &options).unwrap();
        Self { path, shared }
    }

    fn write(&self, blocks: usize, fua: bool) -> Op {
        Op::Write { at: 2, buf: self.shared.pool.take(blocks * BLOCK).unwrap(), fua }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Makes a task's next step end in some way.
fn advance(
    scratch: &Scratch,
    task: &mut Task,
    outcome: Result<usize, Errno>,
) -> Option<Result<(), ErrorKind>> {
    let step = task.step(&scratch.shared);
    task.advance(&scratch.shared, step, outcome).map(|result| result.map_err(|e| e.kind()))
}

#[test]
fn a_short_transfer_goes_on_at_a_whole_sector() {
    let scratch = Scratch::new("short", true);
    let mut task = Task::new(1, scratch.write(4, false));
    assert_eq!(advance(&scratch, &mut task, Ok(4096)), None);
    let sector = scratch.shared.geometry.lba_bytes as usize;
    assert_eq!(advance(&scratch, &mut task, Ok(sector + 100)), None);
    let done = 4096 + sector;
    let expected =
        Step::Write { at: 2 * 4096 + done as u64, from: done, len: 4 * 4096 - done, sync: false };
    assert_eq!(task.step(&scratch.shared), expected);
    assert_eq!(advance(&scratch, &mut task, Ok(4 * 4096 - done)), Some(Ok(())));
    let buf = scratch.shared.pool.take(2 * BLOCK).unwrap();
    let mut task = Task::new(1, Op::Read { at: 3, buf });
    assert_eq!(advance(&scratch, &mut task, Ok(4096)), None);
    let expected = Step::Read { at: 4 * 4096, from: 4096, len: 4096 };
    assert_eq!(task.step(&scratch.shared), expected);
}

#[test]
fn a_transfer_of_nothing_is_an_error_and_not_a_loop() {
    let scratch = Scratch::new("nothing", true);
    let buf = scratch.shared.pool.take(BLOCK).unwrap();
    let mut task = Task::new(1, Op::Read { at: 63, buf });
    assert_eq!(advance(&scratch, &mut task, Ok(0)), Some(Err(ErrorKind::Io)));
    let mut task = Task::new(1, scratch.write(1, false));
    let tries = (0..100_000).find_map(|_| advance(&scratch, &mut task, Ok(1)));
    assert_eq!(tries, Some(Err(ErrorKind::Io)), "progress below a sector for ever");
}

#[test]
fn what_was_cut_off_is_begun_again_but_not_for_ever() {
    let scratch = Scratch::new("again", true);
    for errno in [Errno::AGAIN, Errno::INTR, Errno::CANCELED, Errno::FAULT] {
        let mut task = Task::new(1, scratch.write(1, true));
        for _ in 0..100 {
            assert_eq!(advance(&scratch, &mut task, Err(errno)), None, "{errno}");
        }
        assert_eq!(advance(&scratch, &mut task, Ok(BLOCK)), Some(Ok(())));
        let mut task = Task::new(1, scratch.write(1, false));
        let end = (0..100_000).find_map(|_| advance(&scratch, &mut task, Err(errno)));
        assert_eq!(end, Some(Err(ErrorKind::Io)), "{errno} repeated for ever");
    }
    assert!(scratch.shared.lost().is_none());
}

#[test]
fn errors_have_their_kinds() {
    let scratch = Scratch::new("kinds", true);
    for (errno, kind) in [
        (Errno::IO, ErrorKind::Io),
        (Errno::NOSPC, ErrorKind::NoSpace),
        (Errno::DQUOT, ErrorKind::NoSpace),
        (Errno::INVAL, ErrorKind::Io),
        (Errno::NODEV, ErrorKind::Gone),
        (Errno::NXIO, ErrorKind::Gone),
    ] {
        let mut task = Task::new(1, scratch.write(1, false));
        assert_eq!(advance(&scratch, &mut task, Err(errno)), Some(Err(kind)), "{errno}");
    }
    let refused = scratch.shared.refusal(&Op::Flush).expect("a device that vanished takes nothing");
    assert_eq!(refused.kind(), ErrorKind::Gone);
}

#[test]
fn m3_after_a_failed_flush_none_succeeds_and_nothing_is_written() {
    for errno in [Errno::IO, Errno::NOSPC] {
        let scratch = Scratch::new("flush", true);
        let mut beside = Task::new(1, Op::Flush);
        let mut forced = Task::new(1, scratch.write(1, true));
        let mut task = Task::new(2, Op::Flush);
        let end = advance(&scratch, &mut task, Err(errno)).unwrap().unwrap_err();
        assert_ne!(end, ErrorKind::Gone, "this flush itself says what went wrong");
        assert!(scratch.shared.lost().is_some());
        assert_eq!(advance(&scratch, &mut beside, Ok(0)), Some(Err(ErrorKind::Gone)));
        assert_eq!(advance(&scratch, &mut forced, Ok(BLOCK)), Some(Err(ErrorKind::Gone)));
        for op in [Op::Flush, scratch.write(1, false), Op::WriteZeroes { at: 0, count: 1 }] {
            assert_eq!(scratch.shared.refusal(&op).unwrap().kind(), ErrorKind::Gone);
        }
        let buf = scratch.shared.pool.take(BLOCK).unwrap();
        assert!(scratch.shared.refusal(&Op::Read { at: 0, buf }).is_none());
    }
}

#[test]
fn a_forced_write_that_fails_counts_as_a_failed_flush() {
    let scratch = Scratch::new("forced", true);
    let mut task = Task::new(1, scratch.write(1, true));
    assert_eq!(advance(&scratch, &mut task, Err(Errno::NOSPC)), Some(Err(ErrorKind::NoSpace)));
    assert!(scratch.shared.lost().is_none(), "no space is an error of this write alone");
    let mut task = Task::new(1, scratch.write(1, false));
    assert_eq!(advance(&scratch, &mut task, Err(Errno::IO)), Some(Err(ErrorKind::Io)));
    assert!(scratch.shared.lost().is_none(), "a plain write promises nothing");
    let mut task = Task::new(1, scratch.write(1, true));
    assert_eq!(advance(&scratch, &mut task, Err(Errno::IO)), Some(Err(ErrorKind::Io)));
    assert!(scratch.shared.lost().is_some());
}

#[test]
fn through_the_page_cache_a_forced_write_is_a_write_and_a_flush() {
    let scratch = Scratch::new("cached", false);
    let mut task = Task::new(1, scratch.write(1, true));
    assert!(matches!(task.step(&scratch.shared), Step::Write { sync: false, .. }));
    assert_eq!(advance(&scratch, &mut task, Ok(BLOCK)), None);
    assert_eq!(task.step(&scratch.shared), Step::Sync);
    assert_eq!(advance(&scratch, &mut task, Ok(0)), Some(Ok(())));
}

#[test]
fn zeroing_tries_what_the_file_system_can() {
    let scratch = Scratch::new("zeroing", true);
    let mut task = Task::new(1, Op::WriteZeroes { at: 1, count: 65 });
    let mode = |task: &Task| match task.step(&scratch.shared) {
        Step::Allocate { mode, .. } => Some(mode - FallocateFlags::KEEP_SIZE),
        _ => None,
    };
    assert_eq!(mode(&task), Some(FallocateFlags::ZERO_RANGE));
    assert_eq!(advance(&scratch, &mut task, Err(Errno::OPNOTSUPP)), None);
    assert_eq!(mode(&task), Some(FallocateFlags::PUNCH_HOLE));
    assert_eq!(advance(&scratch, &mut task, Err(Errno::OPNOTSUPP)), None);
    let mut written = 0;
    loop {
        let Step::WriteZeroes { at, len } = task.step(&scratch.shared) else { panic!("{task:?}") };
        assert_eq!(at, 4096 + written as u64);
        written += len;
        if let Some(result) = advance(&scratch, &mut task, Ok(len)) {
            assert_eq!(result, Ok(()));
            break;
        }
    }
    assert_eq!(written, 65 * BLOCK);
    assert_eq!(mode(&Task::new(1, Op::WriteZeroes { at: 0, count: 1 })), None, "it is remembered");
    let mut hint = Task::new(1, Op::Deallocate { at: 0, count: 1 });
    assert_eq!(advance(&scratch, &mut hint, Err(Errno::OPNOTSUPP)), Some(Ok(())));
}

#[test]
fn one_flush_serves_all_that_waited_for_it_and_no_later_one() {
    let scratch = Scratch::new("lane", true);
    let shared = &scratch.shared;
    let mut table = Table::new(4);
    table.insert(shared, 1, Op::Flush);
    table.insert(shared, 2, Op::Flush);
    let next = table.next(shared).unwrap();
    assert!(matches!(next, Next::Sync));
    table.started(&next);
    table.insert(shared, 3, Op::Flush);
    assert!(table.next(shared).is_none(), "two flushes of a queue at once");
    table.reaped(shared, SYNC, 0);
    let mut tags: Vec<u64> = table.done.drain(..).map(|c| c.tag).collect();
    tags.sort_unstable();
    assert_eq!(tags, [1, 2]);
    let next = table.next(shared).unwrap();
    table.started(&next);
    table.reaped(shared, SYNC, EIO);
    let kinds: Vec<_> = table.done.drain(..).map(|c| c.result.unwrap_err().kind()).collect();
    assert_eq!(kinds, [ErrorKind::Io]);
    assert_eq!((table.in_ring, table.in_flight()), (0, 0));
}

#[test]
fn completions_that_nobody_asked_for_change_nothing() {
    let scratch = Scratch::new("strange", true);
    let mut table = Table::new(2);
    for data in [0, 1, 2, u64::from(u32::MAX), SYNC - 1, SYNC] {
        for result in [0, 4096, EIO, i32::MIN, i32::MAX] {
            table.reaped(&scratch.shared, data, result);
        }
    }
    assert_eq!((table.done.len(), table.in_flight()), (0, 0));
}
