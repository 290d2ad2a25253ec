//! Every workload runs and reports; nothing is said about how fast.

use crate::program::harness::Place;
use serde_json::Value;

const WORKLOADS: [&str; 10] = [
    "randread",
    "randwrite",
    "append",
    "overwrite-sync",
    "lookup",
    "reflink",
    "pin",
    "revoke",
    "lease-read",
    "lease-write",
];

const SMALL: [&str; 6] = ["--seconds", "0.1", "--file-size", "1M", "--extents", "100"];

fn bench(place: &Place, workload: &str, uri: &str, more: &[&str]) -> Value {
    let mut args = vec!["bench", workload, uri, "--json"];
    args.extend(SMALL);
    args.extend(more);
    place.run(args).json()
}

fn assert_report(report: &Value) {
    let number = |key: &str| report[key].as_f64().unwrap_or_else(|| panic!("{key} in {report}"));
    assert!(number("iops") > 0.0, "{report}");
    assert!(number("p50_ns") > 0.0, "{report}");
    assert!(number("p50_ns") <= number("p99_ns"), "{report}");
    assert!(number("p99_ns") <= number("p999_ns"), "{report}");
    assert!(number("device_writes_per_op") >= 0.0, "{report}");
    assert!(number("flushes_per_op") >= 0.0, "{report}");
}

#[test]
fn every_workload_reports_on_memory() {
    let place = Place::empty();
    for workload in WORKLOADS {
        assert_report(&bench(&place, workload, "mem:256M", &[]));
    }
    assert_report(&bench(&place, "randread", "mem:256M", &["--qd", "4", "--bs", "8K"]));
    for workload in ["append", "randwrite", "lookup", "pin", "revoke", "lease-read"] {
        assert_report(&bench(&place, workload, "mem:256M", &["--threads", "2", "--qd", "3"]));
    }
}

#[test]
fn a_missing_file_is_made_and_removed() {
    let place = Place::empty();
    for workload in WORKLOADS {
        assert_report(&bench(&place, workload, "file:new%20store", &[]));
        assert_eq!(std::fs::read_dir(&place.dir).unwrap().count(), 0, "after {workload}");
    }
}

#[test]
fn a_store_that_exists_is_left_as_it_was() {
    let place = Place::with_store();
    place.put("kept", b"bytes");
    for workload in WORKLOADS {
        assert_report(&bench(&place, workload, &place.uri, &[]));
    }
    assert_eq!(place.names(), ["kept"]);
    assert_eq!(place.cat("kept"), b"bytes");
    place.assert_clean();
}

#[test]
fn durable_writes_write_and_hardly_flush() {
    let place = Place::empty();
    for workload in ["append", "overwrite-sync"] {
        let report = bench(&place, workload, "file:new", &[]);
        assert!(report["device_writes_per_op"].as_f64().unwrap() >= 0.9, "{report}");
        // They are forced through, or travel in the journal: only checkpoints flush.
        assert!(report["flushes_per_op"].as_f64().unwrap() < 0.5, "{report}");
    }
    let report = bench(&place, "randread", "mem:256M", &[]);
    assert_eq!(report["flushes_per_op"], 0.0, "{report}");
}

#[test]
fn leases_are_used_without_the_map() {
    let place = Place::empty();
    let report = bench(&place, "lease-write", "file:new", &["--bs", "8K"]);
    assert!(report["device_writes_per_op"].as_f64().unwrap() >= 0.9, "{report}");
    for workload in ["pin", "revoke", "lease-read"] {
        let report = bench(&place, workload, "file:new", &[]);
        assert_eq!(report["workload"], workload);
        assert_eq!(report["device_writes_per_op"], 0.0, "{report}");
    }
    // In batches of a thousand, each of them timed once.
    let report = bench(&place, "pin", "mem:64M", &[]);
    assert_eq!(report["operations"].as_u64().unwrap() % 1000, 0, "{report}");
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let place = Place::empty();
    for (option, value) in
        [("--bs", "1000"), ("--bs", "0"), ("--seconds", "0"), ("--seconds", "nan")]
    {
        let ran = place.run(["bench", "randread", "mem:256M", option, value]);
        ran.refused(2, option);
    }
    place.run(["bench", "randread", "mem:nothing"]).refused(2, "nothing");
    let args = ["bench", "randread", "mem:256M", "--file-size", "100G", "--seconds", "0.1"];
    place.run(args).refused(1, "full");
}
