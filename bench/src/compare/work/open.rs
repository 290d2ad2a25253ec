//! How long a store takes to open that was not closed.

use super::Site;
use crate::bed::{self, BLOCK, Bed, Ours};
use crate::drive::{Limit, Rng, drive};
use crate::outcome::Outcome;
use crate::results::{Results, Side};
use crate::stage::{Stage, command};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

pub(crate) const HOW: &str = "Small writes to random holes of a sparse file, and one sync. \
    Freehold: the store is let go of without closing, as a killed process would, and opened. XFS \
    and btrfs: the image behind the loop device is copied while the file system is \
    mounted and idle, which is what a crash would have left, and the copy is mounted. The first \
    number is the size of the device, the second how many writes there were.";

pub(crate) fn run(site: &Site<'_>, side: Side, results: &mut Results) -> Outcome {
    for &size in site.scale.opened {
        for &fill in site.scale.fills {
            let stage = site.stage.beside(site.dir, "opened", size)?;
            let time = match side {
                Side::Freehold => ours(&stage, size, fill, site.round, results)?,
                _ => theirs(&stage, site.dir, side, size, fill)?,
            };
            results.time("open", case(size, fill), side, time);
        }
    }
    Ok(())
}

fn case(size: u64, fill: u64) -> String {
    let gib = size >> 30;
    match gib {
        0 => format!("{} MiB, {fill} writes", size >> 20),
        1024 => format!("1 TiB, {fill} writes"),
        _ => format!("{gib} GiB, {fill} writes"),
    }
}

/// One-block writes to random places of as large a file as is sensible.
fn fill_holes(bed: &dyn Bed, size: u64, count: u64) -> Outcome {
    let span = (size / BLOCK).min(1 << 26);
    let mut rng = Rng::new(size ^ count);
    let limit = Limit { time: Duration::MAX, count };
    let mut target = bed.target("file", 64)?;
    drive(target.as_mut(), 64, true, limit, &mut || rng.below(span))?;
    Ok(())
}

fn ours(
    stage: &Stage,
    size: u64,
    fill: u64,
    round: usize,
    results: &mut Results,
) -> Outcome<Duration> {
    let bed = Ours::new(stage)?;
    bed.put("file", 0, BLOCK)?;
    bed.settle()?;
    fill_holes(&bed, size, fill)?;
    bed.file("file")?.sync()?;
    drop(bed);
    let start = Instant::now();
    let store = stage.open()?;
    let time = start.elapsed();
    let r = store.recovery();
    if round == 0 {
        let text = format!(
            "Freehold, {}: {} records in {} KiB of journal were replayed",
            case(size, fill),
            r.records,
            r.journal_bytes / 1024
        );
        results.note("open", text);
    }
    Ok(time)
}

fn theirs(stage: &Stage, dir: &Path, side: Side, size: u64, fill: u64) -> Outcome<Duration> {
    let copy = dir.join("crashed");
    {
        let bed = bed::make(stage, side)?;
        bed.put("file", 0, BLOCK)?;
        bed.settle()?;
        if fill > 0 {
            let path = stage.image().with_extension("mount").join("file");
            std::fs::File::options().write(true).open(&path)?.set_len(size.min(1 << 38))?;
            fill_holes(bed.as_ref(), size, fill)?;
            std::fs::File::open(&path)?.sync_all()?;
        }
        let args = ["--sparse=always", "--reflink=auto"];
        command(Command::new("cp").args(args).arg(stage.image()).arg(&copy))?;
    }
    // Two of the same identity at once are refused: the first one goes.
    stage.raw()?;
    let crashed = Stage::adopt(&copy)?;
    let start = Instant::now();
    let mount = crashed.mount(side)?;
    let time = start.elapsed();
    drop(mount);
    Ok(time)
}
