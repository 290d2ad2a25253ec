//! Names are bytes.

use crate::program::harness::{Place, bytes};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

const ODD: &[u8] = b"caf\xe9/\xff\xfe";

#[test]
fn names_need_not_be_utf8() {
    let place = Place::with_store();
    let data = bytes(1, 5000);
    place.local("local", &data);
    let odd = OsStr::from_bytes(ODD);
    place.on("put", [OsStr::new("local"), odd]).ok();
    assert!(place.on("cat", [odd]).stdout == data);
    let listed = place.on::<&str>("ls", []);
    assert_eq!(listed.stdout, [ODD, b"\n"].concat());
    let hex: String = ODD.iter().map(|b| format!("{b:02x}")).collect();
    let json = place.on("ls", ["--json"]).json();
    assert_eq!(json[0]["name_hex"], hex.as_str());
    assert!(json[0].get("name").is_none());
    assert_eq!(place.on("stat", [odd, OsStr::new("--json")]).json()["name_hex"], hex.as_str());
    // Tables are for people, and harmless.
    assert!(place.on("ls", ["-l"]).ok().contains("caf\\xe9/\\xff\\xfe"));
    place.on("mv", [odd, OsStr::new("plain")]).ok();
    assert_eq!(place.names(), ["plain"]);
}

#[test]
fn control_characters_do_not_reach_a_terminal() {
    let place = Place::with_store();
    place.put("\x1b[31mred\n", b"");
    let table = place.on("ls", ["-l"]).ok();
    assert!(!table.contains('\x1b') && table.contains("\\u{1b}[31mred\\n"), "{table}");
    let stat = place.on("stat", ["\x1b[31mred\n"]).ok();
    assert!(!stat.contains('\x1b'), "{stat}");
}

#[test]
fn a_name_of_255_bytes_is_taken_and_one_of_256_refused() {
    let place = Place::with_store();
    let longest = "n".repeat(255);
    let longer = "n".repeat(256);
    place.put(&longest, b"x");
    assert_eq!(place.names(), [longest.as_str()]);
    place.on_with("put", ["-", longer.as_str()], b"x").refused(2, "256");
    for verb in ["cat", "stat", "map", "rm"] {
        place.on(verb, [longer.as_str()]).refused(2, "255");
    }
    place.on("mv", [longest.as_str(), longer.as_str()]).refused(2, "255");
    place.on("reflink", [longest.as_str(), longer.as_str()]).refused(2, "255");
    place.on("cat", [""]).refused(2, "empty");
    // Not even a temporary file was left.
    assert_eq!(place.names(), [longest.as_str()]);
}

#[test]
fn many_names_are_listed_in_pages_and_in_order() {
    let place = Place::with_store();
    {
        let store = freehold::Store::open(&place.uri, &freehold::OpenOptions::default()).unwrap();
        for i in 0..2500 {
            store.create(format!("dir-{:04}/file", (i * 7) % 2500).as_bytes()).unwrap();
        }
        store.close().unwrap();
    }
    let want: Vec<_> = (0..2500).map(|i| format!("dir-{i:04}/file")).collect();
    assert_eq!(place.names(), want);
    let prefixes: String = (0..2500).map(|i| format!("dir-{i:04}/\n")).collect();
    assert_eq!(place.on("ls", ["-d", "/"]).ok(), prefixes);
    let names: Vec<OsString> = want.iter().take(20).map(Into::into).collect();
    place.on("rm", names).ok();
    assert_eq!(place.names(), want[20..]);
    place.assert_clean();
}
