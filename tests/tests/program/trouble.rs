//! Bad input: a clear error, the right code, and nothing lost.

use crate::program::harness::{Place, Ran, bytes};
use freehold_blockmap::format::{BLOCK, header};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::process::CommandExt;

#[test]
fn bad_uris_are_refused() {
    let place = Place::empty();
    for (uri, what) in [
        ("file:", "file:"),
        ("mem:", "size"),
        ("mem:lots", "lots"),
        ("floppy:a", "floppy"),
        ("file:store?colour=red", "colour"),
        ("file:store%zz", "%"),
        ("", "freehold: "),
        ("nvme:ffff:ff:1f.7", "no PCI device ffff:ff:1f.7"),
        ("pmr:ffff:ff:1f.7", "no PCI device"),
        ("broker:sock", "not built"),
        ("file:/no/such/dir/store", "/no/such/dir/store"),
    ] {
        place.run(["ls", uri]).refused(2, what);
    }
    place.run(["ls", "file:missing"]).refused(2, "format");
    place.run(["ls", "file:."]).refused(2, ".");
    place.run(["format", "file:/no/such/dir/store", "--size", "64M"]).refused(2, "/no/such/dir");
    assert_eq!(std::fs::read_dir(&place.dir).unwrap().count(), 0);
}

#[test]
fn format_refuses_what_is_not_its_own() {
    let place = Place::empty();
    place.run(["format", "file:new"]).refused(2, "size");
    place.run(["format", "file:new", "--size", "8388609"]).refused(2, "4096");
    place.run(["format", "file:new", "--size", "5000"]).refused(2, "at least");
    place.run(["format", "file:new", "--size", "4K"]).refused(2, "at least");
    assert!(!place.path("new").exists());
    let data = bytes(1, 100_000);
    place.local("theirs", &data);
    place.run(["format", "file:theirs", "--size", "64M"]).refused(2, "force");
    assert_eq!(std::fs::read(place.path("theirs")).unwrap(), data);
    place.run(["format", "file:theirs", "--size", "4M", "--force"]).refused(2, "at least");
    assert_eq!(std::fs::read(place.path("theirs")).unwrap(), data);
    place.run(["format", "file:theirs", "--size", "64M", "--force"]).ok();
    place.run(["format", "file:theirs", "--size", "64M"]).refused(2, "freehold");
}

#[test]
fn what_is_not_a_store_is_named_so() {
    let place = Place::empty();
    place.local("zeroes", &vec![0; 1 << 20]);
    place.local("text", &b"hello\n".repeat(50_000));
    place.local("empty", b"");
    for (name, what) in [("zeroes", "store"), ("text", "store"), ("empty", "smaller")] {
        place.run(["ls", name]).refused(2, what);
        place.run(["put", name, "zeroes", "f"]).refused(2, what);
    }
    assert_eq!(std::fs::read(place.path("zeroes")).unwrap(), vec![0; 1 << 20]);
}

/// The offset of a field of the header.
fn field(name: &str) -> usize {
    header::LAYOUT.iter().find(|(field, ..)| *field == name).expect("a field").1
}

#[test]
fn a_newer_format_is_refused_with_its_version() {
    let place = Place::with_store();
    place.put("f", b"bytes");
    let image = std::fs::File::options().read(true).write(true).open(place.image()).unwrap();
    let mut old = vec![0; 2 * BLOCK];
    image.read_exact_at(&mut old, 0).unwrap();
    let mut new = old.clone();
    for slot in new.chunks_mut(BLOCK) {
        if slot[..8] != freehold_blockmap::format::MAGIC {
            continue;
        }
        slot[field("version")..][..4].copy_from_slice(&7u32.to_le_bytes());
        let at = field("checksum");
        slot[at..at + 4].fill(0);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&header::NO_ID), slot);
        slot[at..at + 4].copy_from_slice(&crc.to_le_bytes());
    }
    image.write_all_at(&new, 0).unwrap();
    place.on::<&str>("ls", []).refused(2, "7");
    place.on("rm", ["f"]).refused(2, "version");
    let mut after = vec![0; 2 * BLOCK];
    image.read_exact_at(&mut after, 0).unwrap();
    assert!(after == new, "a refused store was written to");
    image.write_all_at(&old, 0).unwrap();
    assert_eq!(place.cat("f"), b"bytes");
}

#[test]
fn a_truncated_image_is_refused() {
    let place = Place::with_store();
    place.put("f", &bytes(1, 1 << 20));
    let image = std::fs::File::options().write(true).open(place.image()).unwrap();
    for size in [63 << 20, 5000, 4096, 100] {
        image.set_len(size).unwrap();
        let ran = place.on::<&str>("ls", []);
        ran.refused(2, "store");
    }
}

#[test]
fn a_damaged_store_is_told_and_never_a_panic() {
    let place = Place::with_store();
    place.put("f", &bytes(1, 1 << 20));
    let image = std::fs::File::options().write(true).open(place.image()).unwrap();
    image.write_all_at(&[0xa5; 2 * BLOCK], 0).unwrap();
    for verb in ["ls", "check", "info"] {
        place.on::<&str>(verb, []).refused(2, "store");
    }
}

#[test]
fn a_full_store_keeps_what_it_has() {
    let place = Place::with_store();
    let kept = bytes(1, 1 << 20);
    place.put("kept", &kept);
    place.put("big", &bytes(2, 20 << 20));
    place.local("huge", &bytes(3, 80 << 20));
    place.on("put", ["huge", "huge"]).refused(1, "full");
    place.on("put", ["huge", "kept"]).refused(1, "full");
    assert_eq!(place.names(), ["big", "kept"]);
    assert!(place.cat("kept") == kept);
    place.on("truncate", ["kept", "1T"]).ok();
    place.on("allocate", ["kept", "0", "1T"]).refused(1, "full");
    place.on("truncate", ["kept", "1M"]).ok();
    assert!(place.cat("kept") == kept);
    // What the failed puts had taken is free again, and removal makes room.
    place.put("more", &bytes(4, 10 << 20));
    place.on("rm", ["big", "more"]).ok();
    place.put("again", &bytes(5, 30 << 20));
    place.assert_clean();
}

#[test]
fn ranges_without_length_do_nothing() {
    let place = Place::with_store();
    let data = bytes(1, 10_000);
    place.put("f", &data);
    let before = place.on("stat", ["f", "--json"]).json();
    for offset in ["0", "1", "4096", "10000", "1G"] {
        place.on("punch", ["f", offset, "0"]).ok();
        place.on("allocate", ["f", offset, "0"]).ok();
    }
    assert_eq!(place.on("stat", ["f", "--json"]).json(), before);
    assert!(place.cat("f") == data);
}

#[test]
fn offsets_near_the_end_of_numbers_are_refused() {
    let place = Place::with_store();
    let data = bytes(1, 10_000);
    place.put("f", &data);
    let last = u64::MAX.to_string();
    place.on("truncate", ["f", &last]).refused(1, "f");
    for (offset, length) in
        [(last.as_str(), "1"), (last.as_str(), last.as_str()), ("1", last.as_str())]
    {
        place.on("allocate", ["f", offset, length]).refused(1, "");
    }
    // Past the end there is nothing to punch, but a range must be a range.
    place.on("punch", ["f", &last, "2"]).refused(1, "");
    place.on("punch", ["f", &last, &last]).refused(1, "");
    assert!(place.cat("f") == data);
    place.assert_clean();
}

/// Runs the program as somebody who is not root, for whom modes matter.
fn as_nobody(place: &Place, args: &[&str]) -> Ran {
    let program = place.path("freehold");
    std::fs::copy(crate::program::harness::program(), &program).unwrap();
    std::fs::set_permissions(&place.dir, std::fs::Permissions::from_mode(0o777)).unwrap();
    let mut command = std::process::Command::new(program);
    command.args(args).current_dir(&place.dir).uid(65_534).gid(65_534);
    place.finish(command)
}

#[test]
fn a_file_that_may_only_be_read_is_read() {
    let place = Place::with_store();
    place.put("f", b"bytes");
    let mode = |mode| {
        std::fs::set_permissions(place.image(), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let run = |args: &[&str]| {
        if rustix::process::geteuid().is_root() { as_nobody(&place, args) } else { place.run(args) }
    };
    mode(0o444);
    assert_eq!(run(&["ls", &place.uri]).ok(), "f\n");
    assert_eq!(run(&["cat", &place.uri, "f"]).ok(), "bytes");
    assert!(run(&["check", &place.uri]).ok().starts_with("clean"));
    run(&["rm", &place.uri, "f"]).refused(2, "permission");
    mode(0o000);
    run(&["ls", &place.uri]).refused(2, "permission");
    mode(0o600);
    assert_eq!(place.cat("f"), b"bytes");
}
