//! Durable small writes with the journal on the namespace and on a region (`journal`).

use super::Site;
use crate::outcome::Outcome;
use crate::results::{Results, Side, Unit};
use freehold::{FormatOptions, Store};
use freehold_bench::nvme::{Served, Target, on_first_core, place};
use freehold_bench::{BLOCK, write_blocks};
use freehold_engine::uri::encode;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub(crate) const HOW: &str = "One writer, `write_durable_at` of 4 KiB, on our emulated controller \
    over vfio-user in a process bound to the second core; the writer is bound to the first. The \
    namespace is a file on this machine's disk, and each flush and each write with forced unit \
    access costs the controller an fdatasync of it. The region is a file that the store has \
    mapped; its barrier is a read of PMRSTS, a message to the controller and back, and costs no \
    fdatasync: the emulated region stands for memory with power behind it. Two stores of the same \
    kind take turns, that with `journal=pmr` and that with its journal on the namespace, \
    checkpoints included.";

/// Rows of which the first is ours and the second what it is held against.
pub(crate) const RIVALS: &[(&str, &str)] = &[
    ("durable overwrite, journal in the region", "durable overwrite, journal on the namespace"),
    ("durable append, journal in the region", "durable append, journal on the namespace"),
];

/// Bytes of the namespaces, and of the region.
const SIZE: u64 = 256 << 20;
const REGION: u64 = 16 << 20;
/// Blocks of the file that is overwritten.
const BLOCKS: u64 = 4096;
/// Turns in a round.
const TURNS: usize = 4;

pub(crate) fn run(site: &Site<'_>, side: Side, results: &mut Results) -> Outcome {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if cores < 2 {
        results.note("journal", "Not measured here: two cores are needed, one for the controller.");
        return Ok(());
    }
    let time = site.scale.time / 2;
    let bed = |key, region| Bed::new(site.dir.join(format!("journal{region}.sock")), key, region);
    let mut beds =
        [("in the region", bed("?journal=pmr", REGION)?), ("on the namespace", bed("", 0)?)];
    for _ in 0..TURNS {
        for (name, bed) in &mut beds {
            bed.turn(name, time, side, results)?;
        }
        // Whoever came first comes last.
        beds.reverse();
    }
    Ok(())
}

/// A store on a controller of its own.
struct Bed {
    store: Store,
    target: Target,
    appended: u64,
    _served: Served,
}

impl Bed {
    fn new(socket: PathBuf, key: &str, region: u64) -> Outcome<Bed> {
        let target = Target { null: false, disk: true, region, ..Target::null(socket, SIZE) };
        for file in target.files() {
            let _ = std::fs::remove_file(file);
        }
        let served = Served::start(&std::env::current_exe()?, &target)?;
        let name = encode(target.socket.as_os_str().as_bytes());
        let store = Store::format(&format!("vfio-user:{name}{key}"), &FormatOptions::default())?;
        let file = store.create(b"overwrite")?;
        write_blocks(&store, &file, 32, BLOCKS, |i| i)?;
        store.create(b"append")?;
        store.checkpoint()?;
        Ok(Bed { store, target, appended: 0, _served: served })
    }

    fn turn(&mut self, name: &str, time: Duration, side: Side, results: &mut Results) -> Outcome {
        let store = &self.store;
        let bytes = [0x5a; BLOCK as usize];
        for case in ["overwrite", "append"] {
            let file = store.open_file(case.as_bytes())?;
            let mut appended = self.appended;
            let rate = on_first_core(|| {
                let (mut done, start) = (0, Instant::now());
                while start.elapsed() < time {
                    let at = if case == "append" { appended } else { place(done, BLOCKS) };
                    file.write_durable_at(&bytes, at * BLOCK)?;
                    appended += u64::from(case == "append");
                    done += 1;
                }
                Ok::<_, freehold::Error>(done as f64 / start.elapsed().as_secs_f64())
            })?;
            self.appended = appended;
            let row = format!("durable {case}, journal {name}");
            results.add("journal", row, Unit::PerSecond, side, rate);
        }
        // The file does not fill the store.
        let file = store.open_file(b"append")?;
        file.truncate(0)?;
        self.appended = 0;
        Ok(())
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        for file in self.target.files() {
            let _ = std::fs::remove_file(file);
        }
    }
}
