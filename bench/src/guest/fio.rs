//! The kernel's side: fio on a block device or a file.

use super::{TIME, calls, run};
use serde_json::Value;
use std::io;
use std::path::Path;

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
        let time = format!("{}ms", TIME.as_millis());
        let said =
            run("fio", &self.arguments(&time).iter().map(String::as_str).collect::<Vec<_>>())?;
        // Warnings may stand before the document.
        let json = said.find('{').map_or("", |at| &said[at..]);
        let all: Value = serde_json::from_str(json).map_err(io::Error::other)?;
        let rate = all["jobs"][0][self.side()]["iops"].as_f64();
        rate.filter(|rate| *rate > 0.0).ok_or_else(|| io::Error::other("fio counted nothing"))
    }

    /// System calls for each of these operations.
    ///
    /// # Errors
    /// What fio and strace say.
    pub fn calls(&self, folder: &Path) -> io::Result<f64> {
        let done = |all: &Value| all["jobs"][0][self.side()]["total_ios"].as_u64();
        calls::each(folder, "fio", |seconds| self.arguments(&format!("{seconds}s")), done)
    }

    fn side(&self) -> &'static str {
        if self.durable_writes { "write" } else { "read" }
    }

    fn arguments(&self, time: &str) -> Vec<String> {
        let (rw, sync) = match self.durable_writes {
            true => ("randwrite", "dsync"),
            false => ("randread", "none"),
        };
        let (path, engine, depth) = (self.path, self.engine, self.depth);
        let usual = "--name=j --bs=4k --direct=1 --time_based --thread --norandommap --randrepeat=0 \
            --output-format=json";
        let mut all: Vec<String> = usual.split(' ').map(str::to_owned).collect();
        all.extend([
            format!("--filename={path}"),
            format!("--ioengine={engine}"),
            format!("--iodepth={depth}"),
            format!("--runtime={time}"),
            format!("--rw={rw}"),
            format!("--sync={sync}"),
        ]);
        all
    }
}
