//! What leases cost, at the level of the block map: giving, taking, I/O through them, memory.

use crate::null::{NullMedium, mark};
use crate::resident;
use freehold_blockmap::arbiter::Access;
use freehold_blockmap::{
    FileHandle, Finished, FormatSpec, LeaseCore, LeaseSpec, LeaseTag, Result, SessionCore, Volume,
};
use freehold_engine::medium::{Medium, Op};
use std::sync::Arc;
use std::time::{Duration, Instant};

const B: u64 = 4096;

/// Blocks of the file.
pub const BLOCKS: u64 = 16_384;

/// Extents of a file in pieces.
pub const PIECES: u64 = 1 << 17;

/// A file on a medium that moves no data, and two sessions.
pub struct Bed {
    /// How many blocks are read, and how far they are from each other.
    blocks: u64,
    stride: u64,
    medium: Arc<dyn Medium>,
    vol: Arc<Volume>,
    file: FileHandle,
    own: Arc<SessionCore>,
    other: Arc<SessionCore>,
}

impl std::fmt::Debug for Bed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bed").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Bed {
    /// Makes the file: written, checkpointed, in one piece.
    ///
    /// # Errors
    /// What a store in memory reports.
    pub fn new() -> Result<Bed> {
        let inner = freehold_engine::open(&format!("mem:{}", 4 * BLOCKS * B), &Default::default())?;
        let medium = NullMedium::new(inner);
        let bed = Self::on(medium.clone())?;
        medium.silence();
        Ok(bed)
    }

    /// The same, but for a file of [`PIECES`] extents of one block, with a hole behind each.
    ///
    /// # Errors
    /// What a store in memory reports.
    pub fn in_pieces() -> Result<Bed> {
        let inner = freehold_engine::open(&format!("mem:{}", 4 * PIECES * B), &Default::default())?;
        let medium = NullMedium::new(inner);
        let vol = Volume::format(medium.clone(), &FormatSpec::default())?;
        let file = vol.create(b"f")?;
        let mut data = vec![1; B as usize];
        mark(&mut data);
        for i in 0..PIECES {
            vol.write_at(&file, &data, 2 * i * B)?;
        }
        vol.sync()?;
        vol.checkpoint()?;
        medium.silence();
        let (own, other) = (vol.default_session(), vol.new_session());
        Ok(Bed { blocks: PIECES, stride: 2, medium, vol, file, own, other })
    }

    /// The same on a medium of 256 MiB or more, which does what it is told.
    ///
    /// # Errors
    /// What a store on it reports.
    pub fn on(medium: Arc<dyn Medium>) -> Result<Bed> {
        let vol = Volume::format(medium.clone(), &FormatSpec::default())?;
        let file = vol.create(b"f")?;
        for i in 0..BLOCKS / 256 {
            vol.write_at(&file, &vec![1; 1 << 20], i << 20)?;
        }
        vol.sync()?;
        vol.checkpoint()?;
        let (own, other) = (vol.default_session(), vol.new_session());
        Ok(Bed { blocks: BLOCKS, stride: 1, medium, vol, file, own, other })
    }

    fn grant(
        &self,
        who: &Arc<SessionCore>,
        (block, len): (u64, u64),
        access: Access,
    ) -> Result<Arc<LeaseCore>> {
        let spec = LeaseSpec { access, max_hold: Duration::ZERO };
        self.vol.lease(&self.file, who, (block * B, len * B), spec)
    }

    /// Nobody reads them otherwise, and they would pile up.
    fn forget_events(&self) {
        drop((self.own.take_events(), self.other.take_events()));
    }

    /// Seconds of a grant of one block and its return, `count` times.
    ///
    /// # Errors
    /// What a grant reports.
    pub fn granted(&self, access: Access, count: u64) -> Result<f64> {
        let begun = Instant::now();
        for i in 0..count {
            drop(self.grant(&self.own, (i % BLOCKS, 1), access)?);
        }
        Ok(begun.elapsed().as_secs_f64() / count as f64)
    }

    /// Seconds of an Exclusive grant that takes another session's lease, once used and
    /// idle now; `count` times.
    ///
    /// # Errors
    /// What a grant reports.
    pub fn one_taken(&self, count: u64) -> Result<f64> {
        let mut sum = Duration::ZERO;
        for i in 0..count {
            let at = (i % BLOCKS, 1);
            let lease = self.grant(&self.own, at, Access::Read)?;
            drop(lease.pins().pin());
            let begun = Instant::now();
            let taker = self.grant(&self.other, at, Access::Exclusive)?;
            sum += begun.elapsed();
            drop((lease, taker));
            self.forget_events();
        }
        Ok(sum.as_secs_f64() / count as f64)
    }

    /// Seconds of an Exclusive grant that takes `count` idle leases of one block each, at
    /// most one for each block of the file.
    ///
    /// # Errors
    /// What a grant reports.
    pub fn all_taken(&self, count: u64) -> Result<f64> {
        let grant = |i| self.grant(&self.own, (i, 1), Access::Read);
        let leases = (0..count).map(grant).collect::<Result<Vec<_>>>()?;
        leases.iter().for_each(|lease| drop(lease.pins().pin()));
        let begun = Instant::now();
        let taker = self.grant(&self.other, (0, count), Access::Exclusive)?;
        let took = begun.elapsed();
        drop((leases, taker));
        self.forget_events();
        Ok(took.as_secs_f64())
    }

    /// Bytes that the process grows by for each of `count` idle leases, and how many more
    /// once this thread has pinned each of them. Only in a process that has freed no
    /// memory before are these true.
    ///
    /// # Errors
    /// What a grant reports.
    pub fn weight(&self, count: u64) -> Result<(f64, f64)> {
        let mut leases = Vec::with_capacity(count as usize);
        // The list's own pages are there before.
        leases.resize_with(count as usize, || None);
        let before = resident();
        for (i, place) in leases.iter_mut().enumerate() {
            *place = Some(self.grant(&self.own, (i as u64 % BLOCKS, 1), Access::Read)?);
        }
        let idle = resident();
        leases.iter().flatten().for_each(|lease| drop(lease.pins().pin()));
        let each = |from: u64, to: u64| to.saturating_sub(from) as f64 / count as f64;
        Ok((each(before, idle), each(idle, resident())))
    }

    /// 4 KiB reads of the medium itself at QD32, a second.
    ///
    /// # Errors
    /// What the medium reports.
    pub fn bare(&self, count: u64) -> Result<f64> {
        let mut queue = self.medium.queue(32)?;
        let mut idle = Vec::with_capacity(32);
        for _ in 0..32 {
            idle.push(self.medium.pool().take(B as usize)?);
        }
        let (mut done, mut n) = (Vec::with_capacity(32), 0);
        let begun = Instant::now();
        while n < count {
            while let Some(buf) = idle.pop() {
                n += 1;
                if queue.submit(n, Op::Read { at: self.place(n), buf }).is_err() {
                    return Err(full());
                }
            }
            queue.poll(&mut done);
            idle.extend(done.drain(..).filter_map(|c| c.buf));
        }
        Ok(n as f64 / begun.elapsed().as_secs_f64())
    }

    /// The same through the file, by offset.
    ///
    /// # Errors
    /// What a read reports.
    pub fn by_offset(&self, count: u64) -> Result<f64> {
        let mut queue = self.vol.queue(32)?;
        let mut idle = Vec::with_capacity(32);
        for _ in 0..32 {
            idle.push(queue.buffer(B as usize)?);
        }
        let (mut done, mut n) = (Vec::<Finished>::with_capacity(32), 0);
        let begun = Instant::now();
        while n < count {
            while let Some(buf) = idle.pop() {
                n += 1;
                queue
                    .read(&self.file, self.place(n) * B, buf, n)
                    .map_err(|r| r.error.unwrap_or_else(full))?;
            }
            queue.poll(&mut done);
            for c in done.drain(..) {
                if let Some(buf) = c.buf {
                    idle.push(buf);
                }
            }
        }
        Ok(n as f64 / begun.elapsed().as_secs_f64())
    }

    /// The same through a lease of the file.
    ///
    /// # Errors
    /// What the grant or a fill reports.
    pub fn through(&self, count: u64) -> Result<f64> {
        let lease =
            self.grant(&self.own, (0, (self.blocks - 1) * self.stride + 1), Access::Read)?;
        let mut queue = self.vol.queue(32)?;
        let mut idle = Vec::with_capacity(32);
        for _ in 0..32 {
            idle.push((LeaseTag::new(lease.clone(), 0), queue.buffer(B as usize)?));
        }
        let (mut done, mut n) = (Vec::<Finished>::with_capacity(32), 0);
        let begun = Instant::now();
        while n < count {
            while let Some((mut share, buf)) = idle.pop() {
                n += 1;
                let _ = share.move_to(self.place(n) * B, buf.len());
                queue.fill_share(share, buf, n).map_err(|r| r.error.unwrap_or_else(full))?;
            }
            queue.poll(&mut done);
            for c in done.drain(..) {
                if let Finished { lease: Some(share), buf: Some(buf), .. } = c {
                    idle.push((share, buf));
                }
            }
        }
        Ok(n as f64 / begun.elapsed().as_secs_f64())
    }

    /// A block that is somewhere else each time.
    fn place(&self, i: u64) -> u64 {
        (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40 & (self.blocks - 1)) * self.stride
    }
}

fn full() -> freehold_blockmap::Error {
    freehold_blockmap::Error::new(freehold_blockmap::ErrorKind::Busy, "the queue took no more")
}
