//! Where the system is looked at: /proc, /sys and /dev, or a test's own.

use freehold_engine::memory::limits::locked_limit;
use std::fs;
use std::path::{Path, PathBuf};

/// The places.
pub(super) struct Roots {
    pub(super) proc: PathBuf,
    pub(super) sys: PathBuf,
    pub(super) dev: PathBuf,
    /// Bytes that may be locked; none for no limit, as root has it.
    pub(super) locked: Option<u64>,
}

impl Roots {
    /// The running system.
    pub(super) fn live() -> Self {
        Self {
            proc: "/proc".into(),
            sys: "/sys".into(),
            dev: "/dev".into(),
            locked: locked_limit(),
        }
    }

    /// A file's text without the white space around it; none when it cannot be read.
    pub(super) fn text(path: &Path) -> Option<String> {
        Some(fs::read_to_string(path).ok()?.trim().to_owned())
    }

    /// Bytes of memory that programs can still have.
    pub(super) fn memory_available(&self) -> Option<u64> {
        let text = Self::text(&self.proc.join("meminfo"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
        Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
    }

    /// The file systems that are mounted: source, place, kind and options.
    pub(super) fn mounts(&self) -> Vec<[String; 4]> {
        let text = Self::text(&self.proc.join("mounts")).unwrap_or_default();
        let fields = |line: &str| {
            let mut words = line.split(' ').map(plain);
            Some([words.next()?, words.next()?, words.next()?, words.next()?])
        };
        text.lines().filter_map(fields).collect()
    }
}

/// A field of /proc/mounts as it was before blanks in it were written as \040.
fn plain(field: &str) -> String {
    field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}
