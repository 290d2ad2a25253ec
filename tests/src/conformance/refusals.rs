//! What a medium says of itself, and what it refuses.

use super::{Driver, MIN_BLOCKS, Make};
use freehold_engine::medium::{BLOCK, ErrorKind, Op};
use freehold_engine::memory::Pool;

/// The numbers of the geometry fit together.
pub(super) fn geometry_is_sound(make: Make<'_>) {
    let medium = make();
    let g = medium.geometry();
    assert!(g.blocks >= MIN_BLOCKS, "{g:?}");
    assert!(g.lba_bytes == 512 || g.lba_bytes == 4096, "{g:?}");
    assert!(g.max_transfer as usize >= BLOCK && (g.max_transfer as usize).is_multiple_of(BLOCK));
    assert!(g.max_depth >= 1 && (g.atomic_bytes >= g.lba_bytes || g.window), "{g:?}");
    assert!(g.atomic_boundary.is_none_or(|b| b.every > 0), "{g:?}");
    assert!(!g.writes_atomically(0, 0) && !g.writes_atomically(0, u64::MAX), "{g:?}");
    assert_eq!(g.window, medium.window().is_some());
    assert_eq!(medium.losses(), 0, "a fresh medium lost nothing");
    assert!(!medium.uri().is_empty());
}

/// Depths are honoured, and cut down to what the geometry says.
pub(super) fn a_queue_has_the_depth_asked_for(make: Make<'_>) {
    let medium = make();
    let most = medium.geometry().max_depth;
    assert_eq!(medium.queue(most).unwrap().depth(), most as usize);
    assert_eq!(medium.queue(u32::MAX).unwrap().depth(), most as usize);
    assert!(medium.queue(0).unwrap().depth() >= 1);
    let small = medium.queue(3).unwrap();
    assert!((3..=most as usize).contains(&small.depth()));
    assert_eq!(small.in_flight(), 0);
}

/// A full queue refuses without an error and takes again after a poll.
pub(super) fn a_full_queue_gives_the_operation_back(make: Make<'_>) {
    let medium = make();
    let mut driver = Driver::new(&medium, 4);
    let depth = driver.queue.depth();
    for tag in 0..depth as u64 {
        let buf = driver.pattern(1, tag);
        driver.submit(tag, Op::Write { at: tag, buf, fua: false });
    }
    assert_eq!(driver.queue.in_flight(), depth);
    let buf = driver.pattern(1, 77);
    let rejected = driver.queue.submit(7, Op::Write { at: 5, buf, fua: true }).unwrap_err();
    assert!(rejected.error.is_none(), "a full queue is no error");
    let Op::Write { at: 5, buf, fua: true } = rejected.op else { panic!("another operation") };
    assert!(buf[..] == driver.pattern(1, 77)[..], "its buffer changed");
    assert_eq!(driver.queue.in_flight(), depth);
    assert_eq!(driver.drain().len(), depth);
    driver.run(Op::Write { at: 5, buf, fua: true });
    driver.expect(5, 1, 77);
}

/// Submits what must be refused, and checks that nothing else happens.
fn refused(driver: &mut Driver, op: Op, kind: ErrorKind) -> Op {
    let text = format!("{op:?}");
    match driver.queue.submit(1, op) {
        Ok(()) => panic!("taken: {text}"),
        Err(rejected) => {
            let error = rejected.error.unwrap_or_else(|| panic!("no reason given: {text}"));
            assert_eq!(error.kind(), kind, "{text}: {error}");
            assert!(!error.message().is_empty());
            assert_eq!(driver.queue.in_flight(), 0);
            assert_eq!(format!("{:?}", rejected.op), text, "another operation came back");
            rejected.op
        }
    }
}

/// No range that does not lie inside is taken, however large the numbers.
pub(super) fn ranges_outside_are_refused(make: Make<'_>) {
    let medium = make();
    let mut driver = Driver::new(&medium, 4);
    let end = driver.blocks;
    driver.write(end - 1, 1, 5);
    for at in [end - 1, end, end + 1, u64::MAX / 4096, u64::MAX - 1, u64::MAX] {
        let buf = driver.pattern(2, 1);
        refused(&mut driver, Op::Write { at, buf, fua: false }, ErrorKind::Invalid);
        let buf = driver.pattern(2, 1);
        refused(&mut driver, Op::Read { at, buf }, ErrorKind::Invalid);
        for count in [2, u64::MAX - 1, u64::MAX] {
            refused(&mut driver, Op::WriteZeroes { at, count }, ErrorKind::Invalid);
            if medium.geometry().deallocate {
                refused(&mut driver, Op::Deallocate { at, count }, ErrorKind::Invalid);
            }
            if medium.geometry().copy {
                refused(&mut driver, Op::Copy { from: at, to: 0, count }, ErrorKind::Invalid);
                refused(&mut driver, Op::Copy { from: 0, to: at, count }, ErrorKind::Invalid);
            }
        }
    }
    driver.expect(end - 1, 1, 5);
}

/// Empty and overlong transfers are refused.
pub(super) fn bad_lengths_are_refused(make: Make<'_>) {
    let medium = make();
    let mut driver = Driver::new(&medium, 4);
    let mut buf = driver.pattern(1, 1);
    let empty = buf.split_off(BLOCK);
    refused(&mut driver, Op::Write { at: 0, buf: empty, fua: false }, ErrorKind::Invalid);
    refused(&mut driver, Op::WriteZeroes { at: 0, count: 0 }, ErrorKind::Invalid);
    // A buffer above the largest transfer, where there is such a buffer.
    let most = medium.geometry().max_transfer as usize;
    if let Ok(buf) = driver.pool.take(most + BLOCK) {
        refused(&mut driver, Op::Read { at: 0, buf }, ErrorKind::Invalid);
    }
}

/// What the geometry does not have is refused; a copy onto itself always.
pub(super) fn what_is_not_supported_is_refused(make: Make<'_>) {
    let medium = make();
    let mut driver = Driver::new(&medium, 4);
    if !medium.geometry().copy {
        refused(&mut driver, Op::Copy { from: 0, to: 8, count: 1 }, ErrorKind::Unsupported);
    } else {
        refused(&mut driver, Op::Copy { from: 0, to: 3, count: 4 }, ErrorKind::Invalid);
        refused(&mut driver, Op::Copy { from: 3, to: 0, count: 4 }, ErrorKind::Invalid);
    }
    if !medium.geometry().deallocate {
        refused(&mut driver, Op::Deallocate { at: 0, count: 1 }, ErrorKind::Unsupported);
    }
    let end = driver.blocks;
    let buf = driver.pattern(2, 1);
    let kind = match medium.geometry().compare {
        true => ErrorKind::Invalid,
        false => ErrorKind::Unsupported,
    };
    refused(&mut driver, Op::Compare { at: end - 1, buf }, kind);
}

/// A buffer of another pool is transferred, or refused as `Invalid`.
pub(super) fn a_foreign_buffer_works_or_is_refused(make: Make<'_>) {
    let medium = make();
    let mut driver = Driver::new(&medium, 4);
    let mut buf = Pool::new().take(BLOCK).unwrap();
    buf.copy_from_slice(&driver.pattern(1, 3));
    match driver.queue.submit(1, Op::Write { at: 3, buf, fua: false }) {
        Ok(()) => {
            driver.drain().remove(0).result.unwrap();
            driver.expect(3, 1, 3);
        }
        Err(rejected) => assert_eq!(rejected.error.unwrap().kind(), ErrorKind::Invalid),
    }
}
