//! Memory by iommufd: one address space of it, and devices opened by nodes of their own
//! (Documentation/userspace-api/iommufd.rst; Documentation/driver-api/vfio.rst, "VFIO device
//! cdev").

use super::call::exchange;
use super::chain;
use super::group::open_node;
use super::refusal;
use super::space::{Limits, Unmapped};
use super::uapi::{self, IoasAlloc, IoasMap, IoasRanges, IoasUnmap, IovaRange, Request};
use crate::bus::DmaMap;
use crate::medium::Result;
use crate::pci::Slot;
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use vfio_bindings::bindings::vfio;

/// More ranges than any platform has.
const MOST_RANGES: usize = 1024;

/// An address space.
#[derive(Debug)]
pub(super) struct Ioas {
    iommufd: OwnedFd,
    id: u32,
}

/// The size of a structure, as it says it itself.
fn size<T>() -> u32 {
    size_of::<T>() as u32
}

impl Ioas {
    /// A new address space, without a device.
    ///
    /// # Errors
    /// `NotFound`, `Permission`, and what the kernel says.
    pub(super) fn open(slot: &Slot) -> Result<Self> {
        let iommufd = open_node(slot, &slot.machine().dev.join("iommu"))?;
        let mut message = IoasAlloc { size: size::<IoasAlloc>(), ..Default::default() };
        // SAFETY: the structure of the request, with its size.
        unsafe { exchange(iommufd.as_fd(), Request::IoasAlloc, &mut message) }
            .map_err(|errno| refusal::request(slot, Request::IoasAlloc, errno))?;
        Ok(Self { iommufd, id: message.out_ioas_id })
    }

    /// Opens a device by its node and has it use this address space.
    ///
    /// # Errors
    /// As [`Self::open`]; `Busy` when another process has it.
    pub(super) fn device(&self, slot: &Slot, node: &Path) -> Result<OwnedFd> {
        let refused = |request| move |errno| refusal::request(slot, request, errno);
        let device = open_node(slot, node)?;
        let mut bind = vfio::vfio_device_bind_iommufd {
            argsz: size::<vfio::vfio_device_bind_iommufd>(),
            iommufd: self.iommufd.as_raw_fd(),
            ..Default::default()
        };
        // SAFETY: the structure of the request, with its size; the token's address is not
        // looked at without its flag.
        unsafe { exchange(device.as_fd(), Request::BindIommufd, &mut bind) }
            .map_err(refused(Request::BindIommufd))?;
        let mut attach = vfio::vfio_device_attach_iommufd_pt {
            argsz: size::<vfio::vfio_device_attach_iommufd_pt>(),
            pt_id: self.id,
            ..Default::default()
        };
        // SAFETY: the structure of the request, with its size.
        unsafe { exchange(device.as_fd(), Request::AttachPageTable, &mut attach) }
            .map_err(refused(Request::AttachPageTable))?;
        Ok(device)
    }

    /// What can be mapped, now that devices use it.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn limits(&self, slot: &Slot) -> Result<Limits> {
        let mut ranges = [IovaRange::default(); MOST_RANGES];
        let mut message = IoasRanges {
            size: size::<IoasRanges>(),
            ioas_id: self.id,
            num_iovas: MOST_RANGES as u32,
            allowed_iovas: (&raw mut ranges).expose_provenance() as u64,
            ..Default::default()
        };
        // SAFETY: the structure of the request, with its size; the address is that of as many
        // ranges as it says, which are ours to be written and live beyond the call.
        unsafe { exchange(self.iommufd.as_fd(), Request::IoasRanges, &mut message) }
            .map_err(|errno| refusal::request(slot, Request::IoasRanges, errno))?;
        let told = ranges.iter().take(message.num_iovas as usize);
        let page_sizes = page_sizes(message.out_iova_alignment);
        let ranges = chain::ordered(told.map(|range| (range.start, range.last)).collect());
        // Its maps are counted as memory alone.
        Ok(Limits { ranges, page_sizes, max_maps: u32::MAX })
    }

    /// Lets devices of the address space reach memory.
    ///
    /// # Safety
    /// As [`Function::map`](crate::bus::Function::map).
    pub(super) unsafe fn map(
        &self,
        map: &DmaMap<'_>,
        flags: (bool, bool),
    ) -> std::result::Result<(), Errno> {
        let flag = |set, bit| if set { bit } else { 0 };
        let (read, write) = (uapi::MAP_READABLE, uapi::MAP_WRITEABLE);
        let mut message = IoasMap {
            size: size::<IoasMap>(),
            flags: uapi::MAP_FIXED_IOVA | flag(flags.0, read) | flag(flags.1, write),
            ioas_id: self.id,
            user_va: map.address as u64,
            length: map.len,
            iova: map.iova,
            ..Default::default()
        };
        // SAFETY: the structure of the request, with its size. The memory at `user_va` is the
        // caller's promise; the kernel pins its pages and touches none.
        unsafe { exchange(self.iommufd.as_fd(), Request::IoasMap, &mut message) }.map(drop)
    }

    /// Takes memory from the devices: whole mappings.
    pub(super) fn unmap(&self, iova: u64, len: u64) -> std::result::Result<(), Unmapped> {
        let (size, ioas_id) = (size::<IoasUnmap>(), self.id);
        let mut message = IoasUnmap { size, ioas_id, iova, length: len };
        // SAFETY: the structure of the request, with its size.
        let done = unsafe { exchange(self.iommufd.as_fd(), Request::IoasUnmap, &mut message) };
        Unmapped::judge(done, message.length, len)
    }
}

/// The sizes of pages that go with an alignment: iommufd does not tell which the hardware has,
/// and what is aligned to the common ones gets them.
fn page_sizes(alignment: u64) -> u64 {
    let least = alignment.max(1);
    [12, 21, 30].map(|bit| 1u64 << bit).iter().filter(|&&size| size >= least).sum::<u64>()
        | if least.is_power_of_two() { least } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::page_sizes;

    #[test]
    fn an_alignment_is_the_smallest_page() {
        assert_eq!(page_sizes(4096), 1 << 12 | 1 << 21 | 1 << 30);
        assert_eq!(page_sizes(1), 1 | 1 << 12 | 1 << 21 | 1 << 30);
        assert_eq!(page_sizes(0), page_sizes(1));
        assert_eq!(page_sizes(65536), 1 << 16 | 1 << 21 | 1 << 30);
    }
}
