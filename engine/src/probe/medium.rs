//! The bytes of a medium that only queues reach, for looking at signatures.

use super::Source;
use crate::medium::{BLOCK, ErrorKind, Medium, Op, Queue, Result};
use crate::memory::Pool;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How often a read that a reset has cut off is begun again.
const TRIES: u32 = 8;

/// Reads a medium block by block, through a queue of its own.
pub(crate) struct MediumSource {
    len: u64,
    pool: Pool,
    queue: Mutex<Box<dyn Queue>>,
}

impl MediumSource {
    /// Of a medium that is open.
    ///
    /// # Errors
    /// When there is no queue to be had.
    pub(crate) fn new(medium: &dyn Medium) -> Result<Self> {
        Ok(Self {
            len: medium.geometry().blocks * BLOCK as u64,
            pool: medium.pool().clone(),
            queue: Mutex::new(medium.queue(1)?),
        })
    }
}

impl Source for MediumSource {
    fn len(&self) -> u64 {
        self.len
    }

    fn read(&self, offset: u64, to: &mut [u8]) -> io::Result<()> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut filled, mut done, mut left) = (0, Vec::with_capacity(1), TRIES);
        while filled < to.len() {
            let at = offset + filled as u64;
            let buf = self.pool.take(BLOCK).map_err(io::Error::other)?;
            let op = Op::Read { at: at / BLOCK as u64, buf };
            if let Err(rejected) = queue.submit(0, op) {
                return Err(rejected
                    .error
                    .map_or(io::ErrorKind::WouldBlock.into(), io::Error::other));
            }
            while queue.poll(&mut done) == 0 {
                queue.wait(Some(Duration::from_secs(1))).map_err(io::Error::other)?;
            }
            let Some(completion) = done.pop() else { continue };
            match completion.result {
                Err(e) if e.kind() == ErrorKind::Reset && left > 0 => {
                    left -= 1;
                    continue;
                }
                result => result.map_err(io::Error::other)?,
            }
            let Some(buf) = completion.buf else { return Err(io::ErrorKind::Other.into()) };
            let skip = (at % BLOCK as u64) as usize;
            let n = (BLOCK - skip).min(to.len() - filled);
            to[filled..filled + n].copy_from_slice(&buf[skip..skip + n]);
            filled += n;
        }
        Ok(())
    }
}
