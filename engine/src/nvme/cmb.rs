//! The Controller Memory Buffer (Base 1.4, 3.1.11, 3.1.12, 3.1.16, 4.7): found, given an
//! address of our own, and handed out as a pool like any other.
//!
//! What registers say is a stranger's word: what does not fit is not used, and the log
//! says why. Queues take an eighth of it each at the most, buffers what is left.
//! docs/windows.md says which attribute allows what.

use super::backing::Mapper;
use super::link::Link;
use super::spec::registers::{self as reg, CmbLoc, CmbMsc, CmbSts, CmbSz};
use crate::bus::Area;
use crate::medium::{BLOCK, Error, ErrorKind, Fact, Result, Value};
use crate::memory::{Backing, DmaPages, Pool, RegionInfo};
use std::sync::Arc;

/// What the registers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    /// Offset in its BAR, and bytes: whole pages.
    offset: u64,
    len: u64,
    size: CmbSz,
    location: CmbLoc,
}

/// A buffer that is in use.
#[derive(Debug)]
pub(super) struct Cmb {
    found: Found,
    control: CmbMsc,
    pool: Pool,
}

/// Pages of a queue, and of its lists.
type Pair = (DmaPages, Option<DmaPages>);

/// Which BAR CMBLOC names: 0, with the registers, or 2 to 5 (3.1.11).
fn bar_of(location: CmbLoc) -> std::result::Result<u8, String> {
    match location.bir() {
        bir @ (0 | 2..=5) => Ok(bir as u8),
        bir => Err(format!("BAR {bir} has none (CMBLOC.BIR)")),
    }
}

/// Checks place and size against a BAR of `bar` bytes. None for a buffer of no bytes.
fn understand(
    location: CmbLoc,
    size: CmbSz,
    bar: u64,
) -> std::result::Result<Option<Found>, String> {
    if size.sz() == 0 {
        return Ok(None);
    }
    // 4 KiB to 64 GiB (3.1.12).
    if size.szu() > 6 {
        return Err(format!("a unit of size {} is not defined (CMBSZ.SZU)", size.szu()));
    }
    let unit = 4096u64 << (4 * size.szu());
    let (offset, len) = (u64::from(location.ofst()) * unit, u64::from(size.sz()) * unit);
    // 20 bits and 36: neither product overflows, nor does their sum.
    if offset + len > bar {
        return Err(format!(
            "bytes {offset:#x}..+{len:#x} do not lie in BAR {} of {bar:#x} (CMBLOC.OFST, CMBSZ.SZ)",
            location.bir()
        ));
    }
    // In BAR 0 the doorbells come first.
    if location.bir() == 0 && offset < reg::DOORBELLS {
        return Err(format!("offset {offset:#x} of BAR 0 has registers (CMBLOC.OFST)"));
    }
    Ok(Some(Found { offset, len, size, location }))
}

/// Where a buffer lies in a mapped area, if it lies in it wholly.
fn inside(area: &Area, found: Found) -> Option<std::ops::Range<usize>> {
    let start = found.offset.checked_sub(area.offset)?;
    let end = start.checked_add(found.len)?;
    let range = usize::try_from(start).ok()?..usize::try_from(end).ok()?;
    let aligned = range.start.is_multiple_of(BLOCK) && range.end <= isize::MAX as usize;
    (aligned && range.end <= area.memory.len()).then_some(range)
}

impl Cmb {
    /// Looks for a buffer and gives it an address, while the controller is stopped. None where
    /// there is none, or none that can be used.
    ///
    /// # Errors
    /// What the link says.
    pub(super) fn find(link: &Link, mapper: &Arc<Mapper>) -> Result<Option<Self>> {
        if link.cap.cmbs() == 0 {
            return Ok(None);
        }
        match Self::try_find(link, mapper)? {
            Ok(cmb) => Ok(cmb),
            Err(why) => {
                link.bar.write64(reg::CMBMSC, 0)?;
                let controller = link.function.name();
                tracing::warn!(controller, why, "its Controller Memory Buffer is not used");
                Ok(None)
            }
        }
    }

    fn try_find(
        link: &Link,
        mapper: &Arc<Mapper>,
    ) -> Result<std::result::Result<Option<Self>, String>> {
        link.bar.write64(reg::CMBMSC, CmbMsc(0).with_cre(1).0)?;
        let location = CmbLoc(link.bar.read32(reg::CMBLOC)?);
        let size = CmbSz(link.bar.read32(reg::CMBSZ)?);
        if size.sz() == 0 {
            return Ok(Ok(None));
        }
        let index = match bar_of(location) {
            Ok(index) => index,
            Err(why) => return Ok(Err(why)),
        };
        let bar = match link.function.bar(index) {
            Ok(bar) => bar,
            Err(error) if error.kind() == ErrorKind::Gone => return Err(error),
            Err(error) => return Ok(Err(error.message().to_owned())),
        };
        let found = match understand(location, size, bar.len()) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(Ok(None)),
            Err(why) => return Ok(Err(why)),
        };
        let placed = bar.areas().iter().find_map(|a| Some((a, inside(a, found)?)));
        let Some((area, range)) = placed else {
            return Ok(Err("it cannot be mapped".to_owned()));
        };
        let iova = match mapper.take_addresses(found.len) {
            Ok(iova) => iova,
            Err(error) => return Ok(Err(error.message().to_owned())),
        };
        let backing: Arc<dyn Backing> = Arc::new(Own(Arc::clone(mapper)));
        // SAFETY: the range was found to lie in the area, and is made of whole pages. The
        // driver reaches these bytes through the pool alone, and makes one for each
        // controller: BAR 0's registers lie before them.
        let pool = unsafe { Pool::over_device(Arc::clone(&area.memory), range, iova, backing) };
        let control = CmbMsc(0).with_cre(1).with_cmse(1).with_cba(iova >> 12);
        let cmb = Self { found, control, pool };
        match cmb.place(link) {
            Ok(()) => Ok(Ok(Some(cmb))),
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                Ok(Err(error.message().to_owned()))
            }
            Err(error) => Err(error),
        }
    }

    /// Tells the controller where its buffer is, by one access of 64 bits (3.1.16). It is
    /// stopped.
    ///
    /// # Errors
    /// `Unsupported` when it refuses the address, or does not have the buffer any more.
    pub(super) fn place(&self, link: &Link) -> Result<()> {
        link.bar.write64(reg::CMBMSC, self.control.0)?;
        let refused = CmbSts(link.bar.read32(reg::CMBSTS)?).cbai() == 1;
        let size = CmbSz(link.bar.read32(reg::CMBSZ)?);
        if refused || size != self.found.size {
            let name = link.function.name();
            let at = self.control.cba() << 12;
            let text = format!("{name} does not take its memory buffer at {at:#x} (CMBSTS.CBAI)");
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        Ok(())
    }

    /// Takes it out of the device's addresses, for whoever has the controller next: it keeps
    /// CMBMSC when it is disabled, and would take what lies at these addresses in his memory
    /// for its own buffer. It is stopped.
    pub(super) fn leave(link: &Link) {
        // A controller that is gone keeps nothing.
        let _ = link.bar.write64(reg::CMBMSC, 0);
    }

    /// All of it.
    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Where buffers for data come from, where data may lie there both ways.
    #[inline]
    pub(super) fn data(&self) -> Option<&Pool> {
        let size = self.found.size;
        (size.rds() == 1 && size.wds() == 1).then_some(&self.pool)
    }

    /// So many bytes, if they are no more than a queue may have.
    fn part(&self, bytes: usize) -> Option<DmaPages> {
        let fits = bytes as u64 <= self.found.len / 8;
        fits.then(|| self.pool.pages(bytes).ok()).flatten()
    }

    /// Pages for a submission queue, where one may lie there and there is room, and for its
    /// lists. Lists are where their queue is, unless they need not be (3.1.11, CDPCILS); they
    /// also have ranges and zeroes, which are data.
    pub(super) fn queue_pages(&self, queue: usize, lists: usize) -> Option<Pair> {
        let Found { size, location, .. } = self.found;
        if size.sqs() == 0 {
            return None;
        }
        let queue = self.part(queue)?;
        let lists = match size.lists() == 1 && size.wds() == 1 {
            true => self.part(lists),
            false => None,
        };
        (lists.is_some() || location.cdpcils() == 1).then_some((queue, lists))
    }

    /// What it is, for people and programs.
    pub(super) fn facts(&self) -> Vec<Fact> {
        let fact = |name, value: Value| Fact::new("buffer", name, value);
        let size = self.found.size;
        vec![
            fact("size", Value::Bytes(self.found.len)),
            fact("submission_queues", (size.sqs() == 1).into()),
            fact("completion_queues", (size.cqs() == 1).into()),
            fact("lists", (size.lists() == 1).into()),
            fact("read_data", (size.rds() == 1).into()),
            fact("write_data", (size.wds() == 1).into()),
        ]
    }
}

/// The addresses of a buffer, given back when nothing is left of its pool.
struct Own(Arc<Mapper>);

impl Backing for Own {
    fn added(&self, _: &RegionInfo<'_>) -> Result<u64> {
        Err(Error::new(ErrorKind::Limit, "a controller's memory buffer does not grow"))
    }

    fn removed(&self, iova: u64, len: usize) -> Result<()> {
        self.0.give_addresses(iova, len as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(sz: u32, szu: u32) -> CmbSz {
        CmbSz(0).with_sz(sz).with_szu(szu)
    }

    #[test]
    fn sound_registers_are_believed() {
        // As QEMU 7.2 says of 64 MiB: units of 1 MiB, all but completion queues.
        let (location, qemu) = (CmbLoc(0).with_bir(2), CmbSz(0x0004_021d));
        let found = understand(location, qemu, 64 << 20).unwrap().unwrap();
        assert_eq!((found.offset, found.len), (0, 64 << 20));
        assert_eq!((qemu.sqs(), qemu.cqs(), qemu.lists(), qemu.rds(), qemu.wds()), (1, 0, 1, 1, 1));
        let behind = CmbLoc(0).with_bir(0).with_ofst(1);
        let found = understand(behind, size(2, 1), 1 << 20).unwrap().unwrap();
        assert_eq!((found.offset, found.len), (64 << 10, 128 << 10));
        assert_eq!(understand(location, size(0, 9), 0), Ok(None));
    }

    #[test]
    fn what_does_not_fit_is_told_by_name() {
        let at = |bir, ofst| CmbLoc(0).with_bir(bir).with_ofst(ofst);
        let cases = [
            ("CMBSZ.SZU", at(2, 0), size(1, 7)),
            ("CMBSZ.SZU", at(2, 0), size(1, 15)),
            ("CMBLOC.OFST", at(2, 0), size(257, 0)),
            ("CMBLOC.OFST", at(2, 1), size(256, 0)),
            ("CMBLOC.OFST", at(2, 0xf_ffff), size(0xf_ffff, 6)),
            ("BAR 0", at(0, 0), size(1, 0)),
        ];
        for (name, location, size) in cases {
            let why = understand(location, size, 1 << 20).unwrap_err();
            assert!(why.contains(name), "{why}");
        }
        for bir in [1, 6, 7] {
            assert!(bar_of(at(bir, 0)).unwrap_err().contains("CMBLOC.BIR"));
        }
    }

    #[test]
    fn any_values_are_data() {
        let mut state = 3u64;
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (location, size) = (CmbLoc((state >> 32) as u32), CmbSz(state as u32));
            let bar = state.rotate_left(21) >> (state % 50);
            if let Ok(Some(found)) = understand(location, size, bar) {
                assert!(found.len > 0 && found.offset.checked_add(found.len).unwrap() <= bar);
                assert!(found.len.is_multiple_of(4096) && found.offset.is_multiple_of(4096));
            }
        }
    }
}
