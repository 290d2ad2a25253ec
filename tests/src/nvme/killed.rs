//! The store's crash promises on an emulated controller with a volatile cache that is
//! killed at a random moment.
//!
//! Each 512 bytes of each file, or each 8 where the store lies on a window, say which file,
//! which block and which write they are of. What a `sync` confirmed is there after the
//! kill, at least as new; what was only written is there or not, sector by sector; a copy
//! that was synced has exactly what its source had; and `check` finds nothing.

use crate::random::Random;
use freehold::{FormatOptions, OpenOptions, Store};
use freehold_engine::medium::{Medium, Op};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

const FILES: u64 = 5;
const BLOCKS: u64 = 24;
const BLOCK: usize = 4096;
const SECTOR: usize = 512;
/// What a window keeps or loses as one.
const WORD: usize = 8;
/// Marks a sector that the story wrote.
const MAGIC: u64 = 0x4655_4e4c_4f43_4b31;

/// What is known of one block of a file.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    /// The last write that a sync confirmed.
    synced: u64,
    /// The last write that was tried.
    tried: u64,
    /// The last write that was acknowledged.
    written: u64,
}

/// What the store has promised.
#[derive(Debug, Default)]
pub struct Promises {
    files: BTreeMap<u64, Vec<Known>>,
    /// Copies that were confirmed: name, the file they are of, and its writes.
    copies: Vec<(String, u64, Vec<u64>)>,
    /// Bytes that are kept or lost as one.
    grain: usize,
    /// The journal is on another medium: every third overwrite is a durable one, which is logged.
    apart: bool,
    /// The number of the last write.
    last: u64,
    /// Syncs that were confirmed.
    pub syncs: u64,
    /// Where they are written down before each operation and after it, for a story that this
    /// process does not survive.
    kept: Option<PathBuf>,
}

impl Promises {
    /// Writes them down in a file from now on.
    ///
    /// # Panics
    /// If it cannot be written: then, or later.
    pub fn keep_in(&mut self, path: &Path) {
        self.kept = Some(path.to_owned());
        self.keep();
    }

    fn keep(&self) {
        use std::fmt::Write;
        let Some(path) = &self.kept else { return };
        let mut text = format!("{} {} {}\n", self.grain, u8::from(self.apart), self.last);
        for (file, blocks) in &self.files {
            for k in blocks {
                let _ = writeln!(text, "file {file} {} {} {}", k.synced, k.tried, k.written);
            }
        }
        for (name, file, writes) in &self.copies {
            let writes: Vec<String> = writes.iter().map(u64::to_string).collect();
            let _ = writeln!(text, "copy {name} {file} {}", writes.join(" "));
        }
        text.push_str("end\n");
        let new = path.with_extension("new");
        std::fs::write(&new, text).expect("promises are written down");
        std::fs::rename(&new, path).expect("promises are written down");
    }

    /// Reads what [`Promises::keep_in`] has written down, and goes on writing there.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn read_from(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
        let whole = text.strip_suffix("end\n").ok_or("the promises are cut off")?;
        let mut lines = whole.lines();
        let bad = |line: &str| format!("no promise: {line:?}");
        let numbers =
            |words: &[&str]| words.iter().map(|w| w.parse()).collect::<Result<Vec<u64>, _>>();
        let head = lines.next().ok_or("no promises")?;
        let words: Vec<&str> = head.split(' ').collect();
        let Ok(&[grain, apart, last]) = numbers(&words).as_deref() else { return Err(bad(head)) };
        let mut promises =
            Promises { grain: grain as usize, apart: apart == 1, last, ..Promises::default() };
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            match &words[..] {
                ["file", rest @ ..] => {
                    let Ok(&[file, synced, tried, written]) = numbers(rest).as_deref() else {
                        return Err(bad(line));
                    };
                    promises.files.entry(file).or_default().push(Known { synced, tried, written });
                }
                ["copy", name, file, writes @ ..] => {
                    let file = file.parse().map_err(|_| bad(line))?;
                    let writes = numbers(writes).map_err(|_| bad(line))?;
                    promises.copies.push(((*name).to_owned(), file, writes));
                }
                _ => return Err(bad(line)),
            }
        }
        promises.kept = Some(path.to_owned());
        Ok(promises)
    }
}

fn name(file: u64) -> String {
    format!("file{file}")
}

fn fill(buf: &mut [u8], grain: usize, file: u64, block: u64, write: u64) {
    if grain == WORD {
        // Eight bytes for it all.
        let word = (MAGIC << 56 | file << 48 | block << 40 | write).to_le_bytes();
        return buf.chunks_exact_mut(WORD).for_each(|chunk| chunk.copy_from_slice(&word));
    }
    for sector in buf.chunks_exact_mut(SECTOR) {
        let words = [MAGIC, file, block, write];
        for (chunk, i) in sector.chunks_exact_mut(8).zip(0..) {
            let word = words.get(i).copied().unwrap_or(write.wrapping_mul(0x9e37_79b9 + i as u64));
            chunk.copy_from_slice(&word.to_le_bytes());
        }
    }
}

/// The write that a sector is of, or what is wrong with it. Zeroes are write 0.
fn write_of(sector: &[u8], file: u64, block: u64) -> Result<u64, String> {
    if sector.iter().all(|byte| *byte == 0) {
        return Ok(0);
    }
    let word = |at: usize| u64::from_le_bytes(sector[at..at + 8].try_into().expect("8 bytes"));
    let write = if sector.len() == WORD { word(0) & ((1 << 40) - 1) } else { word(24) };
    let mut expected = [0; SECTOR];
    let expected = &mut expected[..sector.len()];
    fill(expected, sector.len(), file, block, write);
    if sector == expected { Ok(write) } else { Err("bytes that nobody wrote there".to_owned()) }
}

/// Formats the medium, whatever it holds, and makes the files.
///
/// # Errors
/// What the store says.
pub fn prepare(uri: &str) -> Result<Promises, String> {
    let grain = if uri.starts_with("pmr:") { WORD } else { SECTOR };
    let options = FormatOptions { force: true, ..FormatOptions::default() };
    let store = Store::format(uri, &options).map_err(|e| e.to_string())?;
    let apart = uri.contains("journal=");
    let mut promises = Promises { grain, apart, ..Promises::default() };
    for file in 0..FILES {
        let handle = store.create(name(file).as_bytes()).map_err(|e| e.to_string())?;
        handle.sync().map_err(|e| e.to_string())?;
        promises.files.insert(file, vec![Known::default(); BLOCKS as usize]);
    }
    store.close().map_err(|e| e.to_string())?;
    Ok(promises)
}

/// Works on the store until it fails, because its device is killed, or so many steps
/// are done. `step` is called before each.
pub fn work(
    uri: &str,
    promises: &mut Promises,
    random: &mut Random,
    steps: u64,
    mut step: impl FnMut(u64),
) {
    let Ok(store) = Store::open(uri, &OpenOptions::default()) else { return };
    for i in 0..steps {
        step(i);
        let file = random.below(FILES);
        let done = match random.below(8) {
            0..=4 => overwrite(&store, promises, random, file),
            5 | 6 => sync(&store, promises, file),
            _ => copy(&store, promises, file),
        };
        if done.is_err() {
            break;
        }
    }
    // As a program that met an error: nothing is closed well.
    drop(store);
}

fn overwrite(
    store: &Store,
    promises: &mut Promises,
    random: &mut Random,
    file: u64,
) -> freehold::Result<()> {
    let first = random.below(BLOCKS);
    let count = 1 + random.below((BLOCKS - first).min(5));
    promises.last += 1;
    let write = promises.last;
    let mut bytes = vec![0; count as usize * BLOCK];
    let known = promises.files.get_mut(&file).expect("a file of the story");
    for (chunk, block) in bytes.chunks_exact_mut(BLOCK).zip(first..) {
        fill(chunk, promises.grain, file, block, write);
        known[block as usize].tried = write;
    }
    promises.keep();
    let handle = store.open_file(name(file).as_bytes())?;
    let durable = promises.apart && write.is_multiple_of(3);
    match durable {
        true => handle.write_durable_at(&bytes, first * BLOCK as u64)?,
        false => handle.write_at(&bytes, first * BLOCK as u64)?,
    }
    promises.syncs += u64::from(durable);
    let known = promises.files.get_mut(&file).expect("a file of the story");
    for block in first..first + count {
        let known = &mut known[block as usize];
        known.written = write;
        known.synced = if durable { write } else { known.synced };
    }
    promises.keep();
    Ok(())
}

fn sync(store: &Store, promises: &mut Promises, file: u64) -> freehold::Result<()> {
    store.open_file(name(file).as_bytes())?.sync()?;
    promises.syncs += 1;
    for known in promises.files.get_mut(&file).expect("a file of the story") {
        known.synced = known.written;
    }
    promises.keep();
    Ok(())
}

fn copy(store: &Store, promises: &mut Promises, file: u64) -> freehold::Result<()> {
    if promises.copies.len() > 6 {
        let (old, ..) = promises.copies.remove(0);
        promises.keep();
        store.remove(old.as_bytes())?;
    }
    let to = format!("copy{}", promises.last);
    if promises.copies.iter().any(|(other, ..)| *other == to) {
        return Ok(());
    }
    let writes = promises.files[&file].iter().map(|known| known.written).collect();
    let handle = store.reflink(name(file).as_bytes(), to.as_bytes())?;
    handle.sync()?;
    promises.syncs += 1;
    promises.copies.push((to, file, writes));
    promises.keep();
    Ok(())
}

/// Opens what is left and compares it with what was promised.
///
/// # Errors
/// The first promise that was broken.
pub fn judge(uri: &str, promises: &mut Promises) -> Result<(), String> {
    let store = Store::open(uri, &OpenOptions::default()).map_err(|e| format!("opening: {e}"))?;
    let report = store.check().map_err(|e| format!("checking: {e}"))?;
    if !report.findings.is_empty() {
        return Err(format!("check finds {:?}", report.findings));
    }
    for (file, known) in &promises.files {
        let writes = read(&store, promises.grain, &name(*file), *file)?;
        for (block, (sectors, known)) in writes.iter().zip(known).enumerate() {
            for write in sectors {
                if *write < known.synced || *write > known.tried {
                    return Err(format!(
                        "file {file}, block {block}: a sector of write {write}; {} was \
                         confirmed, {} was the last tried",
                        known.synced, known.tried
                    ));
                }
            }
        }
    }
    for (copy, file, wanted) in &promises.copies {
        let writes = read(&store, promises.grain, copy, *file)?;
        for (block, (sectors, wanted)) in writes.iter().zip(wanted).enumerate() {
            if sectors.iter().any(|write| write != wanted) {
                return Err(format!("{copy}, block {block}: {sectors:?} and not {wanted}"));
            }
        }
    }
    // Sectors of several writes in one block are what the next story would not expect:
    // each file begins anew.
    for (file, known) in &mut promises.files {
        let handle = store.open_file(name(*file).as_bytes()).map_err(|e| e.to_string())?;
        promises.last += 1;
        let mut bytes = vec![0; BLOCKS as usize * BLOCK];
        for (chunk, block) in bytes.chunks_exact_mut(BLOCK).zip(0..) {
            fill(chunk, promises.grain, *file, block, promises.last);
            let write = promises.last;
            known[block as usize] = Known { synced: write, tried: write, written: write };
        }
        handle.write_at(&bytes, 0).map_err(|e| e.to_string())?;
        handle.sync().map_err(|e| e.to_string())?;
    }
    promises.keep();
    store.close().map_err(|e| e.to_string())
}

/// The writes of a file's sectors, by block; what is beyond its end is write 0.
fn read(store: &Store, grain: usize, name: &str, file: u64) -> Result<Vec<Vec<u64>>, String> {
    let fail = |e: freehold::Error| format!("reading {name}: {e}");
    let handle = store.open_file(name.as_bytes()).map_err(fail)?;
    let mut bytes = vec![0; BLOCKS as usize * BLOCK];
    let mut done = 0;
    while done < bytes.len() {
        match handle.read_at(&mut bytes[done..], done as u64).map_err(fail)? {
            0 => break,
            n => done += n,
        }
    }
    let blocks = bytes.chunks_exact(BLOCK).zip(0..).map(|(bytes, block)| {
        let sectors = bytes.chunks_exact(grain);
        let writes = sectors.map(|sector| write_of(sector, file, block));
        writes.collect::<Result<Vec<_>, _>>()
    });
    let blocks: Result<Vec<_>, _> = blocks.collect();
    blocks.map_err(|what| format!("{name}: {what}"))
}

/// One history: an emulator with a volatile cache that loses it after a random command,
/// several times over the same file.
///
/// # Errors
/// The first promise that was broken.
pub fn seed(seed: u64) -> Result<u64, String> {
    use super::served::{Served, fresh_path};
    use freehold_engine::emulator::{Backing, Options};
    let mut random = Random::new(seed);
    let path = fresh_path("img");
    let mut options = Options::new("", 64 << 20);
    options.backing = Backing::File(path.clone());
    options.volatile_cache = true;
    options.lba = *random.pick(&[512, 4096]);
    options.shadow_doorbells = random.one_in(2);
    let mut run = |options: &Options| -> Result<u64, String> {
        let first = Served::new(options.clone());
        let mut promises = prepare(&first.uri())?;
        drop(first);
        for _ in 0..3 {
            let when = 10 + random.below(300);
            let fault = format!("vanish:how=exit,nth={when}");
            let faults = vec![fault.parse().map_err(|e| format!("{e}"))?];
            let mortal = Options { faults, seed: random.next_u64(), ..options.clone() };
            let served = Served::new(mortal);
            work(&served.uri(), &mut promises, &mut random, 400, |_| {});
            drop(served);
            let next = Served::new(options.clone());
            judge(&next.uri(), &mut promises)?;
        }
        Ok(promises.syncs)
    };
    let result = run(&options);
    let _ = std::fs::remove_file(path);
    result
}

/// The same on the Persistent Memory Region of an emulator: the story ends at a random
/// barrier or between two steps, and some of the words are kept that were stored since the
/// last barrier.
///
/// # Errors
/// The first promise that was broken.
pub fn region_seed(seed: u64) -> Result<u64, String> {
    use super::served::{Served, fresh_path};
    use freehold_engine::emulator::{Options, RegionOptions};
    let mut random = Random::new(seed);
    let path = fresh_path("pmr");
    let mut options = Options::new("", 1 << 20);
    options.region = Some(RegionOptions::new(&path, 8 << 20));
    options.volatile_cache = true;
    let uri = |served: &Served| format!("pmr:{}", served.uri());
    let mut run = |options: &Options| -> Result<u64, String> {
        let first = Served::new(options.clone());
        let mut promises = prepare(&uri(&first))?;
        drop(first);
        for _ in 0..3 {
            let when = 3 + random.below(60);
            let fault = match random.one_in(2) {
                true => format!("vanish:how=exit,op=barrier,nth={when}"),
                false => "vanish:how=exit,op=flush,nth=1".to_owned(),
            };
            let faults = vec![fault.parse().map_err(|e| format!("{e}"))?];
            let mortal = Options { faults, seed: random.next_u64(), ..options.clone() };
            let served = Served::new(mortal);
            // A command of the namespace beside it ends the story that no barrier has ended.
            let beside = served.open();
            work(&uri(&served), &mut promises, &mut random, 400, |step| {
                if step == 2 * when {
                    end(&*beside);
                }
            });
            drop((beside, served));
            let next = Served::new(options.clone());
            judge(&uri(&next), &mut promises)?;
        }
        Ok(promises.syncs)
    };
    let result = run(&options);
    let _ = std::fs::remove_file(path);
    result
}

/// The same with the store on a namespace and its journal on the Persistent Memory Region of
/// the same controller: both lose what no flush and no barrier covered.
///
/// # Errors
/// The first promise that was broken.
pub fn journal_seed(seed: u64) -> Result<u64, String> {
    use super::served::{Served, fresh_path};
    use freehold_engine::emulator::{Backing, Options, RegionOptions};
    let mut random = Random::new(seed);
    let (image, region) = (fresh_path("img"), fresh_path("pmr"));
    let mut options = Options::new("", 64 << 20);
    options.backing = Backing::File(image.clone());
    options.region = Some(RegionOptions::new(&region, 2 << 20));
    options.volatile_cache = true;
    let uri = |served: &Served| format!("{}?journal=pmr", served.uri());
    let mut run = |options: &Options| -> Result<u64, String> {
        let first = Served::new(options.clone());
        let mut promises = prepare(&uri(&first))?;
        drop(first);
        for _ in 0..3 {
            // At a barrier, or at any command.
            let fault = match random.one_in(2) {
                true => format!("vanish:how=exit,op=barrier,nth={}", 3 + random.below(60)),
                false => format!("vanish:how=exit,nth={}", 10 + random.below(300)),
            };
            let faults = vec![fault.parse().map_err(|e| format!("{e}"))?];
            let mortal = Options { faults, seed: random.next_u64(), ..options.clone() };
            let served = Served::new(mortal);
            work(&uri(&served), &mut promises, &mut random, 400, |_| {});
            drop(served);
            let next = Served::new(options.clone());
            judge(&uri(&next), &mut promises)?;
        }
        Ok(promises.syncs)
    };
    let result = run(&options);
    let _ = std::fs::remove_file(image);
    let _ = std::fs::remove_file(region);
    result
}

/// Sends the command that the controller does not survive. With the other fault it is
/// answered, and a barrier ends the story, or the story itself does.
fn end(beside: &dyn Medium) {
    let Ok(mut queue) = beside.queue(1) else { return };
    if queue.submit(0, Op::Flush).is_err() {
        return;
    }
    let mut done = Vec::new();
    while queue.poll(&mut done) == 0 && queue.wait(Some(Duration::from_secs(30))).is_ok() {}
}
