//! A server that a test writes: answers as a server must, unless the test answers first.

use super::raw::{Heard, Raw, listen};
use super::{Dir, PAGE};
use freehold_engine::vfio_user::wire::{
    self, Command, DeviceInfo, IrqInfo, RegionAccess, RegionInfo,
};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

/// What a test does with a request: `true` when it has dealt with it.
pub type Script = Box<dyn FnMut(&mut Raw, &Heard) -> bool + Send>;

/// A server of one client.
#[derive(Debug)]
pub struct Impostor {
    path: PathBuf,
    thread: Option<JoinHandle<()>>,
    _dir: Dir,
}

impl Impostor {
    /// Serves one client: the script sees each request first.
    ///
    /// # Panics
    /// If the system refuses a socket.
    pub fn new(mut script: Script) -> Self {
        let dir = Dir::new();
        let path = dir.path("impostor.sock");
        let listener = listen(&path);
        let thread = std::thread::spawn(move || {
            let Ok((stream, _)) = listener.accept() else { return };
            let mut raw = Raw::new(stream);
            while let Some(heard) = raw.hear() {
                if !heard.header.is_command() {
                    continue;
                }
                if !script(&mut raw, &heard) {
                    raw.send(&honest(&heard), &[]);
                }
            }
        });
        Self { path, thread: Some(thread), _dir: dir }
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        // Whoever never came: so that the thread ends.
        let _ = std::os::unix::net::UnixStream::connect(&self.path);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What a server answers that keeps to the protocol: a PCI device with a BAR of two pages,
/// whose registers all read as their offset.
pub fn honest(heard: &Heard) -> Vec<u8> {
    let mut payload = Vec::new();
    match Command::of(heard.header.command) {
        Some(Command::Version) => {
            payload.extend_from_slice(b"\0\0\x01\0{\"capabilities\":{\"max_msg_fds\":8}}\0");
        }
        Some(Command::GetInfo) => {
            DeviceInfo { argsz: 16, flags: 3, regions: 9, irqs: 5 }.encode(&mut payload);
        }
        Some(Command::GetRegionInfo) => {
            let asked = RegionInfo::decode(&heard.payload).unwrap_or_default();
            let size = if asked.index == 0 { 2 * PAGE } else { 0 };
            let flags = wire::region::READ | wire::region::WRITE;
            RegionInfo { argsz: 32, flags, size, ..asked }.encode(&mut payload);
        }
        Some(Command::GetIrqInfo) => {
            let asked = IrqInfo::decode(&heard.payload).unwrap_or_default();
            IrqInfo { argsz: 16, flags: 1, count: 4, ..asked }.encode(&mut payload);
        }
        Some(Command::RegionRead) => {
            payload.extend_from_slice(&heard.payload);
            let asked = RegionAccess::decode(&heard.payload).unwrap_or_default();
            let value = asked.offset.to_le_bytes();
            payload.extend(value.iter().cycle().take(asked.count as usize));
        }
        Some(Command::RegionWrite) => {
            payload.extend_from_slice(&heard.payload[..RegionAccess::LEN.min(heard.payload.len())]);
        }
        Some(Command::DmaUnmap) => payload.extend_from_slice(&heard.payload),
        _ => {}
    }
    wire::frame(&heard.header.reply(payload.len()), &payload)
}
