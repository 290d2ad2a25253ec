//! Where the demonstration plays: a directory, a store, and its size.

use super::Args;
use crate::failure::{Failure, Outcome};
use crate::janitor::Janitor;
use crate::{output, pattern, size};
use freehold::{ErrorKind, FormatOptions, OpenOptions, Store};
use freehold_engine::uri::encode;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    /// Pages of the generated database.
    pub(super) database_pages: u64,
    /// Places overwritten in each copy.
    pub(super) overwrites: u64,
    /// Writers killed.
    pub(super) kills: u32,
    /// Extents of the files whose reflink is timed.
    pub(super) extents: [u64; 3],
    /// Pages of the database on the emulated device.
    pub(super) device_pages: u64,
    /// How often its power is cut.
    pub(super) cuts: u32,
}

impl Scale {
    /// What users see.
    pub(super) const FULL: Scale = Scale {
        database_pages: 16_384,
        overwrites: 1000,
        kills: 5,
        extents: [1, 1000, 400_000],
        device_pages: 8192,
        cuts: 3,
    };

    /// What tests run.
    pub(super) const QUICK: Scale = Scale {
        database_pages: 1024,
        overwrites: 100,
        kills: 2,
        extents: [1, 100, 4000],
        device_pages: 512,
        cuts: 2,
    };

    /// Bytes that all this takes of the directory, without the inputs: half of
    /// the blocks of files of many extents are never written.
    fn bytes(self) -> u64 {
        // Two controllers.
        let device = self.device_pages * 10;
        let pages = self.database_pages * 2 + self.extents.iter().sum::<u64>() / 2 + device;
        pages * 4096 + (500 << 20)
    }

    /// Bytes that the store, a sparse file, should be able to hold.
    fn capacity(self) -> u64 {
        self.bytes() * 2
    }
}

/// The directory and the store in it.
pub(super) struct Stage {
    pub(super) dir: PathBuf,
    pub(super) uri: String,
    pub(super) seed: u64,
    pub(super) scale: Scale,
    store: Option<Store>,
    keep: bool,
    pub(super) janitor: Janitor,
}

impl Stage {
    /// Makes the directory and formats the store.
    pub(super) fn open(args: &Args, scale: Scale, inputs: &[PathBuf]) -> Outcome<Stage> {
        let base = args.dir.clone().unwrap_or_else(std::env::temp_dir);
        let mut bytes = 0;
        for path in inputs {
            let meta = std::fs::metadata(path)
                .map_err(|error| Failure::local(path, "cannot read", &error))?;
            bytes += meta.len();
        }
        enough_room(&base, scale.bytes() + 2 * bytes)?;
        let capacity = scale.capacity() + 4 * bytes;
        let seed = args.seed.unwrap_or_else(pattern::fresh_seed);
        let dir = base.join(format!("freehold-demo-{:016x}", pattern::fresh_seed()));
        let dir = std::path::absolute(dir).map_err(Failure::new)?;
        let mut janitor = Janitor::start()?;
        if !args.keep {
            janitor.tree(&dir)?;
        }
        std::fs::create_dir_all(&dir).map_err(|e| Failure::local(&dir, "cannot make", &e))?;
        let start = Instant::now();
        let uri = format!("file:{}", encode(dir.join("store").as_os_str().as_bytes()));
        let options = FormatOptions {
            size: Some(capacity.next_multiple_of(1 << 20)),
            force: false,
            ..Default::default()
        };
        let store = Store::format(&uri, &options).map_err(|error| Failure::open(&uri, &error))?;
        let total = size::show(store.space().total);
        let stage = Stage { dir, uri, seed, scale, store: Some(store), keep: args.keep, janitor };
        stage.say("format", start, format!("{} ({total}, sparse); seed {seed}", stage.uri))?;
        Ok(stage)
    }

    /// The open store.
    pub(super) fn store(&self) -> &Store {
        self.store.as_ref().expect("the store is closed only while a writer has it")
    }

    /// Closes the store, so that another process can open it.
    pub(super) fn leave(&mut self) -> Outcome {
        match self.store.take() {
            Some(store) => Ok(store.close()?),
            None => Ok(()),
        }
    }

    /// Opens the store again. What a killed process held may take the kernel
    /// a moment to let go of.
    pub(super) fn enter(&mut self) -> Outcome {
        let give_up = Instant::now() + Duration::from_secs(10);
        loop {
            match Store::open(&self.uri, &OpenOptions::default()) {
                Ok(store) => {
                    self.store = Some(store);
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Busy && Instant::now() < give_up => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(error) => return Err(Failure::open(&self.uri, &error)),
            }
        }
    }

    /// Prints a step that began at `start` and ends now.
    pub(super) fn say(&self, step: &str, start: Instant, text: String) -> Outcome {
        self.say_took(step, start.elapsed(), text)
    }

    /// Prints a step that took a while.
    pub(super) fn say_took(&self, step: &str, took: Duration, text: String) -> Outcome {
        output::line(format!("{step:<10} {:>9}  {text}", size::time(took)))
    }

    /// Ends it; removes the directory unless it is to be kept.
    pub(super) fn close(mut self) -> Outcome {
        self.leave()?;
        if self.keep {
            output::line(format!("The store is kept: {}", self.uri))?;
        }
        Ok(())
    }
}

fn enough_room(dir: &Path, bytes: u64) -> Outcome {
    let stat = rustix::fs::statvfs(dir)
        .map_err(|error| Failure::local(dir, "cannot use the directory", &error.into()))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if free < bytes {
        return Err(Failure::new(format!(
            "{} has {} free and the demonstration may need {}: name another place with --dir",
            dir.display(),
            size::show(free),
            size::show(bytes)
        )));
    }
    Ok(())
}
