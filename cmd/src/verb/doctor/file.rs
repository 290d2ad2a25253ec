//! What a store on a file or a block device needs.

use super::Report;
use crate::size;
use freehold_engine::medium::ErrorKind;
use freehold_engine::{OpenOptions, doctor};
use rustix::fs::{Access, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

pub(super) fn examine(report: &mut Report, path: &Path, name: &str) {
    let Some(stat) = place(report, path, name) else { return };
    let device = FileType::from_raw_mode(stat.mode()) == FileType::BlockDevice;
    permission(report, path, device);
    if let Some(user) = doctor::user_of(path) {
        let mend = if user.contains("mounted") {
            format!("sudo umount {}", quoted(path))
        } else {
            "end that use first, or name another device".to_owned()
        };
        report.bad("in use", format!("{} is in use: {user}", path.display()), mend);
    }
    direct(report, path);
    rings(report);
    if !device {
        space(report, path, &stat);
    }
    opens(report, name);
}

/// A path as a shell takes it.
pub(super) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:,@=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// There is a file or device.
fn place(report: &mut Report, path: &Path, name: &str) -> Option<fs::Metadata> {
    let stat = match fs::metadata(path) {
        Ok(stat) => stat,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let missing = parent.filter(|parent| !parent.exists());
            let mkdir = missing.map(|dir| format!("mkdir -p {}\n", quoted(dir)));
            let mend = format!(
                "{}freehold format {} --size 10G",
                mkdir.unwrap_or_default(),
                quoted(Path::new(name))
            );
            report.bad("place", format!("{} does not exist", path.display()), mend);
            return None;
        }
        Err(error) => {
            let mend = format!("ls -ld {}   # who may look there", quoted(path));
            report.bad("place", format!("{}: {error}", path.display()), mend);
            return None;
        }
    };
    let kind = FileType::from_raw_mode(stat.mode());
    match kind {
        FileType::RegularFile => {
            report.good("place", format!("a file of {}", size::show(stat.len())))
        }
        FileType::BlockDevice => report.good("place", "a block device"),
        other => {
            let mend = format!("freehold format {}/store --size 10G", quoted(Path::new(name)));
            let mend = if other == FileType::Directory {
                mend
            } else {
                "name a regular file or a block device".to_owned()
            };
            report.bad("place", format!("{} is no file and no block device", path.display()), mend);
            return None;
        }
    }
    Some(stat)
}

fn permission(report: &mut Report, path: &Path, device: bool) {
    match rustix::fs::access(path, Access::READ_OK | Access::WRITE_OK) {
        Ok(()) => report.good("permission", "may be read and written"),
        Err(Errno::ROFS) => {
            report.bad(
                "permission",
                "the file system is read-only",
                "sudo mount -o remount,rw DIR",
            );
        }
        Err(errno) => {
            let at = quoted(path);
            let mend = if device {
                format!("sudo setfacl -m u:$(id -un):rw {at}")
            } else {
                format!("sudo chown $(id -un) {at} && chmod u+rw {at}")
            };
            report.bad("permission", format!("may not be read and written: {errno}"), mend);
        }
    }
}

fn direct(report: &mut Report, path: &Path) {
    let flags = OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(_) => report.good("O_DIRECT", "the page cache is passed by"),
        Err(Errno::INVAL) => report.hint(
            "O_DIRECT",
            "the file system has none: I/O goes through the page cache, and costs a copy",
            "keep the store on ext4, XFS or btrfs, or on a block device",
        ),
        // The permission was told already.
        Err(_) => {}
    }
}

fn rings(report: &mut Report) {
    let Err(error) = doctor::io_uring() else {
        return report.good("io_uring", "allowed");
    };
    let text = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    let mend = match text.trim() {
        "1" | "2" => "sudo sysctl -w kernel.io_uring_disabled=0",
        _ => {
            "in a container: run it with a seccomp profile that allows io_uring_setup, \
             io_uring_enter and io_uring_register"
        }
    };
    let found = format!("refused ({error}): I/O is done by blocking calls, one at a time");
    report.hint("io_uring", found, mend);
}

/// A sparse file needs the room that it promises.
fn space(report: &mut Report, path: &Path, stat: &fs::Metadata) {
    let Ok(system) = rustix::fs::statvfs(path) else { return };
    let free = system.f_bavail.saturating_mul(system.f_frsize);
    let missing = stat.len().saturating_sub(stat.blocks() * 512);
    let found = format!(
        "{} of {} are not allocated yet; the file system has {}",
        size::show(missing),
        size::show(stat.len()),
        size::show(free)
    );
    if missing == 0 {
        report.good("space", "all of it is allocated");
    } else if missing <= free {
        report.good("space", found);
    } else {
        let mend = format!(
            "free {}, or move the file to a larger file system; then\nfallocate -l {} {}   # keeps \
             its bytes, and the room for good",
            size::show(missing - free),
            stat.len(),
            quoted(path)
        );
        report.hint("space", found, mend);
    }
}

/// The last word: the engine opens it, and there is a store.
pub(super) fn opens(report: &mut Report, name: &str) {
    let options = OpenOptions { read_only: true, ..OpenOptions::default() };
    if let Err(error) = freehold_engine::open(name, &options) {
        let mend = match error.kind() {
            ErrorKind::Busy => "end the program that has it open",
            ErrorKind::Permission => "see `permission` above",
            _ => "FREEHOLD_LOG=debug shows what was tried",
        };
        return report.bad("opening", error.message(), mend);
    }
    report.good("opening", "the medium can be opened");
    store(report, name);
}

/// There is a store on the medium.
pub(super) fn store(report: &mut Report, name: &str) {
    let options = freehold::OpenOptions { read_only: true, ..freehold::OpenOptions::default() };
    match freehold::Store::open(name, &options) {
        Ok(store) => {
            let info = store.info();
            report.good("store", format!("format version {}", info.version));
            if let Some(journal) = info.journal {
                report.good("journal", format!("its own, on {}", journal.uri));
            }
        }
        Err(error) if error.kind() == freehold::ErrorKind::NotAStore => {
            let mend = format!("freehold format {}", quoted(Path::new(name)));
            report.hint("store", error.to_string(), mend);
        }
        Err(error) => {
            let lost = error.kind() == freehold::ErrorKind::WrongJournal;
            let how = if lost { "--discard-journal " } else { "" };
            let mend = format!("freehold check {how}{}", quoted(Path::new(name)));
            report.bad("store", error.to_string(), mend);
        }
    }
}
