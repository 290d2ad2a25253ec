//! What tests of vfio-user share: a toy device, a server of it on a thread, and a raw end
//! of a connection that can say anything.

mod impostor;
mod raw;
mod toy;

pub use impostor::{Impostor, Script, honest};
pub use raw::{Heard, Raw, listen};
pub use toy::{Control, Event, PAGE, Toy, VECTORS, reg};

use freehold_engine::medium::Result;
use freehold_engine::vfio_user::server::{End, Server, ServerOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A directory of its own, removed with all in it.
#[derive(Debug)]
pub struct Dir(PathBuf);

impl Dir {
    /// A new one.
    ///
    /// # Panics
    /// If the system has no room for it.
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("freehold-vfu-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Default for Dir {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A server of a [`Toy`] on a thread of its own; stopped when dropped.
#[derive(Debug)]
pub struct Served {
    /// How the test speaks to the toy.
    pub control: Arc<Control>,
    path: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<End>>>,
    _dir: Dir,
}

impl Served {
    /// Serves a toy with patience for tests.
    ///
    /// # Panics
    /// If the server cannot bind.
    pub fn new() -> Self {
        Self::with(&ServerOptions { polls_per_look: 8, ..ServerOptions::default() })
    }

    /// Serves a toy.
    ///
    /// # Panics
    /// If the server cannot bind.
    pub fn with(options: &ServerOptions) -> Self {
        let dir = Dir::new();
        let path = dir.path("toy.sock");
        let mut server = Server::bind(&path, options).unwrap();
        let control = Arc::new(Control::default());
        let stop = Arc::new(AtomicBool::new(false));
        let (toy, stopped) = (Toy::new(Arc::clone(&control)), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let (mut toy, mut ends) = (toy, Vec::new());
            while let Some(session) = server.accept(&stopped).unwrap() {
                let end = session.run(&mut toy, &stopped);
                let leave = end == End::DeviceLeft;
                ends.push(end);
                if leave {
                    break;
                }
            }
            ends
        });
        Self { control, path, stop, thread: Some(thread), _dir: dir }
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Stops it; how each session ended.
    ///
    /// # Panics
    /// If its thread did.
    pub fn finish(mut self) -> Vec<End> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(|thread| thread.join().unwrap()).unwrap_or_default()
    }
}

impl Default for Served {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.control.quiet.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Waits until something is so, for a bounded time.
///
/// # Panics
/// If it is never so.
pub fn until(what: &str, so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !so() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// How many descriptors this process has open.
///
/// # Panics
/// If /proc is not there.
pub fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// The kind of an error of a call that must fail.
///
/// # Panics
/// If the call succeeded.
pub fn kind<T>(result: Result<T>) -> freehold_engine::medium::ErrorKind {
    match result {
        Ok(_) => panic!("it succeeded"),
        Err(error) => error.kind(),
    }
}
