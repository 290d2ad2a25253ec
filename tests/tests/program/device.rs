//! `doctor` and `info`, and an emulated controller that `emulate` serves, end to end.

use crate::program::harness::{Ending, Place, bytes};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

/// The state of each check of a report.
fn states(report: &Value) -> Vec<(String, String)> {
    let text = |check: &Value, key: &str| check[key].as_str().unwrap_or_default().to_owned();
    let checks = report["checks"].as_array().expect("checks");
    checks.iter().map(|check| (text(check, "check"), text(check, "state"))).collect()
}

/// An emulated controller that is up; `sock` is its socket.
pub(crate) fn emulated(place: &Place, more: &[&str]) -> Ending {
    let args = ["emulate", "--socket", "sock", "--size", "64M"].iter().chain(more);
    let mut child = Ending(place.command(args).stdout(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(child.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("serving on"), "{line}");
    child
}

#[test]
fn the_doctor_names_what_is_missing_and_what_mends_it() {
    let place = Place::with_store();
    let well = place.on("doctor", ["--json"]).json();
    assert_eq!(well["ok"], true, "{well}");
    assert!(states(&well).contains(&("store".into(), "ok".into())), "{well}");
    assert!(place.on::<&str>("doctor", []).ok().contains("permission"));
    let missing = place.run(["doctor", "none/store", "--json"]);
    assert_eq!(missing.code, Some(1));
    let report: Value = serde_json::from_slice(&missing.stdout).unwrap();
    assert_eq!(report["checks"][0]["state"], "missing", "{report}");
    let mend = report["checks"][0]["mend"].as_str().unwrap();
    assert!(mend.contains("mkdir -p") && mend.contains("freehold format"), "{mend}");
    let later = place.run(["doctor", "pmem:none", "--json"]);
    assert_eq!(later.code, Some(1));
    place.run(["doctor", "vfio:nothing"]).refused(2, "no medium");
    let nobody = place.run(["doctor", "vfio-user:sock"]);
    assert_eq!(nobody.code, Some(1));
    assert!(String::from_utf8_lossy(&nobody.stdout).contains("freehold emulate --socket sock"));
}

#[test]
fn a_store_on_a_mapped_file_is_a_store_like_any_other() {
    if std::env::consts::ARCH != "x86_64" {
        return;
    }
    let place = Place::empty();
    place.run(["format", "pmem:mapped", "--size", "64M"]).refused(2, "-o dax");
    let uri = "pmem:mapped?volatile=1";
    place.run(["format", uri, "--size", "64M"]).ok();
    place.run(["format", uri, "--size", "64M"]).refused(2, "Freehold");
    place.local("a", &bytes(8, 300_001));
    place.run(["put", uri, "a", "name"]).ok();
    place.run(["reflink", uri, "name", "copy"]).ok();
    // The same bytes, by another way.
    assert!(place.run(["cat", "file:mapped", "copy"]).stdout == bytes(8, 300_001));
    assert_eq!(place.run(["check", uri, "--json"]).json()["clean"], true);
    let info = place.run(["info", uri, "--json"]).json();
    assert_eq!(info["device"]["memory"]["durable"], false, "{info}");
    let report = place.run(["doctor", uri, "--json"]).json();
    assert_eq!(report["ok"], true, "{report}");
    for state in [("processor", "ok"), ("DAX", "hint"), ("opening", "ok"), ("store", "ok")] {
        assert!(states(&report).contains(&(state.0.into(), state.1.into())), "{report}");
    }
    let report: Value =
        serde_json::from_slice(&place.run(["doctor", "pmem:mapped", "--json"]).stdout).unwrap();
    assert_eq!(report["ok"], false, "{report}");
}

#[test]
fn a_store_on_an_emulated_controller_is_a_store_like_any_other() {
    let place = Place::empty();
    let _device = emulated(&place, &[]);
    let uri = "vfio-user:sock";
    let before = place.run(["doctor", uri, "--json"]).json();
    assert!(states(&before).contains(&("store".into(), "hint".into())), "{before}");
    place.run(["format", uri]).ok();
    place.local("a", &bytes(8, 300_001));
    place.run(["put", uri, "a", "name"]).ok();
    place.run(["reflink", uri, "name", "copy"]).ok();
    assert!(place.run(["cat", uri, "copy"]).stdout == bytes(8, 300_001));
    assert_eq!(place.run(["check", uri, "--json"]).json()["clean"], true);
    let info = place.run(["info", uri, "--json"]).json();
    let device = &info["device"];
    assert!(device["controller"]["model"].as_str().is_some_and(|m| !m.is_empty()), "{info}");
    assert_eq!(device["namespace"]["size"], 64 << 20);
    for (group, name) in [("limits", "command"), ("limits", "queues"), ("health", "spare")] {
        assert!(device[group][name].is_u64(), "{group} {name} in {info}");
    }
    assert!(device["health"]["temperature"].is_i64(), "{info}");
    let table = place.run(["info", uri]).ok();
    assert!(table.contains("controller model") && table.contains("health temperature"), "{table}");
    assert_eq!(place.run(["doctor", uri, "--json"]).json()["ok"], true);
}
