//! Histories on a window behind a cache, crashed inside and between their steps: each
//! aligned 8 bytes that nobody had made durable are kept or lost for themselves, of the data
//! and of the journal, which lies there, too.
//!
//! Each word of each file says which write it is of. After a crash it is the last one that was
//! promised to be durable, or one of those that came later; and `check` finds nothing.

use super::world::{B, demand, sound, text};
use crate::random::Random;
use freehold_blockmap::arbiter::Access;
use freehold_blockmap::{FileHandle, FormatSpec, LeaseCore, LeaseSpec, SessionCore, Volume};
use freehold_engine::sim::CachedMedium;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

const FILES: usize = 2;
/// Blocks of a file.
const BLOCKS: u64 = 6;
/// Bytes that a store changes all or nothing.
const WORD: u64 = 8;
const WORDS: usize = (BLOCKS * B / WORD) as usize;
/// Steps of a history.
const STEPS: u64 = 60;

/// What may be in a word after a crash: the first was promised, the others came later.
type Word = Vec<u64>;

/// What is known of the files.
#[derive(Debug, Clone)]
struct Known {
    words: Vec<Vec<Word>>,
    /// Words whose last write went through the lease that the file has now.
    leased: Vec<Range<usize>>,
}

/// A write's number as bytes.
fn filled(write: u64, words: &Range<usize>) -> Vec<u8> {
    write.to_le_bytes().repeat(words.len())
}

impl Known {
    fn new() -> Self {
        let words = vec![vec![vec![0]; WORDS]; FILES];
        Self { words, leased: vec![0..0; FILES] }
    }

    /// A write is going to be made.
    fn tries(&mut self, file: usize, words: &Range<usize>, write: u64) {
        self.words[file][words.clone()].iter_mut().for_each(|word| word.push(write));
    }

    /// What was written there is durable.
    fn keeps(&mut self, file: usize, words: Range<usize>) {
        for word in &mut self.words[file][words] {
            *word = word.split_off(word.len() - 1);
        }
    }

    /// Opens what a crash has left, and holds it against this.
    fn judge(&self, left: CachedMedium) -> Result<(), String> {
        let vol = Volume::open(Arc::new(left), &Default::default()).map_err(text)?;
        for (file, words) in self.words.iter().enumerate() {
            let handle = vol.open_file(&name(file)).map_err(text)?;
            let mut bytes = vec![0; WORDS * WORD as usize];
            let count = vol.read_at(&handle, &mut bytes, 0).map_err(text)?;
            demand(count <= bytes.len(), || format!("file {file} has {count} bytes"))?;
            for (at, (bytes, may)) in bytes.chunks_exact(WORD as usize).zip(words).enumerate() {
                let found = u64::from_le_bytes(bytes.try_into().expect("8 bytes"));
                demand(may.contains(&found), || {
                    format!("file {file}, word {at}: write {found}, and not one of {may:?}")
                })?;
            }
        }
        sound(&vol)
    }
}

fn name(file: usize) -> Vec<u8> {
    format!("f{file}").into_bytes()
}

/// A history under way.
struct Shore {
    vol: Arc<Volume>,
    files: Vec<FileHandle>,
    holder: Arc<SessionCore>,
    leases: Vec<Option<Arc<LeaseCore>>>,
    known: Known,
    /// The number of the last write.
    last: u64,
}

/// What a step does.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// Stores through a window, with a lease of the file.
    Store,
    /// Stores that are durable by themselves.
    StoreDurably,
    /// Makes durable what went through the lease.
    Persist,
    /// Gives the lease back.
    Return,
    /// Writes as one who has no lease.
    Write,
    /// The same, durable by itself.
    WriteDurably,
    /// Cuts the file, and writes what is behind the cut again, durably, piece by piece.
    Append,
    Sync,
    /// Shares the file's blocks, so that the next writes go elsewhere.
    Copy,
    Checkpoint,
}

const ODDS: &[Step] = &[
    Step::Store,
    Step::Store,
    Step::Store,
    Step::StoreDurably,
    Step::Persist,
    Step::Persist,
    Step::Return,
    Step::Write,
    Step::Write,
    Step::WriteDurably,
    Step::WriteDurably,
    Step::Append,
    Step::Sync,
    Step::Copy,
    Step::Checkpoint,
];

impl Shore {
    fn new(medium: &CachedMedium) -> Result<Self, String> {
        let vol = Volume::format(Arc::new(medium.clone()), &FormatSpec::default()).map_err(text)?;
        let mut files = Vec::new();
        for file in 0..FILES {
            let handle = vol.create(&name(file)).map_err(text)?;
            vol.write_at(&handle, &vec![0; (BLOCKS * B) as usize], 0).map_err(text)?;
            files.push(handle);
        }
        vol.sync().map_err(text)?;
        let holder = vol.new_session();
        let leases = vec![None; FILES];
        Ok(Self { vol, files, holder, leases, known: Known::new(), last: 0 })
    }

    /// The file's lease, on all of it.
    fn lease(&mut self, file: usize) -> Result<Arc<LeaseCore>, String> {
        if let Some(lease) = &self.leases[file] {
            return Ok(lease.clone());
        }
        let handle = self.files[file].clone().for_session(self.holder.id());
        let spec = LeaseSpec { access: Access::Write, max_hold: Duration::ZERO };
        let lease = self.vol.lease(&handle, &self.holder, (0, BLOCKS * B), spec).map_err(text)?;
        self.leases[file] = Some(lease.clone());
        Ok(lease)
    }

    /// Some words of a file, and the write that they are to have.
    fn words(&mut self, random: &mut Random) -> (Range<usize>, u64) {
        let first = random.below(WORDS as u64);
        let most = *random.pick(&[3, 600, 2000]);
        let words = first as usize..(first + 1 + random.below(most)).min(WORDS as u64) as usize;
        self.last += 1;
        (words, self.last)
    }

    /// What went through the lease is promised.
    fn leased_is_durable(&mut self, file: usize) {
        let words = std::mem::replace(&mut self.known.leased[file], 0..0);
        // Only words of the last store are sure to be of the lease.
        self.known.keeps(file, words);
    }

    /// Stores through a window.
    fn store(
        &mut self,
        random: &mut Random,
        file: usize,
        durably: bool,
        before: &mut dyn FnMut(&Known),
    ) -> Result<(), String> {
        let lease = self.lease(file)?;
        let view = lease.view().map_err(text)?;
        let (words, write) = self.words(random);
        self.known.tries(file, &words, write);
        before(&self.known);
        let (at, bytes) = (words.start as u64 * WORD, filled(write, &words));
        let pin = view.pin().map_err(|e| e.to_string())?;
        if durably {
            pin.store_durably(at, &bytes).map_err(|e| e.to_string())?;
            self.known.leased[file] = 0..0;
            self.known.keeps(file, words);
        } else {
            pin.store(at, &bytes).map_err(|e| e.to_string())?;
            self.known.leased[file] = words;
        }
        Ok(())
    }

    /// Writes as one who has no lease.
    fn write(
        &mut self,
        file: usize,
        words: Range<usize>,
        write: u64,
        durably: bool,
        before: &mut dyn FnMut(&Known),
    ) -> Result<(), String> {
        self.known.tries(file, &words, write);
        before(&self.known);
        let (at, bytes) = (words.start as u64 * WORD, filled(write, &words));
        let handle = &self.files[file];
        if durably {
            self.vol.write_durable_at(handle, &bytes, at).map_err(text)?;
            self.known.keeps(file, words);
        } else {
            self.vol.write_at(handle, &bytes, at).map_err(text)?;
        }
        self.lease_is_gone(file);
        Ok(())
    }

    /// A lease that is taken has promised what went through it; it is not asked.
    fn lease_is_gone(&mut self, file: usize) {
        self.known.leased[file] = 0..0;
        self.leases[file] = None;
    }

    /// Cuts a file, leaves perhaps a gap behind the cut, and appends up to the old end.
    fn append(
        &mut self,
        random: &mut Random,
        file: usize,
        before: &mut dyn FnMut(&Known),
    ) -> Result<(), String> {
        let (cut, _) = self.words(random);
        let all = cut.start..WORDS;
        self.known.tries(file, &all, 0);
        before(&self.known);
        self.vol.truncate(&self.files[file], cut.start as u64 * WORD).map_err(text)?;
        self.lease_is_gone(file);
        let mut at = if random.one_in(3) { cut.end.min(WORDS - 1) } else { cut.start };
        while at < WORDS {
            let (piece, write) = self.words(random);
            let piece = at..(at + piece.len()).min(WORDS);
            at = piece.end;
            self.write(file, piece, write, true, before)?;
        }
        Ok(())
    }

    /// Does a step; `before` is called when it is known what it may leave behind.
    fn step(
        &mut self,
        random: &mut Random,
        step: Step,
        before: &mut dyn FnMut(&Known),
    ) -> Result<(), String> {
        let file = random.below(FILES as u64) as usize;
        match step {
            Step::Store | Step::StoreDurably => {
                let durably = matches!(step, Step::StoreDurably);
                self.store(random, file, durably, before)?;
            }
            Step::Persist => {
                before(&self.known);
                if let Some(lease) = self.leases[file].clone() {
                    lease.write_back().map_err(text)?;
                    self.leased_is_durable(file);
                }
            }
            Step::Return => {
                before(&self.known);
                if self.leases[file].take().is_some() {
                    self.leased_is_durable(file);
                }
            }
            Step::Write | Step::WriteDurably => {
                let durably = matches!(step, Step::WriteDurably);
                let (words, write) = self.words(random);
                self.write(file, words, write, durably, before)?;
            }
            Step::Append => self.append(random, file, before)?,
            Step::Sync => {
                before(&self.known);
                self.vol.sync().map_err(text)?;
                (0..FILES).for_each(|file| self.known.keeps(file, 0..WORDS));
            }
            Step::Copy => {
                before(&self.known);
                let copy = [&*name(file), b" copy"].concat();
                if self.vol.open_file(&copy).is_ok() {
                    self.vol.remove(&copy).map_err(text)?;
                }
                drop(self.vol.reflink(&name(file), &copy).map_err(text)?);
                self.lease_is_gone(file);
            }
            Step::Checkpoint => {
                before(&self.known);
                self.vol.checkpoint().map_err(text)?;
            }
        }
        Ok(())
    }
}

/// One history, and how often it was crashed.
///
/// # Errors
/// The first promise that was broken.
pub fn shore_history(seed: u64) -> Result<u64, String> {
    let mut random = Random::new(seed);
    let medium = CachedMedium::new(2048).map_err(|e| e.to_string())?;
    let mut shore = Shore::new(&medium)?;
    let mut crashes = 0;
    for number in 0..STEPS {
        let step = *random.pick(ODDS);
        // At one of the step's fences, if it has so many; else behind the step.
        let fences = *random.pick(&[4, 12]);
        medium.crash_at_fence(random.below(fences), random.next_u64());
        let mut then = shore.known.clone();
        let told = |e| format!("step {number}, {step:?}: {e}");
        // What comes behind that fence a crash at it knows nothing of.
        let mut before = |known: &Known| {
            if medium.awaits_crash() {
                then = known.clone();
            }
        };
        shore.step(&mut random, step, &mut before).map_err(told)?;
        let (left, known) = match medium.caught().map_err(|e| e.to_string())? {
            Some(left) => (left, &then),
            None if random.one_in(3) => {
                let left = medium.after_crash(random.next_u64()).map_err(|e| e.to_string())?;
                (left, &shore.known)
            }
            None => continue,
        };
        known.judge(left).map_err(|e| format!("crash in {}", told(e)))?;
        crashes += 1;
    }
    Ok(crashes)
}
