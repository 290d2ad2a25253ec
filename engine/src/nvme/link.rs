//! What is reached of a controller by its registers: capabilities, stopping, starting
//! (Base 1.4, 3.1 and 7.6.1).

use super::spec::registers::{self as reg, ALL_ONES, Aqa, Cap, Cc, Csts};
use super::spec::{PAGE, command};
use crate::bus::{Bar, Function, Register};
use crate::medium::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Memory space and bus master of the PCI command register.
const COMMAND: u16 = 4;
const MEMORY_AND_MASTER: u16 = 0b110;

/// How long a wait for a register goes on at first, and at most, between two looks.
const FIRST_NAP: Duration = Duration::from_micros(20);
const LONGEST_NAP: Duration = Duration::from_millis(1);

/// A function with an NVMe controller behind it.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) function: Arc<dyn Function>,
    pub(super) bar: Bar,
    pub(super) cap: Cap,
}

impl Link {
    /// Looks at what the controller can do; changes nothing but bus mastering.
    ///
    /// # Errors
    /// `Unsupported`, with the field's name; `Gone`; what the bus says.
    pub(super) fn new(function: Arc<dyn Function>) -> Result<Self> {
        let mut old = [0; 2];
        function.config(COMMAND, &mut old)?;
        let wanted = u16::from_le_bytes(old) | MEMORY_AND_MASTER;
        function.set_config(COMMAND, &wanted.to_le_bytes())?;
        let bar = function.bar(0)?;
        let cap = Cap(bar.read64(reg::CAP)?);
        let link = Self { function, bar, cap };
        if cap.0 == u64::MAX {
            return Err(link.vanished());
        }
        let name = link.function.name();
        let refuse = |what: String| {
            Err(Error::new(ErrorKind::Unsupported, format!("{name}: {what} (CAP {:016x}h)", cap.0)))
        };
        if cap.css() & 0b100_0001 == 0 {
            return refuse("it has no NVM command set (CAP.CSS)".into());
        }
        if cap.mpsmin() != 0 {
            let least = 4u64 << cap.mpsmin();
            return refuse(format!("it wants memory pages of {least} KiB or more (CAP.MPSMIN)"));
        }
        if cap.mqes() == 0 {
            return refuse("its queues have no room (CAP.MQES)".into());
        }
        if link.most_queues() == 0 {
            return refuse(format!(
                "its doorbells of {} bytes do not fit in BAR 0 of {} (CAP.DSTRD)",
                4u64 << cap.dstrd(),
                link.bar.len()
            ));
        }
        Ok(link)
    }

    /// I/O queue pairs whose doorbells lie in the BAR.
    pub(super) fn most_queues(&self) -> u16 {
        let room = self.bar.len().saturating_sub(reg::DOORBELLS);
        let pairs = room / (8 << self.cap.dstrd());
        u16::try_from(pairs.saturating_sub(1)).unwrap_or(u16::MAX - 1)
    }

    /// How long CSTS.RDY may take to follow CC.EN.
    pub(super) fn ready_time(&self) -> Duration {
        Duration::from_millis(500) * u32::try_from(self.cap.to().max(1)).unwrap_or(1)
    }

    /// The doorbell register at an offset of BAR 0.
    pub(super) fn doorbell(&self, offset: u64) -> Result<Register> {
        self.bar.register(offset)
    }

    /// CSTS, and whether there is a controller at all.
    ///
    /// # Errors
    /// `Gone` for all ones, or what the bus says.
    pub(super) fn status(&self) -> Result<Csts> {
        match self.bar.read32(reg::CSTS)? {
            ALL_ONES => Err(self.vanished()),
            value => Ok(Csts(value)),
        }
    }

    fn vanished(&self) -> Error {
        Error::new(
            ErrorKind::Gone,
            format!(
                "{} is not there any more: its registers read as all ones",
                self.function.name()
            ),
        )
    }

    /// Stops the controller, and proves it: after this it processes no command, posts
    /// nothing and touches no memory (Base 1.4, 7.3.2).
    ///
    /// # Errors
    /// `Gone` when it cannot be proved.
    pub(super) fn stop(&self) -> Result<()> {
        let cc = self.bar.read32(reg::CC)?;
        if cc == ALL_ONES {
            return Err(self.vanished());
        }
        let cc = Cc(cc);
        let csts = self.status()?;
        // EN is not cleared while RDY has yet to follow it, except on a fatal one.
        if cc.en() == 1 && csts.rdy() == 0 && csts.cfs() == 0 {
            let _ = self
                .until("become ready before it stops", |csts| csts.rdy() == 1 || csts.cfs() == 1);
        }
        if cc.en() == 1 {
            self.bar.write32(reg::CC, cc.with_en(0).with_shn(0).0)?;
        }
        self.until("stop (CC.EN = 0, CSTS.RDY = 0)", |csts| csts.rdy() == 0)
    }

    /// Starts the controller with an admin queue.
    ///
    /// # Errors
    /// `Io` when it is fatal at once; `Gone` when it does not become ready.
    pub(super) fn start(&self, sq: u64, cq: u64, entries: u32) -> Result<()> {
        let aqa = Aqa(0).with_asqs(entries - 1).with_acqs(entries - 1);
        self.bar.write32(reg::AQA, aqa.0)?;
        self.bar.write64(reg::ASQ, sq)?;
        self.bar.write64(reg::ACQ, cq)?;
        const { assert!(PAGE == 4096) };
        let css = if self.cap.css() & 1 == 1 { 0 } else { 0b110 };
        let cc = Cc(0)
            .with_css(css)
            .with_mps(0)
            .with_iosqes(command::Command::LOG2)
            .with_iocqes(command::Cqe::LOG2)
            .with_en(1);
        self.bar.write32(reg::CC, cc.0)?;
        self.until("become ready (CC.EN = 1)", |csts| csts.rdy() == 1 || csts.cfs() == 1)?;
        if self.status()?.cfs() == 1 {
            return Err(Error::new(
                ErrorKind::Io,
                format!("{} went fatal (CSTS.CFS) when it was enabled", self.function.name()),
            ));
        }
        Ok(())
    }

    /// Tells the controller that it will be left, so that it brings its cache to the
    /// medium (7.6.2). It need not have succeeded.
    pub(super) fn shut_down(&self, limit: Duration) {
        let Ok(cc) = self.bar.read32(reg::CC) else { return };
        if cc == ALL_ONES || Cc(cc).en() == 0 {
            return;
        }
        if self.bar.write32(reg::CC, Cc(cc).with_shn(1).0).is_ok() {
            let done = self.until_within(limit, "shut down", |c| c.shst() == 2 || c.cfs() == 1);
            if let Err(error) = done {
                tracing::warn!(%error, "a controller did not shut down in time");
            }
        }
    }

    fn until(&self, what: &str, done: impl Fn(Csts) -> bool) -> Result<()> {
        self.until_within(self.ready_time(), what, done)
    }

    /// Waits for a status, sleeping between looks.
    fn until_within(&self, limit: Duration, what: &str, done: impl Fn(Csts) -> bool) -> Result<()> {
        let deadline = Instant::now() + limit;
        let mut nap = FIRST_NAP;
        loop {
            let csts = self.status()?;
            if done(csts) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(Error::new(
                    ErrorKind::Gone,
                    format!(
                        "{} did not {what} within {limit:?} (CSTS {:08x}h)",
                        self.function.name(),
                        csts.0
                    ),
                ));
            }
            std::thread::sleep(nap);
            nap = (nap * 2).min(LONGEST_NAP);
        }
    }
}
