//! Threads that write to one file of a store on a window, crashed at any step.
//!
//! The file is made of slots of 301 bytes: many share a block, some lie in two. Each slot is
//! of one thread, which fills it with one byte at a time. After the crash each byte of a slot
//! is the last that was promised, or one that was tried since; a cut may have left zeroes. The
//! schedule is the machine's, so a seed gives the same steps and not the same crash.

use crate::random::Random;
use freehold_blockmap::{FileHandle, FormatSpec, OpenSpec, Result as Done, Volume};
use freehold_engine::sim::{SimMedium, SimOptions, Survival};
use std::sync::{Arc, Mutex, RwLock};

const SLOT: u64 = 301;
const SLOTS: u64 = 240;
const THREADS: u64 = 3;
const ALL: u64 = SLOT * SLOTS;

/// What all threads share.
struct Beside {
    vol: Arc<Volume>,
    file: FileHandle,
    /// For each slot, what its bytes may be.
    may: Vec<Mutex<Vec<u8>>>,
    /// Held by writers together, and by who cuts alone.
    gate: RwLock<()>,
}

/// What a thread does next.
#[derive(Debug, Clone, Copy)]
enum Step {
    WriteDurably,
    Write,
    Reflink,
    Checkpoint,
    Sync,
    Cut,
    Allocate,
}

fn step(random: &mut Random) -> Step {
    match random.below(100) {
        0..68 => Step::WriteDurably,
        68..80 => Step::Write,
        80..88 => Step::Reflink,
        88..92 => Step::Checkpoint,
        92..94 => Step::Sync,
        94..97 => Step::Cut,
        _ => Step::Allocate,
    }
}

impl Beside {
    /// Works until the medium is dead; how many writes that were.
    fn work(&self, thread: u64, mut random: Random) -> u64 {
        let mut writes = 0;
        for number in 0.. {
            let step = step(&mut random);
            let done = match step {
                Step::WriteDurably | Step::Write => self.write(thread, step, &mut random),
                Step::Reflink => self.reflink((thread, number), &mut random),
                Step::Checkpoint => self.vol.checkpoint(),
                Step::Sync => self.vol.sync(),
                Step::Cut => self.cut(&mut random),
                Step::Allocate => {
                    let _alone = self.gate.write().expect("nobody panics");
                    let at = random.below(ALL / 2);
                    self.vol.allocate(&self.file, at, 1 + random.below(30_000))
                }
            };
            if done.is_err() {
                break;
            }
            writes += u64::from(matches!(step, Step::WriteDurably | Step::Write));
        }
        writes
    }

    fn write(&self, thread: u64, step: Step, random: &mut Random) -> Done<()> {
        let slot = random.below(SLOTS / THREADS) * THREADS + thread;
        let value = 1 + random.below(250) as u8;
        let bytes = [value; SLOT as usize];
        let _beside = self.gate.read().expect("nobody panics");
        let may = &self.may[slot as usize];
        may.lock().expect("nobody panics").push(value);
        if !matches!(step, Step::WriteDurably) {
            return self.vol.write_at(&self.file, &bytes, slot * SLOT);
        }
        self.vol.write_durable_at(&self.file, &bytes, slot * SLOT)?;
        *may.lock().expect("nobody panics") = vec![value];
        Ok(())
    }

    fn reflink(&self, (thread, number): (u64, u64), random: &mut Random) -> Done<()> {
        let name = format!("copy {thread} {number}");
        drop(self.vol.reflink(b"f", name.as_bytes())?);
        if random.one_in(3) { Ok(()) } else { self.vol.remove(name.as_bytes()) }
    }

    fn cut(&self, random: &mut Random) -> Done<()> {
        let _alone = self.gate.write().expect("nobody panics");
        let size = self.file.size();
        if size < 3 {
            return Ok(());
        }
        let to = size - 1 - random.below(size.min(20 * SLOT) - 1);
        for slot in to / SLOT..SLOTS {
            self.may[slot as usize].lock().expect("nobody panics").push(0);
        }
        self.vol.truncate(&self.file, to)
    }

    /// Opens what the crash has left, and holds it against what was promised.
    fn judge(&self, left: &SimMedium) -> Result<(), String> {
        let text = |e: freehold_blockmap::Error| e.to_string();
        let vol = Volume::open(left.medium(), &OpenSpec::default()).map_err(text)?;
        let found = vol.check().map_err(text)?.findings;
        if !found.is_empty() {
            return Err(format!("check finds {found:?}"));
        }
        let mut bytes = vec![0; ALL as usize];
        vol.read_at(&vol.open_file(b"f").map_err(text)?, &mut bytes, 0).map_err(text)?;
        for (slot, bytes) in bytes.chunks_exact(SLOT as usize).enumerate() {
            let may = self.may[slot].lock().expect("nobody panics");
            if let Some(at) = bytes.iter().position(|byte| !may.contains(byte)) {
                let byte = bytes[at];
                return Err(format!("slot {slot}, byte {at}: {byte}, and not one of {may:?}"));
            }
        }
        Ok(())
    }
}

/// One store and its crash; how many writes came before that.
///
/// # Errors
/// The first promise that was broken.
pub fn beside_seed(seed: u64) -> Result<u64, String> {
    let text = |e: freehold_blockmap::Error| e.to_string();
    let mut random = Random::new(seed);
    let medium = SimMedium::new(SimOptions {
        blocks: 3072,
        window: true,
        seed,
        max_delay: 1,
        in_order: random.one_in(2),
        ..SimOptions::default()
    });
    // Short, so that it goes round many times.
    let spec = FormatSpec { journal_blocks: Some(128), ..FormatSpec::default() };
    drop(Volume::format(medium.medium(), &spec).map_err(text)?);
    let cache_bytes = random.one_in(3).then_some(16 << 10);
    let open = OpenSpec { cache_bytes, ..OpenSpec::default() };
    let vol = Volume::open(medium.medium(), &open).map_err(text)?;
    let file = vol.create(b"f").map_err(text)?;
    vol.sync().map_err(text)?;
    medium.crash_at(medium.steps() + 50 + random.below(3000));
    let may = (0..SLOTS).map(|_| Mutex::new(vec![0])).collect();
    let beside = Beside { vol, file, may, gate: RwLock::new(()) };
    let writes = std::thread::scope(|scope| {
        let threads = [0, 1, 2].map(|thread| {
            let (beside, random) = (&beside, Random::new(random.next_u64()));
            scope.spawn(move || beside.work(thread, random))
        });
        threads.map(|thread| thread.join().unwrap_or(0)).iter().sum()
    });
    beside.judge(&medium.reopen_with(Survival::Random, seed))?;
    Ok(writes)
}
