//! The function that a driver drives.

use super::device::Device;
use super::inner::{Inner, none};
use super::mapping::Pages;
use super::region::Region;
use super::{ERROR, MSIX, Options, REQUEST, refusal, space, uapi};
use crate::bus::{Area, Bar, DmaAccess, DmaLimits, DmaMap, Function, Mmio, Registers};
use crate::medium::{Error, ErrorKind, Result};
use crate::memory::limits::map_refused;
use crate::pci::{Machine, Slot};
use rustix::event::{EventfdFlags, PollFlags, eventfd};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::{Arc, OnceLock};

/// Vectors that are wanted at the most: one for each queue that a driver makes.
const MOST_VECTORS: u32 = 256;

/// A device that this process has. Dropped, it is released, whoever still has [`Bar`]s of it:
/// they read as all ones then.
pub struct Vfio {
    inner: Arc<Inner>,
    limits: DmaLimits,
    vectors: u32,
}

impl Vfio {
    /// Opens the device at a PCI address, which is bound to vfio-pci.
    ///
    /// # Errors
    /// `NotFound` when there is none; `Unsupported` when another driver has it, it is behind no
    /// IOMMU, or is no PCI device; `Busy` when another process has it, or a driver of the
    /// kernel has a device of its group; `Permission`, `Limit`; each says what to do.
    pub fn open(address: &str, options: Options) -> Result<Arc<Self>> {
        Self::open_at(&Machine::live(), address, options)
    }

    /// The same where the kernel shows its devices elsewhere.
    pub(super) fn open_at(machine: &Machine, address: &str, options: Options) -> Result<Arc<Self>> {
        crate::fork::remember();
        let slot = Slot::find(machine, address)?;
        let group = slot.group().ok_or_else(|| refusal::no_iommu(&slot))?;
        if group.unsafe_mode {
            return Err(refusal::unsafe_mode(&slot));
        }
        if !slot.is_given() {
            return Err(refusal::not_given(&slot));
        }
        let space::Opened { device, space, limits } = space::open(&slot, &group, options)?;
        let alarm = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|e| {
            let text = format!("no descriptor for events: {e}; raise RLIMIT_NOFILE (ulimit -n)");
            Error::new(ErrorKind::Limit, text)
        })?;
        for index in [ERROR, REQUEST] {
            if device.vectors(index) > 0
                && let Err(error) = device.set_vectors(index, 0, &[alarm.as_raw_fd()])
            {
                tracing::warn!(address, index, %error, "the kernel will not tell of its wishes");
            }
        }
        let vectors = enable_vectors(&device, address);
        let inner = Inner::new(slot, device, space, alarm);
        Ok(Arc::new(Self { inner: Arc::new(inner), limits, vectors }))
    }
}

/// Enables MSI-X, with nobody to listen yet: most kernels enable all vectors at once or none,
/// and take single ones afterwards (linux/vfio.h, `VFIO_DEVICE_SET_IRQS`). How many there are.
fn enable_vectors(device: &Device, address: &str) -> u32 {
    let mut wanted = device.vectors(MSIX).min(MOST_VECTORS);
    while wanted > 0 {
        match device.set_vectors(MSIX, 0, &vec![-1; wanted as usize]) {
            Ok(0) => return wanted,
            // There can be so many.
            Ok(fewer) if fewer < wanted => wanted = fewer,
            other => {
                tracing::warn!(address, wanted, ?other, "no interrupts: waiting looks again");
                return 0;
            }
        }
    }
    0
}

impl Drop for Vfio {
    fn drop(&mut self) {
        // A child has copies of the descriptors alone, which go without a word.
        self.inner.release();
    }
}

/// Checks the width and the place of an access to configuration space.
fn check_config(region: &Region, offset: u16, width: usize) -> Result<()> {
    let place = usize::from(offset);
    if matches!(width, 1 | 2 | 4)
        && place.is_multiple_of(width)
        && (place + width) as u64 <= region.size
    {
        return Ok(());
    }
    let text = format!("no {width} bytes at {offset:#x} of configuration space are one access");
    Err(Error::new(ErrorKind::Invalid, text))
}

/// Checks that a mapping is one that can be made beside others.
pub(super) fn check_map(
    limits: &DmaLimits,
    maps: &BTreeMap<u64, u64>,
    map: &DmaMap<'_>,
) -> Result<()> {
    let invalid = |text: String| Err(Error::new(ErrorKind::Invalid, text));
    let page = (limits.page_sizes & limits.page_sizes.wrapping_neg()).max(4096);
    let (start, address) = (map.iova, map.address as u64);
    if map.len == 0 || [start, map.len, address].iter().any(|n| !n.is_multiple_of(page)) {
        return invalid(format!(
            "DMA memory {start:#x}..+{:#x} at {address:#x} is not made of pages of {page} bytes",
            map.len
        ));
    }
    let end = start.checked_add(map.len);
    let Some(end) = end
        .filter(|end| limits.ranges.iter().any(|range| range.start <= start && *end <= range.end))
    else {
        return invalid(format!("the IOMMU has no addresses {start:#x}..+{:#x}", map.len));
    };
    let before = maps.range(..end).next_back();
    if before.is_some_and(|(&iova, &len)| iova + len > start) {
        return invalid(format!("DMA memory is mapped in {start:#x}..{end:#x} already"));
    }
    if maps.len() >= limits.max_maps as usize {
        return Err(map_refused("mapping for DMA", map.len, Errno::NOSPC));
    }
    Ok(())
}

impl Function for Vfio {
    fn name(&self) -> &str {
        self.inner.slot.address()
    }

    fn config(&self, offset: u16, to: &mut [u8]) -> Result<()> {
        self.inner.with(|held| {
            check_config(held.device.config(), offset, to.len())?;
            held.device.read(held.device.config(), offset.into(), to)
        })
    }

    fn set_config(&self, offset: u16, from: &[u8]) -> Result<()> {
        self.inner.with(|held| {
            check_config(held.device.config(), offset, from.len())?;
            if held.device.would_hide(offset.into(), from) {
                let text = "decoding of memory and power states are not for a driver to switch: a \
                            touch of mapped registers would end the process";
                return Err(Error::new(ErrorKind::Unsupported, text));
            }
            held.device.write(held.device.config(), offset.into(), from)
        })
    }

    fn bar(&self, index: u8) -> Result<Bar> {
        let name = self.name();
        let (len, areas) = self.inner.with(|held| {
            let region = held.bar(index)?.ok_or_else(|| none(name, index))?;
            let mut areas = Vec::new();
            for (offset, place, len) in region.mappable(rustix::param::page_size() as u64) {
                match Pages::map(held.device.fd(), place, len) {
                    Ok(pages) => {
                        let pages = Arc::new(pages);
                        held.pages.retain(|pages| pages.strong_count() > 0);
                        held.pages.push(Arc::downgrade(&pages));
                        let memory: Arc<dyn Mmio> = pages;
                        areas.push(Area { offset, memory });
                    }
                    Err(error) => tracing::info!(
                        device = name, bar = index, offset, len, %error,
                        "registers are reached by system calls"
                    ),
                }
            }
            Ok((region.size, areas))
        })?;
        let others: Arc<dyn Registers> = Arc::<Inner>::clone(&self.inner);
        Ok(Bar::new(index, len, areas, others))
    }

    fn dma_limits(&self) -> DmaLimits {
        self.limits.clone()
    }

    unsafe fn map(&self, map: &DmaMap<'_>) -> Result<()> {
        let access = match map.access {
            DmaAccess::Read => (true, false),
            DmaAccess::Write => (false, true),
            DmaAccess::ReadWrite => (true, true),
        };
        self.inner.with(|held| {
            check_map(&self.limits, &held.maps, map)?;
            // SAFETY: the caller's promise is the one that is asked for.
            unsafe { held.space.map(self.name(), map, access) }?;
            held.maps.insert(map.iova, map.len);
            Ok(())
        })
    }

    fn unmap(&self, iova: u64, len: u64) -> Result<()> {
        if crate::fork::in_child() {
            return Err(self.inner.in_child());
        }
        let mut guard = self.inner.lock();
        let Some(held) = &mut *guard else {
            // A release takes all memory, if it can.
            return match self.inner.quiet.get() {
                Some(true) => Ok(()),
                _ => Err(self.inner.lost("it was released")),
            };
        };
        if held.maps.get(&iova) != Some(&len) {
            let text = format!("no DMA memory is mapped as {iova:#x}..+{len:#x}");
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        held.space.unmap(iova, len).map_err(|why| why.error(self.name(), iova, len))?;
        held.maps.remove(&iova);
        Ok(())
    }

    fn reset(&self) -> Result<()> {
        self.inner.with(|held| held.device.reset())
    }

    fn vectors(&self) -> u32 {
        self.vectors
    }

    fn attach(&self, vector: u32, fd: Option<BorrowedFd<'_>>) -> Result<()> {
        if vector >= self.vectors {
            let text = format!("{} has no vector {vector} of {}", self.name(), self.vectors);
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        self.inner.with(|held| {
            let fd = fd.map_or(-1, |fd| fd.as_raw_fd());
            match held.device.set_vectors(MSIX, vector, &[fd]) {
                Ok(0) => Ok(()),
                Ok(_) => {
                    Err(refusal::request(&self.inner.slot, uapi::Request::SetIrqs, Errno::NOSPC))
                }
                Err(errno) => {
                    Err(refusal::request(&self.inner.slot, uapi::Request::SetIrqs, errno))
                }
            }
        })
    }

    fn check(&self) -> Result<()> {
        if crate::fork::in_child() {
            return Err(self.inner.in_child());
        }
        if let Some(error) = self.inner.gone.get() {
            return Err(error.clone());
        }
        match self.inner.is_alarmed() {
            true => Err(self.inner.lost(self.inner.reason())),
            false => Ok(()),
        }
    }

    fn link_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.inner.alarm.as_fd())
    }

    fn link_events(&self) -> PollFlags {
        PollFlags::IN
    }

    fn release(&self) -> bool {
        self.inner.release()
    }

    fn released(&self) -> Option<Arc<OnceLock<bool>>> {
        Some(Arc::clone(&self.inner.quiet))
    }
}

impl fmt::Debug for Vfio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vfio")
            .field("address", &self.inner.slot.address())
            .field("vectors", &self.vectors)
            .field("gone", &self.inner.gone.get())
            .finish_non_exhaustive()
    }
}
