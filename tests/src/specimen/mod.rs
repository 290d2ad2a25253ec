//! A small real store that has everything: for tests that damage one.
//!
//! The same steps give the same image, byte for byte. What its files hold is
//! known at each of its journal groups, so that a test can tell the right
//! answer from an older one.

pub mod anatomy;
pub mod surgery;

use freehold::{Error, ErrorKind, File, ListEntry, OpenOptions, Result, Store};
use freehold_blockmap::{FormatSpec, Volume};
use freehold_engine::sim::{SimImage, SimMedium, SimOptions};
use std::collections::BTreeMap;

/// Bytes of a block, for offsets.
pub const B: u64 = 4096;

/// The id of every specimen.
pub const ID: [u8; 16] = *b"a freehold store";

/// Blocks of the specimen.
pub const BLOCKS: u64 = 4096;

/// Names, and the bytes behind them.
pub type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

/// The image, and what it holds.
#[derive(Debug, Clone)]
pub struct Specimen {
    /// The medium's durable bytes.
    pub image: SimImage,
    /// Names and bytes once the whole journal is replayed.
    pub contents: Contents,
    /// The same when no group above the number is, as [`Specimen::at`] says.
    pub until: BTreeMap<u64, Contents>,
}

/// A medium that completes everything in order and at once.
pub fn options() -> SimOptions {
    SimOptions { blocks: BLOCKS, in_order: true, max_delay: 0, ..SimOptions::default() }
}

/// The medium with these bytes.
pub fn medium(image: &SimImage) -> SimMedium {
    SimMedium::with_image(options(), image.clone())
}

/// Opens the store on a medium, for reading only or for all.
///
/// # Errors
/// As [`Store::open`].
pub fn open(sim: &SimMedium, read_only: bool) -> Result<Store> {
    Store::open_on(sim.medium(), &OpenOptions { read_only, ..OpenOptions::default() })
}

/// Names of all files, in order.
///
/// # Errors
/// As [`Store::list`].
pub fn names(store: &Store) -> Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    loop {
        let after = names.last().cloned();
        let part = store.list(b"", None, after.as_deref(), 100)?;
        let more = part.more;
        names.extend(part.entries.into_iter().map(|e| match e {
            ListEntry::File { name, .. } | ListEntry::Prefix(name) => name,
        }));
        if !more {
            return Ok(names);
        }
    }
}

/// All bytes of a file.
///
/// # Errors
/// As [`File::read_at`]; `Io` if it gives less than the file's size.
pub fn bytes(file: &File) -> Result<Vec<u8>> {
    let mut bytes = vec![0xa5; file.size() as usize];
    let n = file.read_at(&mut bytes, 0)?;
    if n != bytes.len() {
        let why = format!("{n} bytes were read of {}", bytes.len());
        return Err(Error::new(ErrorKind::Io, why));
    }
    Ok(bytes)
}

/// Names and bytes of all files.
///
/// # Errors
/// The first.
pub fn contents(store: &Store) -> Result<Contents> {
    let mut contents = Contents::new();
    for name in names(store)? {
        let bytes = bytes(&store.open_file(&name)?)?;
        contents.insert(name, bytes);
    }
    Ok(contents)
}

/// Bytes that differ from block to block and from tag to tag.
pub fn pattern(tag: u64, len: usize) -> Vec<u8> {
    let mut draw = crate::random::Random::new(tag);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&draw.next_u64().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// A name that is long enough for a few to fill a node.
pub fn long_name(i: u64) -> Vec<u8> {
    let mut name = format!("long/{i:03}-").into_bytes();
    name.resize(240 + i as usize % 16, b'x');
    name
}

impl Specimen {
    /// Makes the store.
    ///
    /// # Panics
    /// If an operation on the sound store fails.
    pub fn make() -> Self {
        let sim = SimMedium::new(options());
        let spec = FormatSpec { id: Some(ID), journal_blocks: Some(128), ..FormatSpec::default() };
        let volume = Volume::format(sim.medium(), &spec).expect("a medium of zeroes");
        volume.close().expect("an empty store");
        drop(volume);
        let store = open(&sim, false).expect("an empty store");
        let doomed = fill(&store).expect("a sound store");
        // Condemned when the checkpoint is cut, for somebody has it open.
        store.remove(b"doomed").expect("a sound store");
        store.checkpoint().expect("a sound store");
        store.checkpoint().expect("a sound store");
        let mut until = BTreeMap::new();
        for step in 0..=TAIL {
            if step > 0 {
                tail(&store, step).and_then(|()| store.sync()).expect("a sound store");
            }
            let last = anatomy::Anatomy::of(&sim.image()).last_group();
            until.insert(last, contents(&store).expect("a sound store"));
        }
        let image = sim.image();
        drop((doomed, store));
        let contents = until.last_key_value().expect("steps").1.clone();
        Self { image, contents, until }
    }

    /// Names and bytes if the journal ends behind this group.
    ///
    /// # Panics
    /// If the checkpoint is newer.
    pub fn at(&self, group: u64) -> &Contents {
        let found = self.until.range(..=group).next_back();
        found.unwrap_or_else(|| panic!("group {group} is history")).1
    }

    /// The same store, closed: nothing to replay, nothing condemned.
    ///
    /// # Panics
    /// If an operation on the sound store fails.
    pub fn closed(&self) -> Self {
        let sim = medium(&self.image);
        let store = open(&sim, false).expect("a sound store");
        // Twice: the first one's frees are named by the second.
        store.checkpoint().expect("a sound store");
        store.checkpoint().expect("a sound store");
        store.close().expect("a sound store");
        let image = sim.image();
        let until = BTreeMap::from([(0, self.contents.clone())]);
        Self { image, contents: self.contents.clone(), until }
    }
}

/// What the checkpoint holds. The handle keeps a file that is to be condemned.
fn fill(store: &Store) -> Result<File> {
    let write = |name: &[u8], tag: u64, len: usize| -> Result<File> {
        let file = store.create(name)?;
        file.write_at(&pattern(tag, len), 0)?;
        Ok(file)
    };
    write(b"small", 1, 10_000)?;
    store.create(b"empty")?;
    for (name, blocks) in [(&b"many"[..], 400u64), (b"other", 300), (b"doomed", 200)] {
        let file = store.create(name)?;
        for i in 0..blocks {
            // Every other block, so that no two extents merge.
            file.write_at(&pattern(blocks * 1000 + i, 4096), i * 2 * B)?;
        }
    }
    for i in 0..50 {
        write(&long_name(i), 5000 + i, 100 + 70 * i as usize)?;
    }
    let many = store.reflink(b"many", b"many@1")?;
    many.write_at(&pattern(2, 9000), 300 * B + 17)?;
    store.reflink(b"small", b"small@1")?.write_at(&pattern(3, 50), 4000)?;
    store.reflink(b"many", b"many@2")?;
    store.reflink(b"small", b"small@2")?;
    let sparse = store.create(b"sparse")?;
    sparse.write_at(&pattern(4, 5000), 3 << 20)?;
    let set_aside = store.create(b"unwritten")?;
    set_aside.allocate(0, 64 * B)?;
    set_aside.write_at(&pattern(5, 4096), 9 * B)?;
    let ranges = store.create(b"ranges")?;
    store.open_file(b"other")?.reflink_range(100 * B, &ranges, 40 * B, 30 * B)?;
    // Subtrees that are shared at other offsets.
    let moved = store.reflink(b"many", b"moved")?;
    moved.collapse(50 * B, 6 * B)?;
    moved.insert(300 * B, 11 * B)?;
    store.sync()?;
    store.open_file(b"doomed")
}

/// Steps behind the checkpoint, each in a group of its own.
const TAIL: u64 = 13;

fn tail(store: &Store, step: u64) -> Result<()> {
    match step {
        1 => store.create(b"late")?.write_at(&pattern(11, 20_000), 100),
        2 => store.open_file(b"many")?.write_at(&pattern(12, 4096 * 3), 50 * B),
        3 => store.rename(&long_name(3), b"renamed"),
        4 => store.open_file(b"other")?.truncate(123_457),
        5 => store.reflink(b"late", b"late@1").map(drop),
        6 => store.open_file(b"unwritten")?.write_at(&pattern(13, 6000), 20 * B),
        7 => store.remove(&long_name(7)),
        8 => store.open_file(b"small@2")?.zero(0, 8192),
        9 => {
            let bytes = pattern(15, 5000);
            store.open_file(b"small")?.write_atomic(&[(100, &bytes[..50]), (9000, &bytes)])
        }
        10 => store.open_file(b"moved")?.collapse(2 * B, 4 * B),
        11 => store.open_file(b"many@2")?.insert(700 * B, 2 * B),
        12 => store.open_file(b"small@1")?.write_durable_at(&pattern(16, 300), 6000),
        _ => {
            // More than fits into one block of the journal.
            (100..130).try_for_each(|i| {
                let file = store.create(&long_name(i))?;
                file.write_at(&pattern(i, 700), 0)
            })?;
            store.open_file(b"late")?.write_at(&pattern(14, 5000), 7000)
        }
    }
}
