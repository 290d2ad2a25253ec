//! What durable writes cost on a window medium: by a lease, beside the bare instructions, and
//! by appending.

use freehold_blockmap::arbiter::Access;
use freehold_blockmap::{Error, ErrorKind, FileHandle, FormatSpec, LeaseSpec, Result, Volume};
use freehold_engine::FormatOptions;
use freehold_engine::pmem::copy_and_flush;
use std::sync::Arc;
use std::time::{Duration, Instant};

const B: u64 = 4096;

/// Bytes of the store.
const SIZE: usize = 256 << 20;

/// Blocks of the file.
const BLOCKS: u64 = 4096;

/// Blocks that appends go through before they come to the same ones again, and blocks of the
/// journal's ring: no cache has them.
const APPENDED: u64 = 40_960;
const RING: u64 = 4096;

/// Bytes that a journal's group of one record takes, in lines.
const RECORD: usize = 192;

/// A store on persistent memory, or on a file that plays it.
pub struct WindowBed {
    vol: Arc<Volume>,
    file: FileHandle,
    private: Vec<u8>,
}

impl std::fmt::Debug for WindowBed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WindowBed").field("file", &self.file).finish_non_exhaustive()
    }
}

impl WindowBed {
    /// On a new file of memory, whose name is gone at once.
    ///
    /// # Errors
    /// What opening and formatting report.
    pub fn new() -> Result<Self> {
        let path = format!("/dev/shm/freehold-bench-{}", std::process::id());
        let uri = format!("pmem:{path}?volatile=1&exclusive=1");
        // What a page costs at its first touch is the kernel's work on memory that plays a device:
        // here it gets all of them, below each is mapped.
        std::fs::write(&path, vec![0; SIZE])
            .map_err(|e| Error::new(ErrorKind::Io, format!("{path}: {e}")))?;
        let options = FormatOptions { size: Some(SIZE as u64), force: false };
        let medium = freehold_engine::format_target(&uri, &options)?;
        // The mapping keeps the file.
        let _ = std::fs::remove_file(&path);
        let vol = Volume::format(medium, &FormatSpec::default())?;
        let file = vol.create(b"f")?;
        for i in 0..BLOCKS / 256 {
            vol.write_at(&file, &vec![1; 1 << 20], i << 20)?;
        }
        let touched = vol.create(b"touched")?;
        let space = vol.space();
        for i in 0..((space.free - space.reserved) * 9 / 10) >> 20 {
            vol.write_at(&touched, &vec![1; 1 << 20], i << 20)?;
        }
        drop(touched);
        vol.remove(b"touched")?;
        vol.sync()?;
        vol.checkpoint()?;
        Ok(Self { vol, file, private: vec![1; ((APPENDED + RING + 1) * B) as usize] })
    }

    /// Seconds of a copy of 4 KiB and the instructions that flush it, in memory of no store.
    ///
    /// # Errors
    /// Where there are no such instructions.
    pub fn bare(&mut self, count: u64) -> Result<f64> {
        let from = [7; B as usize];
        // Blocks lie at pages, as they do in the store.
        let skip = self.private.as_ptr().align_offset(B as usize);
        let begun = Instant::now();
        for i in 0..count {
            let at = skip + place(i) as usize;
            copy_and_flush(&mut self.private[at..at + B as usize], &from)?;
        }
        Ok(begun.elapsed().as_secs_f64() / count as f64)
    }

    /// Seconds of the same to one block after the other, each with a record of its own.
    ///
    /// # Errors
    /// As there.
    pub fn bare_append(&mut self, count: u64) -> Result<f64> {
        let (from, record) = ([7; B as usize], [7; RECORD]);
        let skip = self.private.as_ptr().align_offset(B as usize);
        let begun = Instant::now();
        for i in 0..count {
            let at = |block: u64| skip + (block * B) as usize;
            copy_and_flush(&mut self.private[at(i % APPENDED)..][..B as usize], &from)?;
            let record_at = at(APPENDED + i % RING);
            copy_and_flush(&mut self.private[record_at..][..RECORD], &record)?;
        }
        Ok(begun.elapsed().as_secs_f64() / count as f64)
    }

    /// Seconds of a durable overwrite of 4 KiB through a lease, pin included.
    ///
    /// # Errors
    /// What the grant or a store reports.
    pub fn by_lease(&self, count: u64) -> Result<f64> {
        let spec = LeaseSpec { access: Access::Write, max_hold: Duration::ZERO };
        let who = self.vol.default_session();
        let lease = self.vol.lease(&self.file, &who, (0, BLOCKS * B), spec)?;
        let (view, from) = (lease.view()?, [7; B as usize]);
        let begun = Instant::now();
        for i in 0..count {
            let pin = view.pin().map_err(|_| lease.refusal())?;
            pin.store_durably(place(i), &from)?;
        }
        Ok(begun.elapsed().as_secs_f64() / count as f64)
    }

    /// Seconds of a durable append of 4 KiB to a file of its own.
    ///
    /// # Errors
    /// What a write reports.
    pub fn appended(&self, count: u64) -> Result<f64> {
        let file = self.vol.create(b"appended")?;
        let from = [7; B as usize];
        let begun = Instant::now();
        for i in 0..count {
            self.vol.write_durable_at(&file, &from, i * B)?;
        }
        let took = begun.elapsed().as_secs_f64() / count as f64;
        drop(file);
        self.vol.remove(b"appended")?;
        self.vol.checkpoint()?;
        Ok(took)
    }
}

/// Bytes of a place that is somewhere else each time.
fn place(i: u64) -> u64 {
    (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40 & (BLOCKS - 1)) * B
}
