//! The NVMe driver beside a plain polled loop, over the same emulated controller.
//!
//! The controller is a process of its own on another core. `plain` is the loop without any
//! checks.

pub mod plain;

use crate::BLOCK;
use freehold_engine::emulator::{Backing, Emulator, Options, RegionOptions};
use freehold_engine::medium::{Completion, Medium, Op, Result};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a controller's process is told.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where it is served.
    pub socket: PathBuf,
    /// Bytes of its namespace.
    pub size: u64,
    /// It moves no data.
    pub null: bool,
    /// It offers shadow doorbells.
    pub shadow: bool,
    /// The core that it runs on.
    pub core: usize,
    /// How long it takes for a comparison.
    pub compare_ms: u64,
    /// Its namespace is a file beside the socket, and a flush is one of that file.
    pub disk: bool,
    /// Bytes of a Persistent Memory Region, in another file there; 0 for none.
    pub region: u64,
}

impl Target {
    /// A controller whose namespace moves no data, on the second core.
    pub fn null(socket: PathBuf, size: u64) -> Target {
        let (null, shadow, disk) = (true, true, false);
        Target { socket, size, null, shadow, core: 1, compare_ms: 0, disk, region: 0 }
    }

    /// The file of its namespace, and that of its region.
    pub fn files(&self) -> [PathBuf; 2] {
        ["img", "pmr"].map(|end| self.socket.with_extension(end))
    }

    /// As one word of a command line; [`Target::parse`] reads it.
    fn word(&self) -> String {
        let Target { size, null, shadow, core, compare_ms, disk, region, .. } = self;
        let [null, shadow, disk] = [null, shadow, disk].map(|b| u8::from(*b));
        format!("{size},{null},{shadow},{core},{compare_ms},{disk},{region}")
    }

    /// Reads the word that tells a process what to serve.
    pub fn parse(socket: &Path, word: &str) -> Option<Target> {
        let numbers: Vec<u64> = word.split(',').map(|n| n.parse().ok()).collect::<Option<_>>()?;
        let [size, null, shadow, core, compare_ms, disk, region] = numbers[..] else {
            return None;
        };
        let [null, shadow, disk] = [null, shadow, disk].map(|n| n != 0);
        let (socket, core) = (socket.to_owned(), core as usize);
        Some(Target { socket, size, null, shadow, core, compare_ms, disk, region })
    }

    /// Serves it until the process is killed.
    ///
    /// # Errors
    /// What keeps it from being served.
    pub fn serve(&self) -> Result<()> {
        bind(self.core);
        let _ =
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
        let mut options = Options::new(&self.socket, self.size);
        let [image, region] = self.files();
        options.backing = match (self.null, self.disk) {
            (true, _) => Backing::Null,
            (false, true) => Backing::File(image),
            (false, false) => Backing::Memory,
        };
        if self.region > 0 {
            options.region = Some(RegionOptions::new(region, self.region));
        }
        options.shadow_doorbells = self.shadow;
        if self.compare_ms > 0 {
            options.faults.push(format!("delay:ms={},op=compare", self.compare_ms).parse()?);
        }
        let mut emulator = Emulator::new(&options)?;
        emulator.serve(&std::sync::atomic::AtomicBool::new(false))?;
        Ok(())
    }
}

/// A controller in a process of its own, which ends with this value.
#[derive(Debug)]
pub struct Served {
    child: Child,
    socket: PathBuf,
}

impl Served {
    /// Has `program` serve it (which calls [`Target::serve`] when it finds `--serve-nvme`),
    /// and waits until it can be connected to.
    ///
    /// # Errors
    /// What keeps it from starting.
    pub fn start(program: &Path, target: &Target) -> std::io::Result<Served> {
        let _ = std::fs::remove_file(&target.socket);
        let child = Command::new(program)
            .arg("--work")
            .arg(target.socket.parent().unwrap_or(Path::new(".")))
            .arg("--serve-nvme")
            .arg(&target.socket)
            .arg(target.word())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        let mut served = Served { child, socket: target.socket.clone() };
        let give_up = Instant::now() + Duration::from_secs(20);
        while !target.socket.exists() {
            if let Some(status) = served.child.try_wait()? {
                return Err(std::io::Error::other(format!("the controller ended: {status}")));
            }
            if Instant::now() > give_up {
                return Err(std::io::Error::other("the controller does not come up"));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(served)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// Binds the calling thread to a core, if the system lets it.
fn bind(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    let _ = sched_setaffinity(None, &set);
}

/// Runs work on a thread of its own that is bound to the first core.
pub fn on_first_core<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            bind(0);
            work()
        });
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A place that is somewhere else each time, below `blocks`.
#[inline]
pub fn place(i: u64, blocks: u64) -> u64 {
    ((i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) * blocks) >> 32
}

/// Reads `count` blocks at random places through a medium's queue, `depth` at a time;
/// gives how many a second.
///
/// # Errors
/// What a read reports.
pub fn through_driver(medium: &Arc<dyn Medium>, depth: u32, count: u64) -> Result<f64> {
    let blocks = medium.geometry().blocks;
    let mut queue = medium.queue(depth)?;
    let mut begun = 0;
    let mut done = Vec::with_capacity(depth as usize);
    let start = Instant::now();
    for _ in 0..u64::from(depth).min(count) {
        let buf = medium.pool().take(BLOCK as usize)?;
        let op = Op::Read { at: place(begun, blocks), buf };
        queue.submit(begun, op).map_err(refused)?;
        begun += 1;
    }
    let mut ended = 0;
    while ended < count {
        if queue.poll(&mut done) == 0 {
            std::hint::spin_loop();
            continue;
        }
        while let Some(Completion { result, buf, .. }) = done.pop() {
            result?;
            ended += 1;
            if begun < count
                && let Some(buf) = buf
            {
                let op = Op::Read { at: place(begun, blocks), buf };
                queue.submit(begun, op).map_err(refused)?;
                begun += 1;
            }
        }
    }
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

fn refused(rejected: freehold_engine::medium::Rejected) -> freehold_engine::medium::Error {
    rejected.error.unwrap_or_else(|| {
        let kind = freehold_engine::medium::ErrorKind::Busy;
        freehold_engine::medium::Error::new(kind, "the queue took no more")
    })
}

/// Writes all of a medium, so that every block that is read later has memory of its own.
///
/// # Errors
/// What a write reports.
pub fn fill(medium: &Arc<dyn Medium>) -> Result<()> {
    const PIECE: u64 = 128;
    let mut queue = medium.queue(1)?;
    let mut done = Vec::with_capacity(1);
    let mut buf = medium.pool().take((PIECE * BLOCK) as usize)?;
    buf.fill(0xa5);
    for at in (0..medium.geometry().blocks / PIECE).map(|i| i * PIECE) {
        queue.submit(0, Op::Write { at, buf, fua: false }).map_err(refused)?;
        while queue.poll(&mut done) == 0 {}
        let Some(end) = done.pop() else { return Ok(()) };
        end.result?;
        let Some(back) = end.buf else { return Ok(()) };
        buf = back;
    }
    Ok(())
}

/// Seconds that this process and another one ran while a command was waited for that its
/// device took a long time over, and how long that was.
///
/// # Errors
/// What the medium reports.
pub fn idle(medium: &Arc<dyn Medium>, other: u32) -> Result<(f64, f64, f64)> {
    let mut queue = medium.queue(1)?;
    let mut done = Vec::with_capacity(1);
    let buf = medium.pool().take(BLOCK as usize)?;
    queue.submit(0, Op::Compare { at: 0, buf }).map_err(refused)?;
    queue.ring();
    // Both have had time to fall asleep.
    queue.wait(Some(Duration::from_millis(100)))?;
    let (own, theirs, start) = (ran("self"), ran(&other.to_string()), Instant::now());
    while queue.poll(&mut done) == 0 {
        queue.wait(None)?;
    }
    let took = start.elapsed().as_secs_f64();
    Ok((ran("self") - own, ran(&other.to_string()) - theirs, took))
}

/// Seconds that another process ran while nothing was asked of the medium that it serves
/// for a while, and how long that was.
pub fn unasked(medium: &Arc<dyn Medium>, other: u32) -> (f64, f64) {
    let pid = other.to_string();
    std::thread::sleep(Duration::from_millis(200));
    let (before, start) = (ran(&pid), Instant::now());
    std::thread::sleep(Duration::from_secs(1));
    let found = (ran(&pid) - before, start.elapsed().as_secs_f64());
    debug_assert!(medium.losses() == 0);
    found
}

/// Seconds that a process has run, as the scheduler counts; by ticks where it does not.
fn ran(pid: &str) -> f64 {
    let text = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
    let exact = || text("schedstat")?.split(' ').next()?.parse::<f64>().ok();
    if let Some(ns) = exact() {
        return ns / 1e9;
    }
    let stat = text("stat").unwrap_or_default();
    // The name in parentheses may have blanks.
    let rest = stat.rsplit(") ").next().unwrap_or_default();
    let ticks: f64 = rest.split(' ').skip(11).take(2).filter_map(|n| n.parse::<f64>().ok()).sum();
    ticks / rustix::param::clock_ticks_per_second() as f64
}
