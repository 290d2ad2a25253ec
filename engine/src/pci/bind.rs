//! Giving a controller from one driver to another, by `driver_override`
//! (Documentation/ABI/testing/sysfs-bus-pci).
//!
//! What a write did is read back: the kernel takes a name into `drivers_probe` whether or not
//! a driver takes the device. When a step fails, those before it are taken back, so that the
//! device is not left without any driver if that can be helped.

use super::machine::Machine;
use super::slot::Slot;
use crate::medium::{Error, ErrorKind, Result};

/// The driver that gives devices to programs.
const VFIO: &str = "vfio-pci";

/// What became of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The driver that had it.
    pub from: Option<String>,
    /// The driver that has it. The same, where there was nothing to do.
    pub to: String,
}

impl Slot {
    fn refuse(&self, kind: ErrorKind, what: &str) -> Error {
        Error::new(kind, format!("{}: {what}", self.address()))
    }

    fn write(&self, file: &str, text: &str) -> Result<()> {
        self.machine().write(&self.dir().join(file), text)
    }

    /// Refuses what is no NVMe controller.
    fn must_be_nvme(&self) -> Result<()> {
        if self.is_nvme() {
            return Ok(());
        }
        let text = format!(
            "it is no NVMe controller (its PCI class is {}, not 0x010802), and is left alone",
            self.class()
        );
        Err(self.refuse(ErrorKind::Unsupported, &text))
    }

    /// Writes `driver_override`, and looks whether it is so.
    fn override_with(&self, name: Option<&str>) -> Result<()> {
        self.write("driver_override", &format!("{}\n", name.unwrap_or("")))?;
        let now = self.driver_override();
        if now.as_deref() == name {
            return Ok(());
        }
        let text = format!("driver_override is {now:?} after {name:?} was written there");
        Err(self.refuse(ErrorKind::Io, &text))
    }

    /// Takes it from its driver, if it has one.
    fn part(&self) -> Result<()> {
        if self.driver().is_none() {
            return Ok(());
        }
        self.write("driver/unbind", self.address())?;
        match self.driver() {
            None => Ok(()),
            Some(driver) => {
                Err(self.refuse(ErrorKind::Io, &format!("{driver} does not let it go")))
            }
        }
    }

    /// Lets the drivers look at it, and says which one took it.
    fn probe(&self) -> Result<Option<String>> {
        let machine: &Machine = self.machine();
        machine.write(&machine.sys.join("bus/pci/drivers_probe"), self.address())?;
        Ok(self.driver())
    }

    /// Gives it back to whom the kernel would give it, after something failed.
    fn undo(&self, error: Error) -> Error {
        let undone = self.override_with(None).and_then(|()| self.probe());
        let after = match undone {
            Ok(Some(driver)) => format!("{driver} has the device"),
            Ok(None) => "no driver has the device".to_owned(),
            Err(error) => format!("and it could not be taken back: {}", error.message()),
        };
        Error::new(error.kind(), format!("{}; {after}", error.message()))
    }

    /// Gives the controller to vfio-pci, so that a program can drive it. Blocks for as long as
    /// its driver takes to stop it.
    ///
    /// # Errors
    /// `Unsupported` for what is no NVMe controller, is behind no IOMMU, and where vfio-pci is
    /// not loaded; `Busy` when a namespace is mounted, swapped to, built upon (LVM, MD, ZFS) or
    /// claimed, with who has it; `Permission`; `Io`. Nothing has changed then, or the error says
    /// what has.
    pub fn bind(&self) -> Result<Moved> {
        self.must_be_nvme()?;
        let from = self.driver();
        if from.as_deref() == Some(VFIO) {
            return Ok(Moved { from, to: VFIO.to_owned() });
        }
        if self.group().is_none_or(|group| group.unsafe_mode) {
            let text = "it is behind no IOMMU, which keeps a device from memory that it was not \
                        given: `freehold doctor` says what to do";
            return Err(self.refuse(ErrorKind::Unsupported, text));
        }
        if !self.machine().has_driver(VFIO) {
            let text = "there is no driver vfio-pci: `modprobe vfio-pci` as root";
            return Err(self.refuse(ErrorKind::Unsupported, text));
        }
        let claims = self.claim()?;
        let moved = self.override_with(Some(VFIO)).and_then(|()| self.part());
        drop(claims);
        let taken = moved.and_then(|()| match self.probe()? {
            Some(driver) if driver == VFIO => Ok(()),
            other => {
                let text = format!(
                    "vfio-pci did not take it ({}): dmesg says why",
                    other.as_deref().unwrap_or("no driver has it")
                );
                Err(self.refuse(ErrorKind::Io, &text))
            }
        });
        match taken {
            Ok(()) => Ok(Moved { from, to: VFIO.to_owned() }),
            Err(error) => Err(self.undo(error)),
        }
    }

    /// Gives the controller back to the kernel's own driver.
    ///
    /// # Errors
    /// `Unsupported` for what is no NVMe controller, and where no driver of the kernel takes it;
    /// `Busy` while a program has it; `Permission`; `Io`.
    pub fn unbind(&self) -> Result<Moved> {
        self.must_be_nvme()?;
        let from = self.driver();
        if let Some(driver) = from.as_ref().filter(|_| !self.is_given()) {
            return Ok(Moved { to: driver.clone(), from });
        }
        // The kernel would wait until the program lets it go.
        if let Some(program) = self.program() {
            let text = format!("{program} has it open: end that first");
            return Err(self.refuse(ErrorKind::Busy, &text));
        }
        self.override_with(None)?;
        self.part()?;
        match self.probe()? {
            Some(driver) if Some(&driver) != from.as_ref() => Ok(Moved { from, to: driver }),
            Some(driver) => {
                let text = format!(
                    "{driver} took it again: it was told to take all such devices, by the ids= \
                     of its module or by new_id"
                );
                Err(self.refuse(ErrorKind::Io, &text))
            }
            None => {
                let text = "no driver took it: `modprobe nvme` as root, then this again";
                Err(self.refuse(ErrorKind::Unsupported, text))
            }
        }
    }
}
