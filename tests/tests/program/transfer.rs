//! put, get and cat: whole or not at all, with holes, from and to anything.

use crate::program::harness::{Ending, Place, bytes};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Stdio;

/// A local file with data, a hole, data, and a hole at its end.
fn sparse(place: &Place, name: &str) -> Vec<u8> {
    let mut model = vec![0; 20 << 20];
    let file = std::fs::File::create(place.path(name)).unwrap();
    file.set_len(model.len() as u64).unwrap();
    for (seed, at) in [(1, 0), (2, 10 << 20)] {
        let data = bytes(seed, 300_000);
        file.write_all_at(&data, at as u64).unwrap();
        model[at..at + data.len()].copy_from_slice(&data);
    }
    model
}

fn blocks(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().blocks() * 512
}

#[test]
fn holes_stay_holes_both_ways() {
    let place = Place::with_store();
    let model = sparse(&place, "local");
    place.on("put", ["local", "f"]).ok();
    let stat = place.on("stat", ["f", "--json"]).json();
    assert_eq!(stat["size"], model.len());
    assert!(stat["allocated"].as_u64().unwrap() < 2 << 20, "{stat}");
    assert_eq!(place.cat("f"), model);
    place.on("get", ["f", "back"]).ok();
    assert_eq!(std::fs::read(place.path("back")).unwrap(), model);
    assert!(blocks(&place.path("back")) < 2 << 20);
}

#[test]
fn any_size_comes_back() {
    let place = Place::with_store();
    for len in [0, 1, 4095, 4096, 4097, (4 << 20) - 1, 4 << 20, (8 << 20) + 5] {
        let data = bytes(len as u64, len);
        place.local("local", &data);
        place.on("put", ["local", "f"]).ok();
        assert_eq!(place.on("stat", ["f", "--json"]).json()["size"], len);
        assert!(place.cat("f") == data, "{len} bytes differ after cat");
        place.on("get", ["f", "back"]).ok();
        assert!(std::fs::read(place.path("back")).unwrap() == data, "{len} bytes differ after get");
    }
    place.assert_clean();
}

#[test]
fn pipes_work_at_both_ends() {
    let place = Place::with_store();
    let data = bytes(7, 5_000_001);
    place.put("f", &data);
    let out = place.on("get", ["f", "-"]);
    assert_eq!(out.code, Some(0));
    assert!(out.stdout == data);
    // What the kernel makes up has bytes, but no size.
    place.on("put", ["/proc/self/status", "status"]).ok();
    assert!(place.cat("status").starts_with(b"Name:"));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let place = Place::with_store();
    place.put("f", &bytes(8, 20 << 20));
    let mut command = place.command(["cat", &place.uri, "f"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut child = Ending(child);
    let mut few = [0; 100];
    child.0.stdout.take().unwrap().read_exact(&mut few).unwrap();
    // The pipe is closed now.
    let status = child.0.wait().unwrap();
    let mut said = String::new();
    child.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((status.code(), said.as_str()), (Some(0), ""));
}

#[test]
fn put_replaces_wholly() {
    let place = Place::with_store();
    place.put("f", &bytes(9, 100_000));
    place.put("f", b"short");
    assert_eq!(place.cat("f"), b"short");
    assert_eq!(place.names(), ["f"]);
    place.assert_clean();
}

#[test]
fn a_put_that_fails_changes_nothing() {
    let place = Place::with_store();
    place.put("f", b"old");
    place.on("put", ["missing", "f"]).refused(1, "missing");
    std::fs::create_dir(place.path("dir")).unwrap();
    place.on("put", ["dir", "f"]).refused(1, "directory");
    assert_eq!(place.cat("f"), b"old");
    assert_eq!(place.names(), ["f"]);
}

#[test]
fn get_replaces_the_file_and_keeps_its_mode() {
    let place = Place::with_store();
    place.put("f", b"new");
    let target = place.local("target", b"something longer");
    std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink("target", place.path("link")).unwrap();
    place.on("get", ["f", "link"]).ok();
    assert_eq!(std::fs::read(&target).unwrap(), b"new");
    assert_eq!(std::fs::metadata(&target).unwrap().mode() & 0o777, 0o640);
    assert!(std::fs::symlink_metadata(place.path("link")).unwrap().is_symlink());
    let mut names: Vec<_> =
        std::fs::read_dir(&place.dir).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["link", "store", "target"]);
}

#[test]
fn a_get_that_fails_leaves_the_local_file_alone() {
    let place = Place::with_store();
    place.local("target", b"old");
    place.on("get", ["missing", "target"]).refused(1, "missing");
    assert_eq!(std::fs::read(place.path("target")).unwrap(), b"old");
    place.put("f", b"new");
    place.on("get", ["f", "no/such/dir"]).refused(1, "no/such/dir");
    place.on("get", ["f", "."]).refused(1, "directory");
    assert_eq!(std::fs::read_dir(&place.dir).unwrap().count(), 2);
}

#[test]
fn get_writes_into_a_device_and_does_not_replace_it() {
    let place = Place::with_store();
    place.put("f", b"new");
    let null = place.path("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &null,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| std::fs::read(&null).unwrap());
        place.on("get", ["f", "fifo"]).ok();
        assert_eq!(reader.join().unwrap(), b"new");
    });
}
