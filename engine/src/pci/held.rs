//! Who uses a controller's namespaces, or the controller itself: what keeps it from changing
//! hands.

use super::machine::{names_in, text};
use super::slot::Slot;
use crate::medium::{Error, ErrorKind, Result};
use crate::probe::{Source, System, parse_number, signature};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The kernel's exclusive claims of namespaces. While they last nobody mounts, swaps to or
/// builds upon them.
#[derive(Debug)]
pub(super) struct Claims(#[expect(dead_code, reason = "held, not used")] Vec<OwnedFd>);

/// A block device, for its signature.
struct Disk {
    file: File,
    len: u64,
}

impl Source for Disk {
    fn len(&self) -> u64 {
        self.len
    }

    fn read(&self, offset: u64, to: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(to, offset)
    }
}

/// What a device carries, as far as that is known and may be looked at.
fn carried(path: &Path) -> Option<&'static str> {
    let file = File::open(path).ok()?;
    let len = rustix::fs::seek(&file, rustix::fs::SeekFrom::End(0)).ok()?;
    signature(&Disk { file, len }).ok()?
}

/// The name under which a namespace is used: one that several controllers have shows beneath
/// each as `nvme0c1n2`, and is used as `nvme0n2`.
fn head(name: &str) -> Option<String> {
    let rest = name.strip_prefix("nvme")?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (controller, namespace) = rest.split_once('n')?;
    let subsystem = controller.split_once('c').map_or(controller, |(subsystem, _)| subsystem);
    (digits(subsystem) && digits(namespace)).then(|| format!("nvme{subsystem}n{namespace}"))
}

impl Slot {
    /// Block devices of the kernel's on this controller, by name; none while another driver has
    /// it.
    pub fn disks(&self) -> Vec<String> {
        let controllers = self.dir().join("nvme");
        let mut found: Vec<String> = names_in(&controllers)
            .iter()
            .flat_map(|controller| names_in(&controllers.join(controller)))
            .filter_map(|name| head(&name))
            .collect();
        found.sort();
        found.dedup();
        found
    }

    /// Who uses a namespace in a way that keeps the controller from being given away, in words:
    /// mounted, swapped to, built upon (LVM, MD), attached. None when nobody does.
    pub fn user(&self) -> Option<String> {
        let machine = self.machine();
        let system = System::of(&machine.proc, &machine.sys);
        self.disks().into_iter().find_map(|disk| {
            let number = text(&machine.sys.join("class/block").join(&disk).join("dev"));
            let number = number.as_deref().and_then(parse_number);
            let user = number.and_then(|number| system.device_user(number));
            let user = user.or_else(|| system.file_user(&machine.dev.join(&disk)));
            Some(format!("{disk}: {}", user?))
        })
    }

    /// Claims all namespaces for this process, so that nobody begins to use them.
    ///
    /// # Errors
    /// `Busy`, with who has one and what it carries: a file system, LVM, MD, ZFS, or a program.
    /// `Permission`.
    pub(super) fn claim(&self) -> Result<Claims> {
        let busy = |who: String| {
            let text = format!("{} is in use: {who}", self.address());
            Error::new(ErrorKind::Busy, text)
        };
        if let Some(user) = self.user() {
            return Err(busy(user));
        }
        let mut claims = Vec::new();
        for disk in self.disks() {
            let path = self.machine().dev.join(&disk);
            let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::NONBLOCK | OFlags::CLOEXEC;
            match rustix::fs::open(&path, flags, Mode::empty()) {
                Ok(claim) => claims.push(claim),
                Err(Errno::BUSY) => {
                    let carries = carried(&path).map_or("", |what| what);
                    let is = if carries.is_empty() { "" } else { " is " };
                    return Err(busy(format!(
                        "{disk}{is}{carries} that somebody has claimed (a file system, LVM, MD, \
                         ZFS or a program): lsblk, zpool status and fuser -v {} say who",
                        path.display()
                    )));
                }
                // Nothing can use what is not there.
                Err(Errno::NOENT | Errno::NXIO | Errno::NODEV | Errno::NOMEDIUM) => {}
                Err(errno) => {
                    let kind = match errno {
                        Errno::ACCESS | Errno::PERM => ErrorKind::Permission,
                        _ => ErrorKind::Io,
                    };
                    let text = format!(
                        "whether {} is in use cannot be found out: {errno}; it takes root (sudo)",
                        path.display()
                    );
                    return Err(Error::new(kind, text));
                }
            }
        }
        Ok(Claims(claims))
    }

    /// Which program has the controller open through VFIO, in words. None when none has, as far
    /// as can be seen.
    pub fn program(&self) -> Option<String> {
        let nodes: Vec<PathBuf> = self.group_node().into_iter().chain(self.device_node()).collect();
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let group = self.group_node();
        let taken = group.is_some_and(|group| {
            rustix::fs::open(group, flags, Mode::empty()).is_err_and(|e| e == Errno::BUSY)
        });
        let holder = self.holder_of(&nodes);
        match holder {
            Some(holder) => Some(holder),
            None if taken => Some("a process that is not shown".to_owned()),
            None => None,
        }
    }

    fn holder_of(&self, nodes: &[PathBuf]) -> Option<String> {
        let proc = &self.machine().proc;
        let ours = std::process::id().to_string();
        for pid in names_in(proc) {
            if pid == ours || !pid.bytes().all(|byte| byte.is_ascii_digit()) {
                continue;
            }
            let open = proc.join(&pid).join("fd");
            let has = names_in(&open).into_iter().any(|fd| {
                std::fs::read_link(open.join(fd)).is_ok_and(|target| nodes.contains(&target))
            });
            if has {
                let name = text(&proc.join(&pid).join("comm")).unwrap_or_default();
                return Some(format!("process {pid} ({name})"));
            }
        }
        None
    }
}
