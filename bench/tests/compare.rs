//! Every workload of the comparison runs to its end at a tiny size, and the
//! document that it writes has its sections. Nothing is said about how fast.

use std::path::PathBuf;
use std::process::{Command, Output};

/// An empty folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("compare-{name}-{}", std::process::id());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).expect("a folder for temporary files");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Without loop devices and mounts, also as root: those two sides are left out.
fn compare(work: &Folder, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_compare"))
        .arg("--work")
        .arg(&work.0)
        .args(["--tiny", "--plain"])
        .args(args)
        .output()
        .expect("the program was built")
}

#[test]
fn all_workloads_run_and_the_document_is_whole() {
    let (work, docs) = (Folder::new("work"), Folder::new("docs"));
    let path = docs.0.to_str().expect("a path in UTF-8");
    let out = compare(&work, &["--docs", path, "--commit", "0123456789ab"]);
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}");
    let text = std::fs::read_to_string(docs.0.join("benchmarks.md")).expect("the document");
    for part in [
        "- commit: 0123456789ab",
        "- XFS: not measured here: ",
        "- btrfs: not measured here: ",
        "## Where Freehold loses",
        "## Durable reflink against extents",
        "## 4 KiB random reads and overwrites",
        "each block once: journal and nodes for each",
        "## Durable 4 KiB writes",
        "append, 16 writers",
        "## Opening after a crash",
        "## Unlink and truncate",
        "look-up among 2000 extents",
        "## Reads without a device",
        "## Through the C library",
        "instructions of a fill through a lease, C",
        "## Leases",
        "crossbeam-epoch pin + unpin, 2 threads",
        "grant and return, Exclusive",
        "200 idle leases taken",
        "fills through a lease",
        "bytes for an idle lease",
        "no leases: truncate",
        "## NVMe from user space",
        "during checkpoints, p99.9",
        "extents for each file, aged",
    ] {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
    if std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1) {
        for part in [
            "plain loop, QD128",
            "doorbells for each read, all, no shadows, QD32",
            "store, fills through a lease, QD32",
            "processor time while waiting, percent, controller",
        ] {
            assert!(text.contains(part), "{part:?} is missing in\n{text}");
        }
    }
    for plot in ["reflink.svg", "file.svg", "durable.svg"] {
        let svg = std::fs::read_to_string(docs.0.join("plots").join(plot)).expect(plot);
        assert!(svg.contains("Freehold"), "{plot} has no key");
    }
    let left: Vec<_> = std::fs::read_dir(&work.0).expect("the folder").collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

#[test]
fn what_is_not_there_is_refused() {
    let work = Folder::new("refused");
    for args in [["--only", "nothing"], ["--side", "nothing"]] {
        let out = compare(&work, &args);
        assert!(!out.status.success());
        assert!(String::from_utf8_lossy(&out.stderr).contains("nothing"));
    }
}

#[test]
fn a_section_is_replaced_and_the_rest_stays() {
    let (work, docs) = (Folder::new("update-work"), Folder::new("update-docs"));
    let path = docs.0.to_str().expect("a path in UTF-8");
    let document = docs.0.join("benchmarks.md");
    let update = |name| {
        let options = ["--docs", path, "--commit", "0123, changed", "--update", "2026-11-22"];
        compare(&work, &[&["--only", name], &options[..]].concat())
    };
    let (before, after) = ("# Benchmarks\n\n- commit: 1\n", "\n## Leases\n\nOld.\n");
    let old = format!("{before}\n## Durable reflink against extents\n\nOld.\n{after}");
    std::fs::write(&document, &old).expect("a document");
    for name in ["null", "guest"] {
        let out = update(name);
        assert!(!out.status.success(), "{name} has no section that could be replaced");
        assert_eq!(std::fs::read_to_string(&document).expect("the document"), old);
    }
    let out = update("reflink");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let new = std::fs::read_to_string(&document).expect("the document");
    assert!(new.starts_with(before) && new.ends_with(after), "{new}");
    for part in [
        "\n\nMeasured anew on 2026-11-22 at commit 0123, changed",
        "XFS: not measured here",
        "](plots/reflink.svg)\n",
    ] {
        assert!(new.contains(part), "{part:?} is missing in\n{new}");
    }
    let plots = std::fs::read_dir(docs.0.join("plots")).expect("the folder of plots");
    assert_eq!(plots.count(), 1, "only the plot of that workload");
}
