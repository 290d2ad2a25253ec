//! Where it is measured: one loop device for all sides, or a plain file where
//! loop devices cannot be had.
//!
//! Dropping a stage takes away what it made. `bench/run` does so too, also
//! after a signal.

use crate::outcome::{Outcome, fail};
use crate::results::Side;
use freehold::{FormatOptions, OpenOptions, Store};
use freehold_engine::medium::Medium;
use freehold_engine::uri::encode;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// A device of a given size in a folder.
#[derive(Debug)]
pub(crate) struct Stage {
    image: PathBuf,
    size: u64,
    device: Option<PathBuf>,
    /// All of it was written before, and stays so.
    written: bool,
}

/// A mounted file system; dropping it unmounts.
#[derive(Debug)]
pub(crate) struct Mount {
    /// Where.
    pub(crate) path: PathBuf,
}

/// What the device has been given so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counters {
    /// Write commands.
    pub(crate) writes: u64,
    /// Flushes.
    pub(crate) flushes: u64,
}

impl Stage {
    /// Makes the image, sparse, and the loop device if the system lets us.
    pub(crate) fn new(dir: &Path, name: &str, size: u64, plain: bool) -> Outcome<Stage> {
        let image = dir.join(name);
        File::create(&image)?.set_len(size)?;
        let mut stage = Stage { image, size, device: None, written: false };
        if !plain && rustix::process::geteuid().is_root() {
            stage.device = attach(&stage.image).ok();
        }
        Ok(stage)
    }

    /// A stage whose every block was written once, so that what the system below asks
    /// for a block's first write is in nobody's figures.
    pub(crate) fn written(dir: &Path, name: &str, size: u64, plain: bool) -> Outcome<Stage> {
        let image = dir.join(name);
        let mut file = File::create(&image)?;
        let piece = vec![0xa5; 1 << 20];
        for _ in 0..size / piece.len() as u64 {
            file.write_all(&piece)?;
        }
        file.sync_all()?;
        let mut stage = Stage { image, size, device: None, written: true };
        if !plain && rustix::process::geteuid().is_root() {
            stage.device = attach(&stage.image).ok();
        }
        Ok(stage)
    }

    /// A stage on an image that is there.
    pub(crate) fn adopt(image: &Path) -> Outcome<Stage> {
        let size = std::fs::metadata(image)?.len();
        let mut stage = Stage { image: image.to_owned(), size, device: None, written: false };
        stage.device = Some(attach(image)?);
        Ok(stage)
    }

    /// Why a side cannot be measured here.
    pub(crate) fn why_not(&self, side: Side) -> Option<String> {
        let tool = match side {
            Side::Freehold | Side::Raw => return None,
            Side::Xfs => "mkfs.xfs",
            Side::Btrfs => "mkfs.btrfs",
        };
        if !rustix::process::geteuid().is_root() {
            return Some("mounting needs root".into());
        }
        if self.device.is_none() {
            return Some("there is no loop device".into());
        }
        let found = Command::new(tool).arg("-V").output().is_ok();
        (!found).then(|| format!("{tool} is not installed"))
    }

    /// Another one beside it, of the same kind.
    pub(crate) fn beside(&self, dir: &Path, name: &str, size: u64) -> Outcome<Stage> {
        Stage::new(dir, name, size, self.device.is_none())
    }

    /// A loop device, or a plain file.
    pub(crate) fn is_device(&self) -> bool {
        self.device.is_some()
    }

    /// The file behind the device.
    pub(crate) fn image(&self) -> &Path {
        &self.image
    }

    fn path(&self) -> &Path {
        self.device.as_deref().unwrap_or(&self.image)
    }

    fn uri(&self) -> String {
        format!("file:{}", encode(self.path().as_os_str().as_bytes()))
    }

    /// Gives all blocks back, so that each side begins on an empty device.
    fn wipe(&self) -> Outcome {
        if self.written {
            return Ok(());
        }
        match &self.device {
            Some(device) => command(Command::new("blkdiscard").arg("-f").arg(device)),
            None => Ok(File::create(&self.image)?.set_len(self.size)?),
        }
    }

    /// An empty store on the device.
    pub(crate) fn store(&self) -> Outcome<Store> {
        self.wipe()?;
        Ok(Store::format(
            &self.uri(),
            &FormatOptions { size: None, force: true, ..Default::default() },
        )?)
    }

    /// Opens the store that is there.
    pub(crate) fn open(&self) -> Outcome<Store> {
        Ok(Store::open(&self.uri(), &OpenOptions::default())?)
    }

    /// The device itself, empty.
    pub(crate) fn raw(&self) -> Outcome<Arc<dyn Medium>> {
        self.wipe()?;
        Ok(freehold_engine::open(&self.uri(), &freehold_engine::OpenOptions::default())?)
    }

    /// The path to write to the device itself.
    pub(crate) fn raw_path(&self) -> PathBuf {
        self.path().to_owned()
    }

    /// An empty file system on the device.
    pub(crate) fn make(&self, side: Side) -> Outcome<Mount> {
        self.wipe()?;
        let mkfs: &[&str] = match side {
            Side::Xfs => &["mkfs.xfs", "-q", "-f", "-K", "-m", "reflink=1"],
            Side::Btrfs => &["mkfs.btrfs", "-q", "-f", "-K"],
            Side::Freehold | Side::Raw => return fail("no file system"),
        };
        command(Command::new(mkfs[0]).args(&mkfs[1..]).arg(self.path()))?;
        self.mount(side)
    }

    /// Mounts what is there.
    pub(crate) fn mount(&self, side: Side) -> Outcome<Mount> {
        let path = self.image.with_extension("mount");
        std::fs::create_dir_all(&path)?;
        let kind = if side == Side::Xfs { "xfs" } else { "btrfs" };
        mount(self.path(), &path, kind, MountFlags::empty(), None)
            .map_err(|e| format!("mounting {kind}: {e}"))?;
        Ok(Mount { path })
    }

    /// What the device has done; none for a plain file.
    pub(crate) fn counters(&self) -> Option<Counters> {
        let name = self.device.as_ref()?.file_name()?.to_str()?;
        let text = std::fs::read_to_string(format!("/sys/block/{name}/stat")).ok()?;
        let numbers: Vec<u64> = text.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        // Documentation/block/stat.rst: write I/Os are the fifth, flushes the sixteenth.
        Some(Counters { writes: *numbers.get(4)?, flushes: *numbers.get(15)? })
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(device) = self.device.take() {
            let _ = command(Command::new("losetup").arg("-d").arg(device));
        }
        let _ = std::fs::remove_file(&self.image);
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        for _ in 0..100 {
            match unmount(&self.path, UnmountFlags::empty()) {
                Err(rustix::io::Errno::BUSY) => std::thread::sleep(Duration::from_millis(50)),
                _ => break,
            }
        }
        let _ = std::fs::remove_dir(&self.path);
    }
}

/// A loop device on an image; past its page cache where the file system can.
fn attach(image: &Path) -> Outcome<PathBuf> {
    let mut why = String::new();
    for direct in ["--direct-io=on", "--direct-io=off"] {
        let out = Command::new("losetup").args(["--find", "--show", direct]).arg(image).output()?;
        if out.status.success() {
            let name = String::from_utf8(out.stdout)?;
            return Ok(PathBuf::from(name.trim()));
        }
        why = String::from_utf8_lossy(&out.stderr).trim().to_owned();
    }
    fail(format!("losetup: {why}"))
}

/// Runs a program; an error tells what it said.
pub(crate) fn command(command: &mut Command) -> Outcome {
    let name = command.get_program().to_string_lossy().into_owned();
    let out = command.output().map_err(|e| format!("{name}: {e}"))?;
    if out.status.success() {
        return Ok(());
    }
    fail(format!("{name}: {}", String::from_utf8_lossy(&out.stderr).trim()))
}
