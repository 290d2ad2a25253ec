//! A file's bytes on their way to another one, through the controller's own memory: the device
//! puts them there and takes them from there, and they pass no memory of this machine.

use super::expected::Expected;
use crate::failure::{Failure, Outcome};
use crate::verb::work;
use freehold::{Memory, Refused, Store};

/// Bytes of a piece.
const PIECE: u64 = 64 << 10;

/// Pieces under way.
const DEPTH: u32 = 8;

/// Copies a file.
pub(super) fn copy(store: &Store, from: &Expected) -> Outcome<Expected> {
    let moved = Expected::new([b"moved/", &*from.name].concat(), from.source.clone());
    let (source, target) = (store.open_file(&from.name)?, store.create(&moved.name)?);
    let pieces = source.size().div_ceil(PIECE);
    target.allocate(0, source.size())?;
    let mut queue = store.queue(DEPTH)?;
    let (mut next, mut written) = (0, 0);
    for _ in 0..pieces.min(DEPTH.into()) {
        let buf = queue.buffer_in(Memory::Cmb, PIECE as usize)?;
        taken(queue.read(&source, next * PIECE, buf, 2 * next))?;
        next += 1;
    }
    let mut done = Vec::new();
    while written < pieces {
        work::wait(&mut queue, &mut done)?;
        for completion in done.drain(..) {
            completion.result?;
            let Some(buf) = completion.buf else { continue };
            // Piece and verb: a read has an even tag, the write of what it read the next.
            if completion.tag % 2 == 0 {
                let at = completion.tag / 2 * PIECE;
                taken(queue.write(&target, at, buf, completion.tag + 1))?;
                continue;
            }
            written += 1;
            if next < pieces {
                taken(queue.read(&source, next * PIECE, buf, 2 * next))?;
                next += 1;
            }
        }
    }
    target.truncate(source.size())?;
    target.sync()?;
    Ok(moved)
}

/// There are no more pieces than the queue has places.
fn taken(submitted: std::result::Result<(), Refused>) -> Outcome {
    submitted.map_err(|refused| {
        refused.error.map_or_else(|| Failure::new("a queue that has room is full"), Failure::from)
    })
}
