//! One controller: bringing it up, its admin lock, its generations, and its end.
//!
//! The protocol between resets and queues is docs/nvme.md, "Generations". In short: only
//! who has the admin lock stops and starts the controller; no I/O queue is touched by
//! anybody but its own thread, which learns of a reset from [`Controller::news`].

use super::admin::{Admin, Answer};
use super::backing::Mapper;
use super::cmb::Cmb;
use super::link::Link;
use super::namespace::{self, Abilities, Namespace};
use super::orphans::Orphans;
use super::shadow::Shadows;
use super::spec::command::Command;
use super::spec::feature::{Queues, id as feature};
use super::spec::identify::{IdentifyController, IdentifyNamespace, cns, decode_namespace_list};
use super::spec::log::{Smart, id as log};
use super::spec::{ALL_NAMESPACES, registers as reg};
use super::{Claims, Health, Timeouts};
use crate::bus::Function;
use crate::medium::{Error, ErrorKind, Result};
use crate::memory::{Backing, Buffer, Pool};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// Queue pairs that are asked for.
const MOST_QUEUES: u16 = 128;
/// Operations of one queue at the most: command ids have as many bits for the place.
pub(super) const MOST_DEPTH: u32 = 1023;
/// How long a controller may take to bring its cache to the medium when it is closed.
const SHUT_DOWN: Duration = Duration::from_secs(5);
/// Lower half of the news: queues that were dropped with commands in flight.
const ORPHANS: u64 = 0xffff_ffff;

/// What all queues look at before they do anything: a cache line of its own, seldom
/// written.
#[derive(Debug, Default)]
#[repr(align(128))]
struct News(AtomicU64);

/// How a controller ended.
#[derive(Debug)]
pub(super) struct End {
    pub(super) error: Error,
    /// It was proved that it reaches memory no more.
    pub(super) quiet: bool,
}

/// What the admin lock guards.
#[derive(Debug)]
pub(super) struct Seat {
    admin: Admin,
    /// Identifiers of I/O queues that nobody has.
    free: Vec<u16>,
}

/// A controller that is enabled, or has ended.
pub(super) struct Controller {
    news: News,
    pub(super) link: Link,
    pub(super) pool: Pool,
    /// Memory of its own, where it has some that can be used.
    pub(super) cmb: Option<Cmb>,
    pub(super) timeouts: Timeouts,
    pub(super) shadows: Option<Arc<Shadows>>,
    pub(super) orphans: Orphans,
    pub(super) queue_limit: u16,
    abilities: Abilities,
    identity: Box<IdentifyController>,
    seat: Mutex<Seat>,
    end: OnceLock<End>,
    losses: AtomicU64,
    /// Something completed since the last reset.
    progress: AtomicBool,
    pub(super) claims: Claims,
}

impl Controller {
    /// Brings a controller up: stopped first, whoever had it before.
    ///
    /// # Errors
    /// `Unsupported` with the field's name; `Gone`; what the bus and the pool say.
    pub(super) fn open(function: Arc<dyn Function>, timeouts: Timeouts) -> Result<Arc<Self>> {
        let named = |e: Error| {
            Error::new(e.kind(), format!("opening {}: {}", function.name(), e.message()))
        };
        let mapper = Arc::new(Mapper::new(&function)?);
        let backing: Arc<dyn Backing> = Arc::<Mapper>::clone(&mapper);
        let pool = Pool::backed(backing);
        let link = Link::new(Arc::clone(&function))?;
        link.stop()?;
        let cmb = Cmb::find(&link, &mapper)?;
        let mut admin = Admin::new(&link, &pool, timeouts.admin)?;
        admin.start(&link)?;
        let identify = Command::identify(cns::CONTROLLER, 0).with_prps(admin.data_address(), 0);
        admin.must(&link, identify, "Identify Controller")?;
        let identity = Box::new(IdentifyController::from_bytes(*admin.data()));
        let abilities = namespace::abilities(&identity).map_err(named)?;
        let queue_limit = ask_for_queues(&mut admin, &link)?;
        let shadows = match abilities.doorbell_buffer {
            true => set_shadows(&mut admin, &link, Shadows::new(&pool)?)?,
            false => None,
        };
        tracing::info!(
            controller = link.function.name(),
            model = identity.model(),
            queues = queue_limit,
            shadows = shadows.is_some(),
            ?abilities,
            "a controller is up"
        );
        let free = (1..=queue_limit).rev().collect();
        Ok(Arc::new(Self {
            news: News(AtomicU64::new(1 << 32)),
            link,
            pool,
            cmb,
            timeouts,
            shadows,
            orphans: Orphans::default(),
            queue_limit,
            abilities,
            identity,
            seat: Mutex::new(Seat { admin, free }),
            end: OnceLock::new(),
            losses: AtomicU64::new(0),
            progress: AtomicBool::new(true),
            claims: Claims::default(),
        }))
    }

    /// Generation in the upper half, queues to be looked after in the lower one. A queue
    /// that finds what it expects need not look at anything else.
    #[inline]
    pub(super) fn news(&self) -> u64 {
        self.news.0.load(Ordering::Acquire)
    }

    /// The generation of some news.
    pub(super) fn generation_of(news: u64) -> u32 {
        (news >> 32) as u32
    }

    /// What a queue of a generation expects to find.
    pub(super) fn calm(generation: u32) -> u64 {
        u64::from(generation) << 32
    }

    /// Whether some news tell of queues to be looked after.
    pub(super) fn tells_of_orphans(news: u64) -> bool {
        news & ORPHANS != 0
    }

    /// One orphan more, or less.
    pub(super) fn count_orphan(&self, more: bool) {
        match more {
            true => self.news.0.fetch_add(1, Ordering::AcqRel),
            false => self.news.0.fetch_sub(1, Ordering::AcqRel),
        };
    }

    fn raise_generation(&self) {
        self.news.0.fetch_add(1 << 32, Ordering::AcqRel);
    }

    /// How it ended, once it has.
    pub(super) fn end(&self) -> Option<&End> {
        self.end.get()
    }

    pub(super) fn losses(&self) -> u64 {
        self.losses.load(Ordering::Acquire)
    }

    /// A command has completed since the last reset.
    pub(super) fn progressed(&self) {
        self.progress.store(true, Ordering::Relaxed);
    }

    fn seat(&self) -> MutexGuard<'_, Seat> {
        self.seat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The controller is lost: every command of every queue ends with `Gone`, completed
    /// writes may be lost (law M3), and unless it is known to be quiet no memory that it
    /// was given is used again (law M4). The first end counts.
    pub(super) fn lose(&self, error: Error, quiet: bool) {
        if self.end().is_some() {
            return;
        }
        // Before anybody gets a buffer back: a transport that can take all memory from the
        // device does so now, and the system may have the device.
        let quiet = self.link.function.release() || quiet;
        let name = self.link.function.name();
        let text = format!("{name} is lost: {}; open it again", error.message());
        let end = End { error: Error::new(ErrorKind::Gone, text), quiet };
        if self.end.set(end).is_err() {
            return;
        }
        tracing::error!(controller = name, %error, quiet, "a controller is lost");
        if let Some(cmb) = &self.cmb {
            cmb.pool().lose();
        }
        if !quiet {
            self.pool.lose();
        }
        self.losses.fetch_add(1, Ordering::AcqRel);
        self.raise_generation();
    }

    /// Stops the controller and starts it again, unless that was done since `generation`.
    /// Blocks for as long as others reset it, and then for CAP.TO. How it went shows in
    /// [`Self::news`] and [`Self::end`].
    pub(super) fn reset(&self, generation: u32, why: &str) {
        let mut seat = self.seat();
        if Self::generation_of(self.news()) != generation {
            return;
        }
        let name = self.link.function.name();
        tracing::warn!(controller = name, why, "resetting");
        self.renew(&mut seat, why);
    }

    /// Looks at a controller that answers nothing, unless it was reset since `generation`:
    /// a fatal one is reset, one that is not there or that somebody else has reset is lost.
    pub(super) fn examine(&self, generation: u32) {
        let mut seat = self.seat();
        if Self::generation_of(self.news()) != generation || self.end().is_some() {
            return;
        }
        match self.link.status() {
            Err(error) => self.lose(error, false),
            Ok(csts) if csts.cfs() == 1 => self.renew(&mut seat, "it is fatal (CSTS.CFS)"),
            // Law M3: not our reset, so nothing is known of completed writes.
            Ok(csts) if csts.rdy() == 0 => {
                let error = Error::new(ErrorKind::Gone, "something else has reset it (CSTS.RDY)");
                self.lose(error, self.link.stop().is_ok());
            }
            Ok(_) => {}
        }
    }

    /// Ends the controller, quietly if it can be stopped.
    pub(super) fn give_up(&self, error: Error) {
        let _seat = self.seat();
        if self.end().is_none() {
            let quiet = self.link.stop().is_ok();
            self.lose(error, quiet);
        }
    }

    /// The reset itself.
    fn renew(&self, seat: &mut Seat, why: &str) {
        if self.end().is_some() {
            return;
        }
        if let Err(error) = self.link.stop() {
            return self.lose(error, false);
        }
        // It has stopped: from here on it reaches no memory, whatever goes wrong.
        if !self.progress.swap(false, Ordering::AcqRel) {
            let text = format!("{why}, and nothing completed since the last reset");
            return self.lose(Error::new(ErrorKind::Gone, text), true);
        }
        match self.start_again(seat) {
            Ok(()) => self.raise_generation(),
            Err(error) => self.lose(error, self.link.stop().is_ok()),
        }
    }

    fn start_again(&self, seat: &mut Seat) -> Result<()> {
        if let Some(cmb) = &self.cmb {
            // It should be as it was (3.1.16); a queue there must be able to rely on it.
            cmb.place(&self.link)?;
        }
        seat.admin.start(&self.link)?;
        let granted = ask_for_queues(&mut seat.admin, &self.link)?;
        if granted < self.queue_limit {
            let text = format!("it granted {granted} queues, not {} as before", self.queue_limit);
            return Err(Error::new(ErrorKind::Gone, text));
        }
        if let Some(shadows) = &self.shadows
            && set_shadows(&mut seat.admin, &self.link, Arc::clone(shadows))?.is_none()
        {
            let text = "it takes no shadow doorbells any more";
            return Err(Error::new(ErrorKind::Gone, text));
        }
        Ok(())
    }

    /// Does an admin command. A controller that does not answer one is stopped for good:
    /// what it was told may still be under way.
    fn ask(&self, seat: &mut Seat, command: Command) -> Result<Answer> {
        if let Some(end) = self.end() {
            return Err(end.error.clone());
        }
        seat.admin.run(&self.link, command).map_err(|error| {
            let quiet = self.link.stop().is_ok();
            self.lose(error, quiet);
            self.end().map_or_else(gone, |end| end.error.clone())
        })
    }

    /// As [`Self::ask`], with what was being done in the error of a failed command.
    fn must(&self, seat: &mut Seat, command: Command, what: &str) -> Result<u32> {
        self.ask(seat, command)?.map_err(|status| {
            let name = self.link.function.name();
            let kind = match status.kind() {
                Some(ErrorKind::Reset) | None => ErrorKind::Io,
                Some(kind) => kind,
            };
            Error::new(kind, format!("{name}: {what}: {status}"))
        })
    }

    /// Where a command finds a buffer: in host memory, or in the controller's own. None for
    /// one that has to be copied. A buffer is in one of both, so no command mixes them.
    #[inline]
    pub(super) fn device_address(&self, buffer: &Buffer) -> Option<u64> {
        let address = self.pool.device_address(buffer);
        if address.is_some() { address } else { self.own_address(buffer) }
    }

    #[cold]
    fn own_address(&self, buffer: &Buffer) -> Option<u64> {
        self.cmb.as_ref()?.data()?.device_address(buffer)
    }

    /// Takes the identifier of a queue pair.
    ///
    /// # Errors
    /// `Limit` when all are in use.
    pub(super) fn take_qid(&self) -> Result<u16> {
        self.seat().free.pop().ok_or_else(|| {
            Error::new(
                ErrorKind::Limit,
                format!(
                    "{} grants {} queues, and all are in use: close some, or start it with more",
                    self.link.function.name(),
                    self.queue_limit
                ),
            )
        })
    }

    /// Gives an identifier back whose queues do not exist.
    pub(super) fn give_qid(&self, qid: u16) {
        self.seat().free.push(qid);
    }

    /// Makes a queue pair known to the controller, in memory that is cleared. `clear` is
    /// done before, when no device has the queues. The generation in which they are.
    ///
    /// # Errors
    /// What the controller answers; `Gone`.
    pub(super) fn create_queues(
        &self,
        qid: u16,
        (sq, sq_entries): (u64, u32),
        (cq, cq_entries): (u64, u32),
        vector: Option<u16>,
        clear: impl FnOnce(),
    ) -> Result<u32> {
        let mut seat = self.seat();
        clear();
        let create = Command::create_cq(qid, cq_entries, cq, vector);
        self.must(&mut seat, create, "Create I/O Completion Queue")?;
        let create = Command::create_sq(qid, sq_entries, sq, qid);
        if let Err(error) = self.must(&mut seat, create, "Create I/O Submission Queue") {
            let _ = self.ask(&mut seat, Command::delete_cq(qid));
            return Err(error);
        }
        // In this order: whoever ends it says so before it raises the generation.
        let generation = Self::generation_of(self.news());
        match self.end() {
            Some(end) => Err(end.error.clone()),
            None => Ok(generation),
        }
    }

    /// Takes a queue pair away from the controller, if it is of this generation.
    pub(super) fn delete_queues(&self, qid: u16, generation: u32) -> Result<()> {
        let mut seat = self.seat();
        if Self::generation_of(self.news()) == generation {
            self.must(&mut seat, Command::delete_sq(qid), "Delete I/O Submission Queue")?;
            self.must(&mut seat, Command::delete_cq(qid), "Delete I/O Completion Queue")?;
        }
        Ok(())
    }

    /// Operations of one queue: a power of two entries, one of which stays free.
    pub(super) fn max_depth(&self) -> u32 {
        let most = (self.link.cap.mqes() as u32 + 1).min(MOST_DEPTH + 1);
        (1 << most.ilog2()) - 1
    }

    /// Reads what a namespace is.
    ///
    /// # Errors
    /// As [`namespace::namespace`], with the name of the controller; `Gone`.
    pub(super) fn namespace(&self, nsid: u32) -> Result<Namespace> {
        let mut seat = self.seat();
        let data = seat.admin.data_address();
        let identify = Command::identify(cns::NAMESPACE, nsid).with_prps(data, 0);
        let answer = self.ask(&mut seat, identify)?;
        let id = match answer {
            Ok(_) => IdentifyNamespace::from_bytes(*seat.admin.data()),
            // A number beyond NN.
            Err(_) => IdentifyNamespace::new(),
        };
        let name = self.link.function.name();
        namespace::namespace(nsid, self.abilities, self.max_depth(), &id).map_err(|e| {
            let active = match e.kind() {
                ErrorKind::NotFound => self.active(&mut seat).unwrap_or_default(),
                _ => String::new(),
            };
            Error::new(e.kind(), format!("{name}: {}{active}", e.message()))
        })
    }

    /// Which namespaces there are, as a remark.
    fn active(&self, seat: &mut Seat) -> Result<String> {
        let data = seat.admin.data_address();
        let list = Command::identify(cns::ACTIVE_NAMESPACES, 0).with_prps(data, 0);
        self.must(seat, list, "Identify Active Namespaces")?;
        let found = decode_namespace_list(&seat.admin.data());
        Ok(format!(" (active are {found:?})"))
    }

    /// Identify data of the controller.
    pub(super) fn identity(&self) -> &IdentifyController {
        &self.identity
    }

    /// SMART / Health Information.
    ///
    /// # Errors
    /// What the controller answers; `Gone`.
    pub(super) fn health(&self) -> Result<Health> {
        let mut seat = self.seat();
        let read = Command::get_log_page(log::SMART, ALL_NAMESPACES, Smart::BYTES as u32)
            .with_prps(seat.admin.data_address(), 0);
        self.must(&mut seat, read, "Get Log Page, SMART")?;
        let page = seat.admin.data();
        let mut bytes = [0; Smart::BYTES];
        bytes.copy_from_slice(&page[..Smart::BYTES]);
        Ok(Smart::from_bytes(bytes))
    }
}

fn gone() -> Error {
    Error::new(ErrorKind::Gone, "the controller is lost")
}

/// Number of Queues (5.21.1.7): how many pairs are granted and have doorbells.
fn ask_for_queues(admin: &mut Admin, link: &Link) -> Result<u16> {
    let wanted = u32::from(MOST_QUEUES.min(link.most_queues()) - 1);
    let ask = Queues(0).with_submission(wanted).with_completion(wanted);
    let set = Command::set_features(feature::QUEUES, ask.0);
    let granted = Queues(admin.must(link, set, "Set Features, Number of Queues")?);
    Ok(granted.submission().min(granted.completion()).min(wanted) as u16 + 1)
}

/// Doorbell Buffer Config (5.7); none where the controller does not take it after all.
fn set_shadows(
    admin: &mut Admin,
    link: &Link,
    shadows: Arc<Shadows>,
) -> Result<Option<Arc<Shadows>>> {
    let (shadow, event) = shadows.addresses();
    match admin.run(link, Command::doorbell_buffer(shadow, event))? {
        Ok(_) => Ok(Some(shadows)),
        Err(status) => {
            tracing::warn!(%status, "Doorbell Buffer Config was refused; doorbells are written");
            Ok(None)
        }
    }
}

impl Controller {
    /// Stops it for good, for whoever has it next; whether that is proved.
    fn left(&self) -> bool {
        let stopped = self.link.stop().is_ok();
        if stopped && self.cmb.is_some() {
            Cmb::leave(&self.link);
        }
        stopped
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        // A child has neither the memory nor the controller, which its parent uses.
        if crate::fork::in_child() {
            return;
        }
        let quiet = match self.end() {
            Some(end) => end.quiet || self.left(),
            None => {
                self.link.shut_down(SHUT_DOWN);
                self.left() || self.link.function.release()
            }
        };
        if !quiet {
            // What it was given is not used again. Its buffers come back to a lost pool.
            self.pool.lose();
        }
    }
}

impl std::fmt::Debug for Controller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Controller")
            .field("name", &self.link.function.name())
            .field("generation", &Self::generation_of(self.news()))
            .field("end", &self.end.get())
            .finish_non_exhaustive()
    }
}

const _: () = assert!(reg::DOORBELLS == 0x1000);
