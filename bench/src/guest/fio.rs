//! The kernel's side: fio on a block device or a file.

use super::{TIME, run};
use serde_json::Value;
use std::io;

/// What fio is to do.
#[derive(Debug, Clone)]
pub struct Job<'a> {
    /// The device or file.
    pub path: &'a str,
    /// `io_uring` or `libaio`.
    pub engine: &'a str,
    /// Operations in flight.
    pub depth: u32,
    /// Writes with O_DSYNC; reads otherwise.
    pub durable_writes: bool,
}

impl Job<'_> {
    /// Operations of 4 KiB at random places, O_DIRECT, a second.
    ///
    /// # Errors
    /// What fio says.
    pub fn rate(&self) -> io::Result<f64> {
        let (file, engine) =
            (format!("--filename={}", self.path), format!("--ioengine={}", self.engine));
        let (depth, time) =
            (format!("--iodepth={}", self.depth), format!("--runtime={}ms", TIME.as_millis()));
        let (rw, sync, side) = match self.durable_writes {
            true => ("--rw=randwrite", "--sync=dsync", "write"),
            false => ("--rw=randread", "--sync=none", "read"),
        };
        let said = run(
            "fio",
            &[
                "--name=j",
                "--bs=4k",
                "--direct=1",
                "--time_based",
                "--thread",
                "--norandommap",
                "--randrepeat=0",
                "--output-format=json",
                &file,
                &engine,
                &depth,
                &time,
                rw,
                sync,
            ],
        )?;
        // Warnings may stand before the document.
        let json = said.find('{').map_or("", |at| &said[at..]);
        let all: Value = serde_json::from_str(json).map_err(io::Error::other)?;
        let rate = all["jobs"][0][side]["iops"].as_f64();
        rate.filter(|rate| *rate > 0.0).ok_or_else(|| io::Error::other("fio counted nothing"))
    }
}
