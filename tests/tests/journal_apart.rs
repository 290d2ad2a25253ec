//! A journal on a medium of its own: which journal a store takes and what it says of others,
//! giving one up, a journal that fails, and what a commit costs (docs/windows.md, "Two media").

use freehold::{ErrorKind, OpenOptions, Store};
use freehold_blockmap::{Discarded, FormatSpec, OpenSpec, Volume};
use freehold_engine::medium::{BLOCK, Medium};
use freehold_engine::sim::{FailPlan, OpKind, SimImage, SimMedium, SimOptions};
use freehold_tests::crash::{Journal, Machine};
use std::sync::Arc;

const STORE: [u8; 16] = *b"the store\0\0\0\0\0\0\0";
const RING: [u8; 16] = *b"its journal\0\0\0\0\0";
const BLOCKS: u64 = 2048;

fn options(window: bool, blocks: u64) -> SimOptions {
    SimOptions { blocks, window, in_order: true, max_delay: 0, ..SimOptions::default() }
}

/// A store and its journal on a window, with ids that are known.
struct Pair {
    store: SimMedium,
    journal: SimMedium,
}

impl Pair {
    fn with_ids(id: [u8; 16], journal_id: [u8; 16]) -> Self {
        let store = SimMedium::new(options(false, BLOCKS));
        let journal = SimMedium::new(options(true, 130));
        let spec =
            FormatSpec { id: Some(id), journal_id: Some(journal_id), ..FormatSpec::default() };
        let vol = Volume::format_with(store.medium(), Some(journal.medium()), &spec);
        vol.expect("two media").close().expect("a store");
        Pair { store, journal }
    }

    fn new() -> Self {
        Self::with_ids(STORE, RING)
    }

    fn open(&self) -> freehold::Result<Store> {
        open(&self.store, Some(self.journal.medium()))
    }

    /// Durable, and in the journal alone.
    fn write(&self, name: &[u8], byte: u8) {
        let store = self.open().expect("it opens");
        let file = store.create(name).or_else(|_| store.open_file(name)).expect("a file");
        file.write_durable_at(&[byte; BLOCK], 0).expect("room");
    }

    fn checkpoints(&self, n: u32) {
        let store = self.open().expect("it opens");
        (0..n).for_each(|_| store.checkpoint().expect("a checkpoint"));
    }
}

fn open(store: &SimMedium, journal: Option<Arc<dyn Medium>>) -> freehold::Result<Store> {
    Store::open_on_with(store.medium(), journal, &OpenOptions::default())
}

fn copy_of(image: SimImage, like: SimOptions) -> SimMedium {
    SimMedium::with_image(like, image)
}

#[track_caller]
fn refused(opened: freehold::Result<Store>, kind: ErrorKind, words: &[&str]) {
    let error = opened.expect_err("it must not open");
    assert_eq!(error.kind(), kind, "{error}");
    for word in words {
        assert!(error.to_string().contains(word), "{word:?} is not in: {error}");
    }
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn a_store_opens_with_its_journal_and_has_what_was_promised() {
    let pair = Pair::new();
    pair.write(b"f", 7);
    let store = pair.open().expect("it opens");
    assert!(store.recovery().records >= 2, "{:?}", store.recovery());
    let mut byte = [0];
    store.open_file(b"f").expect("a file").read_at(&mut byte, 100).expect("its bytes");
    assert_eq!(byte, [7]);
    let journal = store.info().journal.expect("a journal");
    assert_eq!((journal.id, journal.window), (RING, true));
    assert_eq!(store.info().journal_bytes, 128 * BLOCK as u64);
    assert_eq!(store.space().journal_apart, 128 * BLOCK as u64);
    assert_eq!(store.check().expect("a check").findings, []);
}

#[test]
fn without_its_journal_a_store_says_which_it_wants() {
    let pair = Pair::new();
    pair.write(b"f", 7);
    let wanted = [&hex(&STORE)[..], &hex(&RING)];
    let words = [&wanted[..], &["journal=URI", "512 KiB", "--discard-journal"]].concat();
    refused(open(&pair.store, None), ErrorKind::WrongJournal, &words);
    // Nothing there, and another store.
    let empty = SimMedium::new(options(true, 130));
    let words = [&wanted[..], &["holds no journal"]].concat();
    refused(open(&pair.store, Some(empty.medium())), ErrorKind::WrongJournal, &words);
    let plain = SimMedium::new(options(false, BLOCKS));
    drop(Store::format_on(plain.medium()).expect("a store"));
    let words = [&wanted[..], &["is a store"]].concat();
    refused(open(&pair.store, Some(plain.medium())), ErrorKind::WrongJournal, &words);
    // The other way round: a store that needs none.
    let words = ["has its journal in itself"];
    refused(open(&plain, Some(pair.journal.medium())), ErrorKind::Invalid, &words);
    // A journal is no store.
    refused(open(&pair.journal, None), ErrorKind::NotAStore, &["holds the journal"]);
    pair.open().expect("it is as it was");
}

#[test]
fn a_foreign_journal_is_named() {
    let pair = Pair::new();
    let foreign = Pair::with_ids(*b"another store\0\0\0", RING);
    let words = [&hex(&STORE)[..], &hex(b"another store\0\0\0"), "journal of store"];
    refused(open(&pair.store, Some(foreign.journal.medium())), ErrorKind::WrongJournal, &words);
    let former = Pair::with_ids(STORE, *b"a former journal");
    let words = [&hex(&RING)[..], &hex(b"a former journal"), "given up"];
    refused(open(&pair.store, Some(former.journal.medium())), ErrorKind::WrongJournal, &words);
}

#[test]
fn an_older_journal_and_an_older_store_are_refused_with_both_numbers() {
    let pair = Pair::new();
    let (store, journal) = (pair.store.image(), pair.journal.image());
    pair.write(b"f", 7);
    pair.checkpoints(2);
    let older = copy_of(journal, options(true, 130));
    let words = ["at checkpoint 4", "checkpoint 2 only", "older copy"];
    refused(open(&pair.store, Some(older.medium())), ErrorKind::WrongJournal, &words);
    let older = copy_of(store, options(false, BLOCKS));
    let words = ["at checkpoint 2", "told of checkpoint 4", "older copy of the store"];
    refused(open(&older, Some(pair.journal.medium())), ErrorKind::WrongJournal, &words);
    pair.open().expect("the right two");
}

#[test]
fn a_store_older_by_one_checkpoint_is_known_by_its_mark() {
    let pair = Pair::new();
    pair.write(b"f", 7);
    let older = copy_of(pair.store.image(), options(false, BLOCKS));
    pair.checkpoints(1);
    refused(open(&older, Some(pair.journal.medium())), ErrorKind::Corrupt, &["checkpoint 3"]);
}

#[test]
fn damaged_headers_and_rings_of_another_length() {
    let pair = Pair::new();
    // The slot of checkpoint 2 is 1; the other one is of no matter.
    let damaged = |slots: &[u64]| {
        let copy = copy_of(pair.journal.image(), options(true, 130));
        slots.iter().for_each(|slot| copy.corrupt(*slot, 70, 1).expect("a block"));
        open(&pair.store, Some(copy.medium()))
    };
    drop(damaged(&[0]).expect("the other slot is in force"));
    refused(damaged(&[1]), ErrorKind::Corrupt, &["journal header at block 1"]);
    refused(damaged(&[0, 1]), ErrorKind::Corrupt, &["journal header"]);
    let short = copy_of(pair.journal.image(), options(true, 129));
    refused(open(&pair.store, Some(short.medium())), ErrorKind::Truncated, &["130 blocks"]);
    let long = SimMedium::new(options(true, 140));
    let spec = FormatSpec { id: Some(STORE), journal_id: Some(RING), ..FormatSpec::default() };
    let other = SimMedium::new(options(false, BLOCKS));
    drop(Volume::format_with(other.medium(), Some(long.medium()), &spec).expect("a store"));
    refused(open(&pair.store, Some(long.medium())), ErrorKind::Corrupt, &["not 128"]);
}

#[test]
fn a_superblock_that_lies_about_its_journal_is_refused() {
    use freehold_blockmap::format::superblock;
    let pair = Pair::new();
    let huge = SimMedium::with_image(options(true, 1 << 33), pair.journal.image());
    for blocks in [1, 127, 65_537, 1 << 32] {
        let mut image = pair.store.image();
        for slot in [0, 1] {
            let mut sb = superblock::decode(&image.get(slot)[..], slot).expect("a superblock");
            sb.apart.as_mut().expect("a journal apart").blocks = blocks;
            let mut block = [0; BLOCK];
            superblock::encode(&sb, slot, &mut block).expect("it can be said");
            image.set(slot, Arc::new(block));
        }
        let store = copy_of(image, options(false, BLOCKS));
        let words = ["superblock", "shorter or longer"];
        refused(open(&store, Some(huge.medium())), ErrorKind::Corrupt, &words);
    }
}

#[test]
fn a_journals_medium_that_is_too_small_is_refused_before_anything_is_written() {
    let store = SimMedium::new(options(false, BLOCKS));
    let small = SimMedium::new(options(true, 129));
    let refused = Store::format_on_with(store.medium(), Some(small.medium())).err();
    assert_eq!(refused.map(|e| e.kind()), Some(ErrorKind::Invalid));
    assert_eq!(store.stats().writes + small.stats().writes, 0);
}

#[test]
fn a_format_that_is_cut_short_leaves_no_store_or_a_whole_one() {
    for journal in [Journal::Blocks, Journal::Window] {
        let machine = Machine::new(SimOptions { blocks: BLOCKS, ..SimOptions::default() }, journal);
        machine.store.keep_crashes();
        drop(machine.format().expect("a store"));
        let (mut none, mut whole) = (0, 0);
        for step in 0..machine.store.crashes() {
            let left = machine.crash_of(step, freehold_engine::sim::Survival::Random, step as u64);
            match Store::open_on_with(left.store.medium(), left.beside(), &OpenOptions::default()) {
                Ok(store) => {
                    whole += 1;
                    assert_eq!(store.check().expect("a check").findings, []);
                }
                Err(e) => {
                    none += 1;
                    assert_eq!(e.kind(), ErrorKind::NotAStore, "step {step}: {e}");
                }
            }
        }
        assert!(none > 0 && whole > 0, "{none} and {whole}");
    }
}

#[test]
fn a_barrier_that_fails_once_poisons_and_breaks_no_promise() {
    for after in 0..12 {
        let pair = Pair::new();
        pair.write(b"f", 1);
        let store = pair.open().expect("it opens");
        let file = store.open_file(b"f").expect("a file");
        pair.journal.fail(FailPlan::once(OpKind::Persist, after));
        let mut promised = 1;
        let mut failed = None;
        for byte in 2..20 {
            let done = file.write_durable_at(&[byte; BLOCK], 0).and_then(|()| store.checkpoint());
            match (done, failed) {
                (Ok(()), None) => promised = byte,
                (Ok(()), Some(_)) => panic!("a success on top of a lost write"),
                (Err(e), _) => {
                    assert_eq!(e.kind(), ErrorKind::Poisoned, "{e}");
                    failed = failed.or(Some(byte));
                }
            }
        }
        let failed = failed.expect("a barrier failed");
        drop((file, store));
        let store = pair.open().expect("it opens again");
        let mut byte = [0];
        store.open_file(b"f").expect("a file").read_at(&mut byte, 0).expect("its bytes");
        assert!(byte[0] == promised || byte[0] == failed, "{byte:?}, {promised}, {failed}");
    }
}

#[test]
fn a_durable_write_costs_stores_and_a_barrier_and_no_command() {
    let pair = Pair::new();
    pair.write(b"f", 1);
    pair.checkpoints(1);
    let store = pair.open().expect("it opens");
    let file = store.open_file(b"f").expect("a file");
    file.write_durable_at(&[2; BLOCK], 0).expect("room");
    let (before, journal) = (store.stats(), pair.journal.stats());
    for byte in 3..9 {
        // Over what is written, in part of it, and behind it.
        file.write_durable_at(&[byte; BLOCK], 0).expect("room");
        file.write_durable_at(&[byte; 100], 50).expect("room");
        file.write_durable_at(&[byte; BLOCK], u64::from(byte) * BLOCK as u64).expect("room");
    }
    let (after, now) = (store.stats(), pair.journal.stats());
    assert_eq!(after.device_writes, before.device_writes);
    assert_eq!(after.device_flushes, before.device_flushes);
    let groups = after.journal_groups - before.journal_groups;
    assert_eq!(groups, 18);
    assert!(now.persists - journal.persists <= groups + 1, "the ring's end may be in between");
    assert_eq!((now.writes, now.flushes), (journal.writes, journal.flushes));
    let mut queue = store.queue(4).expect("a queue");
    let mut buf = queue.buffer(BLOCK).expect("memory");
    buf.fill(9);
    queue.write_durable(&file, 0, buf, 1).expect("room");
    let mut done = Vec::new();
    while queue.poll(&mut done) == 0 {
        queue.wait(None).expect("it goes on");
    }
    assert_eq!(store.stats().device_writes, before.device_writes);
}

fn discard(
    store: &SimMedium,
    journal: Option<&SimMedium>,
    force: bool,
) -> freehold::Result<Discarded> {
    Volume::discard_journal(store.medium(), journal.map(SimMedium::medium), None, force)
}

#[test]
fn a_journal_is_given_up_only_by_force_and_for_good() {
    let pair = Pair::new();
    pair.write(b"kept", 1);
    pair.checkpoints(1);
    pair.write(b"lost", 2);
    let right = discard(&pair.store, Some(&pair.journal), true).expect_err("it is the right one");
    assert_eq!(right.kind(), ErrorKind::Invalid);
    let writes = pair.store.stats().writes;
    let said = discard(&pair.store, None, false).expect("it says what is lost");
    assert_eq!((said.checkpoint, said.done, said.lost.is_none()), (3, false, true));
    assert_eq!((said.store_id, said.journal_id), (STORE, RING));
    assert_eq!(pair.store.stats().writes, writes, "nothing is changed");
    drop(pair.open().expect("the journal is there still"));
    assert!(discard(&pair.store, None, true).expect("it is done").done);
    let store = open(&pair.store, None).expect("it needs no journal");
    assert_eq!(store.info().journal, None);
    assert_eq!(store.check().expect("a check").findings, []);
    assert!(store.open_file(b"kept").is_ok() && store.open_file(b"lost").is_err());
    store.create(b"new").expect("room").write_durable_at(&[3; 9000], 5).expect("room");
    drop(store);
    let store = open(&pair.store, None).expect("its own ring has it");
    assert_eq!(store.open_file(b"new").expect("a file").size(), 9005);
    drop(store);
    refused(pair.open(), ErrorKind::Invalid, &["has its journal in itself"]);
    let none = discard(&pair.store, None, true).expect_err("there is none");
    assert_eq!(none.kind(), ErrorKind::Invalid);
}

#[test]
fn what_a_refused_journal_holds_is_told() {
    let pair = Pair::new();
    pair.write(b"old", 1);
    pair.checkpoints(1);
    for name in [&b"old"[..], b"one", b"two"] {
        pair.write(name, 2);
    }
    // A durable group in the middle is damaged: law B9.
    let (block, _) = groups_behind(&pair)[2];
    pair.journal.corrupt(block, 90, 1).expect("a block");
    refused(pair.open(), ErrorKind::Corrupt, &["journal"]);
    let said = discard(&pair.store, Some(&pair.journal), false).expect("it says what is lost");
    assert!(said.refused.is_some_and(|why| why.contains("was durable")));
    let lost = said.lost.expect("it can be read");
    assert!(lost.groups >= 1 && lost.records >= 1, "{lost:?}");
    assert!(lost.files.contains(&b"old".to_vec()), "{lost:?}");
    assert!(discard(&pair.store, Some(&pair.journal), true).expect("it is done").done);
    let store = open(&pair.store, None).expect("it needs no journal");
    assert!(store.open_file(b"old").is_ok() && store.open_file(b"two").is_err());
}

/// Blocks of the ring that hold heads of groups, in the order of their numbers, behind the
/// newest checkpoint.
fn groups_behind(pair: &Pair) -> Vec<(u64, u64)> {
    use freehold_blockmap::format::{journal::decode_group_head, superblock};
    let image = pair.store.image();
    let both = [0, 1].map(|slot| superblock::decode(&image.get(slot)[..], slot));
    let sb = both.into_iter().flatten().max_by_key(|sb| sb.checkpoint).expect("a superblock");
    let heads = (2..130).filter_map(|block| {
        let head = decode_group_head(&pair.journal.image().get(block)[..], &STORE).ok()?;
        (head.number >= sb.cut_group).then_some((block, head.number))
    });
    let mut heads: Vec<_> = heads.collect();
    heads.sort_by_key(|(_, number)| *number);
    heads
}

#[test]
fn giving_a_journal_up_is_cut_short_at_every_step() {
    let pair = Pair::new();
    pair.write(b"kept", 1);
    pair.checkpoints(1);
    pair.write(b"lost", 2);
    // Bytes that are in no record, in blocks that the checkpoint calls free.
    let plain: Vec<u8> = (0..400_000u32).map(|i| (i % 251) as u8 + 1).collect();
    {
        let store = pair.open().expect("it opens");
        let file = store.create(b"plain").expect("room");
        file.write_at(&plain, 0).expect("room");
        file.sync().expect("it is durable");
    }
    pair.store.keep_crashes();
    assert!(discard(&pair.store, None, true).expect("it is done").done);
    let (mut with, mut without) = (0, 0);
    for step in 0..pair.store.crashes() {
        for seed in 0..3 {
            let left = pair.store.crash_of(step, freehold_engine::sim::Survival::Random, seed);
            let journal = copy_of(pair.journal.image(), options(true, 130));
            let store = match open(&left, None) {
                Ok(store) => {
                    without += 1;
                    store
                }
                Err(e) => {
                    assert_eq!(e.kind(), ErrorKind::WrongJournal, "step {step}: {e}");
                    with += 1;
                    let store = open(&left, Some(journal.medium())).expect("its journal");
                    assert!(store.open_file(b"lost").is_ok(), "step {step}");
                    let mut found = vec![0; plain.len()];
                    let file = store.open_file(b"plain").expect("a file");
                    file.read_at(&mut found, 0).expect("its bytes");
                    assert!(found == plain, "step {step}");
                    drop(file);
                    store
                }
            };
            assert!(store.open_file(b"kept").is_ok(), "step {step}");
            assert_eq!(store.check().expect("a check").findings, [], "step {step}");
        }
    }
    assert!(with > 0 && without > 0, "{with} and {without}");
}

#[test]
fn reading_only_writes_to_neither_medium() {
    let pair = Pair::new();
    pair.write(b"f", 7);
    let before = (pair.store.steps(), pair.journal.steps());
    let spec = OpenSpec { read_only: true, ..OpenSpec::default() };
    let vol = Volume::open_with(pair.store.medium(), Some(pair.journal.medium()), &spec);
    drop(vol.expect("it opens"));
    assert_eq!((pair.store.steps(), pair.journal.steps()), before);
}

/// A directory of files of its own.
struct Place(std::path::PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let dir =
            std::env::temp_dir().join(format!("freehold-apart-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        Place(dir)
    }

    fn at(&self, file: &str) -> String {
        self.0.join(file).display().to_string()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_uri_or_an_option_names_the_journal() {
    let place = Place::new("named");
    let (store, journal) = (place.at("store"), place.at("journal"));
    let uri = format!("{store}?journal={journal}");
    let sized = freehold::FormatOptions { size: Some(16 << 20), ..Default::default() };
    let made = Store::format(&uri, &sized).expect("two files");
    assert_eq!(std::fs::metadata(&journal).expect("a file").len(), (16 << 20) + 8192);
    // The same store twice is one store; named otherwise it is refused.
    let again = Store::open(&uri, &OpenOptions::default()).expect("the same store");
    assert_eq!(again.info(), made.info());
    let other = Store::open(&store, &OpenOptions::default()).expect_err("it has a journal");
    assert_eq!(other.kind(), ErrorKind::Busy, "{other}");
    made.create(b"f").expect("room").write_durable_at(&[5; 5000], 0).expect("room");
    drop((made, again));
    let by_option =
        OpenOptions { journal: Some(format!("file:{journal}")), ..OpenOptions::default() };
    let opened = Store::open(&store, &by_option).expect("the option names it");
    assert_eq!(opened.open_file(b"f").expect("a file").size(), 5000);
    opened.close().expect("it ends");
    let refused = Store::open(&store, &OpenOptions::default()).expect_err("no journal is named");
    assert_eq!(refused.kind(), ErrorKind::WrongJournal, "{refused}");
    let nowhere = format!("{store}?journal={}", place.at("nothing"));
    let refused = Store::open(&nowhere, &OpenOptions::default()).expect_err("it is not there");
    assert_eq!(refused.kind(), ErrorKind::WrongJournal, "{refused}");
    assert!(refused.to_string().contains("--discard-journal"), "{refused}");
    let twice = Store::open(&nowhere, &by_option).expect_err("two names");
    assert_eq!(twice.kind(), ErrorKind::Invalid, "{twice}");
    let pmr = format!("{store}?journal=pmr");
    let refused = Store::open(&pmr, &OpenOptions::default()).expect_err("no controller");
    assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
}

#[test]
fn persistent_memory_takes_a_journal() {
    let place = Place::new("pmem");
    let (store, journal) = (place.at("store"), place.at("journal"));
    let sized = freehold::FormatOptions { size: Some(16 << 20), ..Default::default() };
    let uri = format!("{store}?journal=pmem:{journal}%3Fvolatile%3D1");
    let made = Store::format(&uri, &sized).expect("two files");
    assert!(made.info().journal.expect("a journal").window);
    made.create(b"f").expect("room").write_durable_at(&[5; 5000], 0).expect("room");
    drop(made);
    let store = Store::open(&uri, &OpenOptions::default()).expect("both");
    assert!(store.recovery().records >= 2, "{:?}", store.recovery());
    assert_eq!(store.open_file(b"f").expect("a file").size(), 5000);
    drop(store);
    // It must not be taken for durable unasked; what is there stays.
    let uri = format!("{}?journal=pmem:{journal}", place.at("store"));
    let forced = freehold::FormatOptions { force: true, ..sized };
    let refused = Store::format(&uri, &forced).expect_err("it is not on DAX");
    assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
    let uri = format!("{uri}%3Fvolatile%3D1");
    Store::open(&uri, &OpenOptions::default()).expect("nothing has happened to it");
}

#[test]
fn formatting_two_media_takes_both_or_none() {
    let place = Place::new("both");
    let (store, journal) = (place.at("store"), place.at("journal"));
    let sized = freehold::FormatOptions { size: Some(16 << 20), ..Default::default() };
    let first = Store::format(&format!("{store}?journal={journal}"), &sized).expect("two files");
    first.create(b"precious").expect("room");
    let forced = freehold::FormatOptions { force: true, ..sized.clone() };
    // Journals that cannot be, and the store that would be overwritten.
    let memory = format!("{store}?journal=mem:1M");
    let small = freehold::FormatOptions { journal_size: Some(519 << 10), ..forced.clone() };
    let short = format!("{store}?journal={}", place.at("short"));
    first.close().expect("it ends");
    for (uri, options) in [(&memory, &forced), (&short, &small)] {
        let refused = Store::format(uri, options).expect_err("no journal");
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
    }
    let opened = Store::open(&format!("{store}?journal={journal}"), &OpenOptions::default());
    let first = opened.expect("nothing has happened to it");
    // The journal of a store that is open, with another store that would be overwritten.
    let second = place.at("second");
    Store::format(&second, &sized).expect("a file").close().expect("it ends");
    let uri = format!("{second}?journal={journal}");
    let busy = Store::format(&uri, &forced).expect_err("it is in use");
    assert_eq!(busy.kind(), ErrorKind::Busy, "{busy}");
    first.close().expect("it ends");
    let occupied = Store::format(&uri, &sized).expect_err("it carries something");
    assert_eq!(occupied.kind(), ErrorKind::Occupied, "{occupied}");
    let third = format!("{}?journal={journal}", place.at("third"));
    let occupied = Store::format(&third, &sized).expect_err("a journal");
    assert!(occupied.to_string().contains("the journal of a Freehold store"), "{occupied}");
    Store::open(&second, &OpenOptions::default()).expect("nothing has happened to it");
    let same = format!("{}?journal={}", place.at("same"), place.at("same"));
    assert_eq!(Store::format(&same, &sized).err().map(|e| e.kind()), Some(ErrorKind::Busy));
    let opened = Store::open(&format!("{store}?journal={journal}"), &OpenOptions::default());
    opened.expect("both").open_file(b"precious").expect("it is there");
    Store::format(&uri, &forced).expect("by force");
    let refused = Store::open(&format!("{store}?journal={journal}"), &OpenOptions::default());
    assert_eq!(refused.err().map(|e| e.kind()), Some(ErrorKind::WrongJournal));
}

#[test]
fn a_region_that_is_not_sound_opens_for_reading_alone() {
    use freehold_engine::emulator::{Backing, Options, RegionOptions};
    use freehold_tests::nvme::Served;
    let place = Place::new("region");
    let mut options = Options::new("", 16 << 20);
    options.backing = Backing::File(place.at("disk").into());
    options.region = Some(RegionOptions::new(place.at("region"), 1 << 20));
    let uri = |served: &Served| format!("{}?journal=pmr", served.uri());
    {
        let served = Served::new(options.clone());
        let store = Store::format(&uri(&served), &Default::default()).expect("two media");
        store.create(b"f").expect("room").write_durable_at(&[5; 5000], 0).expect("room");
    }
    let reading = OpenOptions { read_only: true, ..OpenOptions::default() };
    // Not restored, and read only.
    for (health, kind, words) in
        [(1, ErrorKind::Io, "--discard-journal"), (2, ErrorKind::Permission, "reading only")]
    {
        options.region.as_mut().expect("a region").health = health;
        let served = Served::new(options.clone());
        let uri = uri(&served);
        refused(Store::open(&uri, &OpenOptions::default()), kind, &[words, "journal of"]);
        let store = Store::open(&uri, &reading).expect("it can be read");
        assert_eq!(store.open_file(b"f").expect("a file").size(), 5000);
        drop(store);
        let said = Store::discard_journal(&uri, &OpenOptions::default(), false);
        let said = said.expect("it says what is lost");
        let lost = said.lost.expect("it can be read");
        assert!(!said.done && lost.files == [b"f"] && said.refused.is_some(), "{lost:?}");
    }
}
