//! The commands that bring a list of ranges: Dataset Management (Base 1.4, 6.7) and
//! Copy (NVM 1.0, 3.2.2). The list is copied once, and judged wholly before anything
//! is done.

use super::super::guest::Guest;
use super::super::options::COPY_BLOCKS;
use super::Controller;
use crate::nvme::spec::command::Command;
use crate::nvme::spec::io::{CopyRange, DSM_DEALLOCATE, DsmRange};
use crate::nvme::spec::status::Status;

type Answer = Result<u32, Status>;

/// Words of a list, from its bytes.
fn words<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u64; N]> {
    bytes.chunks_exact(8 * N).map(|chunk| {
        let mut words = [0; N];
        for (word, bytes) in words.iter_mut().zip(chunk.chunks_exact(8)) {
            *word = u64::from_le_bytes(bytes.try_into().expect("chunks of eight"));
        }
        words
    })
}

impl Controller {
    /// Copies a command's list of ranges.
    fn list(
        &mut self,
        command: &Command,
        len: usize,
        guest: &impl Guest,
    ) -> Result<Vec<u8>, Status> {
        self.transfer.plan(command, len as u64, self.io_rules(), false, guest)?;
        let mut bytes = vec![0; len];
        self.transfer.gather(guest, &mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn dataset_management(&mut self, command: &Command, guest: &impl Guest) -> Answer {
        let namespace = self.known(command.nsid())?;
        let count = (command.cdw(10) as usize & 0xff) + 1;
        let list = self.list(command, count * DsmRange::BYTES, guest)?;
        let ranges = || words::<2>(&list).map(DsmRange::from_words);
        for range in ranges() {
            self.place(namespace, range.slba, u64::from(range.count))?;
        }
        // Everything else is a hint.
        if command.cdw(11) & DSM_DEALLOCATE == 0 {
            return Ok(0);
        }
        let through = self.is_through(&Command::default());
        for range in ranges() {
            let (at, len) = self.place(namespace, range.slba, u64::from(range.count))?;
            if let Err(trouble) = self.disk.zero(at, len, true, through) {
                return Err(self.told(trouble));
            }
        }
        Ok(0)
    }

    /// Copy with source ranges in format 0. All sources are read before the
    /// destination is written, so that it may overlap them.
    pub(super) fn copy(&mut self, command: &Command, guest: &impl Guest) -> Answer {
        const FORMAT: u32 = 0xf << 8;
        let namespace = self.known(command.nsid())?;
        if command.cdw(12) & FORMAT != 0 {
            return Err(Status::INVALID_FIELD.final_());
        }
        let count = (command.cdw(12) & 0xff) as usize + 1;
        if count > usize::from(self.traits.msrc) + 1 {
            return Err(Status::SIZE_LIMIT.final_());
        }
        let list = self.list(command, count * CopyRange::BYTES, guest)?;
        let mut blocks = 0;
        for range in words::<4>(&list).map(CopyRange::from_words) {
            let here = u64::from(range.nlb) + 1;
            blocks += here;
            if here > u64::from(COPY_BLOCKS) || blocks > u64::from(COPY_BLOCKS) {
                return Err(Status::SIZE_LIMIT.final_());
            }
            self.place(namespace, range.slba, here)?;
        }
        let (to, len) = self.place(namespace, command.slba(), blocks)?;
        let mut bytes = vec![0; len as usize];
        let mut rest = &mut bytes[..];
        for range in words::<4>(&list).map(CopyRange::from_words) {
            let (at, len) = self.place(namespace, range.slba, u64::from(range.nlb) + 1)?;
            let (now, later) = rest.split_at_mut(len as usize);
            if let Err(trouble) = self.disk.read(at, now) {
                return Err(self.told(trouble));
            }
            rest = later;
        }
        self.logs.written(blocks);
        match self.disk.write(to, &bytes, self.is_through(command)) {
            Ok(()) => Ok(count as u32),
            Err(trouble) => Err(self.told(trouble)),
        }
    }
}
