//! Histories that once went wrong, each in its shortest form.

use freehold_blockmap::{FileHandle, FormatSpec, Volume};
use freehold_engine::sim::{SimMedium, SimOptions, Survival};
use std::sync::Arc;

const B: usize = 4096;

/// A fresh store on a simulated medium of 16 MiB.
fn store(seed: u64) -> (SimMedium, Arc<Volume>) {
    let sim = SimMedium::new(SimOptions { seed, ..SimOptions::default() });
    let vol = Volume::format(sim.medium(), &FormatSpec::default()).expect("a store");
    (sim, vol)
}

/// The store after a crash that left what `survival` says.
fn after_crash(sim: &SimMedium, survival: Survival) -> Arc<Volume> {
    Volume::open(sim.reopen_with(survival, 7).medium(), false).expect("it recovers")
}

fn bytes(vol: &Arc<Volume>, file: &FileHandle) -> Vec<u8> {
    let mut out = vec![0; file.size() as usize];
    let n = vol.read_at(file, &mut out, 0).expect("it reads");
    out.truncate(n);
    out
}

fn sound(vol: &Arc<Volume>) {
    let report = vol.check().expect("it can be checked");
    assert!(report.clean(), "{:?}", report.findings);
}

/// Zeroing the cut-off part of the last block is growth, not punching.
#[test]
fn a_punch_into_the_last_block_keeps_the_size() {
    let (_sim, vol) = store(1);
    let file = vol.create(b"f").expect("a file");
    vol.write_at(&file, &[7; 200], 0).expect("it writes");
    vol.punch(&file, 100, 1 << 20).expect("it punches");
    assert_eq!(file.size(), 200);
    assert_eq!(bytes(&vol, &file), [[7; 100], [0; 100]].concat());
    sound(&vol);
}
