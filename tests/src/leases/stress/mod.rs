//! All of it at once: threads that take leases and use them, promptly, late, or when they
//! have long been revoked, beside threads that change, share, move, free and reuse the same
//! blocks.
//!
//! Every byte says of which *family* of files it is, and whether a stale writer wrote it
//! ([`stamp`]). Files share blocks within their family only. So whatever is seen of another
//! family, and whatever a writer whose lease was revoked has left where anybody reads it in
//! the ordinary way, is a fault, and so is a reference whose bytes change.

mod comers;
mod holders;
mod stamp;

use super::world::{sound, text};
use crate::nvme::Served;
use crate::random::Random;
use freehold_blockmap::format::types::GROUP_BLOCKS;
use freehold_blockmap::{Error, ErrorKind, FormatSpec, Volume};
use freehold_engine::emulator::Options;
use freehold_engine::medium::Medium;
use freehold_engine::sim::{SimMedium, SimOptions};
use freehold_engine::{FormatOptions, format_target};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Files that may share blocks with one another.
const FAMILIES: u8 = 3;
/// Names of each family.
const NAMES: u8 = 3;
/// Blocks that a file has at the most, or about.
const REACH: u64 = 24;
/// A thread that does nothing for so long hangs.
const HANGS: Duration = Duration::from_secs(20);

/// What the store lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Memory: leases are windows, pins are references.
    Memory,
    /// A regular file: leases are reached by commands.
    File,
    /// The simulated medium, which reorders and delays.
    Sim,
    /// Our driver on our emulated controller, with a volatile cache.
    Nvme,
}

/// What was done, so that a test can say whether it was much.
#[derive(Debug, Default)]
pub struct Totals {
    /// Operations of those who come.
    pub operations: AtomicU64,
    /// Leases that were given.
    pub leases: AtomicU64,
    /// Of these, how many were revoked or taken while they were in use or after.
    pub revoked: AtomicU64,
    /// Pins that were used after their lease was revoked.
    pub stale: AtomicU64,
    /// Fills and flushes.
    pub commands: AtomicU64,
    /// Refusals, which are none of anybody's faults.
    pub refusals: AtomicU64,
}

/// What the threads share.
pub(super) struct Arena {
    pub(super) vol: Arc<Volume>,
    pub(super) window: bool,
    pub(super) totals: Totals,
    stop: AtomicBool,
    fault: Mutex<Option<String>>,
    /// What each thread does now, and since when.
    doing: Vec<Mutex<(String, Instant)>>,
}

impl Arena {
    pub(super) fn name(family: u8, n: u64) -> Vec<u8> {
        format!("family{family}-{}", n % u64::from(NAMES)).into_bytes()
    }

    pub(super) fn over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(super) fn does(&self, thread: usize, what: impl Into<String>) {
        *self.doing[thread].lock().unwrap() = (what.into(), Instant::now());
    }

    pub(super) fn fail(&self, why: String) {
        self.fault.lock().unwrap().get_or_insert(why);
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Fails, unless that is a refusal which anybody may get beside others.
    pub(super) fn allow<T>(&self, what: &str, done: Result<T, Error>) -> Option<T> {
        let e = match done {
            Ok(done) => return Some(done),
            Err(e) => e,
        };
        let fair = matches!(
            e.kind(),
            ErrorKind::Sealed
                | ErrorKind::Busy
                | ErrorKind::WouldDeadlock
                | ErrorKind::Recalled
                | ErrorKind::Revoked
                | ErrorKind::NoSpace
                | ErrorKind::NotFound
                | ErrorKind::Exists
                | ErrorKind::Invalid
        );
        // The window's own account refuses only what the rules above it should have kept away.
        let last = e.to_string().contains("used as memory");
        if !fair || last {
            self.fail(format!("{what}: {}", text(e)));
        }
        self.totals.refusals.fetch_add(1, Ordering::Relaxed);
        None
    }
}

/// Bytes of the medium.
const SIZE: u64 = 12 << 20;

fn medium(kind: Kind, seed: u64, place: &Place) -> Result<Arc<dyn Medium>, String> {
    let (size, path) = (SIZE, &place.path);
    match kind {
        Kind::Nvme => {
            let served = place.served.as_ref().ok_or("nothing is served")?;
            format_target(&served.uri(), &FormatOptions::default())
        }
        Kind::Memory => format_target(&format!("mem:{size}"), &FormatOptions::default()),
        Kind::File => {
            let options = FormatOptions { size: Some(size), force: true };
            format_target(&format!("file:{}", path.display()), &options)
        }
        Kind::Sim => {
            let blocks = size / super::world::B;
            return Ok(SimMedium::new(SimOptions { seed, blocks, ..Default::default() }).medium());
        }
    }
    .map_err(|e| e.to_string())
}

/// Runs a seed for so long; what is left afterwards is nothing.
///
/// # Errors
/// The first fault, and how to run it again.
pub fn run(kind: Kind, seed: u64, time: Duration) -> Result<Totals, String> {
    let path = std::env::temp_dir().join(format!("freehold-stress-{}-{seed}", std::process::id()));
    let served = (kind == Kind::Nvme).then(|| {
        let cache = seed.is_multiple_of(2);
        Served::new(Options { volatile_cache: cache, seed, ..Options::new("", SIZE) })
    });
    let place = Place { path, served };
    let window = kind == Kind::Memory;
    let done = medium(kind, seed, &place).and_then(|m| run_on(m, window, seed, time));
    if kind == Kind::File {
        let _ = std::fs::remove_file(&place.path);
    }
    done.map_err(|e| {
        format!(
            "{e}\nagain: FREEHOLD_SEEDS={seed}..{} cargo test -p freehold-tests --test \
                 leases_stress",
            seed + 1
        )
    })
}

/// The same on a medium that is there already, and that is written anew. `window`: its leases
/// are windows.
///
/// # Errors
/// The first fault, with the seed.
pub fn run_at(
    medium: Arc<dyn Medium>,
    window: bool,
    seed: u64,
    time: Duration,
) -> Result<Totals, String> {
    run_on(medium, window, seed, time).map_err(|e| format!("seed {seed}: {e}"))
}

/// Where the medium is to be had: a file that may be there, or an emulator that serves.
struct Place {
    path: PathBuf,
    served: Option<Served>,
}

fn run_on(
    medium: Arc<dyn Medium>,
    window: bool,
    seed: u64,
    time: Duration,
) -> Result<Totals, String> {
    let vol = Volume::format(medium, &FormatSpec::default()).map_err(text)?;
    vol.set_lease_time(Duration::from_millis(2));
    let free = vol.space().free;
    let (comers, holders) = (3, 3);
    let arena = Arc::new(Arena {
        vol,
        window,
        totals: Totals::default(),
        stop: AtomicBool::new(false),
        fault: Mutex::new(None),
        doing: (0..comers + holders).map(|_| Mutex::new((String::new(), Instant::now()))).collect(),
    });
    let threads: Vec<_> = (0..comers + holders)
        .map(|i| {
            let (arena, random) = (arena.clone(), Random::new(seed * 64 + i as u64));
            std::thread::spawn(move || {
                let work = || match i < comers {
                    true => comers::run(&arena, i, random),
                    false => holders::run(&arena, i, random),
                };
                if let Err(why) = crate::random::guarded(work) {
                    arena.fail(format!("thread {i}: {why}"));
                }
                arena.does(i, "nothing: it has ended");
            })
        })
        .collect();
    let end = Instant::now() + time;
    while Instant::now() < end && !arena.over() {
        std::thread::sleep(Duration::from_millis(10));
        watch(&arena)?;
    }
    arena.stop.store(true, Ordering::Relaxed);
    while threads.iter().any(|t| !t.is_finished()) {
        std::thread::sleep(Duration::from_millis(2));
        watch(&arena)?;
    }
    threads.into_iter().for_each(|t| drop(t.join()));
    if let Some(why) = arena.fault.lock().unwrap().take() {
        return Err(why);
    }
    let arena = Arc::into_inner(arena).ok_or("somebody still has the arena")?;
    nothing_is_left(&arena.vol, free)?;
    Ok(arena.totals)
}

/// Nobody hangs; if somebody does, who has what.
fn watch(arena: &Arena) -> Result<(), String> {
    for (i, doing) in arena.doing.iter().enumerate() {
        let (what, since) = doing.lock().unwrap().clone();
        if since.elapsed() > HANGS && !what.starts_with("nothing") {
            let all: Vec<_> = arena.doing.iter().map(|d| d.lock().unwrap().0.clone()).collect();
            return Err(format!(
                "thread {i} hangs in {what}\nall: {all:#?}\nholdings: {:#?}\ninflight: {:#?}",
                arena.vol.holdings(),
                arena.vol.inflight()
            ));
        }
    }
    Ok(())
}

/// No lease, no seal, no quarantine; a sound store; and all space comes back.
fn nothing_is_left(vol: &Arc<Volume>, free: u64) -> Result<(), String> {
    let mut one = [0; 1];
    for family in 0..FAMILIES {
        for n in 0..u64::from(NAMES) {
            let Ok(file) = vol.open_file(&Arena::name(family, n)) else { continue };
            stamp::check_file(vol, &file, family)?;
            vol.read_at(&file, &mut one, 0).map_err(text)?;
        }
    }
    vol.sync().map_err(text)?;
    let left = (vol.holdings(), vol.inflight());
    if !left.0.is_empty() || !left.1.is_empty() {
        return Err(format!("left over: {left:#?}"));
    }
    sound(vol)?;
    for family in 0..FAMILIES {
        for n in 0..u64::from(NAMES) {
            let _ = vol.remove(&Arena::name(family, n));
        }
    }
    let mut now = 0;
    let parts = vol.space().total / (GROUP_BLOCKS * super::world::B);
    for _ in 0..12 {
        vol.checkpoint().map_err(text)?;
        now = vol.space().free;
        // A part of the store that was never used before has a bitmap of its own from then on.
        if now == free || (now < free && free - now <= parts * super::world::B) {
            return sound(vol);
        }
    }
    Err(format!("{now} bytes are free, and {free} were: {:?}", vol.space()))
}
