//! A journal in a window over memory that has become bad: parts of a damaged block cannot be
//! written, and a whole block mends it.

use freehold_blockmap::format::superblock;
use freehold_blockmap::{FormatSpec, Volume};
use freehold_engine::medium::{Error, ErrorKind, Geometry, Medium, Queue, Result, Window};
use freehold_engine::memory::Pool;
use freehold_engine::sim::{SimMedium, SimOptions};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

const B: u64 = 4096;

/// A window some of whose blocks are bad.
#[derive(Debug)]
struct Damaged {
    sim: SimMedium,
    bad: Mutex<BTreeSet<u64>>,
}

impl Medium for Damaged {
    fn uri(&self) -> &str {
        Medium::uri(&self.sim)
    }

    fn geometry(&self) -> &Geometry {
        self.sim.geometry()
    }

    fn queue(&self, depth: u32) -> Result<Box<dyn Queue>> {
        self.sim.queue(depth)
    }

    fn pool(&self) -> &Pool {
        self.sim.pool()
    }

    fn window(&self) -> Option<&dyn Window> {
        Some(self)
    }
}

impl Window for Damaged {
    fn load(&self, offset: u64, to: &mut [u8]) -> Result<()> {
        self.sim.load(offset, to)
    }

    fn store(&self, offset: u64, from: &[u8]) -> Result<()> {
        let mut bad = self.bad.lock().unwrap();
        let (end, whole) = (offset + from.len() as u64, offset.div_ceil(B));
        let touched: Vec<u64> = bad.range(offset / B..end.div_ceil(B)).copied().collect();
        for block in touched {
            if block < whole || (block + 1) * B > end {
                return Err(Error::new(ErrorKind::Io, "a part of a damaged block"));
            }
            bad.remove(&block);
        }
        self.sim.store(offset, from)
    }

    fn persist(&self, offset: u64, len: u64) -> Result<()> {
        self.sim.persist(offset, len)
    }
}

#[test]
fn a_damaged_block_of_the_ring_is_mended_by_the_group_that_goes_there() {
    let sim = SimMedium::new(SimOptions { blocks: 2048, window: true, ..Default::default() });
    let medium = Arc::new(Damaged { sim: sim.clone(), bad: Mutex::default() });
    let spec = FormatSpec { journal_blocks: Some(128), ..FormatSpec::default() };
    let vol = Volume::format(medium.clone(), &spec).unwrap();
    let file = vol.create(b"f").unwrap();
    // Once round the ring: from now on short groups are short stores.
    let append = |blocks: std::ops::Range<u64>| {
        for i in blocks {
            vol.write_durable_at(&file, &[i as u8; 100], i * 100).unwrap();
        }
    };
    append(0..200);
    let mut block = [0; B as usize];
    sim.load(0, &mut block).unwrap();
    let sb = superblock::decode(&block, 0).unwrap();
    let ring = sb.journal_start..sb.journal_start + sb.journal_blocks;
    medium.bad.lock().unwrap().extend(ring);
    append(200..400);
    assert!(medium.bad.lock().unwrap().is_empty(), "each was written whole once");
    drop((file, vol));
    let vol = Volume::open(medium, &Default::default()).unwrap();
    let file = vol.open_file(b"f").unwrap();
    let mut back = vec![0; 40_000];
    assert_eq!(vol.read_at(&file, &mut back, 0).unwrap(), 40_000);
    assert!(back.chunks(100).enumerate().all(|(i, part)| part.iter().all(|b| *b == i as u8)));
}
