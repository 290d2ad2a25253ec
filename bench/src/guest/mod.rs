//! What is measured in a guest of `tests/qemu`: our driver over the kernel's VFIO beside the
//! kernel's own on the same controller, and our persistent memory beside the kernel's.
//!
//! `fio` holds what the kernel's side is asked for, `ours` what ours is, `dax` both sides of
//! persistent memory; `calls` counts the system calls of either.

pub mod calls;
pub mod dax;
pub mod fio;
pub mod ours;

use std::io;
use std::process::Command;
use std::time::{Duration, Instant};

/// How long each value is measured.
pub const TIME: Duration = Duration::from_millis(1500);

/// Runs a program and demands that it succeeds; what it has printed.
///
/// # Errors
/// Its status, with what it said.
pub fn run(program: &str, args: &[&str]) -> io::Result<String> {
    let output = Command::new(program).args(args).output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(io::Error::other(format!("{program} {args:?}: {}: {said}", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Gives a controller to VFIO, or back to the kernel's driver; the program does it.
///
/// # Errors
/// What the program says.
pub fn hand(verb: &str, bdf: &str) -> io::Result<()> {
    let program = std::env::var("FREEHOLD_PROGRAM").unwrap_or_else(|_| "freehold".into());
    run(&program, &[verb, bdf]).map(drop)
}

/// The kernel's block device of a controller's first namespace, when it has come up.
///
/// # Errors
/// That it does not.
pub fn block_device(bdf: &str) -> io::Result<String> {
    let folder = format!("/sys/bus/pci/devices/{bdf}/nvme");
    for _ in 0..500 {
        let entry = std::fs::read_dir(&folder).ok().and_then(|mut all| all.next()?.ok());
        if let Some(entry) = entry {
            let path = format!("/dev/{}n1", entry.file_name().to_string_lossy());
            if std::fs::metadata(&path).is_ok() {
                return Ok(path);
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(io::Error::other(format!("the kernel's driver shows no namespace of {bdf}")))
}

/// Operations a second, one after the other, each given its number.
///
/// # Errors
/// What an operation reports.
pub fn timed<E>(mut one: impl FnMut(u64) -> Result<(), E>) -> Result<f64, E> {
    let begun = Instant::now();
    let mut n = 0;
    while begun.elapsed() < TIME {
        one(n)?;
        n += 1;
    }
    Ok(n as f64 / begun.elapsed().as_secs_f64())
}

/// Operations a second: `work` does so many and says how long it took. The count is raised
/// until it takes long enough.
///
/// # Errors
/// What the work reports.
pub fn rate<E>(mut work: impl FnMut(u64) -> Result<Duration, E>) -> Result<f64, E> {
    let mut count = 64;
    loop {
        let took = work(count)?;
        if took >= TIME {
            return Ok(count as f64 / took.as_secs_f64());
        }
        let factor = TIME.as_secs_f64() / took.as_secs_f64().max(1e-6);
        count = (count as f64 * (factor * 1.1).clamp(1.2, 50.0)) as u64;
    }
}
