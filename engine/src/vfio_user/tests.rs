//! DMA memory over our client and our server: mapping is unsafe, so that it is tested here.

use super::server::{Device, DmaMemory, DmaRegion, Interrupt, Region, Server, ServerOptions, Work};
use super::{Client, ClientOptions, Mapping, Timeouts};
use crate::bus::{DmaAccess, DmaMap, Function};
use crate::medium::{Error, ErrorKind, Result};
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const PAGE: u64 = 4096;

/// What a [`Keeper`] is told to do, and did.
#[derive(Debug, Default)]
struct Orders {
    /// Memory of the client: address, length, and the first byte of its file.
    kept: Mutex<Vec<(u64, u64, u8)>>,
    /// No memory is taken.
    full: AtomicBool,
    /// Memory is given back when this is false.
    in_use: AtomicBool,
    /// When the last memory was given back.
    released: Mutex<Option<Instant>>,
}

/// A device that keeps memory and does nothing with it.
struct Keeper {
    orders: Arc<Orders>,
    shared: Option<super::server::Shared>,
}

impl Device for Keeper {
    fn region(&self, index: u32) -> Region {
        let shared = self.shared.clone().filter(|_| index == 0);
        Region { len: if matches!(index, 0 | 7) { PAGE } else { 0 }, shared }
    }

    fn vectors(&self) -> u32 {
        0
    }

    fn read(&mut self, _: u32, _: u64, to: &mut [u8]) -> Result<()> {
        to.fill(0x5a);
        Ok(())
    }

    fn write(&mut self, _: u32, _: u64, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn dma_added(&mut self, memory: DmaRegion) -> Result<()> {
        if self.orders.full.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Limit, "full"));
        }
        let DmaMemory::File { file, offset } = memory.memory else {
            return Err(Error::new(ErrorKind::Unsupported, "no file"));
        };
        let mut first = [0];
        rustix::io::pread(&file, &mut first, offset).unwrap();
        self.orders.kept.lock().unwrap().push((memory.iova, memory.len, first[0]));
        Ok(())
    }

    fn dma_removed(&mut self, iova: u64, len: u64) {
        while self.orders.in_use.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.orders.kept.lock().unwrap().retain(|&(at, n, _)| (at, n) != (iova, len));
        *self.orders.released.lock().unwrap() = Some(Instant::now());
    }

    fn attach(&mut self, _: u32, _: Option<Interrupt>) {}

    fn reset(&mut self) -> Result<()> {
        Ok(())
    }

    fn client_gone(&mut self) {}

    fn poll(&mut self) -> Work {
        Work::Sleep(Duration::from_secs(1))
    }
}

struct Pair {
    orders: Arc<Orders>,
    client: Option<Arc<Client>>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Pair {
    fn new(options: &ServerOptions, timeouts: Timeouts) -> Self {
        Self::sharing(options, ClientOptions { timeouts, ..Default::default() }, None)
    }

    fn sharing(
        options: &ServerOptions,
        client: ClientOptions,
        shared: Option<super::server::Shared>,
    ) -> Self {
        let path = path();
        let mut server = Server::bind(&path, options).unwrap();
        let (orders, stop) = (Arc::<Orders>::default(), Arc::<AtomicBool>::default());
        let (told, stopped) = (Arc::clone(&orders), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            server.serve(&mut Keeper { orders: told, shared }, &stopped).unwrap();
        });
        let client = Client::connect(&path, &client).unwrap();
        Self { orders, client: Some(client), stop, thread: Some(thread) }
    }

    fn client(&self) -> &Client {
        self.client.as_ref().unwrap()
    }

    fn kept(&self) -> Vec<(u64, u64, u8)> {
        self.orders.kept.lock().unwrap().clone()
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.orders.in_use.store(false, Ordering::Relaxed);
        self.stop.store(true, Ordering::Relaxed);
        self.client = None;
        self.thread.take().unwrap().join().unwrap();
    }
}

fn path() -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("freehold-unit-{}-{number}", std::process::id()))
}

/// A memfd of `pages` pages, each of which begins with its number.
fn memory(pages: u64, seals: SealFlags) -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create("test", flags).unwrap();
    rustix::fs::ftruncate(&file, pages * PAGE).unwrap();
    for page in 0..pages {
        rustix::io::pwrite(&file, &[page as u8], page * PAGE).unwrap();
    }
    rustix::fs::fcntl_add_seals(&file, seals).unwrap();
    file
}

/// Maps part of a file for DMA.
fn map(client: &Client, iova: u64, len: u64, file: &OwnedFd, offset: u64) -> Result<()> {
    let file = Some((file.as_fd(), offset));
    let map = DmaMap { iova, len, address: 0, file, access: DmaAccess::ReadWrite };
    // SAFETY: the memory is a file that nothing in this process maps or refers to.
    unsafe { client.map(&map) }
}

#[test]
fn memory_reaches_the_device_and_comes_back() {
    // As patient as can be: no time is too long to be told.
    let ever = Duration::MAX;
    let timeouts = Timeouts { connect: ever, request: ever, slow: ever };
    let pair = Pair::new(&ServerOptions { patience: ever, ..Default::default() }, timeouts);
    let (client, file) = (pair.client(), memory(4, SealFlags::empty()));
    map(client, 0x10000, 2 * PAGE, &file, PAGE).unwrap();
    map(client, 0x20000, PAGE, &file, 3 * PAGE).unwrap();
    assert_eq!(pair.kept(), [(0x10000, 2 * PAGE, 1), (0x20000, PAGE, 3)]);
    let invalid = |result: Result<()>| assert_eq!(result.unwrap_err().kind(), ErrorKind::Invalid);
    // Overlaps, of all kinds.
    invalid(map(client, 0x10000, PAGE, &file, 0));
    invalid(map(client, 0x11000, PAGE, &file, 0));
    invalid(map(client, 0xf000, 2 * PAGE, &file, 0));
    invalid(map(client, 0xf000, 4 * PAGE, &file, 0));
    map(client, 0xf000, PAGE, &file, 0).unwrap();
    map(client, 0x12000, PAGE, &file, 0).unwrap();
    // Not pages, nothing, no addresses.
    invalid(map(client, 0x30001, PAGE, &file, 0));
    invalid(map(client, 0x30000, 1, &file, 0));
    invalid(map(client, 0x30000, 0, &file, 0));
    invalid(map(client, 0x30000, PAGE, &file, 8));
    invalid(map(client, 0, PAGE, &file, 0));
    invalid(map(client, u64::MAX - PAGE + 1, PAGE, &file, 0));
    invalid(map(client, 1 << 47, PAGE, &file, 0));
    // More than the file has: the server refuses.
    assert_eq!(map(client, 0x30000, 8 * PAGE, &file, 0).unwrap_err().kind(), ErrorKind::Io);
    // Only a whole mapping is taken back, and only once.
    invalid(client.unmap(0x10000, PAGE));
    invalid(client.unmap(0x11000, PAGE));
    client.unmap(0x10000, 2 * PAGE).unwrap();
    invalid(client.unmap(0x10000, 2 * PAGE));
    assert!(!pair.kept().iter().any(|&(iova, ..)| iova == 0x10000));
    map(client, 0x10000, PAGE, &file, PAGE).unwrap();
}

#[test]
fn limits_and_refusals_are_errors_and_leave_no_mapping() {
    let options = ServerOptions { max_maps: 2, ..ServerOptions::default() };
    let pair = Pair::new(&options, Timeouts::default());
    let (client, file) = (pair.client(), memory(1, SealFlags::empty()));
    assert_eq!(client.dma_limits().max_maps, 2);
    assert_eq!(client.dma_limits().page_sizes, PAGE);
    assert!(!client.dma_limits().foreign_memory);
    pair.orders.full.store(true, Ordering::Relaxed);
    assert_eq!(map(client, 0x1000, PAGE, &file, 0).unwrap_err().kind(), ErrorKind::Limit);
    pair.orders.full.store(false, Ordering::Relaxed);
    map(client, 0x1000, PAGE, &file, 0).unwrap();
    map(client, 0x2000, PAGE, &file, 0).unwrap();
    assert_eq!(map(client, 0x3000, PAGE, &file, 0).unwrap_err().kind(), ErrorKind::Limit);
    client.unmap(0x2000, PAGE).unwrap();
    map(client, 0x3000, PAGE, &file, 0).unwrap();
    let none = DmaMap { iova: 0x9000, len: PAGE, address: 0, file: None, access: DmaAccess::Read };
    // SAFETY: it is refused, because there is no file.
    let refused = unsafe { client.map(&none) };
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unsupported);
}

/// Law M4 rests on it: memory counts as given back when the device has let go of it.
#[test]
fn an_unmap_succeeds_after_the_device_let_go() {
    let pair = Pair::new(&ServerOptions::default(), Timeouts::default());
    let file = memory(1, SealFlags::empty());
    map(pair.client(), 0x1000, PAGE, &file, 0).unwrap();
    pair.orders.in_use.store(true, Ordering::Relaxed);
    std::thread::scope(|scope| {
        let unmapped = scope.spawn(|| {
            pair.client().unmap(0x1000, PAGE).unwrap();
            Instant::now()
        });
        std::thread::sleep(Duration::from_millis(50));
        assert!(!unmapped.is_finished());
        pair.orders.in_use.store(false, Ordering::Relaxed);
        let released = || pair.orders.released.lock().unwrap().unwrap();
        assert!(unmapped.join().unwrap() >= released());
    });
}

/// A server that does not answer in time is gone for good, whatever it says later.
#[test]
fn a_late_answer_is_no_answer() {
    let timeouts = Timeouts { slow: Duration::from_millis(50), ..Timeouts::default() };
    let pair = Pair::new(&ServerOptions::default(), timeouts);
    let (client, file) = (pair.client(), memory(1, SealFlags::empty()));
    map(client, 0x1000, PAGE, &file, 0).unwrap();
    pair.orders.in_use.store(true, Ordering::Relaxed);
    let error = client.unmap(0x1000, PAGE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Gone);
    assert!(error.message().contains("DmaUnmap"), "it says what was late: {error}");
    pair.orders.in_use.store(false, Ordering::Relaxed);
    for result in [client.unmap(0x1000, PAGE), client.check(), client.reset()] {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Gone);
    }
    assert_eq!(map(client, 0x2000, PAGE, &file, 0).unwrap_err().kind(), ErrorKind::Gone);
}

/// What makes a file, how a client maps, and how many areas it then has mapped.
type Case = (fn() -> OwnedFd, Mapping, usize);

/// A page of registers is mapped if its file cannot shrink, or its owner is one who could
/// end this process anyhow; here the peer is this very process.
#[test]
fn register_pages_are_mapped_only_where_that_is_safe() {
    let sealed = || memory(1, SealFlags::SHRINK);
    let open = || memory(1, SealFlags::empty());
    let no_writes = || memory(1, SealFlags::SHRINK | SealFlags::WRITE);
    let zero = || rustix::fs::open("/dev/zero", OFlags::RDWR, Mode::empty()).unwrap();
    let cases: [Case; 9] = [
        (sealed, Mapping::Never, 0),
        (sealed, Mapping::Sealed, 1),
        (sealed, Mapping::Careful, 1),
        (open, Mapping::Sealed, 0),
        (open, Mapping::Careful, 1),
        (open, Mapping::Trusting, 1),
        (no_writes, Mapping::Sealed, 0),
        (|| memory(0, SealFlags::SHRINK), Mapping::Trusting, 0),
        (zero, Mapping::Trusting, 0),
    ];
    for (number, (file, mapping, mapped)) in cases.into_iter().enumerate() {
        let shared = super::server::Shared {
            file: Arc::new(file()),
            offset: 0,
            areas: std::iter::once(0..PAGE).collect(),
        };
        let options = ClientOptions { mapping, ..ClientOptions::default() };
        let pair = Pair::sharing(&ServerOptions::default(), options, Some(shared));
        let bar = pair.client().bar(0).unwrap();
        assert_eq!(bar.areas().len(), mapped, "case {number}");
        // What is not mapped is reached by messages all the same.
        let expected = if mapped == 1 { 0 } else { 0x5a5a_5a5a };
        assert_eq!(bar.read32(8).unwrap(), expected, "case {number}");
    }
}
