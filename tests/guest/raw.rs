//! A controller with an admin queue and nothing else, driven by hand: for what the driver
//! would never do.

use freehold_engine::bus::{Bar, Function};
use freehold_engine::memory::{DmaPages, Pool};
use freehold_engine::nvme;
use freehold_engine::nvme::spec::command::{Command, Cqe};
use freehold_engine::nvme::spec::registers::{self as reg, Aqa, Cap, Cc, Csts};
use std::sync::Arc;
use std::time::{Duration, Instant};

const ENTRIES: u32 = 16;
/// Bit of the phase tag in the upper word of a completion.
const PHASE: u64 = 1 << 48;

/// See the module.
pub(crate) struct Raw {
    pub(crate) bar: Bar,
    pub(crate) pool: Pool,
    sq: DmaPages,
    cq: DmaPages,
    stride: u32,
    tail: u32,
    head: u32,
    phase: bool,
    // Last: its end takes the mappings with it.
    _function: Arc<dyn Function>,
}

impl Raw {
    /// Brings the controller up with its admin queue.
    pub(crate) fn open(function: Arc<dyn Function>) -> Raw {
        let mut command = [0; 2];
        function.config(4, &mut command).expect("config space");
        let on = u16::from_le_bytes(command) | 6;
        function.set_config(4, &on.to_le_bytes()).expect("bus mastering");
        let bar = function.bar(0).expect("BAR 0");
        let pool = nvme::pool(&function).expect("memory for the device");
        let stride = Cap(bar.read64(reg::CAP).expect("CAP")).dstrd() as u32;
        let (sq, cq) = (pool.pages(4096).expect("a page"), pool.pages(4096).expect("a page"));
        let raw =
            Raw { bar, pool, sq, cq, stride, tail: 0, head: 0, phase: true, _function: function };
        raw.bar.write32(reg::CC, 0).expect("CC");
        raw.until("stops", |csts| csts.rdy() == 0);
        let sizes = Aqa(0).with_asqs(ENTRIES - 1).with_acqs(ENTRIES - 1);
        raw.bar.write32(reg::AQA, sizes.0).expect("AQA");
        raw.bar.write64(reg::ASQ, raw.sq.iova()).expect("ASQ");
        raw.bar.write64(reg::ACQ, raw.cq.iova()).expect("ACQ");
        let enable = Cc(0).with_en(1).with_iosqes(Command::LOG2).with_iocqes(Cqe::LOG2);
        raw.bar.write32(reg::CC, enable.0).expect("CC");
        raw.until("becomes ready", |csts| csts.rdy() == 1);
        raw
    }

    /// Waits for a status.
    pub(crate) fn until(&self, what: &str, done: impl Fn(Csts) -> bool) {
        let begun = Instant::now();
        while !done(Csts(self.bar.read32(reg::CSTS).expect("CSTS"))) {
            assert!(begun.elapsed() < Duration::from_secs(20), "the controller never {what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Submits an admin command.
    pub(crate) fn submit(&mut self, command: &Command) {
        self.sq.store_words(self.tail as usize * Command::BYTES, &command.0);
        self.tail = (self.tail + 1) % ENTRIES;
        let bell = self.bar.register(reg::sq_doorbell(0, self.stride)).expect("a doorbell");
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        bell.write(self.tail).expect("a doorbell");
    }

    /// Runs an admin command; its status, 0 for success.
    pub(crate) fn run(&mut self, command: &Command) -> u64 {
        self.submit(command);
        let begun = Instant::now();
        let word = loop {
            let word = self.cq.load64_acquire(self.head as usize * Cqe::BYTES + 8);
            if (word & PHASE != 0) == self.phase {
                break word;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "a command never ends");
        };
        self.head = (self.head + 1) % ENTRIES;
        self.phase ^= self.head == 0;
        let bell = self.bar.register(reg::cq_doorbell(0, self.stride)).expect("a doorbell");
        bell.write(self.head).expect("a doorbell");
        word >> 49
    }
}
