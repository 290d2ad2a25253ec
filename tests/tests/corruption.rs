//! Any byte of any metadata block is flipped: opening the store, reading every
//! file and checking it end in an error that names the block, or in the right
//! answer; never in a panic, a hang, or other bytes in silence.
//!
//! Data blocks have no checksum: what a flipped bit there does to the bytes of a
//! file is not told, and nothing here claims that it is.
//!
//! The default run flips the bytes of the headers and a share of the others;
//! each seed takes another share with other bits, 128 of them every byte:
//! `FREEHOLD_SEEDS=0..128 cargo test -p freehold-tests --test corruption`

use freehold::{Error, ErrorKind, Store};
use freehold_blockmap::format::BLOCK;
use freehold_blockmap::format::types::{FileMap, Kind};
use freehold_engine::sim::{SimImage, SimMedium};
use freehold_tests::random::Random;
use freehold_tests::seeds;
use freehold_tests::specimen::anatomy::{Anatomy, Part, What};
use freehold_tests::specimen::surgery::Surgery;
use freehold_tests::specimen::{Contents, Specimen, bytes, medium, names, open};
use std::sync::OnceLock;

/// A seed takes one byte in so many; this many seeds take them all.
const SHARE: u64 = 128;

/// Headers, and the heads of groups: the first seed takes these too.
const HEAD: usize = 104;

fn specimen() -> &'static Specimen {
    static SPECIMEN: OnceLock<Specimen> = OnceLock::new();
    SPECIMEN.get_or_init(Specimen::make)
}

fn closed() -> &'static Specimen {
    static CLOSED: OnceLock<Specimen> = OnceLock::new();
    CLOSED.get_or_init(|| specimen().closed())
}

/// A flipped byte, and what may be said of it.
struct Flip<'a> {
    specimen: &'a Specimen,
    anatomy: &'a Anatomy,
    part: &'a Part,
}

impl Flip<'_> {
    /// The blocks by which an error may name the damage.
    fn named(&self) -> Vec<u64> {
        match self.part.what {
            What::Group { head, .. } => {
                let found = self.anatomy.groups.iter().find(|(h, _)| *h == head);
                vec![found.expect("a live group").1]
            }
            _ => vec![self.part.addr],
        }
    }

    /// What the files hold if the store opens: as it was, or as it was before
    /// the first group that nothing confirms.
    fn expected(&self) -> &Contents {
        match self.part.what {
            What::Group { head, .. } => self.specimen.at(head.number - 1),
            _ => &self.specimen.contents,
        }
    }

    /// Must opening fail?
    fn fatal(&self) -> bool {
        match self.part.what {
            What::Group { head, .. } => head.number <= self.anatomy.confirmed(),
            What::Super { newest, .. } => newest,
            _ => false,
        }
    }

    /// May the damage go unseen by a check? A torn end is no damage, and the older
    /// superblock is made good by whoever opens for writing.
    fn silent(&self, read_only: bool) -> bool {
        match self.part.what {
            What::Group { .. } => !self.fatal(),
            What::Super { newest, .. } => !newest && !read_only,
            _ => false,
        }
    }

    /// An error is clear if it says what is damaged, and where.
    fn clear(&self, e: &Error) -> Result<(), String> {
        let at = e.place().map(|p| p.at);
        if e.kind() == ErrorKind::Corrupt && at.is_some_and(|at| self.named().contains(&at)) {
            return Ok(());
        }
        Err(format!("{:?} {at:?}, not at {:?}: {e}", e.kind(), self.named()))
    }

    fn judge(&self, image: &SimImage, read_only: bool) -> Result<(), String> {
        let sim = medium(image);
        let store = match open(&sim, read_only) {
            Ok(_) if self.fatal() => return Err("the damage was passed over".to_owned()),
            Ok(store) => store,
            Err(e) => return self.clear(&e),
        };
        self.files(&store)?;
        let report = store.check().map_err(|e| format!("check: {e}"))?;
        let seen = report.findings.iter().any(|f| self.named().contains(&f.address));
        let silent = self.silent(read_only);
        if !seen && !silent {
            return Err(format!("check finds nothing there: {:?}", report.findings));
        }
        if silent && !report.clean() {
            return Err(format!("a torn end is no damage: {:?}", report.findings));
        }
        Ok(())
    }

    /// Lists and reads all: the right answer, or an error.
    fn files(&self, store: &Store) -> Result<(), String> {
        let expected = self.expected();
        match names(store) {
            Ok(list) if list.iter().eq(expected.keys()) => {}
            Ok(list) => return Err(format!("other names: {} of {}", list.len(), expected.len())),
            Err(e) => self.clear(&e)?,
        }
        for (name, right) in expected {
            match store.open_file(name).and_then(|file| bytes(&file)) {
                Ok(found) if found == *right => {}
                Ok(_) => return Err(format!("other bytes in {}", name.escape_ascii())),
                Err(e) => self.clear(&e)?,
            }
        }
        Ok(())
    }
}

/// Flips one byte after the other of every part of an image; of the headers, the
/// first seed takes one in `heads`.
fn flip_all(specimen: &Specimen, seed: u64, heads: usize) -> usize {
    let anatomy = Anatomy::of(&specimen.image);
    let mut draw = Random::new(seed);
    let mut count = 0;
    for part in &anatomy.parts {
        let flip = Flip { specimen, anatomy: &anatomy, part };
        for offset in 0..BLOCK {
            let head = offset < HEAD && offset % heads == 0 && seed.is_multiple_of(SHARE);
            if !head && offset as u64 % SHARE != seed.wrapping_mul(29) % SHARE {
                continue;
            }
            let bits = *draw.pick(&[1, 2, 4, 8, 16, 32, 64, 128, 0xff, 0x55, 0xaa]);
            let read_only = draw.below(2) == 1;
            let mut s = specimen.image.clone();
            let mut bytes = *s.get(part.addr);
            bytes[offset] ^= bits;
            s.set(part.addr, std::sync::Arc::new(bytes));
            let judged = std::panic::catch_unwind(|| flip.judge(&s, read_only));
            let why = match judged {
                Ok(Ok(())) => {
                    count += 1;
                    continue;
                }
                Ok(Err(why)) => why,
                Err(_) => "panic".to_owned(),
            };
            panic!(
                "byte {offset} of {part:?} xor {bits:#x}, read only {read_only}: {why}\n{}",
                seeds::again("corruption", seed)
            );
        }
    }
    count
}

fn flip_for_each_seed(specimen: &Specimen, heads: usize) {
    for seed in seeds::range(0..1) {
        let count = flip_all(specimen, seed, heads);
        println!("seed {seed}: {count} bytes");
        assert!(count > 500, "only {count} bytes were flipped");
    }
}

#[test]
fn any_flipped_byte_of_a_store_with_a_journal() {
    flip_for_each_seed(specimen(), 1);
}

#[test]
fn any_flipped_byte_of_a_closed_store() {
    flip_for_each_seed(closed(), 5);
}

/// The block of `at` damaged, and the store opened for writing.
fn damaged(at: u64) -> (SimMedium, Store) {
    let mut s = Surgery::on(&closed().image);
    s.flip(at, 2000, 0x20);
    let sim = medium(&s.image);
    let store = open(&sim, false).expect("opening does not need it");
    (sim, store)
}

fn at_block(e: &Error) -> Option<u64> {
    assert_eq!(e.kind(), ErrorKind::Corrupt, "{e}");
    e.place().map(|p| p.at)
}

#[test]
fn a_damaged_node_spoils_the_files_whose_maps_pass_through_it_and_no_other() {
    let s = Surgery::on(&closed().image);
    let at = s.leaves(b"many")[0];
    let through = |name: &[u8]| match s.before.record(name).map {
        FileMap::Tree(root) => s.before.map_nodes(&s.image, root).contains(&at),
        FileMap::Inline { .. } => false,
    };
    let (sim, store) = damaged(at.addr);
    let mut spoiled = 0;
    let mut expected = closed().contents.clone();
    for (name, right) in &mut expected {
        let file = store.open_file(name).unwrap();
        if through(name) {
            spoiled += 1;
            assert_eq!(at_block(&bytes(&file).unwrap_err()), Some(at.addr));
            assert_eq!(at_block(&file.write_at(b"x", 0).unwrap_err()), Some(at.addr));
            // Where the map does not pass through it, even this file is sound.
            file.read_at(&mut [0; 4096], right.len() as u64 - 100).unwrap();
            continue;
        }
        assert_eq!(bytes(&file).unwrap(), *right);
        file.write_at(b"still writable", 5).unwrap();
        file.sync().unwrap();
        if right.len() < 19 {
            right.resize(19, 0);
        }
        right[5..19].copy_from_slice(b"still writable");
        assert_eq!(bytes(&file).unwrap(), *right);
    }
    assert!((1..4).contains(&spoiled), "{spoiled} files pass through the node");
    assert!(!store.info().read_only);
    store.checkpoint().unwrap();
    store.remove(b"many").unwrap();
    store.sync().unwrap();
    drop(store);
    // Another opening, with the removal of the damaged file half done.
    let store = open(&sim, false).unwrap();
    for (name, right) in expected.iter().filter(|(name, _)| !through(name)) {
        assert_eq!(bytes(&store.open_file(name).unwrap()).unwrap(), *right);
    }
    store.create(b"a new one").unwrap().write_at(b"x", 0).unwrap();
    store.checkpoint().unwrap();
    assert!(store.check().unwrap().findings.iter().any(|f| f.address == at.addr));
}

/// Changes of every kind; the first error.
fn change_everything(store: &Store) -> Result<(), Error> {
    let known = closed().contents.keys();
    for (i, name) in known.enumerate() {
        let file = match store.open_file(name) {
            // Behind a damaged node of the names.
            Err(e) if e.kind() == ErrorKind::Corrupt => continue,
            file => file?,
        };
        file.write_at(&[1; 5000], i as u64 * 4096)?;
        let mut longer = name.clone();
        longer.truncate(200);
        longer.extend_from_slice(b"/more");
        let copy = file.reflink(&longer)?;
        copy.write_at(&[2; 100], 10)?;
        copy.truncate(50)?;
        store.remove(&longer)?;
    }
    store.checkpoint()
}

#[test]
fn a_damaged_name_count_or_space_structure_makes_the_store_read_only() {
    let s = Surgery::on(&closed().image);
    let node = |kind| s.before.nodes(kind, true)[0].addr;
    let bitmap = s.before.space[0].1.addr;
    for at in [node(Kind::Names), node(Kind::Counts), node(Kind::Space), bitmap] {
        let (sim, store) = damaged(at);
        let e = change_everything(&store).expect_err("the damage was passed over");
        assert_eq!(at_block(&e), Some(at));
        assert!(store.info().read_only, "block {at}");
        let file = store.open_file(b"small@1").or_else(|_| store.open_file(b"small@2")).unwrap();
        let change = |done: Result<(), Error>| assert_eq!(at_block(&done.unwrap_err()), Some(at));
        change(store.create(b"zzz").map(drop));
        change(store.remove(b"small"));
        change(store.rename(b"small", b"zzz"));
        change(
            store.reflink(b"small@1", b"zzz").map(drop).or_else(|_| file.reflink(b"z").map(drop)),
        );
        change(file.write_at(b"x", 0));
        change(file.truncate(0));
        change(file.punch(0, 4096));
        change(file.allocate(0, 4096));
        change(store.checkpoint());
        // Reads go on, and what is durable stays so.
        let size = file.size() as usize;
        assert_eq!(bytes(&file).unwrap().len(), size);
        store.sync().unwrap();
        assert!(store.check().unwrap().findings.iter().any(|f| f.address == at));
        drop((file, store));
        let store = open(&sim, true).unwrap();
        let readable = names(&store).is_ok();
        assert_eq!(readable, at != node(Kind::Names));
    }
}

#[test]
fn a_damaged_record_of_files_spoils_these_files_and_no_other() {
    let s = Surgery::on(&closed().image);
    for at in s.before.nodes(Kind::Files, true) {
        let (_sim, store) = damaged(at.addr);
        let (mut good, mut bad) = (0, 0);
        for (name, right) in &closed().contents {
            match store.open_file(name).and_then(|file| bytes(&file)) {
                Ok(found) => {
                    assert_eq!(found, *right);
                    good += 1;
                }
                Err(e) => {
                    assert_eq!(at_block(&e), Some(at.addr));
                    bad += 1;
                }
            }
        }
        assert!(good > 10 && bad > 10, "{good} good, {bad} bad");
        assert!(store.check().unwrap().findings.iter().any(|f| f.address == at.addr));
    }
}
