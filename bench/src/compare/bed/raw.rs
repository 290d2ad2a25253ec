//! The device itself: what all sides are measured against.

use super::rival::{MediumTarget, SyncWriter};
use super::{BLOCK, Bed, PIECE, Target, WRITER_BLOCKS, Writer};
use crate::outcome::{Outcome, fail};
use crate::stage::{Counters, Stage};
use freehold_engine::medium::Medium;
use std::sync::Arc;

/// The stage as one file that has no name.
pub(crate) struct Raw<'a> {
    stage: &'a Stage,
    medium: Arc<dyn Medium>,
}

impl<'a> Raw<'a> {
    /// Empty.
    pub(crate) fn new(stage: &'a Stage) -> Outcome<Self> {
        Ok(Raw { stage, medium: stage.raw()? })
    }
}

impl Bed for Raw<'_> {
    fn target(&self, _: &str, depth: u32) -> Outcome<Box<dyn Target>> {
        Ok(Box::new(MediumTarget::new(self.medium.clone(), depth)?))
    }

    fn put(&self, _: &str, offset: u64, len: u64) -> Outcome {
        let mut target = MediumTarget::new(self.medium.clone(), 1)?;
        let mut idle = vec![target.buffer(PIECE)?];
        let mut at = 0;
        while at < len {
            let Some(buf) = idle.pop() else { return fail("a buffer was lost") };
            target.submit(true, (offset + at) / BLOCK, buf)?;
            target.reap(&mut idle)?;
            at += PIECE as u64;
        }
        Ok(())
    }

    fn get(&self, _: &str, _: u64) -> Outcome {
        fail("a device has no files")
    }

    fn many(&self, _: &str, _: u64) -> Outcome {
        fail("a device has no extents")
    }

    fn reflink(&self, _: &str, _: &str) -> Outcome {
        fail("a device has no reflinks")
    }

    fn remove(&self, _: &str) -> Outcome {
        fail("a device has no files")
    }

    fn truncate(&self, _: &str) -> Outcome {
        fail("a device has no files")
    }

    fn settle(&self) -> Outcome {
        Ok(())
    }

    fn free(&self) -> Outcome<u64> {
        fail("a device has no free space")
    }

    fn writer(&self, number: u64, append: bool) -> Outcome<Box<dyn Writer>> {
        if append {
            return fail("a device has no end to append to");
        }
        let start = number * WRITER_BLOCKS;
        self.put("", start * BLOCK, WRITER_BLOCKS * BLOCK)?;
        Ok(Box::new(SyncWriter::open(&self.stage.raw_path(), start)?))
    }

    fn counters(&self) -> Option<Counters> {
        self.stage.counters()
    }
}
