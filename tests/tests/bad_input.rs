//! Bad input: each is a clear error, and nothing is lost.

use freehold::{Error, ErrorKind as Kind, File, FormatOptions, OpenOptions, Result, Store};
use freehold_blockmap::format::{VERSION, superblock};
use freehold_engine::sim::{SimImage, SimMedium, SimOptions};
use freehold_tests::fuzz::resum;
use freehold_tests::specimen::surgery::Surgery;
use freehold_tests::specimen::{
    B, BLOCKS, Specimen, bytes, contents, medium, names, open, options, pattern,
};
use std::sync::{Arc, OnceLock};

fn closed() -> &'static Specimen {
    static CLOSED: OnceLock<Specimen> = OnceLock::new();
    CLOSED.get_or_init(|| Specimen::make().closed())
}

/// Demands an error of this kind whose sentence says this.
#[track_caller]
fn demand<T>(done: Result<T>, kind: Kind, says: &str) -> Error {
    let e = done.err().expect("it was accepted");
    assert_eq!(e.kind(), kind, "{e}");
    assert!(e.to_string().contains(says), "{e}");
    e
}

fn open_image(image: &SimImage, blocks: u64, read_only: bool) -> Result<Store> {
    let sim = SimMedium::with_image(SimOptions { blocks, ..options() }, image.clone());
    open(&sim, read_only)
}

/// A file in the build's own folder, removed when this is dropped.
struct Path(String);

impl Path {
    fn new(name: &str) -> Self {
        let dir = env!("CARGO_TARGET_TMPDIR");
        Path(format!("{dir}/bad-input-{}-{name}.fh", std::process::id()))
    }

    fn uri(&self) -> String {
        format!("file:{}", self.0)
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn what_is_not_a_store() {
    let none = OpenOptions::default();
    let path = Path::new("not-a-store");
    demand(Store::open(&path.uri(), &none), Kind::NotFound, "");
    let texts: [&[u8]; 4] = [b"", b"hello", &[0; 8192], &[0x5a; 1 << 20]];
    for text in texts {
        std::fs::write(&path.0, text).unwrap();
        let e = Store::open(&path.uri(), &none).expect_err("no store");
        assert!(matches!(e.kind(), Kind::NotAStore | Kind::Invalid), "{:?}: {e}", e.kind());
        assert_eq!(std::fs::read(&path.0).unwrap(), text, "opening changed it");
    }
    for blocks in [1, 2, 100, BLOCKS] {
        let e = open_image(&SimImage::new(), blocks, false).expect_err("no store");
        assert_eq!(e.kind(), Kind::NotAStore, "{e}");
    }
    for bad in ["", "mem", "mem:", "mem:0", "file:", "disk:x", "file:x?y=1", "mem:16X"] {
        let e = Store::open(bad, &none).expect_err("no URI");
        assert!(
            matches!(e.kind(), Kind::Invalid | Kind::NotFound | Kind::Unsupported),
            "{bad}: {e}"
        );
    }
    demand(Store::format("mem:1M", &FormatOptions::default()), Kind::Invalid, "8 MiB");
}

/// The newest superblock with other fields, by their offsets.
fn superblock_with(change: impl FnOnce(&mut [u8])) -> SimImage {
    let mut s = Surgery::on(&closed().image);
    let slot = s.before.slot;
    let mut bytes = s.image.get(slot).to_vec();
    change(&mut bytes);
    resum(&mut bytes, &[0; 16]);
    s.put(slot, &bytes);
    s.image
}

fn field(name: &str) -> usize {
    superblock::LAYOUT.iter().find(|f| f.0 == name).expect("a field").1
}

#[test]
fn newer_formats() {
    for read_only in [false, true] {
        let newer = VERSION + 1;
        let version = superblock_with(|b| b[8..12].copy_from_slice(&newer.to_le_bytes()));
        let says = format!("version {newer}");
        demand(open_image(&version, BLOCKS, read_only), Kind::TooNew, &says);
        for bit in [1, 63] {
            let refuse =
                superblock_with(|b| b[field("refuse_features") + bit / 8] |= 1 << (bit % 8));
            demand(open_image(&refuse, BLOCKS, read_only), Kind::TooNew, "newer");
        }
    }
    // It may be read: everything, and nothing else.
    let image = superblock_with(|b| b[field("readonly_features")] = 4);
    let store = open_image(&image, BLOCKS, false).unwrap();
    assert!(store.info().read_only);
    assert_eq!(contents(&store).unwrap(), closed().contents);
    demand(store.create(b"new"), Kind::ReadOnly, "");
    // It is nobody's business.
    let image = superblock_with(|b| b[field("ignore_features") + 7] = 0x80);
    let store = open_image(&image, BLOCKS, false).unwrap();
    assert_eq!(contents(&store).unwrap(), closed().contents);
    store.create(b"new").unwrap();
    store.close().unwrap();
}

#[test]
fn truncated_images() {
    for blocks in [2, 130, 1000, BLOCKS - 1] {
        for read_only in [false, true] {
            demand(open_image(&closed().image, blocks, read_only), Kind::Truncated, "truncated");
        }
    }
    let path = Path::new("truncated");
    let options = FormatOptions { size: Some(16 << 20), ..Default::default() };
    let store = Store::format(&path.uri(), &options).unwrap();
    store.create(b"f").unwrap().write_at(&[1; 100], 0).unwrap();
    store.close().unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path.0).unwrap();
    file.set_len((16 << 20) - 4096).unwrap();
    demand(Store::open(&path.uri(), &OpenOptions::default()), Kind::Truncated, "truncated");
    file.set_len(16 << 20).unwrap();
    let store = Store::open(&path.uri(), &OpenOptions::default()).unwrap();
    assert_eq!(bytes(&store.open_file(b"f").unwrap()).unwrap(), [1; 100]);
}

#[test]
fn a_store_that_is_open() {
    let path = Path::new("open");
    let options = FormatOptions { size: Some(16 << 20), ..Default::default() };
    let store = Store::format(&path.uri(), &options).unwrap();
    // The same store by another name of the same file, and from two threads.
    let link = Path::new("link");
    std::os::unix::fs::symlink(&path.0, &link.0).unwrap();
    let again = Store::open(&link.uri(), &OpenOptions::default()).unwrap();
    store.create(b"f").unwrap();
    assert_eq!(names(&again).unwrap(), [b"f"]);
    demand(again.close(), Kind::Busy, "open");
    demand(Store::format(&path.uri(), &options), Kind::Busy, "open in this process");
    let forced = FormatOptions { force: true, ..options.clone() };
    demand(Store::format(&path.uri(), &forced), Kind::Busy, "open in this process");
    // Whoever does not come through the same door finds it locked.
    let e = freehold_engine::open(&path.uri(), &Default::default()).expect_err("it is held");
    assert_eq!(e.kind(), freehold_engine::medium::ErrorKind::Busy);
    assert!(e.to_string().contains(&std::process::id().to_string()), "{e}");
    store.close().unwrap();
    let read = Store::open(&path.uri(), &OpenOptions { read_only: true, ..Default::default() });
    let read = read.unwrap();
    demand(Store::open(&path.uri(), &OpenOptions::default()), Kind::Busy, "reading only");
    drop(read);
    let opened: Vec<Store> = std::thread::scope(|scope| {
        let open = || Store::open(&path.uri(), &OpenOptions::default()).unwrap();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    opened[0].create(b"g").unwrap();
    assert_eq!(names(&opened[7]).unwrap(), [b"f", b"g"]);
}

#[test]
fn names_that_cannot_be() {
    let store = open(&medium(&closed().image), false).unwrap();
    let longest = vec![b'n'; 255];
    for (bad, why) in [(&b""[..], "empty"), (&[b'n'; 256], "256"), (b"a\0b", "NUL"), (b"\0", "NUL")]
    {
        demand(store.create(bad), Kind::Invalid, why);
        demand(store.open_file(bad), Kind::Invalid, why);
        demand(store.remove(bad), Kind::Invalid, why);
        demand(store.rename(b"small", bad), Kind::Invalid, why);
        demand(store.rename(bad, b"x"), Kind::Invalid, why);
        demand(store.reflink(b"small", bad), Kind::Invalid, why);
        demand(store.reflink(bad, b"x"), Kind::Invalid, why);
        demand(store.open_file(b"small").unwrap().reflink(bad), Kind::Invalid, why);
    }
    demand(store.create(b"small"), Kind::Exists, "small");
    demand(store.reflink(b"small", b"empty"), Kind::Exists, "empty");
    demand(store.open_file(b"none"), Kind::NotFound, "none");
    demand(store.remove(b"none"), Kind::NotFound, "none");
    demand(store.rename(b"none", b"x"), Kind::NotFound, "none");
    demand(store.reflink(b"none", b"x"), Kind::NotFound, "none");
    assert_eq!(contents(&store).unwrap(), closed().contents);
    for name in [&longest[..], &[0xff; 255], b"/", b"..", b"\n", b"\xc3\x28"] {
        store.create(name).unwrap().write_at(name, 0).unwrap();
        assert_eq!(bytes(&store.open_file(name).unwrap()).unwrap(), name);
    }
    store.close().unwrap();
}

#[test]
fn offsets_near_the_end_of_numbers() {
    let sim = medium(&closed().image);
    let store = open(&sim, false).unwrap();
    let file = store.open_file(b"small").unwrap();
    let other = store.open_file(b"sparse").unwrap();
    let right = bytes(&file).unwrap();
    let end = i64::MAX as u64;
    for off in [end - 4095, end, end + 1, u64::MAX - 4096, u64::MAX - 4095, u64::MAX] {
        demand(file.write_at(&[1; 4097], off), Kind::Invalid, "at most");
        demand(file.punch(off, 4097), Kind::Invalid, "at most");
        demand(file.allocate(off, 4097), Kind::Invalid, "at most");
        let aligned = off / B * B;
        demand(file.reflink_range(aligned, &other, 0, 2 * B), Kind::Invalid, "");
        demand(file.reflink_range(0, &other, aligned, 2 * B), Kind::Invalid, "");
        assert_eq!(file.read_at(&mut [0; 100], off).unwrap_or(0), 0);
        assert!(file.iomap(off, u64::MAX).unwrap().is_empty());
        let mut queue = store.queue(4).unwrap();
        let mut done = Vec::new();
        let refused = queue.write(&file, off, queue.buffer(8192).unwrap(), 1).unwrap_err();
        assert_eq!(refused.error.unwrap().kind(), Kind::Invalid);
        queue.read(&file, off, queue.buffer(8192).unwrap(), 2).map_err(|_| ()).unwrap();
        while done.is_empty() {
            queue.wait(None).unwrap();
            queue.poll(&mut done);
        }
        assert!(matches!(&done[0].result, Ok(0) | Err(_)), "{:?}", done[0].result);
    }
    for len in [end, end + 1, u64::MAX] {
        demand(file.punch(1, len), Kind::Invalid, "at most");
        demand(file.allocate(1, len), Kind::Invalid, "at most");
        demand(file.reflink_range(0, &other, 0, len), Kind::Invalid, "");
    }
    for size in [end + 1, u64::MAX] {
        demand(file.truncate(size), Kind::Invalid, "at most");
    }
    demand(file.allocate(0, end), Kind::NoSpace, "full");
    assert_eq!(bytes(&file).unwrap(), right);
    // The last byte that a file can have.
    file.truncate(end).unwrap();
    file.write_at(b"z", end - 1).unwrap();
    let mut last = [0; 10];
    assert_eq!(file.read_at(&mut last, end - 2).unwrap(), 2);
    assert_eq!(last[..2], *b"\0z");
    assert_eq!(file.iomap(0, u64::MAX).unwrap().last().unwrap().offset, end / B * B);
    demand(file.write_at(b"zz", end - 1), Kind::Invalid, "at most");
    let copy = file.reflink(b"huge").unwrap();
    copy.punch(right.len() as u64, end - right.len() as u64).unwrap();
    assert_eq!(copy.size(), end);
    file.truncate(right.len() as u64).unwrap();
    assert_eq!(bytes(&file).unwrap(), right);
    assert_eq!(store.check().unwrap().findings, []);
    drop((file, other, copy));
    store.close().unwrap();
    let store = open(&sim, false).unwrap();
    assert_eq!(store.open_file(b"huge").unwrap().size(), end);
    assert_eq!(store.check().unwrap().findings, []);
}

#[test]
fn ranges_of_no_bytes() {
    let store = open(&medium(&closed().image), false).unwrap();
    let before = closed().contents.clone();
    for name in [&b"small"[..], b"many", b"empty", b"sparse", b"unwritten"] {
        let file = store.open_file(name).unwrap();
        let maps = file.iomap(0, u64::MAX).unwrap();
        for off in [0, 1, 4096, 10_000, 1 << 40, i64::MAX as u64] {
            file.write_at(&[], off).unwrap();
            file.punch(off, 0).unwrap();
            file.allocate(off, 0).unwrap();
            assert_eq!(file.read_at(&mut [], off).unwrap(), 0);
            assert!(file.iomap(off, 0).unwrap().is_empty());
            if off % B == 0 && off <= file.size() {
                file.reflink_range(off, &store.open_file(b"other").unwrap(), 0, 0).unwrap();
            }
        }
        assert_eq!(file.iomap(0, u64::MAX).unwrap(), maps);
    }
    assert_eq!(contents(&store).unwrap(), before);
}

#[test]
fn range_reflinks_that_cannot_be() {
    let store = open(&medium(&closed().image), false).unwrap();
    let elsewhere = open(&medium(&closed().image), false).unwrap();
    let many = store.open_file(b"many").unwrap();
    let other = store.open_file(b"other").unwrap();
    let cases = [
        (&many, 1, &other, 0, B, "multiples"),
        (&many, 0, &other, 4095, B, "multiples"),
        (&many, 0, &other, 0, 4097, "length"),
        (&many, 0, &other, 0, 10 << 30, "past the end"),
        (&many, 1 << 30, &other, 0, B, "past the end"),
        (&many, 0, &many, 0, B, "overlap"),
        (&many, 0, &many, B, 2 * B, "overlap"),
        (&many, B, &many, 0, 2 * B, "overlap"),
    ];
    for (from, at, to, to_at, len, why) in cases {
        demand(from.reflink_range(at, to, to_at, len), Kind::Invalid, why);
    }
    let theirs = elsewhere.open_file(b"many").unwrap();
    demand(many.reflink_range(0, &theirs, 0, B), Kind::Invalid, "different stores");
    assert_eq!(contents(&store).unwrap(), closed().contents);
    assert_eq!(store.check().unwrap().findings, []);
    // Inside one file, where nothing overlaps, it may be.
    many.reflink_range(0, &many, 600 * B, 2 * B).unwrap();
    let found = bytes(&many).unwrap();
    assert_eq!(found[..2 * B as usize], found[600 * B as usize..602 * B as usize]);
}

#[test]
fn every_change_of_a_store_that_is_open_for_reading() {
    let with_journal = Specimen::make();
    for specimen in [&with_journal, closed()] {
        let sim = medium(&specimen.image);
        let steps = sim.steps();
        let store = open(&sim, true).unwrap();
        let file = store.open_file(b"small").unwrap();
        let refused = |done: Result<()>| drop(demand(done, Kind::ReadOnly, "reading only"));
        refused(store.create(b"new").map(drop));
        refused(store.remove(b"small"));
        refused(store.rename(b"small", b"new"));
        refused(store.reflink(b"small", b"new").map(drop));
        refused(file.reflink(b"new").map(drop));
        refused(file.reflink_range(0, &store.open_file(b"many").unwrap(), 0, B));
        for len in [0, 1, 4096] {
            refused(file.write_at(&vec![1; len], 0));
            refused(file.punch(0, len as u64));
            refused(file.allocate(0, len as u64));
            refused(file.truncate(len as u64));
        }
        refused(file.truncate(file.size()));
        refused(store.checkpoint());
        let mut queue = store.queue(4).unwrap();
        let refusal = queue.write(&file, 0, queue.buffer(4096).unwrap(), 1).unwrap_err();
        assert_eq!(refusal.error.unwrap().kind(), Kind::ReadOnly);
        assert!(store.info().read_only);
        // What asks for nothing new is no change.
        file.sync().unwrap();
        store.sync().unwrap();
        assert_eq!(contents(&store).unwrap(), specimen.contents);
        assert_eq!(store.check().unwrap().findings, []);
        drop((queue, file));
        store.close().unwrap();
        assert_eq!(sim.steps(), steps, "something was written");
        for block in 0..BLOCKS {
            assert!(sim.peek(block)[..] == specimen.image.get(block)[..], "block {block} changed");
        }
    }
}

#[test]
fn a_removed_file_through_its_handle() {
    let sim = medium(&closed().image);
    let store = open(&sim, false).unwrap();
    let file = store.open_file(b"many").unwrap();
    let right = bytes(&file).unwrap();
    let free = store.space().free;
    store.remove(b"many").unwrap();
    demand(store.open_file(b"many"), Kind::NotFound, "many");
    store.checkpoint().unwrap();
    assert_eq!(bytes(&file).unwrap(), right);
    file.write_at(&pattern(1, 9000), 1 << 20).unwrap();
    file.truncate((1 << 20) + 9000).unwrap();
    file.punch(0, 8192).unwrap();
    file.sync().unwrap();
    let back = file.reflink(b"back").unwrap();
    assert_eq!(bytes(&back).unwrap(), bytes(&file).unwrap());
    store.checkpoint().unwrap();
    assert_eq!(store.check().unwrap().findings, []);
    // A new file of that name is another file.
    store.create(b"many").unwrap().write_at(b"new", 0).unwrap();
    assert_eq!(file.size(), (1 << 20) + 9000);
    drop((file, back));
    for name in [&b"back"[..], b"many@1", b"many@2", b"moved", b"many"] {
        store.remove(name).unwrap();
    }
    for _ in 0..4 {
        store.checkpoint().unwrap();
    }
    assert_eq!(store.check().unwrap().findings, []);
    assert!(store.space().free > free + 300 * B, "the blocks did not come back");
    let left = names(&store).unwrap();
    drop(store);
    let store = open(&sim.reopen(1), false).unwrap();
    assert_eq!(names(&store).unwrap(), left);
    assert_eq!(store.check().unwrap().findings, []);
}

/// A store of 8 MiB, filled to the brim: its files and what they hold.
fn full() -> (SimMedium, Store, Vec<(File, Vec<u8>)>) {
    let sim = SimMedium::new(SimOptions { blocks: 2048, ..options() });
    let store = Store::format_on(sim.medium()).unwrap();
    let mut files = Vec::new();
    for i in 0..40u64 {
        let file = store.create(format!("f{i}").as_bytes()).unwrap();
        let mut right = Vec::new();
        for at in 0..20 {
            let part = pattern(i * 100 + at, 3 * 4096);
            match file.write_at(&part, right.len() as u64) {
                Ok(()) => right.extend(part),
                Err(e) => {
                    assert_eq!(e.kind(), Kind::NoSpace, "{e}");
                    // Less than that may find room still.
                    let one = pattern(7, 4096);
                    while file.write_at(&one, right.len() as u64).is_ok() {
                        right.extend(&one);
                    }
                    files.push((file, right));
                    store.sync().unwrap();
                    return (sim, store, files);
                }
            }
        }
        files.push((file, right));
    }
    panic!("it never fills");
}

#[test]
fn a_full_store() {
    let (sim, store, files) = full();
    let (last, before) = (&files.last().unwrap().0, &files[0]);
    let no_space = |done: Result<()>| drop(demand(done, Kind::NoSpace, "full"));
    no_space(last.write_at(&[1; 5000], 1 << 30));
    no_space(last.allocate(2 << 30, 1 << 20));
    // Overwrites in place take nothing.
    let mut expected: Vec<Vec<u8>> = files.iter().map(|(_, right)| right.clone()).collect();
    before.0.write_at(&pattern(9, 4096), 4096).unwrap();
    expected[0][4096..8192].copy_from_slice(&pattern(9, 4096));
    // Those of shared blocks do; so do names and records, sooner or later.
    let mut made = 0u64;
    let copies = loop {
        match before.0.reflink(format!("copy {made}").as_bytes()) {
            Ok(_) => made += 1,
            Err(e) => {
                assert_eq!(e.kind(), Kind::NoSpace, "{e}");
                break made;
            }
        }
        if made == 100 {
            break made;
        }
    };
    if copies > 0 {
        no_space(
            before.0.write_at(&[1; 4096], 0).and_then(|()| before.0.write_at(&[2; 4096 * 30], 0)),
        );
    }
    for (i, (file, _)) in files.iter().enumerate().skip(1) {
        assert_eq!(bytes(file).unwrap(), expected[i], "file {i}");
    }
    assert_eq!(store.check().unwrap().findings, []);
    // Removal and truncation work, and what they give back can be used.
    store.sync().unwrap();
    drop(files);
    for i in 0..copies {
        store.remove(format!("copy {i}").as_bytes()).unwrap();
    }
    let half = expected.len() / 2;
    for i in 0..half {
        store.remove(format!("f{i}").as_bytes()).unwrap();
    }
    let big = store.open_file(format!("f{half}").as_bytes()).unwrap();
    big.truncate(0).unwrap();
    for _ in 0..3 {
        store.checkpoint().unwrap();
    }
    let again = store.create(b"again").unwrap();
    again.write_at(&pattern(3, half / 2 * 60 * 4096), 0).unwrap();
    store.sync().unwrap();
    assert_eq!(store.check().unwrap().findings, []);
    drop((big, again, store));
    let store = open(&sim.reopen(5), false).unwrap();
    assert_eq!(
        bytes(&store.open_file(b"again").unwrap()).unwrap(),
        pattern(3, half / 2 * 60 * 4096)
    );
    for (i, right) in expected.iter().enumerate().skip(half + 1) {
        let file = store.open_file(format!("f{i}").as_bytes()).unwrap();
        assert_eq!(bytes(&file).unwrap(), *right, "file {i} after the crash");
    }
    assert_eq!(store.check().unwrap().findings, []);
}

#[test]
fn a_medium_that_gives_no_queue() {
    let sim = medium(&closed().image);
    let before = Arc::new(sim.clone());
    sim.crash_now();
    let e = open(&before, false).expect_err("it is gone");
    assert_eq!(e.kind(), Kind::Gone, "{e}");
    let e = Store::format_on(sim.medium()).expect_err("it is gone");
    assert_eq!(e.kind(), Kind::Gone, "{e}");
}
