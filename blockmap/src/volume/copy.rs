//! Copying blocks from place to place on the medium: by the device itself, else through
//! memory of its own, else through ours, whichever it has first. Each is counted.

use super::Volume;
use super::write::B;
use crate::error::Result;
use crate::lane::Io;
use freehold_engine::medium::ErrorKind;
use freehold_engine::memory::Buffer;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that were copied, by the way that they went.
#[derive(Debug, Default)]
pub(super) struct Copied {
    pub(super) by_device: AtomicU64,
    pub(super) through_cmb: AtomicU64,
    pub(super) through_host: AtomicU64,
}

impl Volume {
    /// Copies blocks as they are on the medium: logged bytes of theirs were brought home
    /// before (law B7).
    pub(super) async fn copy_blocks(
        self: &Arc<Self>,
        io: &Io,
        from: u64,
        to: u64,
        len: u64,
    ) -> Result<()> {
        let geometry = self.medium.geometry();
        let most = u64::from(geometry.max_transfer) / B;
        let mut done = 0;
        while done < len {
            let n = (len - done).min(most);
            let way = if geometry.copy {
                io.copy(from + done, to + done, n).await?;
                &self.counters.moved.by_device
            } else {
                let (buf, way) = self.between((n * B) as usize)?;
                let buf = io.read(from + done, buf).await?;
                io.write(to + done, buf, false).await?;
                way
            };
            way.fetch_add(n * B, Ordering::Relaxed);
            done += n;
        }
        Ok(())
    }

    /// A buffer that nobody looks into: the device's, where it has one free. Nothing waits
    /// for that.
    fn between(&self, bytes: usize) -> Result<(Buffer, &AtomicU64)> {
        let moved = &self.counters.moved;
        match self.medium.staging().map(|pool| pool.take(bytes)) {
            Some(Ok(buf)) => return Ok((buf, &moved.through_cmb)),
            Some(Err(e)) if e.kind() != ErrorKind::Limit => return Err(e.into()),
            _ => {}
        }
        Ok((self.medium.pool().take(bytes)?, &moved.through_host))
    }
}
