//! The same promises on an NVMe controller: an emulated one, in a process of its own, that
//! our own driver polls over vfio-user. Its write cache is volatile, so killing it is a
//! power cut: what was not flushed is lost, torn or written out of order. Once with the
//! namespace alone; once with memory of the controller: the journal in its Persistent Memory
//! Region, and buffers in its memory buffer (`through` uses these).

use super::expected::{Expected, Source};
use super::kill::{clean, records};
use super::stage::Stage;
use super::through;
use super::writer::{LOG, record};
use super::{DATABASE, copy_name};
use crate::failure::{Failure, Outcome};
use crate::pattern::{self, Rng};
use crate::verb::work;
use crate::{output, size};
use freehold::{ErrorKind, FormatOptions, OpenOptions, Store};
use freehold_engine::emulator::{Backing, CmbOptions, Emulator, Options, RegionOptions};
use freehold_engine::uri::encode;
use rustix::process::Signal;
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Logical blocks of the controller: half a block of the store may be torn.
const LBA: u32 = 512;

/// Bytes of its Persistent Memory Region. With a volatile cache a barrier looks at all of it.
const REGION: u64 = 2 << 20;

/// Bytes of its memory buffer.
const CMB: u64 = 2 << 20;

/// How long a controller may take to come up.
const PATIENCE: Duration = Duration::from_secs(20);

/// Serves a controller until it is killed.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The socket
    socket: PathBuf,
    /// The file with the namespace's bytes
    backing: PathBuf,
    /// Bytes of the namespace
    size: u64,
    /// What its cache's fate follows from
    #[arg(long)]
    seed: u64,
    /// A file for a Persistent Memory Region, beside which there is a memory buffer
    #[arg(long)]
    region: Option<PathBuf>,
}

/// What the controller has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Setting {
    /// A namespace.
    Plain,
    /// Memory that the processor reaches, too.
    Windows,
}

impl Setting {
    /// The word in front of its lines.
    fn word(self) -> &'static str {
        match self {
            Self::Plain => "nvme",
            Self::Windows => "pmr, cmb",
        }
    }

    /// A file of this one.
    fn file(self, stage: &Stage, kind: &str) -> PathBuf {
        let name = match self {
            Self::Plain => "plain",
            Self::Windows => "windows",
        };
        stage.dir.join(format!("{name}.{kind}"))
    }

    /// The store's name.
    fn uri(self, stage: &Stage) -> String {
        let socket = encode(self.file(stage, "sock").as_os_str().as_bytes());
        match self {
            Self::Plain => format!("vfio-user:{socket}"),
            Self::Windows => format!("vfio-user:{socket}?journal=pmr"),
        }
    }
}

/// The child's side.
pub(crate) fn serve(args: &Args) -> Outcome {
    // Without a parent there is nobody to kill us.
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    let mut options = Options::new(&args.socket, args.size);
    options.backing = Backing::File(args.backing.clone());
    options.volatile_cache = true;
    options.lba = LBA;
    options.seed = args.seed;
    if let Some(file) = &args.region {
        options.region = Some(RegionOptions::new(file, REGION));
        options.cmb = Some(CmbOptions::new(CMB));
    }
    let mut emulator = Emulator::new(&options).map_err(Failure::new)?;
    output::line("serving")?;
    emulator.serve(&AtomicBool::new(false)).map_err(Failure::new)?;
    Ok(())
}

/// What the power cuts have shown.
#[derive(Debug, Default)]
pub(super) struct Cuts {
    pub(super) rounds: u32,
    /// Records that were durable, all of which survived.
    pub(super) durable: u64,
}

/// A controller that lives in another process, which ends with this value.
struct Device(Child);

impl Device {
    fn start(stage: &Stage, setting: Setting, round: u64) -> Outcome<Device> {
        let fail = |error: std::io::Error| Failure::new(format!("cannot run a device: {error}"));
        let mut command = Command::new(std::env::current_exe().map_err(fail)?);
        command.arg("demo-device");
        if setting == Setting::Windows {
            command.arg("--region").arg(setting.file(stage, "region"));
        }
        let mut child = command
            .arg(setting.file(stage, "sock"))
            .arg(setting.file(stage, "namespace"))
            .arg(bytes(stage).to_string())
            .arg(format!("--seed={}", stage.seed ^ round))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(fail)?;
        let pipe = child.stdout.take();
        let device = Device(child);
        let mut line = String::new();
        if let Some(pipe) = pipe {
            BufReader::new(pipe).read_line(&mut line).map_err(fail)?;
        }
        if line.trim() != "serving" {
            return Err(Failure::new("the emulated device did not come up"));
        }
        Ok(device)
    }

    /// The power is cut.
    fn cut(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.cut();
    }
}

/// Bytes of the namespace: both files, the log, and the journal.
fn bytes(stage: &Stage) -> u64 {
    (stage.scale.device_pages * 4 * work::BLOCK + (128 << 20)).next_multiple_of(1 << 20)
}

/// Stores and reflinks files on the controller, cuts its power in the middle of durable
/// writes, and verifies everything after each cut.
pub(super) fn rounds(stage: &Stage, setting: Setting) -> Outcome<Cuts> {
    let start = Instant::now();
    let uri = setting.uri(stage);
    let mut device = Device::start(stage, setting, 0)?;
    let store = Store::format(&uri, &FormatOptions::default())
        .map_err(|error| Failure::open(&uri, &error))?;
    let model = store.device()?.into_iter().find(|fact| fact.name == "model");
    let model = model.map_or_else(|| "no model".to_owned(), |fact| fact.value.to_string());
    let text = match setting {
        Setting::Plain => format!("{model}, over vfio-user, polled by our own driver"),
        Setting::Windows => format!(
            "{model} with a memory buffer of {} and a persistent region of {}, which has the \
             journal",
            size::show(CMB),
            size::show(REGION)
        ),
    };
    stage.say(setting.word(), start, text)?;
    let start = Instant::now();
    let mut files = fill(stage, &store)?;
    let mut total = 0;
    for file in &files {
        total += file.verify(&store)?;
    }
    let text = format!("{} written, reflinked, overwritten, back and verified", size::show(total));
    stage.say(setting.word(), start, text)?;
    if setting == Setting::Windows {
        let start = Instant::now();
        let moved = through::copy(&store, &files[0])?;
        let text = format!(
            "{} from file to file by buffers in the controller's memory, verified",
            size::show(moved.verify(&store)?)
        );
        stage.say(setting.word(), start, text)?;
        files.push(moved);
    }
    store.create(LOG)?;
    store.close()?;
    let mut cuts = Cuts { rounds: stage.scale.cuts, durable: 0 };
    let mut rng = Rng::new(stage.seed ^ 3);
    let mut present = 0;
    for round in 1..=cuts.rounds {
        let start = Instant::now();
        let patience = Duration::from_millis(20 + rng.below(200));
        let durable = write_and_cut(stage, &uri, &mut device, (present, cuts.durable), patience)?;
        let lived = start.elapsed();
        device = Device::start(stage, setting, round.into())?;
        let store = open(&uri)?;
        let recovery = store.recovery().clone();
        present = records(&store.open_file(LOG)?, stage.seed, durable, "the log on the device")?;
        clean(&store)?;
        for file in &files {
            file.verify(&store)?;
        }
        store.close()?;
        let text = format!(
            "round {round}: after {} more made durable, {} replayed: all there, check clean",
            size::of(durable - cuts.durable, "record"),
            size::of(recovery.records, "record")
        );
        stage.say_took("power cut", lived, text)?;
        cuts.durable = durable;
    }
    Ok(cuts)
}

/// A database, and an overwritten reflink of it.
fn fill(stage: &Stage, store: &Store) -> Outcome<Vec<Expected>> {
    let pages = stage.scale.device_pages;
    let file = store.create(DATABASE)?;
    work::write_pieces(store, &file, work::BLOCK as usize, pages, |i, buf| {
        pattern::page(stage.seed, i, buf);
        i * work::BLOCK
    })?;
    let source = Source::Pages { seed: stage.seed, size: pages * work::BLOCK };
    let original = Expected::new(DATABASE.to_vec(), source.clone());
    let mut copy = Expected::new(copy_name(DATABASE), source);
    let copied = store.reflink(DATABASE, &copy.name)?;
    let mut rng = Rng::new(stage.seed ^ 4);
    for _ in 0..stage.scale.overwrites {
        let length = 1 + rng.below(2 * work::BLOCK);
        let offset = rng.below(copied.size() - length);
        let bytes = copy.patch(offset, length as usize, rng.next());
        copied.write_at(&bytes, offset)?;
    }
    store.sync()?;
    Ok(vec![original, copy])
}

/// Makes records durable, one by one, until the device's power is cut; gives how many
/// are. `present` records are in the log, of which `before` were known to be durable.
fn write_and_cut(
    stage: &Stage,
    uri: &str,
    device: &mut Device,
    (present, before): (u64, u64),
    patience: Duration,
) -> Outcome<u64> {
    let store = open(uri)?;
    let log = store.open_file(LOG)?;
    let mut end: u64 = (0..present).map(|n| record(stage.seed, n).len() as u64).sum();
    // What follows was being written when the power was cut.
    log.truncate(end)?;
    let (begun, mut number) = (AtomicBool::new(false), present);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let give_up = Instant::now() + PATIENCE;
            // Time counts from the first record, so that every round writes some.
            while !begun.load(Ordering::Acquire) && Instant::now() < give_up {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(patience);
            device.cut();
        });
        loop {
            let bytes = record(stage.seed, number);
            if log.write_at(&bytes, end).and_then(|()| log.sync()).is_err() {
                break;
            }
            end += bytes.len() as u64;
            number += 1;
            begun.store(true, Ordering::Release);
        }
    });
    if number == present {
        return Err(Failure::new("no record was made durable before the power was cut"));
    }
    Ok(number.max(before))
}

/// Opens the store. A device that has just come up may take a moment.
fn open(uri: &str) -> Outcome<Store> {
    let give_up = Instant::now() + PATIENCE;
    loop {
        match Store::open(uri, &OpenOptions::default()) {
            Ok(store) => return Ok(store),
            Err(error) if error.kind() == ErrorKind::Busy && Instant::now() < give_up => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => return Err(Failure::open(uri, &error)),
        }
    }
}
