//! Each verb does what it says.

use crate::program::harness::{Place, bytes};
use serde_json::{Value, json};

/// The keys of a JSON object, in order.
fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<_> =
        value.as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

#[test]
fn format_makes_an_empty_store_and_says_what_it_is() {
    let place = Place::empty();
    let made = place.run(["format", &place.uri, "--size", "64M", "--json"]).json();
    assert_eq!(made["total"], 64 << 20);
    assert_eq!(place.names(), Vec::<String>::new());
    let info = place.on("info", ["--json"]).json();
    assert_eq!(info["store_id"], made["store_id"]);
    assert_eq!(info["blocks"], (64 << 20) / 4096);
    assert_eq!(info["block_size"], 4096);
    assert_eq!(info["version"], 3);
    assert!(info["medium"]["lba_bytes"].as_u64().is_some_and(|n| n == 512 || n == 4096));
    assert!(place.on::<&str>("info", []).ok().contains(made["store_id"].as_str().unwrap()));
    place.assert_clean();
}

#[test]
fn a_path_alone_names_a_store() {
    let place = Place::empty();
    place.run(["format", "plain", "--size", "64M"]).ok();
    assert_eq!(place.run(["ls", "plain"]).ok(), "");
    assert_eq!(place.run(["ls", "file:plain"]).ok(), "");
}

#[test]
fn ls_and_stat_give_the_fields_that_are_promised() {
    let place = Place::with_store();
    place.put("a", &bytes(1, 10_000));
    let fields = ["allocated", "extents", "name", "shared", "size"];
    let listed = place.on("ls", ["--json"]).json();
    assert_eq!(keys(&listed[0]), fields);
    let stat = place.on("stat", ["a", "--json"]).json();
    assert_eq!(keys(&stat), fields);
    assert_eq!(listed, json!([stat]));
    assert_eq!(stat["name"], "a");
    assert_eq!(stat["size"], 10_000);
    assert_eq!(stat["allocated"], 12_288);
    assert_eq!(stat["shared"], 0);
    assert!(place.on("ls", ["-l"]).ok().contains("10000"));
    assert!(place.on("stat", ["a"]).ok().contains("10000 bytes"));
}

#[test]
fn ls_takes_a_prefix_and_a_delimiter() {
    let place = Place::with_store();
    for name in ["a/1", "a/2", "a/b/3", "b/4", "c"] {
        place.put(name, name.as_bytes());
    }
    assert_eq!(place.names(), ["a/1", "a/2", "a/b/3", "b/4", "c"]);
    assert_eq!(place.on("ls", ["a/"]).ok(), "a/1\na/2\na/b/3\n");
    assert_eq!(place.on("ls", ["--delimiter", "/"]).ok(), "a/\nb/\nc\n");
    assert_eq!(place.on("ls", ["a/", "-d", "/"]).ok(), "a/1\na/2\na/b/\n");
    assert_eq!(place.on("ls", ["nothing"]).ok(), "");
    let listed = place.on("ls", ["-d", "/", "--json"]).json();
    assert_eq!(listed[0], json!({ "prefix": "a/" }));
    assert_eq!(listed[2]["name"], "c");
}

#[test]
fn map_tells_holes_unwritten_and_shared_extents() {
    let place = Place::with_store();
    place.put("f", &bytes(2, 8192));
    place.on("truncate", ["f", "64K"]).ok();
    place.on("allocate", ["f", "32K", "8K"]).ok();
    let map = place.on("map", ["f", "--json"]).json();
    let fields = ["address", "kind", "length", "offset", "shared"];
    let mut at = 0;
    for extent in map.as_array().expect("an array") {
        assert_eq!(keys(extent), fields);
        assert_eq!(extent["offset"], at, "{map}");
        assert_eq!(extent["address"].is_null(), extent["kind"] == "hole", "{map}");
        assert_eq!(extent["shared"], false);
        at += extent["length"].as_u64().expect("a number");
    }
    assert_eq!(at, 64 << 10);
    let kind = |offset: u64| {
        let has = |e: &&Value| {
            let (from, len) = (e["offset"].as_u64().unwrap(), e["length"].as_u64().unwrap());
            (from..from + len).contains(&offset)
        };
        map.as_array().unwrap().iter().find(has).unwrap()["kind"].clone()
    };
    assert_eq!(
        [kind(0), kind(8192), kind(32 << 10), kind(40 << 10)],
        ["written", "hole", "unwritten", "hole"]
    );
    place.on("reflink", ["f", "g"]).ok();
    let map = place.on("map", ["f", "--json"]).json();
    assert_eq!(map[0]["shared"], true, "{map}");
    assert!(place.on("map", ["f"]).ok().contains("unwritten"));
}

#[test]
fn reflink_shares_until_somebody_writes() {
    let place = Place::with_store();
    let original = bytes(3, 100_000);
    place.put("a", &original);
    let told = place.on("reflink", ["a", "b", "--json"]).json();
    assert_eq!(keys(&told), ["elapsed_us"]);
    assert!(told["elapsed_us"].as_f64().is_some_and(|us| us > 0.0));
    assert_eq!(place.cat("b"), original);
    let shared = |name| place.on("stat", [name, "--json"]).json()["shared"].as_u64().unwrap();
    assert_eq!((shared("a"), shared("b")), (102_400, 102_400));
    place.on("punch", ["b", "4096", "8192"]).ok();
    let mut changed = original.clone();
    changed[4096..12_288].fill(0);
    assert_eq!(place.cat("b"), changed);
    assert_eq!(place.cat("a"), original);
    assert_eq!(shared("b"), 102_400 - 8192);
    place.on("reflink", ["a", "b"]).refused(1, "already");
    assert_eq!(place.cat("b"), changed);
    place.on("rm", ["a"]).ok();
    assert_eq!(place.cat("b"), changed);
    assert_eq!(shared("b"), 0);
    place.assert_clean();
}

#[test]
fn truncate_punch_and_allocate_change_what_they_name() {
    let place = Place::with_store();
    let mut model = bytes(4, 50_000);
    place.put("f", &model);
    place.on("punch", ["f", "5000", "10K"]).ok();
    model[5000..5000 + 10_240].fill(0);
    assert_eq!(place.cat("f"), model);
    place.on("truncate", ["f", "30001"]).ok();
    model.truncate(30_001);
    assert_eq!(place.cat("f"), model);
    place.on("truncate", ["f", "40K"]).ok();
    model.resize(40 << 10, 0);
    assert_eq!(place.cat("f"), model);
    place.on("allocate", ["f", "0", "40K"]).ok();
    assert_eq!(place.cat("f"), model);
    let stat = place.on("stat", ["f", "--json"]).json();
    assert_eq!(stat["allocated"], 40 << 10);
    place.assert_clean();
}

#[test]
fn zero_keeps_the_blocks_of_its_range() {
    let place = Place::with_store();
    let mut model = bytes(4, 50_000);
    place.put("f", &model);
    place.on("reflink", ["f", "g"]).ok();
    place.on("zero", ["f", "5000", "20K"]).ok();
    let whole = model.clone();
    model[5000..5000 + 20_480].fill(0);
    assert_eq!(place.cat("f"), model);
    assert_eq!(place.cat("g"), whole);
    place.on("zero", ["f", "40K", "1M"]).ok();
    model[40_960..].fill(0);
    assert_eq!(place.cat("f"), model);
    let stat = place.on("stat", ["f", "--json"]).json();
    assert_eq!((&stat["allocated"], &stat["size"]), (&json!(53_248), &json!(50_000)));
    let map = place.on("map", ["f", "--json"]).json();
    let unwritten = map.as_array().unwrap().iter().filter(|e| e["kind"] == "unwritten");
    let lengths: u64 = unwritten.map(|e| e["length"].as_u64().unwrap()).sum();
    assert_eq!(lengths, 4 * 4096 + 3 * 4096, "{map}");
    place.assert_clean();
}

#[test]
fn collapse_and_insert_move_what_lies_behind() {
    let place = Place::with_store();
    let mut model = bytes(8, 50_000);
    place.put("f", &model);
    place.on("collapse", ["f", "8K", "12K"]).ok();
    model.drain(8 << 10..20 << 10);
    assert_eq!(place.cat("f"), model);
    place.on("insert", ["f", "4K", "1M"]).ok();
    model.splice(4 << 10..4 << 10, vec![0; 1 << 20]);
    assert_eq!(place.cat("f"), model);
    place.on("collapse", ["f", "1000", "4K"]).refused(1, "multiples of 4096");
    place.on("collapse", ["f", "0", "4M"]).refused(1, "truncate");
    place.on("insert", ["f", "4M", "4K"]).refused(1, "truncate");
    assert_eq!(place.cat("f"), model);
    place.assert_clean();
}

#[test]
fn diff_tells_what_differs_and_exits_with_1() {
    let place = Place::with_store();
    let model = bytes(9, 50_000);
    place.put("a", &model);
    place.on("reflink", ["a", "b"]).ok();
    assert_eq!(place.on("diff", ["a", "b"]).ok(), "");
    assert_eq!(place.on("diff", ["a", "b", "--json"]).json()["same"], true);
    // The same bytes in other blocks.
    place.put("c", &model);
    assert_eq!(place.on("diff", ["a", "c"]).ok(), "");
    assert_eq!(place.on("diff", ["a", "c", "--map-only"]).code, Some(1));
    place.on("zero", ["b", "9000", "10"]).ok();
    place.on("truncate", ["b", "51000"]).ok();
    let told = place.on("diff", ["a", "b", "--json"]);
    assert_eq!((told.code, told.stderr.as_str()), (Some(1), ""));
    let told: Value = serde_json::from_slice(&told.stdout).expect("JSON");
    let ranges = json!([
        { "offset": 8192, "length": 4096 },
        { "offset": 49_152, "length": 1848 },
    ]);
    assert_eq!(told, json!({ "same": false, "ranges": ranges }));
    place.on("diff", ["a", "nothing"]).refused(1, "nothing");
}

#[test]
fn defrag_moves_blocks_together() {
    let place = Place::with_store();
    let model = bytes(10, 100_000);
    place.put("a", &model);
    place.on("punch", ["a", "20K", "8K"]).ok();
    let before = place.cat("a");
    let done = place.on("defrag", ["a", "--json"]).json();
    assert_eq!(keys(&done), ["extents_after", "extents_before", "moved"]);
    assert!(done["extents_after"].as_u64() <= done["extents_before"].as_u64(), "{done}");
    assert_eq!(place.cat("a"), before);
    assert!(place.on("defrag", ["a", "0", "40K"]).ok().contains("extents after"));
    place.on("defrag", ["a", "0"]).code.filter(|code| *code == 2).expect("a length is missing");
    place.assert_clean();
}

#[test]
fn mv_replaces_and_rm_removes() {
    let place = Place::with_store();
    place.put("a", b"first");
    place.put("b", b"second");
    place.on("mv", ["a", "b"]).ok();
    assert_eq!(place.names(), ["b"]);
    assert_eq!(place.cat("b"), b"first");
    place.on("mv", ["a", "c"]).refused(1, "a");
    place.put("c", b"");
    place.on("rm", ["b", "c"]).ok();
    assert_eq!(place.names(), Vec::<String>::new());
    place.on("rm", ["b"]).refused(1, "b");
    place.assert_clean();
}

#[test]
fn df_and_stats_give_numbers() {
    let place = Place::with_store();
    let free = |place: &Place| place.on("df", ["--json"]).json()["free"].as_u64().unwrap();
    let before = free(&place);
    place.put("f", &bytes(5, 4 << 20));
    let after = free(&place);
    assert!(before - after >= 4 << 20, "{before} {after}");
    place.on("rm", ["f"]).ok();
    assert!(free(&place) > after);
    let space = place.on("df", ["--json"]).json();
    let names = [
        "condemned",
        "free",
        "journal",
        "journal_apart",
        "quarantined",
        "reserved",
        "total",
        "withheld",
    ];
    assert_eq!(keys(&space), names);
    // Leases die with their process: a store that is just opened has nothing of them.
    assert_eq!(space["quarantined"], 0);
    assert!(place.on::<&str>("df", []).ok().contains("64 MiB"));
    let stats = place.on("stats", ["--json"]).json();
    for key in ["reads", "device_reads", "device_writes", "device_flushes", "checkpoints"] {
        assert!(stats[key].is_u64(), "{key} in {stats}");
    }
    assert!(place.on::<&str>("stats", []).ok().contains("device_writes"));
}

#[test]
fn check_says_that_a_store_is_clean() {
    let place = Place::with_store();
    place.put("f", &bytes(6, 1 << 20));
    assert_eq!(place.on("check", ["--json"]).json(), json!({ "clean": true, "findings": [] }));
    assert!(place.on::<&str>("check", []).ok().starts_with("clean: 1 file,"));
}
