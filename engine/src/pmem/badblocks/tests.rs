//! Lists as the kernel writes them, and a file whose blocks are said to be damaged.

#![allow(clippy::single_range_in_vec_init, reason = "a list of damaged ranges may have one")]

use super::*;
use std::os::fd::AsFd;

fn bad(bytes: &[Range<u64>]) -> BadBlocks {
    let bad =
        BadBlocks { any: AtomicBool::new(false), bytes: Mutex::default(), source: Source::None };
    bad.set(bytes.to_vec());
    bad
}

/// A directory that goes with the value.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let name = format!("freehold-bad-{}-{name}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        Self(fs::canonicalize(dir).unwrap())
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn lists_are_read_and_nonsense_is_left_out() {
    assert_eq!(parse("8 1\n24 16\n"), [4096..4608, 12288..20480]);
    let most = u64::MAX;
    assert!(parse(&format!("x 1\n7\n{most} 1\n1 {most}\n-1 2\n\n")).is_empty());
}

#[test]
fn places_on_a_device_become_blocks_of_the_file() {
    let list = [4096..4608, 100_000..100_001];
    // The file's first two blocks are the device's second and first, and one is far away.
    let pieces = [(0, 4096, 4096), (4096, 0, 4096), (8192, 98_304, 4096)];
    assert_eq!(in_file(&list, &pieces, 12_288), [0..4096, 8192..12_288]);
    assert_eq!(in_file(&list, &pieces, 8192), [0..4096], "behind the end");
    assert_eq!(in_file(&list, &[(0, 8192, 4096)], 4096), []);
    // A piece and a range of the largest numbers.
    let far = [u64::MAX - 512..u64::MAX];
    assert_eq!(in_file(&far, &[(0, u64::MAX - 4096, 8192)], 4096), [0..4096]);
}

#[test]
fn partitions_and_parts_of_regions_find_their_lists() {
    let dir = Dir::new("sys");
    dir.put("disk/badblocks", "8 8\n");
    dir.put("disk/part/start", "2048\n");
    let at = dir.0.join("disk/badblocks");
    for (device, start) in [("disk", 0), ("disk/part", 2048 * 512)] {
        let Some(Source::Disk { list, start: found }) = disk(&dir.0.join(device)) else {
            panic!("{device} has no list");
        };
        assert_eq!((list, found), (at.clone(), start));
    }
    dir.put("region0/badblocks", "1 1\n");
    dir.put("region0/resource", "0x100000000\n");
    dir.put("region0/dax0.1/dax0.0/resource", "0x100200000\n");
    let Some(Source::Region { start, .. }) = region(&dir.0.join("region0/dax0.1/dax0.0")) else {
        panic!("no region");
    };
    assert_eq!(start, 2 << 20);
    dir.put("region0/dax0.1/dax0.0/resource", "0x1000\n");
    assert!(region(&dir.0.join("region0/dax0.1/dax0.0")).is_none(), "before its region");
    assert!(disk(&dir.0.join("nothing")).is_none());
}

#[test]
fn damaged_blocks_are_refused_and_mended_by_whole_writes() {
    let dir = Dir::new("file");
    dir.put("file", &"x".repeat(6 * BLOCK));
    let file = fs::OpenOptions::new().read(true).write(true).open(dir.0.join("file")).unwrap();
    let list = bad(&[4096..12_288]);
    assert_eq!(list.count(), 8192);
    for (at, len) in [(4096, 1), (12_287, 1), (0, 4097), (0, 65_536)] {
        assert_eq!(list.intact(at, len).unwrap_err().kind(), ErrorKind::Io, "{at} {len}");
    }
    for (at, len) in [(0, 4096), (12_288, 4096), (4096, 0)] {
        list.intact(at, len).unwrap();
    }
    // A part of a damaged block is no way to mend it.
    assert_eq!(list.mend(file.as_fd(), 4096, 100).unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(list.mend(file.as_fd(), 8000, 8192).unwrap_err().kind(), ErrorKind::Io);
    list.mend(file.as_fd(), 0, 8192).unwrap();
    assert_eq!(list.count(), 4096);
    list.intact(4096, 4096).unwrap();
    assert!(list.intact(8192, 1).is_err());
    let bytes = fs::read(dir.0.join("file")).unwrap();
    let zeroes = bytes.iter().enumerate().filter(|(_, b)| **b == 0).map(|(at, _)| at);
    assert!(zeroes.eq(4096..8192), "exactly the block that was mended");
    // What the kernel does not write stays refused.
    let reader = fs::File::open(dir.0.join("file")).unwrap();
    assert_eq!(list.mend(reader.as_fd(), 8192, 4096).unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(list.count(), 4096);
}
