//! The medium contract on every medium of this build.

use freehold_engine::medium::Medium;
use freehold_engine::mem::MemMedium;
use freehold_engine::sim::{SimMedium, SimOptions};
use freehold_engine::{FormatOptions, OpenOptions, format_target, open};
use freehold_tests::conformance::{MIN_BLOCKS, run_all};
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

const BYTES: u64 = MIN_BLOCKS * 4096;
/// A directory on whatever disk the build is on.
const DISK: &str = env!("CARGO_TARGET_TMPDIR");
/// Set for the child that runs with little locked memory.
const CHILD: &str = "FREEHOLD_TEST_LITTLE_MEMORY";

/// A fresh file as a medium; its name is gone when it is open.
fn file(dir: &str, options: &OpenOptions) -> Arc<dyn Medium> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = format!("{dir}/conformance-{}-{number}.fh", std::process::id());
    let uri = format!("file:{path}");
    drop(format_target(&uri, &FormatOptions { size: Some(BYTES), force: false }).unwrap());
    let medium = open(&uri, options).unwrap();
    std::fs::remove_file(&path).unwrap();
    medium
}

#[test]
fn memory() {
    run_all(&|| Arc::new(MemMedium::new(BYTES).unwrap()));
}

#[test]
fn a_very_large_memory() {
    run_all(&|| Arc::new(MemMedium::new(1 << 40).unwrap()));
}

#[test]
fn file_with_io_uring_and_direct_io() {
    run_all(&|| file(DISK, &OpenOptions::default()));
}

#[test]
fn file_with_io_uring_through_the_page_cache() {
    run_all(&|| file(DISK, &OpenOptions { direct: false, ..Default::default() }));
}

#[test]
fn file_without_io_uring() {
    run_all(&|| file(DISK, &OpenOptions { io_uring: false, ..Default::default() }));
}

#[test]
fn file_with_neither() {
    run_all(&|| file(DISK, &OpenOptions { io_uring: false, direct: false, ..Default::default() }));
}

#[test]
fn file_on_tmpfs() {
    run_all(&|| file("/dev/shm", &OpenOptions::default()));
    run_all(&|| file("/dev/shm", &OpenOptions { direct: false, ..Default::default() }));
}

/// A fresh file, mapped.
fn mapped(dir: &str, keys: &str) -> Arc<dyn Medium> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = format!("{dir}/conformance-{}-{number}.mapped", std::process::id());
    let options = FormatOptions { size: Some(BYTES), force: false };
    let medium = format_target(&format!("pmem:{path}?volatile=1{keys}"), &options).unwrap();
    std::fs::remove_file(&path).unwrap();
    medium
}

#[test]
fn persistent_memory() {
    if std::env::consts::ARCH != "x86_64" {
        return;
    }
    run_all(&|| mapped("/dev/shm", "&exclusive=1"));
    run_all(&|| mapped(DISK, ""));
}

#[test]
fn simulated_blocks() {
    for (seed, copy, in_order) in [(1, false, false), (2, true, false), (3, true, true)] {
        run_all(&|| {
            let options =
                SimOptions { blocks: MIN_BLOCKS, seed, copy, in_order, ..Default::default() };
            SimMedium::new(options).medium()
        });
    }
}

#[test]
fn simulated_window() {
    for seed in 1..4 {
        run_all(&|| {
            let options = SimOptions {
                blocks: MIN_BLOCKS,
                seed,
                window: true,
                volatile_cache: seed % 2 == 0,
                lba_bytes: 4096,
                atomic_bytes: 4096,
                deallocate: seed != 2,
                ..Default::default()
            };
            SimMedium::new(options).medium()
        });
    }
}

/// Counts the warning that buffers cannot be registered.
struct Listener(Arc<AtomicUsize>);

impl tracing::Subscriber for Listener {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Find(bool);
        impl tracing::field::Visit for Find {
            fn record_debug(&mut self, _: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0 |= format!("{value:?}").contains("cannot be registered");
            }
        }
        let mut find = Find(false);
        event.record(&mut find);
        self.0.fetch_add(usize::from(find.0), Ordering::Relaxed);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

/// In a process of its own, because limits belong to a process.
#[test]
fn file_with_little_locked_memory() {
    if std::env::var_os(CHILD).is_none() {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "file_with_little_locked_memory", "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&child.stderr);
        assert!(child.status.success(), "the child failed:\n{text}");
        return;
    }
    // The limit does not hold for who has this capability.
    let mut sets = capabilities(None).unwrap();
    sets.effective.remove(CapabilitySet::IPC_LOCK);
    sets.permitted.remove(CapabilitySet::IPC_LOCK);
    set_capabilities(None, sets).unwrap();
    let limit = Some(64 << 10);
    setrlimit(Resource::Memlock, Rlimit { current: limit, maximum: limit }).unwrap();
    let warnings = Arc::new(AtomicUsize::new(0));
    let made = AtomicUsize::new(0);
    tracing::subscriber::set_global_default(Listener(Arc::clone(&warnings))).unwrap();
    run_all(&|| {
        made.fetch_add(1, Ordering::Relaxed);
        file(DISK, &OpenOptions::default())
    });
    let (warnings, made) = (warnings.load(Ordering::Relaxed), made.load(Ordering::Relaxed));
    assert!(warnings > 0, "the limit did not bite: nothing was tested");
    assert!(warnings <= made, "a medium said it more than once");
}
