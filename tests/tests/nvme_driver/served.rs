//! An emulator on a thread of its own, and what it serves as a medium.

use freehold_engine::emulator::{Emulator, Options};
use freehold_engine::medium::{Error, Medium};
use freehold_engine::nvme::Timeouts;
use freehold_engine::{OpenOptions, open};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Bytes of the namespace.
pub(crate) const SIZE: u64 = 64 << 20;

/// A small emulator; the socket is named when it is served.
pub(crate) fn options() -> Options {
    Options::new("", SIZE)
}

/// An emulator that serves until this is dropped.
pub(crate) struct Served {
    pub(crate) socket: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    pub(crate) fn new(mut options: Options) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("freehold-driver-{}-{number}.sock", std::process::id());
        options.socket = std::env::temp_dir().join(name);
        let socket = options.socket.clone();
        let mut emulator = Emulator::new(&options).expect("the options are right");
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            emulator.serve(&flag).expect("it serves");
        });
        Self { socket, stop, thread: Some(thread) }
    }

    pub(crate) fn uri(&self) -> String {
        format!("vfio-user:{}", self.socket.display())
    }

    pub(crate) fn open(&self) -> Arc<dyn Medium> {
        self.try_open(Duration::from_secs(30)).expect("it opens")
    }

    /// Opens with a time-out for commands.
    pub(crate) fn try_open(&self, io: Duration) -> Result<Arc<dyn Medium>, Error> {
        let timeouts = Timeouts { io, ..Timeouts::default() };
        open(&self.uri(), &OpenOptions { timeouts, ..OpenOptions::default() })
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the emulator panicked");
        }
    }
}
