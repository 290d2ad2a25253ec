//! How an operation is cut into commands: pure.

use super::super::namespace::Namespace;
use super::super::spec::PAGE;
use super::super::spec::command::Command;
use super::super::spec::io::{CopyRange, DsmRange, NLB_MAX};
use super::super::spec::pointer::{DataPointer, SglDescriptor};
use crate::medium::BLOCK;
use crate::memory::DmaPages;

/// What an operation does; places and counts are logical blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write { fua: bool },
    Compare,
    Flush,
    WriteZeroes,
    Deallocate,
    Copy { from: u64 },
}

/// An operation that is not one simple command, and how much of it has been cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Work {
    pub(super) kind: Kind,
    /// First logical block.
    pub(super) at: u64,
    /// How many; one for a flush.
    pub(super) total: u64,
    /// How many of them commands were made for.
    pub(super) cut: u64,
    /// Where the data are for the device.
    pub(super) address: u64,
}

/// One page for each command: a PRP list, or ranges.
#[derive(Debug)]
pub(super) struct Lists {
    pages: DmaPages,
    /// A page of zeroes, where the controller cannot write them by itself.
    zeroes: Option<u64>,
}

impl Lists {
    pub(super) fn new(pages: DmaPages, zeroes: Option<u64>) -> Self {
        Self { pages, zeroes }
    }

    fn address(&self, slot: u16) -> u64 {
        self.pages.iova() + u64::from(slot) * PAGE as u64
    }

    /// The data pointer for contiguous data.
    #[inline]
    pub(super) fn point(&self, slot: u16, sgl: bool, at: u64, len: usize) -> DataPointer {
        if len <= PAGE {
            return DataPointer::prps(at, 0);
        }
        self.point_to_many(slot, sgl, at, len)
    }

    #[inline(never)]
    fn point_to_many(&self, slot: u16, sgl: bool, at: u64, len: usize) -> DataPointer {
        if len <= 2 * PAGE {
            DataPointer::prps(at, at + PAGE as u64)
        } else if sgl {
            DataPointer::sgl(SglDescriptor::data(at, len as u32))
        } else {
            self.list(slot, len, |page| at + page * PAGE as u64)
        }
    }

    /// A data pointer with a list of pages.
    fn list(&self, slot: u16, len: usize, page: impl Fn(u64) -> u64) -> DataPointer {
        let first = usize::from(slot) * PAGE;
        let pages = len.div_ceil(PAGE) as u64;
        if pages <= 2 {
            return DataPointer::prps(page(0), if pages == 2 { page(1) } else { 0 });
        }
        for number in 1..pages {
            self.pages.store64(first + (number as usize - 1) * 8, page(number));
        }
        DataPointer::prps(page(0), self.address(slot))
    }

    /// The next command of an operation, without its identifier; `work` has some left.
    pub(super) fn next(&self, space: &Namespace, work: &mut Work, slot: u16) -> Command {
        let (at, left) = (work.at + work.cut, work.total - work.cut);
        let lba = BLOCK as u64 >> space.shift;
        let most = space.abilities.max_command / lba;
        let nsid = space.nsid;
        let count = match work.kind {
            Kind::Read | Kind::Write { .. } | Kind::Compare => left.min(most),
            Kind::WriteZeroes if self.zeroes.is_some() => left.min(most),
            Kind::WriteZeroes => left.min(NLB_MAX.into()),
            Kind::Deallocate => left.min(u64::from(u32::MAX)),
            Kind::Copy { .. } => left.min(space.copy_total.into()),
            Kind::Flush => 1,
        };
        let (blocks, len) = (count as u32, (count * lba) as usize);
        let data = work.address + work.cut * lba;
        work.cut += count;
        let sgl = space.abilities.sgl;
        match work.kind {
            Kind::Flush => Command::flush(nsid),
            kind @ (Kind::Read | Kind::Write { .. } | Kind::Compare) => {
                let data = self.point(slot, sgl, data, len);
                let command = match kind {
                    Kind::Write { fua } => Command::write(nsid, at, blocks, fua),
                    Kind::Compare => Command::compare(nsid, at, blocks),
                    _ => Command::read(nsid, at, blocks),
                };
                command.with_data(data)
            }
            Kind::WriteZeroes => match self.zeroes {
                None => Command::write_zeroes(nsid, at, blocks),
                // Every page of the data is the same one.
                Some(page) => {
                    let data = self.list(slot, len, |_| page);
                    Command::write(nsid, at, blocks, false).with_data(data)
                }
            },
            Kind::Deallocate => {
                let range = DsmRange { attributes: 0, count: blocks, slba: at };
                self.pages.store_words(usize::from(slot) * PAGE, &range.words());
                Command::deallocate(nsid, 1).with_prps(self.address(slot), 0)
            }
            Kind::Copy { from } => {
                let ranges =
                    self.copy_ranges(slot, from + (at - work.at), blocks, space.copy_range);
                Command::copy(nsid, at, ranges).with_prps(self.address(slot), 0)
            }
        }
    }

    /// Writes the source ranges of a copy; how many they are.
    fn copy_ranges(&self, slot: u16, from: u64, blocks: u32, each: u32) -> u32 {
        let (mut done, mut ranges) = (0, 0);
        while done < blocks {
            let count = (blocks - done).min(each);
            let range = CopyRange { slba: from + u64::from(done), nlb: (count - 1) as u16 };
            let place = usize::from(slot) * PAGE + ranges as usize * CopyRange::BYTES;
            self.pages.store_words(place, &range.words());
            (done, ranges) = (done + count, ranges + 1);
        }
        ranges
    }
}
