//! Files made fast, for bench and demo: many writes in flight on one queue.

use crate::failure::{Failure, Outcome};
use freehold::{File, Queue, Store};
use std::time::Duration;

/// Bytes in a block of a store.
pub(super) const BLOCK: u64 = 4096;

/// Writes in flight.
const DEPTH: u32 = 64;

/// How long a wait sleeps before it looks again.
pub(super) const PATIENCE: Option<Duration> = Some(Duration::from_millis(100));

/// Writes `count` pieces of `len` bytes; `piece` fills the buffer of number
/// `i` and says at which offset it goes.
pub(super) fn write_pieces(
    store: &Store,
    file: &File,
    len: usize,
    count: u64,
    mut piece: impl FnMut(u64, &mut [u8]) -> u64,
) -> Outcome {
    let mut queue = store.queue(DEPTH)?;
    let mut free = (0..DEPTH).map(|_| queue.buffer(len)).collect::<Result<Vec<_>, _>>()?;
    let mut done = Vec::with_capacity(free.len());
    let (mut next, mut finished) = (0, 0);
    while finished < count {
        while next < count {
            let Some(mut buf) = free.pop() else { break };
            let offset = piece(next, &mut buf);
            match queue.write(file, offset, buf, next) {
                Ok(()) => next += 1,
                Err(refused) => {
                    if let Some(error) = refused.error {
                        return Err(error.into());
                    }
                    // The same piece is made again when there is room.
                    free.extend(refused.buf);
                    break;
                }
            }
        }
        wait(&mut queue, &mut done)?;
        for completion in done.drain(..) {
            completion.result.map_err(Failure::from)?;
            free.extend(completion.buf);
            finished += 1;
        }
    }
    Ok(())
}

/// Polls until something has completed.
pub(super) fn wait(queue: &mut Queue, done: &mut Vec<freehold::Completion>) -> Outcome {
    while queue.poll(done) == 0 {
        queue.wait(PATIENCE)?;
    }
    Ok(())
}

/// Gives an empty file `count` extents: every second block is written, those
/// between are allocated and stay unwritten.
pub(super) fn make_extents(store: &Store, file: &File, count: u64, seed: u64) -> Outcome {
    write_pieces(store, file, BLOCK as usize, count.div_ceil(2), |i, buf| {
        crate::pattern::page(seed, i, buf);
        i * 2 * BLOCK
    })?;
    file.allocate(0, count * BLOCK)?;
    Ok(file.sync()?)
}

/// Gives an empty file `count` extents without writing any data: every second
/// block is allocated.
pub(super) fn allocate_extents(file: &File, count: u64) -> Outcome {
    for i in 0..count {
        file.allocate(i * 2 * BLOCK, BLOCK)?;
    }
    Ok(file.sync()?)
}
