//! The NVMe driver beside a plain polled loop, and the store over the driver (`nvme`).

use super::{Site, spdk};
use crate::outcome::{Outcome, fail};
use crate::results::{Results, Side, Unit};
use freehold_bench::leases::Bed;
use freehold_bench::nvme::plain::Plain;
use freehold_bench::nvme::{Served, Target, fill, idle, on_first_core, through_driver, unasked};
use freehold_engine::bus::{Counted, Function};
use freehold_engine::medium::Medium;
use freehold_engine::nvme::{Timeouts, open_on};
use freehold_engine::uri::encode;
use freehold_engine::vfio_user::{Client, ClientOptions, Mapping};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub(crate) const HOW: &str = "Our emulated controller over vfio-user, in a process bound to the \
    second core; who reads is bound to the first. 4 KiB reads at random blocks. The null namespace \
    moves no data and completes at once, so that what remains is the driver, the rings and the \
    controller's own loop. The plain loop is the least that NVMe asks of a host: it keeps rings \
    and doorbells (shadow doorbells, as the driver's) and checks nothing, keeps no time, gives \
    no buffers and can lose none. Both take turns on the same controller in the same run, and both \
    give the processor its hint for waiting loops when they found nothing. \
    Doorbells are counted in runs of their own where each is a message, so that none is missed; \
    beside it stand those that the driver sends by message where there are shadows. \
    Instructions are counted by callgrind (user side), as the difference of two runs of \
    different length. Read through a store and through a lease are at QD32, on a namespace in \
    memory, beside the driver on the same one; so are their instructions. Idle is the processor's time, in percent, while a \
    command is waited for that takes the controller long.";

/// Rows of which the first is ours and the second what it is held against.
pub(crate) const RIVALS: &[(&str, &str)] = &[
    ("driver, QD1", "plain loop, QD1"),
    ("driver, QD32", "plain loop, QD32"),
    ("driver, QD128", "plain loop, QD128"),
    ("driver on SPDK's target, QD1", "SPDK's driver on it, QD1"),
    ("driver on SPDK's target, QD32", "SPDK's driver on it, QD32"),
    (STORE, BARE),
    (LEASE, BARE),
];

const STORE: &str = "store, reads by offset, QD32";
const LEASE: &str = "store, fills through a lease, QD32";
const BARE: &str = "driver under the store, QD32";

const DEPTHS: [u32; 3] = [1, 32, 128];
/// Turns in a round.
const TURNS: u64 = 5;
/// Bytes of the namespaces.
const SIZE: u64 = 1 << 30;
/// Bytes of the one that keeps what is written.
const KEPT: u64 = 320 << 20;
/// How long the controller takes for a command that is waited for.
const LONG_MS: u64 = 1500;

pub(crate) fn run(site: &Site<'_>, side: Side, results: &mut Results) -> Outcome {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if cores < 2 {
        results.note("nvme", "Not measured here: two cores are needed, one for the controller.");
        return Ok(());
    }
    let program = std::env::current_exe()?;
    let count = site.scale.reads;
    let served = Served::start(&program, &Target::null(socket(site.dir), SIZE))?;
    for turn in 0..TURNS {
        beside(site.dir, side, results, (turn, count))?;
    }
    if site.round == 0 {
        by_message(site.dir, side, results, count, "sent with shadows", Mapping::Careful)?;
        instructions(site.dir, &program, side, results, (count / 40, &PAIR))?;
    }
    drop(served);
    if site.round == 0 {
        let target = Target { shadow: false, ..Target::null(socket(site.dir), SIZE) };
        let served = Served::start(&program, &target)?;
        by_message(site.dir, side, results, count / 10, "all, no shadows", Mapping::Never)?;
        drop(served);
        waiting(site, &program, side, results)?;
        if let Err(why) = spdk::run(site.dir, side, results, count) {
            results.note("nvme", format!("SPDK's NVMe driver: not measured here: {why}."));
        }
    }
    store(site, &program, side, results, count)
}

fn socket(dir: &Path) -> PathBuf {
    dir.join("nvme.sock")
}

fn connect(dir: &Path, mapping: Mapping) -> Outcome<Arc<dyn Function>> {
    let options = ClientOptions { mapping, ..ClientOptions::default() };
    Ok(Client::connect(&socket(dir), &options)?)
}

fn medium(dir: &Path) -> Outcome<Arc<dyn Medium>> {
    let name = format!("vfio-user:{}", encode(socket(dir).as_os_str().as_bytes()));
    Ok(freehold_engine::open(&name, &Default::default())?)
}

/// The driver and the plain loop, in turns, on the same controller.
fn beside(dir: &Path, side: Side, results: &mut Results, (turn, count): (u64, u64)) -> Outcome {
    let plain = || -> Outcome<Vec<f64>> {
        let mut plain = Plain::open(connect(dir, Mapping::Careful)?, 128)?;
        let read = |&depth| plain.read(depth, count / few(depth));
        Ok(on_first_core(|| DEPTHS.iter().map(read).collect::<Result<_, _>>())?)
    };
    let driver = || -> Outcome<Vec<f64>> {
        let medium = medium(dir)?;
        let read = |&depth| through_driver(&medium, depth, count / few(depth));
        Ok(on_first_core(|| DEPTHS.iter().map(read).collect::<Result<_, _>>())?)
    };
    // Whoever comes first does so every other time.
    let (ours, theirs) = if turn % 2 == 0 {
        let ours = driver()?;
        (ours, plain()?)
    } else {
        let theirs = plain()?;
        (driver()?, theirs)
    };
    for (i, depth) in DEPTHS.iter().enumerate() {
        let mut rate = |who, rate| {
            results.add("nvme", format!("{who}, QD{depth}"), Unit::PerSecond, side, rate);
        };
        rate("driver", ours[i]);
        rate("plain loop", theirs[i]);
    }
    Ok(())
}

/// One at a time is slow: fewer of them.
fn few(depth: u32) -> u64 {
    if depth == 1 { 4 } else { 1 }
}

/// Doorbells for each read of the driver that are messages.
fn by_message(
    dir: &Path,
    side: Side,
    results: &mut Results,
    count: u64,
    what: &str,
    mapping: Mapping,
) -> Outcome {
    let counted = Counted::new(connect(dir, mapping)?, 0x1000);
    let bells = counted.count();
    let medium = open_on(Arc::new(counted), 1, Timeouts::default(), true)?;
    for depth in [1, 32] {
        let before = bells.load(Ordering::Relaxed);
        on_first_core(|| through_driver(&medium, depth, count))?;
        let each = (bells.load(Ordering::Relaxed) - before) as f64 / count as f64;
        let name = format!("doorbells for each read, {what}, QD{depth}");
        results.add("nvme", name, Unit::Number, side, each);
    }
    Ok(())
}

/// Instructions for each read, by callgrind: who reads and at which depths, and the rows.
fn instructions(
    dir: &Path,
    program: &Path,
    side: Side,
    results: &mut Results,
    (count, who): (u64, &[(&str, &str, u32)]),
) -> Outcome {
    let collected = |who: &str, depth: u32, count: u64| -> Option<u64> {
        let out = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(program)
            .arg("--work")
            .arg(dir)
            .args(["--read-nvme", who])
            .arg(socket(dir))
            .args([depth.to_string(), count.to_string()])
            .output()
            .ok()
            .filter(|out| out.status.success())?;
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        let line = said.lines().find_map(|line| line.split_once("Collected :"))?;
        line.1.trim().split(' ').next()?.parse().ok()
    };
    for &(who, name, depth) in who {
        let few = collected(who, depth, count);
        let (Some(few), Some(many)) = (few, collected(who, depth, 3 * count)) else {
            results.note("nvme", "Instructions: not measured here: valgrind does not run.");
            return Ok(());
        };
        let each = many.saturating_sub(few) as f64 / (2 * count) as f64;
        let name = format!("instructions for each read, {name}");
        results.add("nvme", name, Unit::Number, side, each);
    }
    Ok(())
}

/// Who reads from the null namespace, and who from the one that keeps what is written.
const PAIR: [(&str, &str, u32); 4] = [
    ("driver", "driver, QD1", 1),
    ("plain", "plain loop, QD1", 1),
    ("driver", "driver, QD32", 32),
    ("plain", "plain loop, QD32", 32),
];
const OVER: [(&str, &str, u32); 3] =
    [("by-offset", STORE, 32), ("bare", BARE, 32), ("through-lease", LEASE, 32)];

/// The store over the driver, beside the driver.
fn store(
    site: &Site<'_>,
    program: &Path,
    side: Side,
    results: &mut Results,
    count: u64,
) -> Outcome {
    let kept = Target { null: false, ..Target::null(socket(site.dir), KEPT) };
    let served = Served::start(program, &kept)?;
    let medium = medium(site.dir)?;
    fill(&medium)?;
    let bed = Bed::on(medium)?;
    for _ in 0..TURNS {
        let rates = on_first_core(|| {
            let by_offset = bed.by_offset(count)?;
            let bare = bed.bare(count)?;
            Ok::<_, freehold_blockmap::Error>([by_offset, bare, bed.through(count)?])
        })?;
        for (name, rate) in [STORE, BARE, LEASE].into_iter().zip(rates) {
            results.add("nvme", name, Unit::PerSecond, side, rate);
        }
    }
    drop((bed, served));
    if site.round == 0 {
        // One client at a time: a controller that nobody here is connected to.
        let _served = Served::start(program, &kept)?;
        instructions(site.dir, program, side, results, (count / 40, &OVER))?;
    }
    Ok(())
}

/// What both sides do while a command takes long.
fn waiting(site: &Site<'_>, program: &Path, side: Side, results: &mut Results) -> Outcome {
    let slow =
        Target { null: false, compare_ms: LONG_MS, ..Target::null(socket(site.dir), 1 << 20) };
    let served = Served::start(program, &slow)?;
    let medium = medium(site.dir)?;
    let (nothing, second) = unasked(&medium, served.pid());
    let (own, theirs, took) = idle(&medium, served.pid())?;
    let mut percent = |who: &str, seconds: f64| {
        let name = format!("processor time while waiting, percent, {who}");
        results.add("nvme", name, Unit::Number, side, seconds / took * 100.0);
    };
    percent("driver", own);
    percent("controller", theirs);
    let name = "processor time of the controller, percent, nothing asked";
    results.add("nvme", name, Unit::Number, side, nothing / second * 100.0);
    Ok(())
}

/// Serves a controller until this process is killed.
pub(crate) fn serve(words: &[String]) -> Outcome {
    let [socket, word] = words else { return fail("a socket and a word are needed") };
    match Target::parse(Path::new(socket), word) {
        Some(target) => Ok(target.serve()?),
        None => fail(format!("no controller is told by {word}")),
    }
}

/// Reads as the words say, and does nothing else.
pub(crate) fn read(words: &[String]) -> Outcome {
    let [who, socket, depth, count] = words else { return fail("four words are needed") };
    let (depth, count): (u32, u64) = (depth.parse()?, count.parse()?);
    let dir = Path::new(socket).parent().unwrap_or(Path::new("."));
    let rate = on_first_core(|| -> Outcome<f64> {
        Ok(match who.as_str() {
            "plain" => Plain::open(connect(dir, Mapping::Careful)?, 128)?.read(depth, count)?,
            "by-offset" => Bed::on(medium(dir)?)?.by_offset(count)?,
            "bare" => Bed::on(medium(dir)?)?.bare(count)?,
            "through-lease" => Bed::on(medium(dir)?)?.through(count)?,
            _ => through_driver(&medium(dir)?, depth, count)?,
        })
    })?;
    println!("{rate:.0}");
    Ok(())
}
