//! An emulator on a thread of its own, for one test.

use freehold_engine::emulator::{Emulator, Ended, Options};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;

/// A place in the temporary directory that no other test has.
pub fn fresh_path(kind: &str) -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("freehold-nvme-{}-{number}.{kind}", std::process::id()))
}

/// An emulator that serves until this is dropped.
#[derive(Debug)]
pub struct Served {
    /// Where it listens.
    pub socket: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Ended>>,
}

impl Served {
    /// Serves these options on a socket of its own.
    ///
    /// # Panics
    /// If the emulator cannot be made.
    pub fn new(mut options: Options) -> Self {
        options.socket = fresh_path("sock");
        let socket = options.socket.clone();
        let mut emulator = Emulator::new(&options).expect("the options are right");
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let thread = std::thread::spawn(move || emulator.serve(&flag).expect("it ends well"));
        Self { socket, stop, thread: Some(thread) }
    }

    /// The name of the medium.
    pub fn uri(&self) -> String {
        format!("vfio-user:{}", self.socket.display())
    }

    /// Ends it, and says how it ended.
    ///
    /// # Panics
    /// If it panicked.
    pub fn end(mut self) -> Ended {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("it is ended once").join().expect("it does not panic")
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
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
