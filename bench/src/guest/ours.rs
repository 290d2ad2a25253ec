//! Our side: a store on a medium, and the medium alone.

use super::{rate, timed};
use crate::BLOCK;
use crate::nvme::{place, through_driver};
use freehold::{
    Access, Buffer, Error, ErrorKind, File, LeaseBuffer, LeaseOptions, Memory, Result, Store,
};
use freehold_engine::medium::{self, Medium};
use std::sync::Arc;
use std::time::Instant;

/// Blocks of the file that is read and overwritten.
pub const BLOCKS: u64 = 8192;

/// Makes the file of [`BLOCKS`] blocks, in one piece, durable.
///
/// # Errors
/// What the store reports.
pub fn file(store: &Store) -> Result<File> {
    let file = store.create(b"f")?;
    for i in 0..BLOCKS / 256 {
        file.write_at(&vec![0x5a; 1 << 20], i << 20)?;
    }
    file.sync()?;
    store.checkpoint()?;
    Ok(file)
}

/// 4 KiB reads of the medium at random blocks, a second.
///
/// # Errors
/// What the medium reports.
pub fn raw(medium: &Arc<dyn Medium>, depth: u32) -> medium::Result<f64> {
    rate(|count| {
        let begun = Instant::now();
        through_driver(medium, depth, count).map(|_| begun.elapsed())
    })
}

/// 4 KiB reads of the file by offset, a second; into the controller's own memory if `memory`
/// says so.
///
/// # Errors
/// What a read reports.
pub fn reads(store: &Store, file: &File, depth: u32, memory: Memory) -> Result<f64> {
    let mut queue = store.queue(depth)?;
    let mut idle: Vec<Buffer> = Vec::with_capacity(depth as usize);
    for _ in 0..depth {
        idle.push(queue.buffer_in(memory, BLOCK as usize)?);
    }
    let mut done = Vec::with_capacity(depth as usize);
    rate(|count| {
        let (begun, mut n, mut ended) = (Instant::now(), 0, 0);
        while ended < count {
            while n < count {
                let Some(buf) = idle.pop() else { break };
                queue
                    .read(file, place(n, BLOCKS) * BLOCK, buf, n)
                    .map_err(|r| r.error.unwrap_or_else(full))?;
                n += 1;
            }
            queue.poll(&mut done);
            for c in done.drain(..) {
                c.result?;
                idle.extend(c.buf);
                ended += 1;
            }
        }
        Ok(begun.elapsed())
    })
}

/// 4 KiB fills of buffers of a lease over the file, a second.
///
/// # Errors
/// What the grant or a fill reports.
pub fn fills(store: &Store, file: &File, depth: u32, memory: Memory) -> Result<f64> {
    let lease = file.lease(.., Access::Read, &LeaseOptions::default())?;
    let mut queue = store.queue(depth)?;
    let mut idle: Vec<LeaseBuffer> = Vec::with_capacity(depth as usize);
    for _ in 0..depth {
        idle.push(lease.buffer_in(memory, 0..BLOCK)?);
    }
    let mut done = Vec::with_capacity(depth as usize);
    rate(|count| {
        let (begun, mut n, mut ended) = (Instant::now(), 0, 0);
        while ended < count {
            while n < count {
                let Some(mut buf) = idle.pop() else { break };
                buf.move_to(place(n, BLOCKS) * BLOCK)?;
                queue.fill(buf, n).map_err(|r| r.error.unwrap_or_else(full))?;
                n += 1;
            }
            queue.poll(&mut done);
            for mut c in done.drain(..) {
                idle.extend(c.take_lease());
                c.result?;
                ended += 1;
            }
        }
        Ok(begun.elapsed())
    })
}

/// Durable overwrites of 4 KiB at random blocks of the file, one at a time, a second.
///
/// # Errors
/// What a write reports.
pub fn overwrites(store: &Store, file: &File) -> Result<f64> {
    let mut queue = store.queue(1)?;
    let mut idle = Some(queue.buffer(BLOCK as usize)?);
    idle.iter_mut().for_each(|buf| buf.fill(0x33));
    let mut done = Vec::with_capacity(1);
    timed(|n| {
        if let Some(buf) = idle.take() {
            let at = place(n, BLOCKS) * BLOCK;
            queue.write_durable(file, at, buf, n).map_err(|r| r.error.unwrap_or_else(full))?;
        }
        while idle.is_none() {
            queue.poll(&mut done);
            for c in done.drain(..) {
                c.result?;
                idle = c.buf;
            }
        }
        Ok(())
    })
}

/// The same through a lease on the file, where that is a window on the storage.
///
/// # Errors
/// What the grant or a store reports.
pub fn overwrites_by_lease(file: &File) -> Result<f64> {
    let lease = file.lease(.., Access::Write, &LeaseOptions::default())?;
    let (buffer, bytes) = (lease.buffer(Memory::Window)?, [0x33; BLOCK as usize]);
    timed(|n| buffer.pin()?.store_durably(place(n, BLOCKS) * BLOCK, &bytes))
}

/// Durable appends of 4 KiB to a file that is emptied now and then, a second.
///
/// # Errors
/// What a write reports.
pub fn appends(store: &Store) -> Result<f64> {
    let (file, bytes) = (store.create(b"appended")?, [0x44; BLOCK as usize]);
    let found = timed(|n| {
        let at = n % BLOCKS;
        if n > 0 && at == 0 {
            file.truncate(0)?;
        }
        file.write_durable_at(&bytes, at * BLOCK)
    });
    drop(file);
    store.remove(b"appended")?;
    found
}

/// Durable overwrites of 4 KiB, each of a block that a reflink shares, a second.
///
/// # Errors
/// What the store reports.
pub fn overwrites_after_reflink(store: &Store, file: &File) -> Result<f64> {
    let bytes = [0x55; BLOCK as usize];
    let mut left = 0;
    let found = timed(|n| {
        if left == 0 {
            let _ = store.remove(b"shared");
            drop(store.reflink(b"f", b"shared")?);
            left = BLOCKS;
        }
        left -= 1;
        file.write_durable_at(&bytes, n % BLOCKS * BLOCK)
    });
    let _ = store.remove(b"shared");
    found
}

fn full() -> Error {
    Error::new(ErrorKind::Busy, "the queue took no more")
}
