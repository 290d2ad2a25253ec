//! A region of a device, as the kernel describes it: registers' place in the descriptor, and
//! what of them can be mapped (linux/vfio.h, `VFIO_DEVICE_GET_REGION_INFO`).

use super::chain;
use vfio_bindings::bindings::vfio;

/// A region of the device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Region {
    pub(super) size: u64,
    /// Where it begins in the descriptor.
    pub(super) offset: u64,
    flags: u32,
    /// The parts that can be mapped.
    areas: Vec<(u64, u64)>,
}

impl Region {
    /// Reads `struct vfio_region_info` and what follows it.
    pub(super) fn understand(info: &[u8]) -> std::result::Result<Self, chain::Wrong> {
        const FIXED: usize = size_of::<vfio::vfio_region_info>();
        let short = "it is cut off";
        let flags = chain::word(info, 4).ok_or(short)?;
        let size = chain::long(info, 16).ok_or(short)?;
        let offset = chain::long(info, 24).ok_or(short)?;
        // Accesses are made at `offset` and beyond, by a signed number.
        if offset.checked_add(size).is_none_or(|end| end > i64::MAX as u64) {
            return Err("a region beyond all files");
        }
        let first = match flags & vfio::VFIO_REGION_INFO_FLAG_CAPS {
            0 => 0,
            _ => chain::word(info, 12).ok_or(short)?,
        };
        let found = chain::walk(info, first, FIXED)?;
        let areas = chain::areas(&found, size)?.unwrap_or_else(|| vec![(0, size)]);
        let all = vfio::VFIO_REGION_INFO_FLAG_READ
            | vfio::VFIO_REGION_INFO_FLAG_WRITE
            | vfio::VFIO_REGION_INFO_FLAG_MMAP;
        let areas = if flags & all == all { areas } else { Vec::new() };
        Ok(Self { size, offset, flags, areas })
    }

    /// The parts that can be mapped, and are made of pages: place in the region, place in the
    /// descriptor, length.
    pub(super) fn mappable(&self, page: u64) -> impl Iterator<Item = (u64, u64, u64)> {
        let whole = move |&&(at, len): &&(u64, u64)| len > 0 && at.is_multiple_of(page);
        self.areas.iter().filter(whole).map(|&(at, len)| (at, self.offset + at, len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(flags: u32, cap: u32, size: u64, offset: u64) -> Vec<u8> {
        let head = [0, flags, 0, cap].map(u32::to_ne_bytes).concat();
        [head, [size, offset].map(u64::to_ne_bytes).concat()].concat()
    }

    #[test]
    fn regions_are_understood() {
        let region = Region::understand(&info(7, 0, 0x4000, 1 << 40)).unwrap();
        assert_eq!(region.mappable(4096).collect::<Vec<_>>(), [(0, 1 << 40, 0x4000)]);
        for flags in [0, 3, 5, 6] {
            let region = Region::understand(&info(flags, 0, 0x4000, 0)).unwrap();
            assert_eq!(region.mappable(4096).count(), 0, "flags {flags}");
        }
        // Around a table of vectors that is not to be touched.
        let mut bytes = info(15, 32, 0x4000, 0x1_0000);
        bytes.extend([1u16, 1].map(u16::to_ne_bytes).concat());
        bytes.extend([0u32, 3, 0].map(u32::to_ne_bytes).concat());
        bytes.extend([0, 0x2000, 0x3000, 0x1000, 0x2800, 0x800u64].map(u64::to_ne_bytes).concat());
        let region = Region::understand(&bytes).unwrap();
        let areas: Vec<_> = region.mappable(4096).collect();
        assert_eq!(areas, [(0, 0x1_0000, 0x2000), (0x3000, 0x1_3000, 0x1000)]);
        bytes.truncate(60);
        assert!(Region::understand(&bytes).is_err());
    }

    #[test]
    fn regions_that_no_file_has_are_refused() {
        for (size, offset) in
            [(1 << 63, 0), (1, u64::MAX), (u64::MAX, 1), (0x1000, i64::MAX as u64)]
        {
            assert!(Region::understand(&info(7, 0, size, offset)).is_err(), "{size:x} {offset:x}");
        }
        for cut in 0..32 {
            assert!(Region::understand(&info(7, 0, 1, 1)[..cut]).is_err());
        }
    }
}
