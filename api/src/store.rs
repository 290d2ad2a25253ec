//! Stores: making, opening, names, numbers.

use crate::journal;
use crate::registry::{self, Registry};
use crate::{
    AtomicLimits, CheckReport, Discarded, Error, ErrorKind, Fact, File, FormatOptions, Holding,
    InFlight, JournalInfo, Listing, OpenOptions, Queue, RecoveryReport, Result, Session, Space,
    Stats,
};
use freehold_blockmap::{FileHandle, FormatSpec, SessionCore, Volume, not_forked};
use freehold_engine::medium::Medium;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub(crate) struct Inner {
    pub(crate) volume: Arc<Volume>,
    /// The store's own session.
    who: Arc<SessionCore>,
    uri: String,
    /// The name of the journal's medium.
    journal: Option<String>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if not_forked().is_err() {
            // Nothing of the parent's is ended in a forked child.
            std::mem::forget(self.volume.clone());
            return;
        }
        // Never waits: what is not durable is found again by recovery, or was
        // never promised.
        self.volume.abandon();
    }
}

/// An opened store. Cloning it is cheap; any thread may use it.
///
/// Dropping the last handle waits for nothing and loses nothing that a sync
/// promised; [`Store::close`] leaves a store that opens without recovery.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

/// What a store and its medium are.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Info {
    /// The name that the store was opened by.
    pub uri: String,
    /// Drawn at random when it was formatted.
    pub store_id: [u8; 16],
    /// Version of the format.
    pub version: u32,
    /// Blocks of the store.
    pub blocks: u64,
    /// Bytes of a block.
    pub block_size: u32,
    /// Bytes of the journal.
    pub journal_bytes: u64,
    /// The last durable checkpoint.
    pub checkpoint: u64,
    /// Nothing can be changed.
    pub read_only: bool,
    /// Bytes that the device itself addresses.
    pub lba_bytes: u32,
    /// Most bytes in one command.
    pub max_transfer: u32,
    /// Completed writes need a flush to be durable.
    pub volatile_cache: bool,
    /// Bytes that the device writes all or nothing.
    pub atomic_bytes: u32,
    /// The CPU reaches the bytes directly.
    pub window: bool,
    /// The journal, where it has a medium of its own.
    pub journal: Option<JournalInfo>,
}

impl Store {
    /// Makes an empty store and opens it. Blocks for a few writes.
    ///
    /// # Errors
    /// `Busy` when the medium is mounted or open elsewhere, `Occupied` when it
    /// carries something else (`force` overrides that), `Invalid` for a bad URI or size.
    ///
    /// ```
    /// let store = freehold::Store::format("mem:16M", &Default::default())?;
    /// assert_eq!(store.space().total, 16 << 20);
    /// # Ok::<(), freehold::Error>(())
    /// ```
    pub fn format(uri: &str, options: &FormatOptions) -> Result<Store> {
        not_forked()?;
        let mut registry = Registry::lock();
        if registry::key(uri).is_some_and(|k| registry.find(&k).is_some()) {
            return Err(Error::new(
                ErrorKind::Busy,
                format!("{uri} is open in this process; close the store first"),
            ));
        }
        // Before anything is made or changed.
        freehold_blockmap::check_size(
            options.size.or_else(|| registry::length(uri)).unwrap_or(u64::MAX),
        )?;
        let named = journal::named(uri, options.journal.as_deref())?;
        let (medium, journal) = match &named {
            None => (freehold_engine::format_target(uri, &options.into())?, None),
            Some(journal) => {
                let (medium, journal) = journal::format_both(uri, journal, options)?;
                (medium, Some(journal))
            }
        };
        let volume = Volume::format_with(medium, journal, &FormatSpec::default())?;
        let store = Store::with_uri(volume, uri, named);
        if let Some(key) = registry::key(uri) {
            registry.put(key, &store.inner);
        }
        Ok(store)
    }

    /// Opens a store; recovers it if it was not closed. A store that this
    /// process has open already is the same store again. The key `journal` of the URI, or the
    /// option, says where to look for a journal that is on a medium of its own.
    ///
    /// # Errors
    /// `NotFound`, `NotAStore`, `TooNew`, `Truncated`, `Corrupt`; `WrongJournal`, with the journal
    /// that is wanted; `Busy` when another
    /// process has it open, or this one has it open for reading only and asks for more.
    pub fn open(uri: &str, options: &OpenOptions) -> Result<Store> {
        not_forked()?;
        let journal = journal::named(uri, options.journal.as_deref())?;
        let mut registry = Registry::lock();
        if let Some(inner) = registry::key(uri).and_then(|k| registry.find(&k)) {
            if inner.volume.info().read_only && !options.read_only {
                return Err(Error::new(
                    ErrorKind::Busy,
                    format!("{uri} is open in this process for reading only; close it first"),
                ));
            }
            if !same_journal(inner.journal.as_deref(), journal.as_deref()) {
                let with = inner.journal.as_deref().unwrap_or("in itself");
                return Err(Error::new(
                    ErrorKind::Busy,
                    format!("{uri} is open in this process, and its journal is {with}: say that"),
                ));
            }
            return Ok(Store { inner });
        }
        let medium = freehold_engine::open(uri, &options.into())?;
        let beside = journal::open(uri, journal.as_deref(), options)?;
        let volume = Volume::open_with(medium, beside, &options.into())?;
        let store = Store::with_uri(volume, uri, journal);
        if let Some(key) = registry::key(uri) {
            registry.put(key, &store.inner);
        }
        Ok(store)
    }

    /// Makes an empty store on a medium that the caller has opened.
    ///
    /// # Errors
    /// As [`Store::format`].
    pub fn format_on(medium: Arc<dyn Medium>) -> Result<Store> {
        Self::format_on_with(medium, None)
    }

    /// As [`Store::format_on`], with the journal on another medium, if one is given.
    ///
    /// # Errors
    /// As [`Store::format`].
    pub fn format_on_with(
        medium: Arc<dyn Medium>,
        journal: Option<Arc<dyn Medium>>,
    ) -> Result<Store> {
        let uri = medium.uri().to_owned();
        let named = journal.as_ref().map(|j| j.uri().to_owned());
        let volume = Volume::format_with(medium, journal, &FormatSpec::default())?;
        Ok(Self::with_uri(volume, &uri, named))
    }

    /// Opens the store on a medium that the caller has opened.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_on(medium: Arc<dyn Medium>, options: &OpenOptions) -> Result<Store> {
        Self::open_on_with(medium, None, options)
    }

    /// As [`Store::open_on`], with the medium that the store's journal is on. The option
    /// `journal` is not looked at.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_on_with(
        medium: Arc<dyn Medium>,
        journal: Option<Arc<dyn Medium>>,
        options: &OpenOptions,
    ) -> Result<Store> {
        let uri = medium.uri().to_owned();
        let named = journal.as_ref().map(|j| j.uri().to_owned());
        let volume = Volume::open_with(medium, journal, &options.into())?;
        Ok(Self::with_uri(volume, &uri, named))
    }

    /// Says what is lost when the journal of a store, which is on a medium of its own, is given
    /// up; with `force` does so: the store goes back to its newest checkpoint, and its journal
    /// is in itself from then on. The journal is read where the URI or the option names one.
    ///
    /// # Errors
    /// `Invalid` for a store whose journal is in itself, and for the right journal, with which
    /// the store can be opened; `Corrupt` where there is no checkpoint to go back to.
    pub fn discard_journal(uri: &str, options: &OpenOptions, force: bool) -> Result<Discarded> {
        not_forked()?;
        let _registry = Registry::lock();
        let journal = journal::named(uri, options.journal.as_deref())?;
        let read = OpenOptions { read_only: true, ..options.clone() };
        let store = if force { options } else { &read };
        let medium = freehold_engine::open(uri, &store.into())?;
        let (journal, useless) = journal::open_what_can_be(uri, journal.as_deref(), options)?;
        Volume::discard_journal(medium, journal, useless, force)
    }

    /// A handle to a volume that was opened elsewhere.
    fn with_uri(volume: Arc<Volume>, uri: &str, journal: Option<String>) -> Store {
        let who = volume.default_session();
        Store { inner: Arc::new(Inner { volume, who, uri: uri.to_owned(), journal }) }
    }

    pub(crate) fn volume(&self) -> &Arc<Volume> {
        &self.inner.volume
    }

    /// What opening it took.
    pub fn recovery(&self) -> &RecoveryReport {
        self.volume().recovery()
    }

    /// The store, unless this is a forked child.
    fn here(&self) -> Result<&Arc<Volume>> {
        not_forked()?;
        Ok(&self.inner.volume)
    }

    fn file(&self, handle: FileHandle) -> File {
        File::new(&self.inner, &self.inner.who, handle)
    }

    /// The store's own session: what is opened from the store itself belongs to it.
    pub fn session(&self) -> Session {
        Session::of(&self.inner, &self.inner.who)
    }

    /// One more session, for a part of the program that holds seals and leases of its own.
    ///
    /// # Errors
    /// `ForkedChild`.
    pub fn new_session(&self) -> Result<Session> {
        Ok(Session::of(&self.inner, &self.here()?.new_session()))
    }

    /// A new, empty file. Durable after a sync.
    ///
    /// # Errors
    /// `Exists`; `Invalid` for a name that is empty, over 255 bytes, or contains NUL.
    pub fn create(&self, name: &[u8]) -> Result<File> {
        Ok(self.file(self.here()?.create(name)?))
    }

    /// Opens a file by name.
    ///
    /// # Errors
    /// `NotFound`; `Corrupt`.
    pub fn open_file(&self, name: &[u8]) -> Result<File> {
        Ok(self.file(self.here()?.open_file(name)?))
    }

    /// Takes a name away; the blocks follow when the last handle is gone.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn remove(&self, name: &[u8]) -> Result<()> {
        self.here()?.remove(name)
    }

    /// Renames a file; one that has the new name is replaced in the same step,
    /// also across a crash.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn rename(&self, from: &[u8], to: &[u8]) -> Result<()> {
        self.here()?.rename(from, to)
    }

    /// A new file that shares all blocks of another one, in constant time.
    ///
    /// # Errors
    /// `NotFound`, `Exists`.
    pub fn reflink(&self, from: &[u8], to: &[u8]) -> Result<File> {
        Ok(self.file(self.here()?.reflink(from, to)?))
    }

    /// Names that begin with `prefix` and come after `after`, in the order of
    /// their bytes; with a delimiter, folded at its first place behind the prefix.
    ///
    /// ```
    /// use freehold::{ListEntry, Store};
    /// let store = Store::format("mem:16M", &Default::default())?;
    /// for name in ["a", "log/1", "log/2"] {
    ///     store.create(name.as_bytes())?;
    /// }
    /// let all = store.list(b"", Some(b'/'), None, 100)?;
    /// assert_eq!(all.entries.len(), 2);
    /// assert!(matches!(&all.entries[1], ListEntry::Prefix(p) if p == b"log/"));
    /// # Ok::<(), freehold::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn list(
        &self,
        prefix: &[u8],
        delimiter: Option<u8>,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Listing> {
        self.here()?.list(prefix, delimiter, after, limit)
    }

    /// Makes durable all that has completed. Blocks.
    ///
    /// # Errors
    /// `Poisoned` if anything was lost.
    pub fn sync(&self) -> Result<()> {
        self.here()?.sync()
    }

    /// Writes a checkpoint and waits for it: space that was freed can be used again.
    ///
    /// # Errors
    /// `Poisoned`, `ReadOnly`.
    pub fn checkpoint(&self) -> Result<()> {
        self.here()?.checkpoint()
    }

    /// What it has done since it was opened. Nothing in a forked child.
    pub fn stats(&self) -> Stats {
        self.here().map(|v| v.stats()).unwrap_or_default()
    }

    /// How its space is used, in bytes. Nothing in a forked child.
    pub fn space(&self) -> Space {
        self.here().map(|v| v.space()).unwrap_or_default()
    }

    /// All leases and seals, by their numbers: whose they are, what they cover, how old they
    /// are, and where they are in their lives. Nothing in a forked child.
    ///
    /// ```
    /// use freehold::{Access, LeaseOptions, Store};
    /// let store = Store::format("mem:16M", &Default::default())?;
    /// let file = store.create(b"f")?;
    /// file.write_at(&[1; 4096], 0)?;
    /// let lease = file.lease(.., Access::Read, &LeaseOptions::default())?;
    /// let all = store.leases();
    /// assert_eq!((all[0].id, all[0].session, all[0].range), (lease.id(), 1, (0, 4096)));
    /// assert!(all[0].to_string().starts_with("Read lease"));
    /// # Ok::<(), freehold::Error>(())
    /// ```
    pub fn leases(&self) -> Vec<Holding> {
        self.here().map(|v| v.holdings()).unwrap_or_default()
    }

    /// What may reach blocks or memory now: through each lease that is in use (pins, commands,
    /// registrations, and what is in quarantine because of them), and by a device that was
    /// lost, which memory is withheld from reuse for (law M4). Does not block. Nothing in a
    /// forked child.
    ///
    /// ```
    /// use freehold::{Access, LeaseOptions, Store};
    /// let store = Store::format("mem:16M", &Default::default())?;
    /// let file = store.create(b"f")?;
    /// file.write_at(&[1; 4096], 0)?;
    /// let lease = file.lease(.., Access::Read, &LeaseOptions::default())?;
    /// assert!(store.inflight().is_empty(), "it is held, and not in use");
    /// let registered = lease.register(|| Ok(()))?;
    /// let now = store.inflight();
    /// assert_eq!((now.leases[0].lease, now.leases[0].registered), (lease.id(), 1));
    /// assert_eq!(now.withheld, 0);
    /// # drop(registered);
    /// # Ok::<(), freehold::Error>(())
    /// ```
    pub fn inflight(&self) -> InFlight {
        self.here().map(|v| v.inflight()).unwrap_or_default()
    }

    /// How long the holders of leases and breakable seals have from now on when these are
    /// asked for back, beside what they declared: at least a millisecond, at most a minute;
    /// a second if nothing is said.
    pub fn set_lease_time(&self, time: Duration) {
        self.volume().set_lease_time(time);
    }

    /// Asks for all leases and breakable seals back. [`Store::close`] does so by itself; this
    /// is for who wants the store still if somebody does not answer. Idle leases are
    /// taken; blocks for as long as the holders of the others may take.
    ///
    /// # Errors
    /// `Busy`, with the holder, where one is not given up; `ForkedChild`.
    pub fn recall(&self) -> Result<()> {
        self.here()?.recall_all(self.inner.who.id())
    }

    /// What it and its medium are.
    pub fn info(&self) -> Info {
        let v = self.volume().info();
        let g = self.volume().medium().geometry();
        Info {
            uri: self.inner.uri.clone(),
            store_id: v.store_id,
            version: v.version,
            blocks: v.blocks,
            block_size: freehold_engine::medium::BLOCK as u32,
            journal_bytes: v.journal_bytes,
            checkpoint: v.checkpoint,
            read_only: v.read_only,
            lba_bytes: g.lba_bytes,
            max_transfer: g.max_transfer,
            volatile_cache: g.volatile_cache,
            atomic_bytes: g.atomic_bytes,
            window: g.window,
            journal: v.journal,
        }
    }

    /// What the device under the store says of itself: model, limits, health. Nothing
    /// where there is no device that could be asked. Blocks until it has answered.
    ///
    /// # Errors
    /// What the device or the link to it reports.
    pub fn device(&self) -> Result<Vec<Fact>> {
        Ok(self.volume().medium().describe()?)
    }

    /// What one [`File::write_atomic`] may be: the most, and the most that is fast.
    pub fn atomic_limits(&self) -> AtomicLimits {
        self.volume().atomic_limits()
    }

    /// Proves the map: every block is free, or owned once, or counted exactly;
    /// every tree is ordered. Reads all metadata; writes nothing; may run while the
    /// store is used.
    ///
    /// # Errors
    /// Only what keeps it from running; what is wrong is in the report. `Poisoned`:
    /// what is in memory has parted from the medium; open the store again first.
    pub fn check(&self) -> Result<CheckReport> {
        self.here()?.check()
    }

    /// A queue for up to `depth` operations in flight.
    ///
    /// # Errors
    /// `Limit`, with what to raise.
    pub fn queue(&self, depth: u32) -> Result<Queue> {
        self.here()?;
        Queue::new(self, depth)
    }

    /// Ends the store: all is durable, and it opens again without recovery. Leases and
    /// breakable seals are asked for back first. Blocks, for as long as their holders may
    /// take.
    ///
    /// # Errors
    /// `Busy` while files, queues, sessions or other handles are left, and with the holder
    /// where a lease or seal is not given up; `Poisoned`; `ForkedChild`.
    pub fn close(self) -> Result<()> {
        self.close_now()
    }

    /// As [`Store::close`], for who wants the store still if it cannot be closed now.
    ///
    /// ```
    /// let store = freehold::Store::format("mem:16M", &Default::default())?;
    /// let file = store.create(b"f")?;
    /// let (store, why) = store.try_close().unwrap_err();
    /// assert_eq!(why.kind(), freehold::ErrorKind::Busy);
    /// drop(file);
    /// assert!(store.try_close().is_ok());
    /// # Ok::<(), freehold::Error>(())
    /// ```
    ///
    /// # Errors
    /// The store as it was, and why, as [`Store::close`].
    pub fn try_close(self) -> std::result::Result<(), (Store, Error)> {
        self.close_now().map_err(|why| (self, why))
    }

    fn close_now(&self) -> Result<()> {
        self.here()?;
        if Arc::strong_count(&self.inner) > 1 {
            return Err(Error::new(
                ErrorKind::Busy,
                "files, queues, sessions or handles of the store are still open; drop them first",
            ));
        }
        self.volume().recall_all(self.inner.who.id())?;
        self.volume().close()
    }
}

/// Do two names of a journal mean the same one?
fn same_journal(one: Option<&str>, other: Option<&str>) -> bool {
    let key = |uri: Option<&str>| uri.and_then(registry::key);
    one == other || key(one).is_some_and(|one| Some(one) == key(other))
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "store {}", self.inner.uri)
    }
}
