//! `freehold demo`: shows what the store promises, with every byte verified.

pub(crate) mod device;
mod expected;
mod kill;
mod rivals;
mod stage;
mod through;
mod timing;
pub(crate) mod writer;

use super::{put, work};
use crate::failure::{Failure, Outcome};
use crate::pattern::Rng;
use crate::{output, pattern, size};
use device::Setting;
use expected::{Expected, Source};
use stage::{Scale, Stage};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Instant;

/// Show, with every byte verified, what the store promises.
///
/// Makes a store in a temporary directory, stores files, reflinks them,
/// overwrites the copies, kills a writer in the middle and recovers. Then the
/// same on an emulated NVMe controller, whose power it cuts; and once more with
/// the journal in its persistent memory and buffers in its own. Takes under a
/// minute and under 2 GiB.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Files to store besides the generated database (default: this program)
    files: Vec<PathBuf>,
    /// Make the same file on XFS and btrfs, on loop devices, and reflink it (needs root)
    #[arg(long)]
    compare: bool,
    /// Keep the directory with the store
    #[arg(long)]
    keep: bool,
    /// Where to make the directory (default: $TMPDIR, or /tmp)
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Seed of all random choices (default: drawn, and printed)
    #[arg(long)]
    seed: Option<u64>,
    /// A small setting, for tests
    #[arg(long, hide = true)]
    quick: bool,
}

/// The generated file's name.
const DATABASE: &[u8] = b"database";

/// The name of a file's copy.
fn copy_name(name: &[u8]) -> Vec<u8> {
    [b"copies/", name].concat()
}

pub(crate) fn run(args: &Args) -> Outcome {
    let scale = if args.quick { Scale::QUICK } else { Scale::FULL };
    let mut files = args.files.clone();
    if files.is_empty() {
        files.push(std::env::current_exe().map_err(Failure::new)?);
    }
    let mut stage = Stage::open(args, scale, &files)?;
    let mut originals = store_inputs(&mut stage, &files)?;
    verify(&stage, &originals, "verified")?;
    let mut copies = reflink(&stage, &originals)?;
    overwrite(&stage, &mut copies)?;
    originals.append(&mut copies);
    verify(&stage, &originals, "verified originals and copies")?;
    let kills = kill::rounds(&mut stage, &originals)?;
    let times = timing::reflinks(&stage)?;
    check(&stage)?;
    let plain = device::rounds(&stage, Setting::Plain)?;
    let windows = device::rounds(&stage, Setting::Windows)?;
    if args.compare {
        rivals::compare(&mut stage, &times)?;
    }
    let proven = [
        format!("Proven: every byte of {} files came back, before and after", originals.len()),
        format!(
            "{} kill -9; all {} acknowledged records survived them, and `check`",
            kills.rounds,
            size::count(kills.acknowledged)
        ),
        "found the store consistent each time. Killing a process loses no page".to_string(),
        "cache, so that says nothing about power loss. The emulated NVMe device has".to_string(),
        "a volatile cache, which a cut of its power loses, tears and reorders:".to_string(),
        format!(
            "{} cuts, and all {} durable records survived (docs/durability.md); {} of",
            plain.rounds + windows.rounds,
            size::count(plain.durable + windows.durable),
            size::count(windows.durable)
        ),
        "these by stores to its persistent memory and a barrier (docs/windows.md).".to_string(),
    ];
    output::line("")?;
    for line in proven {
        output::line(line)?;
    }
    stage.close()
}

/// Puts the inputs and generates the database.
fn store_inputs(stage: &mut Stage, files: &[PathBuf]) -> Outcome<Vec<Expected>> {
    let mut all = Vec::new();
    for (i, path) in files.iter().enumerate() {
        let base = path.file_name().map_or(&b"file"[..], OsStrExt::as_bytes);
        let name = [format!("inputs/{i}/").as_bytes(), &base[..base.len().min(200)]].concat();
        let start = Instant::now();
        put::local(stage.store(), path, &name)?;
        let file = stage.store().open_file(&name)?;
        stage.say("put", start, format!("{}, {}", path.display(), size::show(file.size())))?;
        all.push(Expected::new(name, Source::Local(path.clone())));
    }
    let pages = stage.scale.database_pages;
    let start = Instant::now();
    let file = stage.store().create(DATABASE)?;
    let mut order: Vec<u64> = (0..pages).collect();
    Rng::new(stage.seed).shuffle(&mut order);
    work::write_pieces(stage.store(), &file, work::BLOCK as usize, pages, |i, buf| {
        let number = order[i as usize];
        pattern::page(stage.seed, number, buf);
        number * work::BLOCK
    })?;
    file.sync()?;
    let extents = size::of(file.stat()?.extents, "extent");
    stage.say(
        "write",
        start,
        format!("a database of {} in random order: {extents}", size::show(pages * work::BLOCK)),
    )?;
    let source = Source::Pages { seed: stage.seed, size: pages * work::BLOCK };
    all.push(Expected::new(DATABASE.to_vec(), source));
    Ok(all)
}

/// Reads everything back.
fn verify(stage: &Stage, files: &[Expected], what: &str) -> Outcome {
    let start = Instant::now();
    let mut bytes = 0;
    for file in files {
        bytes += file.verify(stage.store())?;
    }
    stage.say("read", start, format!("{} back and {what}, byte for byte", size::show(bytes)))
}

fn reflink(stage: &Stage, originals: &[Expected]) -> Outcome<Vec<Expected>> {
    let mut copies = Vec::new();
    for original in originals {
        let name = copy_name(&original.name);
        let start = Instant::now();
        let copy = stage.store().reflink(&original.name, &name)?;
        copy.sync()?;
        let elapsed = start.elapsed();
        let stat = copy.stat()?;
        let extents = size::of(stat.extents, "extent");
        let what = crate::name::show(&original.name);
        let text = format!("{what}: {}, {extents}, shared", size::show(stat.size));
        stage.say_took("reflink", elapsed, text)?;
        copies.push(Expected::new(name, original.source.clone()));
    }
    Ok(copies)
}

/// Overwrites places of each copy, aligned and not.
fn overwrite(stage: &Stage, copies: &mut [Expected]) -> Outcome {
    let start = Instant::now();
    let mut rng = Rng::new(stage.seed ^ 1);
    let mut places = 0;
    for copy in copies {
        let file = stage.store().open_file(&copy.name)?;
        if file.size() == 0 {
            continue;
        }
        for i in 0..stage.scale.overwrites {
            let offset = rng.below(file.size());
            let offset = if i % 2 == 0 { offset / work::BLOCK * work::BLOCK } else { offset };
            let length = (1 + rng.below(3 * work::BLOCK)).min(file.size() - offset);
            let bytes = copy.patch(offset, length as usize, rng.next());
            file.write_at(&bytes, offset)?;
            places += 1;
        }
        file.sync()?;
    }
    let count = size::count(places);
    stage.say("overwrite", start, format!("{count} places of the copies, aligned and not"))
}

/// The store is consistent.
fn check(stage: &Stage) -> Outcome {
    let start = Instant::now();
    let report = stage.store().check()?;
    if let Some(finding) = report.findings.first() {
        return Err(Failure::new(format!(
            "check has {} findings; the first: {} at {}: {}",
            report.findings.len(),
            finding.structure,
            finding.address,
            finding.what
        )));
    }
    let text = format!(
        "clean: {}, {}, {}",
        size::of(report.files, "file"),
        size::of(report.nodes, "node"),
        size::of(report.blocks, "block")
    );
    stage.say("check", start, text)
}
