//! A container with one group in it: memory by the type 1 IOMMU driver
//! (Documentation/driver-api/vfio.rst, "VFIO Usage Example"; linux/vfio.h).

use super::call::{exchange, number, variable};
use super::chain;
use super::refusal;
use super::space::{Limits, Unmapped};
use super::uapi::Request;
use crate::bus::DmaMap;
use crate::medium::{Error, ErrorKind, Result};
use crate::memory::limits::dma_entry_limit;
use crate::pci::{Group, Slot};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;
use vfio_bindings::bindings::vfio;

/// How often a node that somebody has is tried again, and when: a child that another thread has
/// just forked has it until it runs its program.
const TRIES: u32 = 20;
const BETWEEN: Duration = Duration::from_millis(10);

/// What addresses x86 has where a kernel does not say (before 5.4): all but those to which
/// interrupts are written.
const UNTOLD: [(u64, u64); 2] = [(0, 0xfedf_ffff), (0xfef0_0000, (1 << 39) - 1)];

/// The container, and the group that is in it. The group goes first: with the last device of
/// it closed, that takes all memory from it.
#[derive(Debug)]
pub(super) struct Container {
    group: OwnedFd,
    container: OwnedFd,
}

/// Opens a node for reading and writing.
pub(super) fn open_node(slot: &Slot, path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    for _ in 1..TRIES {
        match rustix::fs::open(path, flags, Mode::empty()) {
            Err(Errno::BUSY) => std::thread::sleep(BETWEEN),
            Err(Errno::INTR) => {}
            done => return done.map_err(|errno| refusal::node(slot, path, errno)),
        }
    }
    let last = rustix::fs::open(path, flags, Mode::empty());
    last.map_err(|errno| refusal::node(slot, path, errno))
}

impl Container {
    /// Opens the group of a device, and an IOMMU for it.
    ///
    /// # Errors
    /// `NotFound`, `Permission`, `Busy`, `Unsupported`: what is missing and how to mend it.
    pub(super) fn open(slot: &Slot, group: &Group) -> Result<Self> {
        let refused = |request| move |errno| refusal::request(slot, request, errno);
        let nodes = slot.machine().dev.join("vfio");
        let container = open_node(slot, &nodes.join("vfio"))?;
        let version = number(container.as_fd(), Request::ApiVersion, 0);
        let version = version.map_err(refused(Request::ApiVersion))?;
        let v2 = vfio::VFIO_TYPE1v2_IOMMU as usize;
        let has = number(container.as_fd(), Request::CheckExtension, v2);
        if version.cast_unsigned() != vfio::VFIO_API_VERSION
            || has.map_err(refused(Request::CheckExtension))? != 1
        {
            let text = format!(
                "{}: this kernel's VFIO (version {version}) has no IOMMU of type 1 v2: `modprobe \
                 vfio_iommu_type1` as root",
                slot.address()
            );
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        let opened = open_node(slot, &nodes.join(&group.number))?;
        let mut status = vfio::vfio_group_status { argsz: 8, flags: 0 };
        // SAFETY: the structure of the request, of which `argsz` is the size.
        unsafe { exchange(opened.as_fd(), Request::GroupStatus, &mut status) }
            .map_err(refused(Request::GroupStatus))?;
        if status.flags & vfio::VFIO_GROUP_FLAGS_VIABLE == 0 {
            return Err(refusal::not_viable(slot, group));
        }
        let mut raw = container.as_raw_fd();
        // SAFETY: the request takes the address of a descriptor, which is open.
        unsafe { exchange(opened.as_fd(), Request::GroupSetContainer, &mut raw) }
            .map_err(refused(Request::GroupSetContainer))?;
        number(container.as_fd(), Request::SetIommu, v2).map_err(refused(Request::SetIommu))?;
        Ok(Self { group: opened, container })
    }

    /// The descriptor of a device of the group.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn device(&self, slot: &Slot) -> Result<OwnedFd> {
        let refused = |errno| refusal::request(slot, Request::GroupDevice, errno);
        let mut name = [0u8; 32];
        match name.split_last_mut().and_then(|(_, n)| n.get_mut(..slot.address().len())) {
            Some(room) => room.copy_from_slice(slot.address().as_bytes()),
            None => return Err(refused(Errno::INVAL)),
        }
        // SAFETY: the request takes the address of a name that ends with a zero byte; the
        // kernel reads up to that, and writes nothing.
        let fd = unsafe { exchange(self.group.as_fd(), Request::GroupDevice, &mut name) };
        let fd = fd.map_err(refused)?;
        // SAFETY: the kernel has just made this descriptor for us, and nobody else has it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// What can be mapped.
    ///
    /// # Errors
    /// What the kernel says; `Io` for an answer that makes no sense.
    pub(super) fn limits(&self, slot: &Slot) -> Result<Limits> {
        let request = Request::IommuInfo;
        let info = variable(self.container.as_fd(), request, &[0]);
        let info = info.map_err(|errno| refusal::request(slot, request, errno))?;
        understand(&info).map_err(|what| refusal::nonsense(slot, request, what))
    }

    /// Lets devices of the group reach memory.
    ///
    /// # Safety
    /// As [`Function::map`](crate::bus::Function::map).
    pub(super) unsafe fn map(
        &self,
        map: &DmaMap<'_>,
        flags: (bool, bool),
    ) -> std::result::Result<(), Errno> {
        let (read, write) = (vfio::VFIO_DMA_MAP_FLAG_READ, vfio::VFIO_DMA_MAP_FLAG_WRITE);
        let mut message = vfio::vfio_iommu_type1_dma_map {
            argsz: size_of::<vfio::vfio_iommu_type1_dma_map>() as u32,
            flags: if flags.0 { read } else { 0 } | if flags.1 { write } else { 0 },
            vaddr: map.address as u64,
            iova: map.iova,
            size: map.len,
        };
        // SAFETY: the structure of the request, with its size. The memory at `vaddr` is the
        // caller's promise; the kernel pins its pages and touches none.
        unsafe { exchange(self.container.as_fd(), Request::MapDma, &mut message) }.map(drop)
    }

    /// Takes memory from the devices of the group: one mapping, or several, wholly.
    pub(super) fn unmap(&self, iova: u64, len: u64) -> std::result::Result<(), Unmapped> {
        let mut message = vfio::vfio_iommu_type1_dma_unmap {
            argsz: size_of::<vfio::vfio_iommu_type1_dma_unmap>() as u32,
            iova,
            size: len,
            ..Default::default()
        };
        // SAFETY: the structure of the request, with its size, and without the optional bitmap.
        let done = unsafe { exchange(self.container.as_fd(), Request::UnmapDma, &mut message) };
        Unmapped::judge(done, message.size, len)
    }
}

/// Reads `struct vfio_iommu_type1_info`.
fn understand(info: &[u8]) -> std::result::Result<Limits, chain::Wrong> {
    const FIXED: usize = size_of::<vfio::vfio_iommu_type1_info>();
    let short = "it is cut off";
    let flags = chain::word(info, 4).ok_or(short)?;
    let page_sizes = match flags & vfio::VFIO_IOMMU_INFO_PGSIZES {
        0 => rustix::param::page_size() as u64,
        _ => chain::long(info, 8).ok_or(short)?,
    };
    let first = match flags & vfio::VFIO_IOMMU_INFO_CAPS {
        0 => 0,
        _ => chain::word(info, 16).ok_or(short)?,
    };
    let found = chain::walk(info, first, FIXED.min(20))?;
    let ranges = match chain::addresses(&found)? {
        Some(ranges) => ranges,
        None => chain::ordered(UNTOLD.to_vec()),
    };
    let told = dma_entry_limit().and_then(|limit| u32::try_from(limit).ok());
    let max_maps = chain::maps_left(&found).or(told).unwrap_or(u32::from(u16::MAX));
    Ok(Limits { ranges, page_sizes, max_maps })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What QEMU's guest kernel answers (6.1), by its bytes.
    #[test]
    fn an_answer_of_the_kernel_is_understood() {
        let mut bytes = Vec::new();
        bytes.extend([120u32, 3].map(u32::to_ne_bytes).concat());
        bytes.extend(0x4020_1000u64.to_ne_bytes());
        bytes.extend([24u32, 0].map(u32::to_ne_bytes).concat());
        bytes.extend([1u16, 1].map(u16::to_ne_bytes).concat());
        bytes.extend([72u32, 2, 0].map(u32::to_ne_bytes).concat());
        let ranges = [0, 0xfedf_ffff, 0xfef0_0000, 0x7f_ffff_ffffu64];
        bytes.extend(ranges.map(u64::to_ne_bytes).concat());
        bytes.extend([3u16, 1].map(u16::to_ne_bytes).concat());
        bytes.extend([0u32, 65535].map(u32::to_ne_bytes).concat());
        let limits = understand(&bytes).unwrap();
        assert_eq!(limits.ranges, [0..0xfee0_0000, 0xfef0_0000..0x80_0000_0000]);
        assert_eq!((limits.page_sizes, limits.max_maps), (0x4020_1000, 65535));
        for cut in 0..20 {
            assert!(understand(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        // An old kernel: no capabilities, a structure of 16 bytes.
        bytes[4] = 1;
        let limits = understand(&bytes[..16]).unwrap();
        assert_eq!(limits.ranges, [0..0xfee0_0000, 0xfef0_0000..1 << 39]);
    }
}
