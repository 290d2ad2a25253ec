//! The medium over plain files (volatile=1): what it refuses, and damaged blocks.

use super::badblocks::place;
use super::*;
use crate::medium::{BLOCK, Completion, Op};
use crate::memory::{Access, Piece};
use crate::pin::{PinState, Waiter};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

const PLAIN: Spec = Spec { volatile: true, exclusive: false, read_only: false };

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, blocks: usize) -> Self {
        let name = format!("freehold-pmem-{}-{name}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        fs::File::create(dir.join("file")).unwrap().set_len((blocks * BLOCK) as u64).unwrap();
        Self(dir)
    }

    fn file(&self) -> PathBuf {
        self.0.join("file")
    }

    fn open(&self, spec: Spec) -> Result<PmemMedium> {
        open(&self.file(), "pmem:test", spec)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn run(queue: &mut dyn Queue, op: Op) -> Completion {
    queue.submit(1, op).unwrap();
    let mut done = Vec::new();
    queue.poll(&mut done);
    done.pop().unwrap()
}

#[test]
fn what_is_not_on_dax_is_refused_with_what_to_do() {
    let scratch = Scratch::new("dax", 4);
    let error = scratch.open(Spec::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    for part in ["-o dax", "volatile=1", "file:"] {
        assert!(error.message().contains(part), "{error}");
    }
    let medium = scratch.open(PLAIN).unwrap();
    assert_eq!(fs::metadata(scratch.file()).unwrap().blocks() * 512, 4 * BLOCK as u64, "holes");
    assert_eq!(scratch.open(PLAIN).unwrap_err().kind(), ErrorKind::Busy);
    let facts = medium.describe().unwrap();
    assert!(facts.iter().any(|f| f.name == "durable" && f.value == Value::Flag(false)));
    drop(medium);
    assert_eq!(open(Path::new("/dev/null"), "", PLAIN).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(open(&scratch.0, "", PLAIN).unwrap_err().kind(), ErrorKind::Invalid);
    fs::write(scratch.file(), [0; 4095]).unwrap();
    assert_eq!(scratch.open(PLAIN).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn what_is_written_is_in_the_file() {
    let scratch = Scratch::new("bytes", 64);
    let medium = scratch.open(PLAIN).unwrap();
    let mut queue = medium.queue(4).unwrap();
    let mut buf = medium.pool().take(8 * BLOCK).unwrap();
    for (i, byte) in buf.iter_mut().enumerate() {
        *byte = (i / 64) as u8 | 1;
    }
    let expect = buf.to_vec();
    run(&mut *queue, Op::Write { at: 3, buf, fua: true }).result.unwrap();
    medium.window().unwrap().store(5, b"bytes").unwrap();
    medium.window().unwrap().persist(5, 5).unwrap();
    run(&mut *queue, Op::Copy { from: 3, to: 20, count: 8 }).result.unwrap();
    run(&mut *queue, Op::WriteZeroes { at: 4, count: 1 }).result.unwrap();
    let bytes = fs::read(scratch.file()).unwrap();
    assert!(bytes[20 * BLOCK..28 * BLOCK] == expect);
    assert!(bytes[3 * BLOCK..4 * BLOCK] == expect[..BLOCK] && &bytes[5..10] == b"bytes");
    assert!(bytes[4 * BLOCK..5 * BLOCK].iter().all(|&b| b == 0));
}

#[test]
fn references_need_the_promise_that_nobody_else_writes() {
    let scratch = Scratch::new("alone", 4);
    let lease = PinState::new(&Waiter::none()).shared();
    for exclusive in [false, true] {
        let medium = scratch.open(Spec { exclusive, ..PLAIN }).unwrap();
        let memory = medium.window_memory().unwrap();
        for access in [Access::Read, Access::Write, Access::Stable, Access::Exclusive] {
            let view = memory.view(access, &[Piece::at(0, 4096)], &lease);
            let may = exclusive || !access.gives_references();
            assert_eq!(memory.gives(access), may);
            match view {
                Ok(_) => assert!(may, "{access:?}"),
                Err(e) => assert!(!may && e.message().contains("exclusive=1"), "{e}"),
            }
        }
    }
}

#[test]
fn readers_share_it_and_write_nothing() {
    let scratch = Scratch::new("readers", 4);
    let spec = Spec { read_only: true, exclusive: true, ..PLAIN };
    let (one, two) = (scratch.open(spec).unwrap(), scratch.open(spec).unwrap());
    assert_eq!(scratch.open(PLAIN).unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(one.window().unwrap().store(0, &[1]).unwrap_err().kind(), ErrorKind::Permission);
    let mut queue = two.queue(1).unwrap();
    let refused = queue.submit(1, Op::WriteZeroes { at: 0, count: 1 }).unwrap_err();
    assert_eq!(refused.error.unwrap().kind(), ErrorKind::Permission);
    run(&mut *queue, Op::Flush).result.unwrap();
    let lease = PinState::new(&Waiter::none()).shared();
    let memory = one.window_memory().unwrap();
    for access in [Access::Write, Access::Exclusive] {
        let error = memory.view(access, &[Piece::at(0, 4096)], &lease).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Permission);
    }
    assert!(memory.view(Access::Stable, &[Piece::at(0, 4096)], &lease).is_ok());
}

/// A made-up /sys says that the second block of the file's disk is damaged, and the file is
/// asked for there.
#[test]
fn damaged_blocks_are_never_touched_and_are_mended_by_whole_writes() {
    let scratch = Scratch::new("bad", 64);
    let file = fs::File::open(scratch.file()).unwrap();
    let device = place(&scratch.0.join("sys"), "block", file.metadata().unwrap().dev());
    fs::create_dir_all(&device).unwrap();
    let opened = |sys: &str| {
        let opened = open_locked(&scratch.file(), false).unwrap();
        let spec = Spec { exclusive: true, ..PLAIN };
        open::medium(opened, "pmem:test", spec, &scratch.0.join(sys)).unwrap()
    };
    fs::write(device.join("badblocks"), "").unwrap();
    drop(opened("sys"));
    let (pieces, error) = fiemap::extents(file.as_fd(), 64 * BLOCK as u64);
    let Some(&(at, on_disk, _)) = pieces.first() else {
        // This file system does not tell where a file is.
        assert!(error.is_some());
        return;
    };
    let (block, sector) = (at / BLOCK as u64, on_disk / 512);
    let medium = opened("sys");
    fs::write(device.join("badblocks"), format!("{} 1\n", sector + 1)).unwrap();
    // It is found when it is looked for.
    assert_eq!(medium.losses(), 0);
    let mut queue = medium.queue(4).unwrap();
    let io = |done: Completion| assert_eq!(done.result.unwrap_err().kind(), ErrorKind::Io);
    let take = || medium.pool().take(BLOCK).unwrap();
    io(run(&mut *queue, Op::Read { at: block, buf: take() }));
    io(run(&mut *queue, Op::Compare { at: block, buf: take() }));
    io(run(&mut *queue, Op::Copy { from: block, to: block + 2, count: 1 }));
    run(&mut *queue, Op::Read { at: block + 1, buf: take() }).result.unwrap();
    let offset = block * BLOCK as u64;
    assert_eq!(
        medium.window().unwrap().load(offset + 8, &mut [0; 8]).unwrap_err().kind(),
        ErrorKind::Io
    );
    assert_eq!(
        medium.window().unwrap().store(offset + 8, &[0; 8]).unwrap_err().kind(),
        ErrorKind::Io
    );
    let lease = PinState::new(&Waiter::none()).shared();
    let memory = medium.window_memory().unwrap();
    let view = memory.view(Access::Read, &[Piece::at(offset, 8192)], &lease);
    assert_eq!(view.unwrap_err().kind(), ErrorKind::Io);
    // The kernel will have taken it off its list, too.
    fs::write(device.join("badblocks"), "").unwrap();
    let mut buf = take();
    buf.fill(7);
    run(&mut *queue, Op::Write { at: block, buf, fua: false }).result.unwrap();
    let done = run(&mut *queue, Op::Read { at: block, buf: take() });
    done.result.unwrap();
    assert!(done.buf.unwrap().iter().all(|&b| b == 7));
}
