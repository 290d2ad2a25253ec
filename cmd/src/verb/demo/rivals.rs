//! The same files on XFS and btrfs, each on a loop device in the same
//! directory, reflinked in the same way: FICLONE and fsync.

use super::stage::Stage;
use super::timing::{Timed, median};
use crate::failure::{Failure, Outcome};
use crate::verb::work::BLOCK;
use crate::{output, pattern, size, table};
use rustix::fs::{FallocateFlags, SeekFrom, fallocate, ioctl_ficlone, seek};
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// A file system that can share extents.
struct Rival {
    name: &'static str,
    mkfs: &'static [&'static str],
}

const RIVALS: [Rival; 2] = [
    Rival { name: "XFS", mkfs: &["mkfs.xfs", "-q", "-f", "-K", "-m", "reflink=1"] },
    Rival { name: "btrfs", mkfs: &["mkfs.btrfs", "-q", "-f", "-K"] },
];

/// How often a reflink that takes less than a second is timed.
const TIMES: usize = 5;

/// Measures the rivals and prints all times side by side.
pub(super) fn compare(stage: &mut Stage, ours: &[Timed]) -> Outcome {
    if !rustix::process::geteuid().is_root() {
        return Err(Failure::usage("--compare mounts file systems: run it as root"));
    }
    let mut columns = Vec::new();
    for rival in &RIVALS {
        let start = Instant::now();
        let result = measure(stage, rival, ours);
        let text = match &result {
            Ok(_) => "measured on a loop device".to_string(),
            Err(why) => format!("not measured here: {why}"),
        };
        stage.say(rival.name, start, text)?;
        columns.push(result.ok());
    }
    output::line("")?;
    let mut heads = vec![">extents".to_string(), ">Freehold".to_string()];
    for rival in &RIVALS {
        heads.extend([format!(">{}", rival.name), ">ratio".to_string()]);
    }
    let mut rows = table::new(&heads.iter().map(String::as_str).collect::<Vec<_>>());
    for (i, our) in ours.iter().enumerate() {
        let mut row = vec![size::count(our.extents), size::time(our.reflink)];
        for column in &columns {
            let time = column.as_ref().and_then(|times| times.get(i));
            row.push(time.map_or("not measured here".into(), |time| size::time(*time)));
            let ratio = |time: &Duration| time.as_secs_f64() / our.reflink.as_secs_f64().max(1e-9);
            row.push(time.map_or(String::new(), |time| format!("{:.1}x", ratio(time))));
        }
        rows.add_row(row);
    }
    table::print(&rows)
}

/// Makes the file system, fills it, and times one reflink for each number of
/// extents. What is mounted here is also known to the janitor.
fn measure(stage: &mut Stage, rival: &Rival, ours: &[Timed]) -> Result<Vec<Duration>, String> {
    let image = stage.dir.join(format!("{}.image", rival.name));
    let mount = stage.dir.join(format!("{}.mount", rival.name));
    // Much room in a sparse file: near its end a file system is slow for other reasons.
    let capacity = ours.iter().map(|our| our.extents * BLOCK).sum::<u64>() + (16 << 30);
    let made = File::create(&image).and_then(|file| file.set_len(capacity));
    made.and_then(|()| std::fs::create_dir(&mount)).map_err(|error| error.to_string())?;
    command(Command::new(rival.mkfs[0]).args(&rival.mkfs[1..]).arg(&image))?;
    stage.janitor.mount(&mount).map_err(|failure| failure.to_string())?;
    command(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&mount))?;
    let times = ours.iter().map(|our| reflinks(&mount, our.extents, stage.seed)).collect();
    // The janitor unmounts as well, should this fail.
    command(Command::new("umount").arg(&mount))?;
    std::fs::remove_file(&image).map_err(|error| error.to_string())?;
    times
}

/// Runs a program; an error tells what it said.
fn command(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("{name}: {}", said.lines().next().unwrap_or("failed without a word")))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(format!("{name} is not installed"))
        }
        Err(error) => Err(format!("{name}: {error}")),
    }
}

/// The time of a durable reflink of a file of so many extents.
fn reflinks(mount: &Path, extents: u64, seed: u64) -> Result<Duration, String> {
    let path = mount.join(format!("extents-{extents}"));
    let fail = |error: std::io::Error| format!("{}: {error}", path.display());
    let file = make(&path, extents, seed).map_err(fail)?;
    let has = count(&file, extents).map_err(|error| fail(error.into()))?;
    if has != extents {
        return Err(format!("the file got {has} extents, not {extents}"));
    }
    let mut times = Vec::new();
    for i in 0..TIMES {
        let copy = File::create_new(mount.join(format!("copy-{extents}-{i}"))).map_err(fail)?;
        let start = Instant::now();
        ioctl_ficlone(&copy, &file).map_err(|error| fail(error.into()))?;
        copy.sync_all().map_err(fail)?;
        times.push(start.elapsed());
        if start.elapsed() > Duration::from_secs(1) {
            break;
        }
    }
    Ok(median(times))
}

/// The same file as `work::make_extents` makes: every second block written, those
/// between allocated.
fn make(path: &Path, extents: u64, seed: u64) -> std::io::Result<File> {
    let file = File::options().read(true).write(true).create_new(true).open(path)?;
    // Without a size set ahead, a file system may allocate the holes along.
    file.set_len(extents * BLOCK)?;
    let mut buf = vec![0; BLOCK as usize];
    for i in 0..extents.div_ceil(2) {
        pattern::page(seed, i, &mut buf);
        file.write_all_at(&buf, i * 2 * BLOCK)?;
    }
    file.sync_all()?;
    fallocate(&file, FallocateFlags::empty(), 0, extents * BLOCK)?;
    file.sync_all()?;
    Ok(file)
}

/// Counts extents: written ones are data, unwritten ones look like holes.
fn count(file: &File, extents: u64) -> Result<u64, Errno> {
    let size = extents * BLOCK;
    let (mut at, mut found) = (0, 0);
    while at < size {
        let start = match seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => size,
            Err(error) => return Err(error),
        };
        found += u64::from(start > at);
        if start < size {
            at = seek(file, SeekFrom::Hole(start))?;
            found += 1;
        } else {
            at = size;
        }
    }
    Ok(found)
}
