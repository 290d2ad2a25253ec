//! Where the kernel is asked, and told.

use crate::medium::{Error, ErrorKind, Result};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The places at which the kernel shows what it has. Tests, and who looks at another
/// machine's files, point it elsewhere.
#[derive(Debug, Clone)]
pub struct Machine {
    pub(crate) proc: PathBuf,
    pub(crate) sys: PathBuf,
    pub(crate) dev: PathBuf,
    /// What a kernel would do about what was written, where there is none.
    #[cfg(test)]
    pub(super) kernel: Option<fn(&Machine, &Path, &str)>,
}

impl Machine {
    /// The running system.
    pub fn live() -> Self {
        Self::of("/proc", "/sys", "/dev")
    }

    /// One whose /proc, /sys and /dev lie elsewhere.
    pub fn of(proc: impl Into<PathBuf>, sys: impl Into<PathBuf>, dev: impl Into<PathBuf>) -> Self {
        Self {
            proc: proc.into(),
            sys: sys.into(),
            dev: dev.into(),
            #[cfg(test)]
            kernel: None,
        }
    }

    /// Where the nodes of devices are.
    pub fn dev(&self) -> &Path {
        &self.dev
    }

    /// Whether there is a driver of PCI devices of this name: built in, or its module loaded.
    pub fn has_driver(&self, name: &str) -> bool {
        self.sys.join("bus/pci/drivers").join(name).exists()
    }

    /// Whether the kernel uses any IOMMU.
    pub fn has_iommu(&self) -> bool {
        !names_in(&self.sys.join("kernel/iommu_groups")).is_empty()
    }

    /// Whether interrupts are remapped, so that a device can send only those that it was given:
    /// the kernel names its interrupt controllers so.
    pub fn remaps_interrupts(&self) -> bool {
        text(&self.proc.join("interrupts")).is_some_and(|text| text.contains(" IR-"))
    }

    /// Whether devices may be given away though interrupts are not remapped: a parameter of
    /// the modules that do.
    pub fn allows_unsafe_interrupts(&self) -> bool {
        ["vfio_iommu_type1", "iommufd"].iter().any(|module| {
            let parameters = self.sys.join("module").join(module).join("parameters");
            text(&parameters.join("allow_unsafe_interrupts")).is_some_and(|value| value == "Y")
        })
    }

    /// Writes a file of the kernel's.
    ///
    /// # Errors
    /// `Permission`, with what to do; `Io`.
    pub(super) fn write(&self, path: &Path, text: &str) -> Result<()> {
        let open = fs::OpenOptions::new().write(true).truncate(true).open(path);
        let done = open.and_then(|mut file| file.write_all(text.as_bytes()));
        #[cfg(test)]
        if let Some(kernel) = self.kernel {
            kernel(self, path, text);
        }
        done.map_err(|error| {
            let (kind, advice) = match error.kind() {
                io::ErrorKind::PermissionDenied => (
                    ErrorKind::Permission,
                    "; it takes root (sudo), and a /sys that may be written",
                ),
                _ => (ErrorKind::Io, ""),
            };
            let what = text.trim();
            let shown = path.display();
            Error::new(kind, format!("writing '{what}' to {shown}: {error}{advice}"))
        })
    }
}

/// A file's text without the white space around it; none when it cannot be read.
pub(super) fn text(path: &Path) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// The last part of where a link leads.
pub(super) fn link_name(path: &Path) -> Option<String> {
    Some(fs::read_link(path).ok()?.file_name()?.to_string_lossy().into_owned())
}

/// The names in a directory, in order; none when it is not there.
pub(super) fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
