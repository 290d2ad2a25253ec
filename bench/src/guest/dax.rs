//! Persistent memory: a file system of the kernel that is mounted with DAX.

use super::ours::BLOCKS;
use super::timed;
use crate::BLOCK;
use crate::nvme::place;
use rustix::fs::ioctl_ficlone;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// A file of [`BLOCKS`] blocks in a folder, written and synced, with O_DSYNC from then on.
///
/// # Errors
/// What the file system reports.
pub fn file(folder: &Path) -> io::Result<File> {
    let path = folder.join("f");
    let file = File::create(&path)?;
    for i in 0..BLOCKS / 256 {
        file.write_all_at(&vec![0x5a; 1 << 20], i << 20)?;
    }
    file.sync_all()?;
    durable(&path)
}

fn durable(path: &Path) -> io::Result<File> {
    let flag = rustix::fs::OFlags::DSYNC.bits();
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags(flag as i32)
        .open(path)
}

/// Overwrites of 4 KiB with O_DSYNC at random blocks, a second.
///
/// # Errors
/// What a write reports.
pub fn overwrites(file: &File) -> io::Result<f64> {
    let bytes = [0x33; BLOCK as usize];
    timed(|n| file.write_all_at(&bytes, place(n, BLOCKS) * BLOCK))
}

/// Appends of 4 KiB with O_DSYNC to a file that is emptied now and then, a second.
///
/// # Errors
/// What a write reports.
pub fn appends(folder: &Path) -> io::Result<f64> {
    let file = durable(&folder.join("appended"))?;
    file.set_len(0)?;
    let bytes = [0x44; BLOCK as usize];
    timed(|n| {
        let at = n % BLOCKS;
        if n > 0 && at == 0 {
            file.set_len(0)?;
        }
        file.write_all_at(&bytes, at * BLOCK)
    })
}

/// Overwrites of 4 KiB with O_DSYNC, each of a block that a reflink shares, a second.
///
/// # Errors
/// What the file system reports: not all can do it with DAX.
pub fn overwrites_after_reflink(folder: &Path, file: &File) -> io::Result<f64> {
    let bytes = [0x55; BLOCK as usize];
    let mut left = 0;
    timed(|n| {
        if left == 0 {
            let copy = File::create(folder.join("shared"))?;
            ioctl_ficlone(&copy, file)?;
            left = BLOCKS;
        }
        left -= 1;
        file.write_all_at(&bytes, n % BLOCKS * BLOCK)
    })
}
