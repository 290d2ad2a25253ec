//! Every build opens the stores that builds of the past wrote: one image for
//! each version of the format, with all that the version can say in it.
//!
//! Beside each image stands what it holds. Both are written anew by
//! `FREEHOLD_WRITE_GOLDEN=1 cargo test -p freehold-tests --test golden`; an image
//! of a released version is never written again.

use freehold::{File, OpenOptions, Result, Store};
use freehold_blockmap::format::record::RECORDS;
use freehold_blockmap::format::types::{FileMap, Record};
use freehold_blockmap::format::{VERSION, superblock};
use freehold_blockmap::{FormatSpec, Volume};
use freehold_engine::sim::{SimImage, SimMedium, SimOptions};
use freehold_tests::golden::{decode, encode};
use freehold_tests::specimen::anatomy::Anatomy;
use freehold_tests::specimen::{B, bytes, names, open, options};
use std::path::PathBuf;

const BLOCKS: u64 = 2048;
const ID: [u8; 16] = *b"golden image, v1";
const JOURNAL: [u8; 16] = *b"golden journal 2";

/// Blocks of the medium of a journal apart: the shortest ring, and its headers.
const RING: u64 = 130;

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden").join(name)
}

fn medium(image: &SimImage, blocks: u64) -> SimMedium {
    SimMedium::with_image(SimOptions { blocks, ..options() }, image.clone())
}

/// Blocks that are each full of one byte: they take no room in the file.
fn fill(file: &File, first: u64, blocks: u64, step: u64, byte: u64) -> Result<()> {
    (0..blocks)
        .try_for_each(|i| file.write_at(&[(byte + i) as u8; B as usize], (first + i * step) * B))
}

/// A store with everything that the format can say.
fn write() -> Result<SimImage> {
    let sim = SimMedium::new(SimOptions { blocks: BLOCKS, ..options() });
    let spec = FormatSpec { id: Some(ID), journal_blocks: Some(128), ..FormatSpec::default() };
    Volume::format(sim.medium(), &spec)?.close()?;
    let store = open(&sim, false)?;
    let going = fill_store(&store)?;
    let image = sim.image();
    drop((going, store));
    Ok(image)
}

/// The same store with its journal apart.
fn write_apart() -> Result<[SimImage; 2]> {
    let sim = SimMedium::new(SimOptions { blocks: BLOCKS, ..options() });
    let ring = journal_medium(&SimImage::new());
    let spec = FormatSpec { id: Some(ID), journal_id: Some(JOURNAL), ..FormatSpec::default() };
    Volume::format_with(sim.medium(), Some(ring.medium()), &spec)?.close()?;
    let store = open_apart(&sim, &ring, false)?;
    let going = fill_store(&store)?;
    let images = [sim.image(), ring.image()];
    drop((going, store));
    Ok(images)
}

fn journal_medium(image: &SimImage) -> SimMedium {
    let options = SimOptions { blocks: RING, window: true, ..options() };
    SimMedium::with_image(options, image.clone())
}

fn open_apart(sim: &SimMedium, ring: &SimMedium, read_only: bool) -> Result<Store> {
    let options = OpenOptions { read_only, ..OpenOptions::default() };
    Store::open_on_with(sim.medium(), Some(ring.medium()), &options)
}

/// Gives a handle that keeps a removal from going on.
fn fill_store(store: &Store) -> Result<File> {
    let tree = store.create(b"tree")?;
    fill(&tree, 0, 200, 2, 1)?;
    store.create(b"inline")?.write_at(b"a few bytes", 3)?;
    store.create(b"empty")?;
    store.create(b"sparse")?.write_at(&[7; 100], 1 << 40)?;
    let unwritten = store.create(b"unwritten")?;
    unwritten.allocate(0, 40 * B)?;
    fill(&unwritten, 10, 2, 1, 50)?;
    for i in 0..20u8 {
        // Long enough for the tree of names to have inner nodes.
        let name = [vec![b'n', b'0' + i / 10, b'0' + i % 10], vec![b'.'; 252]].concat();
        store.create(&name)?.write_at(&[i; 10], 0)?;
    }
    store.create(b"\xff\x01/ any bytes")?.write_at(&[9; 5000], 0)?;
    // Shared roots, shared leaves, shared extents, more than two owners.
    fill(&store.reflink(b"tree", b"tree@1")?, 100, 3, 1, 90)?;
    store.reflink(b"tree", b"tree@2")?;
    store.reflink(b"inline", b"inline@1")?;
    store.reflink(b"inline", b"inline@2")?.write_at(b"other", 0)?;
    let part = store.create(b"part")?;
    tree.reflink_range(40 * B, &part, 8 * B, 60 * B)?;
    // Subtrees that are moved, and shared at two places.
    let moved = store.create(b"moved")?;
    fill(&moved, 0, 400, 2, 3)?;
    moved.collapse(0, 2 * B)?;
    let other = store.create(b"moved and shared")?;
    moved.reflink_range(10 * B, &other, 3 * B, 700 * B)?;
    // Condemned when the checkpoint is cut.
    let doomed = store.create(b"doomed")?;
    fill(&doomed, 0, 30, 2, 200)?;
    store.remove(b"doomed")?;
    store.checkpoint()?;
    store.checkpoint()?;
    drop(doomed);
    tail(store, &tree, &unwritten)
}

/// Every kind of record, in several groups. Whoever drops the handle lets the
/// removal of its file go on: nobody does before the image is taken.
fn tail(store: &Store, tree: &File, unwritten: &File) -> Result<File> {
    let late = store.create(b"late")?;
    fill(&late, 1, 5, 3, 120)?;
    late.sync()?;
    late.zero(3 * B, 7 * B)?;
    late.write_atomic(&[(4 * B + 9, &[77; 100]), (13 * B, &[78; B as usize])])?;
    fill(unwritten, 20, 3, 1, 60)?;
    store.create(b"grown")?.truncate(123_456)?;
    store.rename(b"late", b"later")?;
    store.rename(b"inline@1", b"empty")?;
    store.sync()?;
    tree.punch(10 * B + 100, 20 * B)?;
    tree.truncate(300 * B + 5)?;
    tree.collapse(100 * B, 7 * B)?;
    tree.insert(50 * B, 3 * B)?;
    unwritten.write_durable_at(&[77; 5000], 200 * B + 9)?;
    store.reflink(b"later", b"latest")?;
    late.reflink_range(0, tree, 310 * B, 4 * B)?;
    store.sync()?;
    let going = store.create(b"going")?;
    fill(&going, 0, 20, 2, 30)?;
    store.remove(b"going")?;
    store.sync()?;
    Ok(going)
}

/// What a store holds, a line for each file.
fn manifest(store: &Store) -> Result<String> {
    let mut lines = Vec::new();
    for name in names(store)? {
        let file = store.open_file(&name)?;
        let stat = file.stat()?;
        let sum = if stat.size < 1 << 30 { crc32c::crc32c(&bytes(&file)?) } else { ends(&file)? };
        lines.push(format!(
            "{} size={} crc32c={sum:08x} allocated={} shared={} extents={}\n",
            name.escape_ascii(),
            stat.size,
            stat.allocated,
            stat.shared,
            stat.extents
        ));
    }
    Ok(lines.concat())
}

/// The sum of the last part of a file that is too long to be read.
fn ends(file: &File) -> Result<u32> {
    let mut buf = vec![0; 1 << 16];
    let n = file.read_at(&mut buf, file.size() - 60_000)?;
    Ok(crc32c::crc32c(&buf[..n]))
}

fn load(version: u32) -> (SimImage, u64, String) {
    let image = std::fs::read(path(&format!("v{version}.img"))).expect("a golden image");
    assert!(image.len() < 100 << 10, "{} bytes are too many to keep", image.len());
    let text = std::fs::read_to_string(path(&format!("v{version}.txt"))).expect("its manifest");
    let (image, blocks) = decode(&image).expect("a golden image");
    (image, blocks, text)
}

fn wants_new() -> bool {
    std::env::var_os("FREEHOLD_WRITE_GOLDEN").is_some_and(|v| v == "1")
}

fn regenerate() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(write_files);
}

fn write_files() {
    let image = write().expect("a sound store");
    let store = open(&medium(&image, BLOCKS), true).expect("a sound store");
    let text = manifest(&store).expect("a sound store");
    std::fs::create_dir_all(path("")).expect("a folder");
    std::fs::write(path(&format!("v{VERSION}.img")), encode(&image, BLOCKS)).expect("a file");
    std::fs::write(path(&format!("v{VERSION}.txt")), text).expect("a file");
    let [image, ring] = write_apart().expect("two sound media");
    let store = open_apart(&medium(&image, BLOCKS), &journal_medium(&ring), true);
    let text = manifest(&store.expect("a sound store")).expect("a sound store");
    for (name, bytes) in [
        ("apart.img", encode(&image, BLOCKS)),
        ("apart.journal.img", encode(&ring, RING)),
        ("apart.txt", text.into_bytes()),
    ] {
        std::fs::write(path(&format!("v{VERSION}.{name}")), bytes).expect("a file");
    }
}

#[test]
fn the_golden_pair_opens_and_holds_what_it_held() {
    if wants_new() {
        regenerate();
    }
    (2..=VERSION).for_each(opens_apart);
}

fn opens_apart(version: u32) {
    let read =
        |name: &str| std::fs::read(path(&format!("v{version}.{name}"))).expect("a golden file");
    let image = |name: &str| decode(&read(name)).expect("a golden image");
    let ((image, blocks), (ring, ring_blocks)) = (image("apart.img"), image("apart.journal.img"));
    assert_eq!((blocks, ring_blocks), (BLOCKS, RING));
    let text = String::from_utf8(read("apart.txt")).expect("text");
    for read_only in [true, false] {
        let (sim, ring) = (medium(&image, blocks), journal_medium(&ring));
        let store = open_apart(&sim, &ring, read_only).unwrap();
        assert!(store.recovery().groups > 3, "{:?}", store.recovery());
        assert_eq!(store.info().journal.map(|j| j.id), Some(JOURNAL));
        assert_eq!(manifest(&store).unwrap(), text);
        assert_eq!(store.check().unwrap().findings, []);
        if read_only {
            continue;
        }
        let file = store.create(b"of this build").unwrap();
        file.write_durable_at(&[1; 9000], 5).unwrap();
        drop((file, store));
        let store = open_apart(&sim, &ring, false).unwrap();
        assert_eq!(store.open_file(b"of this build").unwrap().size(), 9005);
        assert_eq!(store.check().unwrap().findings, []);
    }
    // Without its journal it is refused, and so it is by who does not know the feature.
    let refused = open(&medium(&image, blocks), true).unwrap_err();
    assert_eq!(refused.kind(), freehold::ErrorKind::WrongJournal);
}

#[test]
fn every_golden_image_opens_and_holds_what_it_held() {
    if wants_new() {
        regenerate();
    }
    for version in 1..=VERSION {
        let (image, blocks, text) = load(version);
        for read_only in [true, false] {
            let sim = medium(&image, blocks);
            let store = open(&sim, read_only).unwrap();
            assert!(store.recovery().groups > 3, "{:?}", store.recovery());
            assert_eq!(manifest(&store).unwrap(), text);
            assert_eq!(store.check().unwrap().findings, []);
            if read_only {
                continue;
            }
            // Before anybody changes it, it is of this version: an older program that opened it
            // would not know the groups that are to come.
            let image = sim.image();
            let newest = (0..2).map(|slot| image.get(slot)).max_by_key(|block| {
                superblock::decode(&block[..], u64::from(block[16])).map_or(0, |sb| sb.checkpoint)
            });
            assert_eq!(newest.map(|block| superblock::version(&block[..])), Some(VERSION));
            // It goes on from there, and comes back.
            store.create(b"of this build").unwrap().write_at(&[1; 9000], 5).unwrap();
            store.open_file(b"tree").unwrap().write_at(&[2; 9000], 77_777).unwrap();
            store.checkpoint().unwrap();
            store.close().unwrap();
            let store = open(&sim, false).unwrap();
            assert_eq!(store.check().unwrap().findings, []);
            store.remove(b"of this build").unwrap();
            let changed = manifest(&store).unwrap();
            let other = |line: &&str| !line.starts_with("tree ");
            assert!(changed.lines().filter(other).eq(text.lines().filter(other)), "{changed}");
        }
    }
}

#[test]
fn the_golden_image_says_all_that_the_format_can() {
    let (image, _, _) = load(VERSION);
    let anatomy = Anatomy::of(&image);
    let inline = |r: &FileMap| matches!(r, FileMap::Inline { extents, .. } if !extents.is_empty());
    assert!(anatomy.files.iter().any(|(_, r)| inline(&r.map)));
    assert!(anatomy.files.iter().any(|(_, r)| matches!(r.map, FileMap::Tree(at) if at.level > 0)));
    assert!(anatomy.files.iter().any(|(_, r)| r.condemned));
    assert!(anatomy.counts.iter().any(|(_, r)| r.count > 2));
    assert!(anatomy.sb.names.level > 0);
    let mut kinds = std::collections::BTreeSet::new();
    for (head, addr) in &anatomy.groups {
        let all: Vec<u8> = (0..head.blocks.into()).flat_map(|i| *image.get(addr + i)).collect();
        let found = freehold_blockmap::format::journal::decode_group(&all, &ID, head.pos);
        kinds.extend(found.unwrap().1.iter().map(|r| match r {
            Record::Mark { .. } => "mark",
            Record::Create { .. } => "create",
            Record::Remove { .. } => "remove",
            Record::Rename { .. } => "rename",
            Record::Map { .. } => "map",
            Record::Convert { .. } => "convert",
            Record::Grow { .. } => "grow",
            Record::Truncate { .. } => "truncate",
            Record::Punch { .. } => "punch",
            Record::Reflink { .. } => "reflink",
            Record::ReflinkRange { .. } => "reflink range",
            Record::Slice { .. } => "slice",
            Record::Zero { .. } => "zero",
            Record::Atomic { .. } => "atomic",
            Record::Collapse { .. } => "collapse",
            Record::Insert { .. } => "insert",
            Record::Data { .. } => "data",
        }));
    }
    assert_eq!(kinds.len(), RECORDS.len(), "{kinds:?}");
}

#[test]
fn the_same_steps_give_the_same_store_today() {
    let store = open(&medium(&write().unwrap(), BLOCKS), true).unwrap();
    assert_eq!(manifest(&store).unwrap(), load(VERSION).2);
}

#[test]
fn an_image_comes_back_from_its_file() {
    let image = write().unwrap();
    let file = encode(&image, BLOCKS);
    let (again, blocks) = decode(&file).unwrap();
    assert_eq!(blocks, BLOCKS);
    assert!((0..BLOCKS).all(|b| image.get(b)[..] == again.get(b)[..]));
    let all = image.touched(0, BLOCKS).count();
    for cut in (0..file.len()).step_by(13) {
        // It ends between two blocks, or in one.
        let found = decode(&file[..cut]);
        assert!(found.is_err() || found.unwrap().0.touched(0, BLOCKS).count() < all, "{cut}");
    }
}
