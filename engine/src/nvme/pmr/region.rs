//! A region while it is used: enabling it, and the barrier behind which its bytes are
//! durable.
//!
//! # Invariants
//!
//! - A barrier that failed fails all later ones. Barriers run one after another: an error
//!   that a register shows once is not seen by one thread while another goes on.
//! - The claim lives as long as the window's memory, so that no second window is made
//!   over the same bytes.

use super::super::Claim;
use super::super::controller::Controller;
use super::super::link::Link;
use super::super::spec::registers::{
    self as reg, ALL_ONES, PmrCap, PmrCtl, PmrEbs, PmrSts, PmrSwtp,
};
use super::{Abilities, Barrier, Health, abilities, health, judge};
use crate::bus::Bar;
use crate::medium::{BLOCK, Error, ErrorKind, Fact, Result, Value};
use crate::memory::{Persistence, store_fence};
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Between two looks at a region that is not ready.
const NAP: Duration = Duration::from_millis(1);

/// An enabled region.
pub(super) struct Region {
    controller: Arc<Controller>,
    abilities: Abilities,
    bar: Bar,
    /// As it was opened.
    health: Health,
    /// The controller's generation at the last barrier.
    seen: Mutex<u32>,
    broken: OnceLock<Error>,
    _claim: Arc<Claim>,
}

impl Region {
    /// Enables the region and waits until it is ready.
    ///
    /// # Errors
    /// `Unsupported`, with the field's name; `Gone` when it does not become ready; what the
    /// link says.
    pub(super) fn enable(controller: Arc<Controller>, claim: Arc<Claim>) -> Result<Self> {
        let link = &controller.link;
        let name = link.function.name();
        let named = |e: Error| Error::new(e.kind(), format!("{name}: {}", e.message()));
        let cap = match link.cap.pmrs() {
            0 => 0,
            _ => link.bar.read32(reg::PMRCAP)?,
        };
        let abilities = abilities(link.cap, PmrCap(cap)).map_err(named)?;
        let bar = link.function.bar(abilities.bar).map_err(|e| {
            let text = format!("{name}: the region's BAR {} (PMRCAP.BIR): {e}", abilities.bar);
            Error::new(e.kind(), text)
        })?;
        let seen = Controller::generation_of(controller.news());
        let control = PmrCtl(link.bar.read32(reg::PMRCTL)?);
        if control.en() == 0 {
            link.bar.write32(reg::PMRCTL, control.with_en(1).0)?;
        }
        let until = |ready| until(link, abilities.ready, ready);
        let mut status = until(true)?;
        if status != ALL_ONES && PmrSts(status).err() != 0 {
            // Writes of a former user, which heard of it. Disabling the region forgets that.
            link.bar.write32(reg::PMRCTL, control.with_en(0).0)?;
            until(false)?;
            link.bar.write32(reg::PMRCTL, control.with_en(1).0)?;
            status = until(true)?;
        }
        let health = health(status).and_then(|health| health.ok_or_else(|| not_ready(&abilities)));
        let health = health.map_err(named)?;
        let (seen, broken) = (Mutex::new(seen), OnceLock::new());
        Ok(Self { controller, abilities, bar, health, seen, broken, _claim: claim })
    }

    /// Bytes that can be used. The last block is kept for barriers that read the region, so
    /// that they touch no byte of anybody.
    pub(super) fn len(&self) -> u64 {
        match self.abilities.barrier {
            Barrier::Status => self.bar.len(),
            Barrier::Region => self.bar.len().saturating_sub(BLOCK as u64),
        }
    }

    /// How it was when it was opened.
    pub(super) fn health(&self) -> Health {
        self.health
    }

    pub(super) fn bar(&self) -> &Bar {
        &self.bar
    }

    pub(super) fn controller(&self) -> &Arc<Controller> {
        &self.controller
    }

    /// How often completed writes may have been lost (law M3).
    pub(super) fn losses(&self) -> u64 {
        self.controller.losses() + u64::from(self.broken.get().is_some())
    }

    /// The reads, and what they say.
    fn barrier(&self) -> Result<()> {
        let link = &self.controller.link;
        let generation = Controller::generation_of(self.controller.news());
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = self.broken.get() {
            return Err(error.clone());
        }
        let done = (|| {
            if *seen != generation {
                // A reset should leave the region as it was (7.3.2). One that did not
                // may have forgotten what no barrier covered.
                let control = link.bar.read32(reg::PMRCTL)?;
                if control != ALL_ONES && PmrCtl(control).en() == 0 {
                    let text = "a reset of the controller has disabled its region (PMRCTL.EN)";
                    return Err(Error::new(ErrorKind::Io, text));
                }
            }
            if self.abilities.barrier == Barrier::Region {
                self.bar.read32(self.len().next_multiple_of(4))?;
            }
            judge(link.bar.read32(reg::PMRSTS)?, self.health)
        })();
        *seen = generation;
        done.map_err(|error| self.fail(&error))
    }

    /// The first error is the one that all later barriers have.
    fn fail(&self, error: &Error) -> Error {
        let name = self.controller.link.function.name();
        let text = format!("a barrier of the region of {name}: {}; open it again", error.message());
        tracing::error!(controller = name, %error, "a Persistent Memory Region has failed");
        self.broken.get_or_init(|| Error::new(error.kind(), text)).clone()
    }

    /// What the registers say, for people and programs.
    pub(super) fn facts(&self) -> Vec<Fact> {
        described(&self.controller.link.bar, self.abilities, self.len())
    }
}

/// What a controller says of the region that it has, which nobody need have enabled; nothing
/// where it has none.
pub(in crate::nvme) fn facts(link: &Link) -> Vec<Fact> {
    if link.cap.pmrs() == 0 {
        return Vec::new();
    }
    let found = link.bar.read32(reg::PMRCAP).and_then(|cap| {
        let abilities = abilities(link.cap, PmrCap(cap))?;
        Ok((abilities, link.function.bar(abilities.bar)?.len()))
    });
    match found {
        Ok((abilities, len)) => described(&link.bar, abilities, len),
        Err(error) => vec![Fact::new("region", "unusable", Value::from(error.message()))],
    }
}

fn described(registers: &Bar, abilities: Abilities, len: u64) -> Vec<Fact> {
    let fact = |name, value: Value| Fact::new("region", name, value);
    let enabled = registers.read32(reg::PMRCTL).is_ok_and(|ctl| PmrCtl(ctl).en() == 1);
    let now = match registers.read32(reg::PMRSTS).and_then(health) {
        _ if !enabled => "not enabled".to_owned(),
        Ok(Some(health)) => health.text().to_owned(),
        Ok(None) => "not ready".to_owned(),
        Err(error) => error.message().to_owned(),
    };
    let barrier = match abilities.barrier {
        Barrier::Status => "a read of PMRSTS",
        Barrier::Region => "a read of the region",
    };
    let mut facts = vec![
        fact("size", Value::Bytes(len)),
        fact("bar", Value::Count(abilities.bar.into())),
        fact("barrier", barrier.into()),
        fact("health", now.into()),
    ];
    if let Ok(value) = registers.read32(reg::PMREBS)
        && let Some(bytes) = scaled(PmrEbs(value).size(), PmrEbs(value).szu())
    {
        facts.push(fact("elasticity_buffer", Value::Bytes(bytes)));
    }
    if let Ok(value) = registers.read32(reg::PMRSWTP)
        && let Some(bytes) = scaled(PmrSwtp(value).value(), PmrSwtp(value).unit())
    {
        facts.push(fact("sustained_write", Value::Bytes(bytes)));
    }
    facts
}

fn not_ready(abilities: &Abilities) -> Error {
    let text = format!(
        "its Persistent Memory Region was not ready within {:?} (PMRCAP.PMRTO)",
        abilities.ready
    );
    Error::new(ErrorKind::Gone, text)
}

/// Waits until the region is ready, or is not; PMRSTS as it was then, or when the time was
/// over.
fn until(link: &Link, time: Duration, ready: bool) -> Result<u32> {
    let deadline = Instant::now() + time;
    loop {
        let status = link.bar.read32(reg::PMRSTS)?;
        let is_ready = PmrSts(status).nrdy() == 0;
        if is_ready == ready || status == ALL_ONES || Instant::now() >= deadline {
            return Ok(status);
        }
        std::thread::sleep(NAP);
    }
}

/// A number in units of 1024 to a power; none for zero, and for a power that is not defined.
fn scaled(value: u32, power: u32) -> Option<u64> {
    (value > 0 && power <= 3).then(|| u64::from(value) << (10 * power))
}

impl Persistence for Region {
    fn sound(&self, writes: bool) -> Result<()> {
        match (self.controller.end(), self.broken.get()) {
            (Some(end), _) => Err(end.error.clone()),
            (None, Some(error)) if writes => Err(error.clone()),
            _ => Ok(()),
        }
    }

    fn settle(&self) {
        store_fence();
    }

    fn fence(&self) -> Result<()> {
        store_fence();
        self.sound(true)?;
        if crate::sabotage::breaks("no-region-barrier") {
            return Ok(());
        }
        self.barrier().inspect_err(|error| {
            if error.kind() == ErrorKind::Gone {
                self.controller.lose(error.clone(), false);
            }
        })
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region")
            .field("abilities", &self.abilities)
            .field("health", &self.health)
            .field("broken", &self.broken)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::scaled;

    #[test]
    fn numbers_are_scaled() {
        assert_eq!(scaled(3, 0), Some(3));
        assert_eq!(scaled(3, 2), Some(3 << 20));
        assert_eq!(scaled(0xff_ffff, 3), Some(0xff_ffff << 30));
        assert_eq!((scaled(0, 1), scaled(3, 4), scaled(3, 15)), (None, None, None));
    }
}
