//! In a guest of `tests/qemu`: the kernel's driver and ours on the same controllers, the
//! kernel's persistent memory and ours (`guest`).

use super::Site;
use crate::outcome::{Outcome, fail};
use crate::results::{Results, Side, Unit};
use freehold::{FormatOptions, Memory, OpenOptions, Store};
use freehold_bench::guest::fio::Job;
use freehold_bench::guest::{block_device, calls, dax, hand, ours, run as tool};
use freehold_engine::bus::Counted;
use freehold_engine::medium::Medium;
use freehold_engine::nvme::{Timeouts, open_on};
use freehold_engine::vfio::{self, Vfio};
use freehold_engine::{FormatOptions as MediumFormat, format_target};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub(crate) const HOW: &str = "A guest of QEMU with an emulated IOMMU (`./tests/qemu bench`), all of \
    it in one boot: the kernel's NVMe driver with fio (raw device and a file on XFS, O_DIRECT), and \
    ours over the kernel's VFIO, take turns on the same controllers; those with a Controller Memory \
    Buffer have their submission queues there, the others in host memory. 4 KiB at random places of \
    32 MiB, or of the whole namespace where it says raw or medium. Durable writes are one at a time: \
    O_DSYNC for the kernel; for us overwrites are `Queue::write_durable`, or copied and flushed through \
    a lease's window, and appends `write_durable_at`. Persistent memory is an emulated NVDIMM: files \
    on ext4 and XFS mounted with DAX against a store on the same device. A barrier of QEMU's \
    region is an msync of all of its file on the host. System calls are counted by strace in runs \
    that are not timed: what a longer one makes more than a short one, for each operation. Ratios are of one round each, their spread is \
    that of the rounds.";

/// The controller with a Controller Memory Buffer and a region.
const FIRST: &str = "0000:00:10.0";
/// Where the one sits that has neither.
const PORT: &str = "/sys/bus/pci/devices/0000:00:08.0";
const DEPTHS: [u32; 2] = [1, 32];

/// Rows of which the first is ours and the second what it is held against.
pub(crate) const RIVALS: &[(&str, &str)] = &[
    ("reads QD1: through a lease", "reads QD1: kernel, raw, io_uring"),
    ("reads QD32: through a lease", "reads QD32: kernel, raw, io_uring"),
    ("reads QD1: through a lease", "reads QD1: kernel, raw, libaio"),
    ("reads QD32: through a lease", "reads QD32: kernel, raw, libaio"),
    ("durable overwrite: ours", "durable overwrite: kernel, XFS"),
    ("pmem overwrite: ours", "pmem overwrite: ext4"),
    ("pmem overwrite: ours", "pmem overwrite: XFS"),
    ("pmem overwrite: ours, through a lease", "pmem overwrite: ext4"),
    ("pmem overwrite: ours, through a lease", "pmem overwrite: XFS"),
    ("pmem append: ours", "pmem append: ext4"),
    ("pmem append: ours", "pmem append: XFS"),
    ("pmem overwrite after a reflink: ours", "pmem overwrite after a reflink: XFS"),
];

/// The values of one round, by row.
struct Round<'a> {
    side: Side,
    site: &'a Site<'a>,
    results: &'a mut Results,
    seen: BTreeMap<String, f64>,
}

impl Round<'_> {
    fn rate(&mut self, row: impl Into<String>, value: f64) {
        let row = row.into();
        self.results.add("guest", row.clone(), Unit::PerSecond, self.side, value);
        self.seen.insert(row, value);
    }

    fn number(&mut self, row: impl Into<String>, value: f64) {
        self.results.add("guest", row, Unit::Number, self.side, value);
    }

    fn note(&mut self, text: String) {
        self.results.note("guest", text);
    }

    /// System calls for each operation of a row: once, since another round would find the same.
    fn calls(&mut self, row: &str, count: impl FnOnce(&Path) -> io::Result<f64>) -> Outcome {
        if self.site.round == 0 {
            let found = count(self.site.dir)?;
            self.number(format!("system calls for each: {row}"), found);
        }
        Ok(())
    }

    /// How many times better the first row is than the best of the others.
    fn ratio(&mut self, ours: &str, theirs: &[&str]) {
        let best = theirs.iter().filter_map(|row| self.seen.get(*row)).copied();
        let best = best.fold(0.0, f64::max);
        if let Some(ours_rate) = self.seen.get(ours).filter(|_| best > 0.0) {
            let (value, names) = (ours_rate / best, theirs.join(" and "));
            self.number(format!("times: {ours} / {names}"), value);
        }
    }
}

pub(crate) fn run(site: &Site<'_>, side: Side, results: &mut Results) -> Outcome {
    if std::env::var_os("FREEHOLD_GUEST").is_none() {
        results.note("guest", "Not measured here: it is run in a guest, by ./tests/qemu bench.");
        return Ok(());
    }
    let mut round = Round { side, site, results, seen: BTreeMap::new() };
    kernel(&mut round)?;
    driver(&mut round)?;
    files(&mut round)?;
    persistent(&mut round)?;
    for depth in DEPTHS {
        let lease = format!("reads QD{depth}: through a lease");
        for rival in ["kernel, raw, io_uring", "kernel, raw, libaio", "kernel, XFS, io_uring"] {
            round.ratio(&lease, &[&format!("reads QD{depth}: {rival}")]);
        }
    }
    round.ratio("durable overwrite: ours", &["durable overwrite: kernel, XFS"]);
    round.ratio("durable append: ours, journal on the region", &["durable append: ours"]);
    for what in ["overwrite", "append", "overwrite after a reflink"] {
        let of = |who: &str| format!("pmem {what}: {who}");
        round.ratio(&of("ours"), &[&of("ext4"), &of("XFS")]);
    }
    let theirs = ["pmem overwrite: ext4", "pmem overwrite: XFS"];
    round.ratio("pmem overwrite: ours, through a lease", &theirs);
    Ok(())
}

/// The kernel's driver: raw, and a file on XFS.
fn kernel(round: &mut Round<'_>) -> Outcome {
    hand("unbind", FIRST)?;
    let device = block_device(FIRST)?;
    let mut read = |path: &str, who: &str, engines: &[&str]| -> Outcome {
        for depth in DEPTHS {
            for engine in engines {
                let job = Job { path, engine, depth, durable_writes: false };
                let row = format!("reads QD{depth}: kernel, {who}, {engine}");
                round.rate(&row, job.rate()?);
                round.calls(&row, |folder| job.calls(folder))?;
            }
        }
        let job = Job { path, engine: "io_uring", depth: 1, durable_writes: true };
        let row = format!("durable overwrite: kernel, {who}");
        round.rate(&row, job.rate()?);
        round.calls(&row, |folder| job.calls(folder))
    };
    read(&device, "raw", &["io_uring", "libaio"])?;
    tool("mkfs.xfs", &["-q", "-f", &device])?;
    let at = mount(&device, &[])?;
    let path = format!("{at}/f");
    tool("dd", &["if=/dev/zero", &format!("of={path}"), "bs=1M", "count=32", "conv=fsync"])?;
    let done = read(&path, "XFS", &["io_uring"]);
    tool("umount", &[&at])?;
    done
}

fn mount(device: &str, options: &[&str]) -> Outcome<String> {
    let at = format!("/run/mnt/{}", device.rsplit('/').next().unwrap_or("device"));
    std::fs::create_dir_all(&at)?;
    tool("mount", &[options, &[device, &at]].concat())?;
    Ok(at)
}

/// Our driver alone, with its queues in both places.
fn driver(round: &mut Round<'_>) -> Outcome {
    let entries = std::fs::read_dir(PORT)?.filter_map(|e| Some(e.ok()?.file_name()));
    let mut names = entries.map(|name| name.to_string_lossy().into_owned());
    let second = names.find(|name| name.starts_with("0000:") && name.ends_with(".0"));
    let second = second.ok_or("there is no second controller")?;
    for (bdf, place) in [(FIRST, "in the CMB"), (&second, "in host memory")] {
        hand("bind", bdf)?;
        let medium = fresh(&format!("nvme:{bdf}"))?;
        for depth in DEPTHS {
            let rate = ours::raw(&medium, depth)?;
            round.rate(format!("reads QD{depth}: medium, queues {place}"), rate);
        }
        drop(medium);
        // Each is a write to the controller, and nothing else is; no system call is made for
        // any, but for this count, in which each is one.
        let counted = Counted::all(Vfio::open(bdf, vfio::Options::default())?, 0x1000);
        let bells = counted.count();
        let medium = open_on(Arc::new(counted), 1, Timeouts::default(), true)?;
        for depth in DEPTHS {
            let before = bells.load(Ordering::Relaxed);
            freehold_bench::nvme::through_driver(&medium, depth, 2000)?;
            let each = (bells.load(Ordering::Relaxed) - before) as f64 / 2000.0;
            round.number(format!("doorbells for each read, QD{depth}, queues {place}"), each);
        }
    }
    Ok(())
}

fn fresh(uri: &str) -> Outcome<Arc<dyn Medium>> {
    Ok(format_target(uri, &MediumFormat { force: true, ..MediumFormat::default() })?)
}

fn store(uri: &str) -> Outcome<Store> {
    Ok(Store::format(uri, &FormatOptions { force: true, ..FormatOptions::default() })?)
}

/// Files of our stores: on a namespace, with the journal there and on the region, and on the
/// region itself.
fn files(round: &mut Round<'_>) -> Outcome {
    let plain = store(&format!("nvme:{FIRST}"))?;
    let file = ours::file(&plain)?;
    for depth in DEPTHS {
        let rate = ours::fills(&plain, &file, depth, Memory::Dma)?;
        round.rate(format!("reads QD{depth}: through a lease"), rate);
        let rate = ours::reads(&plain, &file, depth, Memory::Dma)?;
        round.rate(format!("reads QD{depth}: by offset"), rate);
        let rate = ours::fills(&plain, &file, depth, Memory::Cmb)?;
        round.rate(format!("reads QD{depth}: through a lease, data in the CMB"), rate);
    }
    round.rate("durable overwrite: ours", ours::overwrites(&plain, &file)?);
    round.rate("durable append: ours", ours::appends(&plain)?);
    drop(file);
    plain.close()?;
    calls_of_ours(round)?;
    drop(fresh(&format!("pmr:{FIRST}"))?);
    let apart = store(&format!("nvme:{FIRST}?journal=pmr"))?;
    let file = ours::file(&apart)?;
    let rate = ours::overwrites(&apart, &file)?;
    round.rate("durable overwrite: ours, journal on the region", rate);
    round.rate("durable append: ours, journal on the region", ours::appends(&apart)?);
    drop(file);
    apart.close()?;
    let region = store(&format!("pmr:{FIRST}"))?;
    let file = ours::file(&region)?;
    round.rate(
        "reads QD1: by offset, data in the PMR",
        ours::reads(&region, &file, 1, Memory::Dma)?,
    );
    round.rate("durable overwrite: ours, on the region", ours::overwrites(&region, &file)?);
    drop(file);
    Ok(region.close()?)
}

/// System calls for each operation on a store, in the loops of the table.
fn calls_of_ours(round: &mut Round<'_>) -> Outcome {
    let program = std::env::current_exe()?;
    let program = program.to_str().ok_or("a program whose name is not UTF-8")?;
    let uri = format!("nvme:{FIRST}");
    let made = store(&uri)?;
    drop(ours::file(&made)?);
    made.close()?;
    let works = [("fills", "through a lease"), ("reads", "by offset")];
    let reads = works.iter().flat_map(|(work, name)| {
        DEPTHS.map(|depth| (*work, depth, format!("reads QD{depth}: {name}")))
    });
    let writes = [("overwrites", 1, "durable overwrite: ours".to_owned())];
    let folder = round.site.dir.to_str().ok_or("a folder whose name is not UTF-8")?;
    for (work, depth, row) in reads.chain(writes) {
        let arguments = |times: u64| {
            let all = format!("--work {folder} --guest-loop {uri} {work} {depth} {times}");
            all.split(' ').map(str::to_owned).collect()
        };
        let done = |all: &Value| all["operations"].as_u64();
        round.calls(&row, |folder| calls::each(folder, program, arguments, done))?;
    }
    Ok(())
}

/// One of those loops so many times, in a process of its own; prints how often the device was
/// asked.
pub(crate) fn looped(words: &[String]) -> Outcome {
    let [uri, work, depth, times] = words else { return fail("four words") };
    let (depth, times): (u32, u64) = (depth.parse()?, times.parse()?);
    let store = Store::open(uri, &OpenOptions::default())?;
    let file = store.open_file(b"f")?;
    for _ in 0..times {
        match work.as_str() {
            "fills" => ours::fills(&store, &file, depth, Memory::Dma)?,
            "reads" => ours::reads(&store, &file, depth, Memory::Dma)?,
            _ => ours::overwrites(&store, &file)?,
        };
    }
    let stats = store.stats();
    println!("{}", json!({ "operations": stats.device_reads + stats.device_writes }));
    Ok(())
}

/// Persistent memory: two file systems of the kernel, and ours on the same device.
fn persistent(round: &mut Round<'_>) -> Outcome {
    let device = "/dev/pmem0";
    // A fresh one is raw, and no file system has DAX on it.
    let dax = std::fs::read_to_string("/sys/block/pmem0/queue/dax").unwrap_or_default();
    if dax.trim() != "1" {
        let namespace = ["create-namespace", "-f", "-e", "namespace0.0"];
        tool("ndctl", &[&namespace[..], &["-m", "fsdax", "-M", "mem"]].concat())?;
    }
    for (name, make) in [("ext4", "mkfs.ext4"), ("XFS", "mkfs.xfs")] {
        // Blocks of less than a page have no DAX.
        let options: &[&str] = if name == "XFS" { &["-f"] } else { &["-F", "-b", "4096"] };
        tool(make, &[&["-q"], options, &[device]].concat())?;
        let at = match mount(device, &["-o", "dax"]) {
            Ok(at) => at,
            Err(why) if name == "ext4" => return Err(why),
            Err(_) => {
                // Kernels before 6.0 do not have both.
                tool(make, &["-q", "-f", "-m", "reflink=0", device])?;
                mount(device, &["-o", "dax"])?
            }
        };
        let folder = Path::new(&at);
        let file = dax::file(folder)?;
        round.rate(format!("pmem overwrite: {name}"), dax::overwrites(&file)?);
        round.rate(format!("pmem append: {name}"), dax::appends(folder)?);
        match dax::overwrites_after_reflink(folder, &file) {
            Ok(rate) => round.rate(format!("pmem overwrite after a reflink: {name}"), rate),
            Err(e) => round.note(format!("{name} with DAX does not reflink here: {e}")),
        }
        drop(file);
        if name == "XFS" {
            ours_on_dax(&at, round)?;
        }
        tool("umount", &[&at])?;
    }
    Ok(())
}

/// Ours, in a file of the last of them.
fn ours_on_dax(folder: &str, round: &mut Round<'_>) -> Outcome {
    let uri = format!("pmem:{folder}/store?exclusive=1");
    let options = FormatOptions { size: Some(256 << 20), force: true, ..FormatOptions::default() };
    let store = Store::format(&uri, &options)?;
    let file = ours::file(&store)?;
    round.rate("pmem overwrite: ours", ours::overwrites(&store, &file)?);
    round.rate("pmem overwrite: ours, through a lease", ours::overwrites_by_lease(&file)?);
    round.rate("pmem append: ours", ours::appends(&store)?);
    round.rate(
        "pmem overwrite after a reflink: ours",
        ours::overwrites_after_reflink(&store, &file)?,
    );
    drop(file);
    store.close()?;
    Ok(std::fs::remove_file(format!("{folder}/store"))?)
}
