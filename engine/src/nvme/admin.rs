//! The admin queue: one command at a time, polled, never for longer than its time-out
//! (Base 1.4, 5). Whoever has it has the controller's admin lock.

use super::link::Link;
use super::shadow::Bell;
use super::spec::command::{Command, Cqe};
use super::spec::identify::BYTES;
use super::spec::status::Status;
use super::spec::{PAGE, registers as reg};
use crate::medium::{Error, ErrorKind, Result};
use crate::memory::{DmaPages, Pool};
use std::time::{Duration, Instant};

/// Entries of both rings: the submission ring fills a page.
pub(super) const ENTRIES: u32 = (PAGE / Command::BYTES) as u32;
/// Looks at the ring before the thread sleeps between them.
const SPINS: u32 = 2_000;
/// Sleep between looks, at first and at most.
const FIRST_NAP: Duration = Duration::from_micros(20);
const LONGEST_NAP: Duration = Duration::from_millis(1);
/// How often the link and the status register are looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Where the rings, and the data of one command, lie: a page each.
const SQ: usize = 0;
const CQ: usize = PAGE;
const DATA: usize = 2 * PAGE;
const PAGES: usize = 3 * PAGE;

/// How a command ended: what it returns, or its status.
pub(super) type Answer = std::result::Result<u32, Status>;

/// The admin queue of a controller.
#[derive(Debug)]
pub(super) struct Admin {
    pages: DmaPages,
    tail: u32,
    head: u32,
    phase: bool,
    cid: u16,
    sq_bell: Bell,
    cq_bell: Bell,
    limit: Duration,
}

impl Admin {
    /// Memory and doorbells; the controller has to be started with them.
    ///
    /// # Errors
    /// What the pool and the bus say.
    pub(super) fn new(link: &Link, pool: &Pool, limit: Duration) -> Result<Self> {
        let dstrd = link.cap.dstrd() as u32;
        Ok(Self {
            pages: pool.pages(PAGES)?,
            tail: 0,
            head: 0,
            phase: true,
            cid: 0,
            sq_bell: Bell::seldom(link.doorbell(reg::sq_doorbell(0, dstrd))?),
            cq_bell: Bell::real(link.doorbell(reg::cq_doorbell(0, dstrd))?),
            limit,
        })
    }

    /// Empty rings, and a controller that has just been enabled with them.
    ///
    /// # Errors
    /// As [`Link::start`].
    pub(super) fn start(&mut self, link: &Link) -> Result<()> {
        self.pages.zero(0, PAGES);
        (self.tail, self.head, self.phase) = (0, 0, true);
        let at = self.pages.iova();
        link.start(at + SQ as u64, at + CQ as u64, ENTRIES)
    }

    /// The address of the data page, for commands that carry data.
    pub(super) fn data_address(&self) -> u64 {
        self.pages.iova() + DATA as u64
    }

    /// The data page.
    pub(super) fn data(&self) -> Box<[u8; BYTES]> {
        let mut bytes = Box::new([0; BYTES]);
        self.pages.read(DATA, &mut bytes[..]);
        bytes
    }

    /// Does a command.
    ///
    /// # Errors
    /// When the controller did not answer: then the command may still be under way, and
    /// the controller must be stopped before anything else is done with it.
    pub(super) fn run(&mut self, link: &Link, command: Command) -> Result<Answer> {
        self.cid = self.cid.wrapping_add(1) % 0x8000;
        self.pages
            .store_words(SQ + self.tail as usize * Command::BYTES, &command.with_cid(self.cid).0);
        let old = self.tail;
        self.tail = (self.tail + 1) % ENTRIES;
        self.sq_bell.write(self.tail, old)?;
        let cqe = self.wait(link, command.opcode())?;
        if cqe.cid() != self.cid || cqe.sqid() != 0 {
            return Err(Error::new(
                ErrorKind::Io,
                format!(
                    "{} completed admin command {} of queue {}, not {}",
                    link.function.name(),
                    cqe.cid(),
                    cqe.sqid(),
                    self.cid
                ),
            ));
        }
        let status = cqe.status();
        Ok(if status.is_success() { Ok(cqe.result()) } else { Err(status) })
    }

    /// As [`Self::run`], with what was being done in the error of a failed command.
    ///
    /// # Errors
    /// As there, and `Io` or what the status means.
    pub(super) fn must(&mut self, link: &Link, command: Command, what: &str) -> Result<u32> {
        self.run(link, command)?.map_err(|status| {
            let kind = match status.kind() {
                Some(ErrorKind::Reset) | None => ErrorKind::Io,
                Some(kind) => kind,
            };
            Error::new(kind, format!("{}: {what}: {status}", link.function.name()))
        })
    }

    fn wait(&mut self, link: &Link, opcode: u8) -> Result<Cqe> {
        let begun = Instant::now();
        let (mut spins, mut nap, mut looked) = (0, FIRST_NAP, begun);
        loop {
            let at = CQ + self.head as usize * Cqe::BYTES;
            let high = self.pages.load64_acquire(at + 8);
            let cqe = Cqe([self.pages.load64(at), high]);
            if cqe.phase() == self.phase {
                let old = self.head;
                self.head = (self.head + 1) % ENTRIES;
                self.phase ^= self.head == 0;
                self.cq_bell.write(self.head, old)?;
                return Ok(cqe);
            }
            spins += 1;
            if spins < SPINS {
                std::hint::spin_loop();
                continue;
            }
            let now = Instant::now();
            if now - looked >= LOOK_EVERY {
                looked = now;
                link.function.check()?;
                if link.status()?.cfs() == 1 {
                    let text = format!("{} is fatal (CSTS.CFS)", link.function.name());
                    return Err(Error::new(ErrorKind::Io, text));
                }
            }
            if now - begun >= self.limit {
                return Err(Error::new(
                    ErrorKind::Io,
                    format!(
                        "{} did not answer admin command {opcode:02x}h within {:?}",
                        link.function.name(),
                        self.limit
                    ),
                ));
            }
            std::thread::sleep(nap);
            nap = (nap * 2).min(LONGEST_NAP);
        }
    }
}
