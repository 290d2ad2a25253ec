//! From a name to a medium: opening one, and preparing one to be formatted.
//!
//! Names are parsed in `uri`; what is on a device is found by `probe`; each
//! medium opens itself. Nothing here writes to a device: making a store of it
//! is the block map's work.

use crate::file::{FileMedium, Opened, open_locked, size_of};
use crate::medium::{BLOCK, Error, ErrorKind, Medium, Result};
use crate::mem::MemMedium;
use crate::memory::Pool;
use crate::nvme::{self, Timeouts};
use crate::pmem;
use crate::probe::{MediumSource, Source, System, signature};
use crate::uri::{Controller, Target, Uri};
use crate::vfio::Interface;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// How a medium is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenOptions {
    /// Only reads, and shares the medium with others that only read.
    pub read_only: bool,
    /// Files: use io_uring where the system lets us. On by default.
    pub io_uring: bool,
    /// Files: bypass the page cache where the file system can. On by default.
    pub direct: bool,
    /// NVMe: how patient the driver is.
    pub timeouts: Timeouts,
    /// NVMe through the kernel's VFIO: by which of its interfaces. The newest that is there.
    pub vfio: Interface,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            read_only: false,
            io_uring: true,
            direct: true,
            timeouts: Timeouts::default(),
            vfio: Interface::default(),
        }
    }
}

/// How a medium is prepared for a new store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FormatOptions {
    /// Size in bytes: needed for a file that is missing or empty, refused for
    /// a device.
    pub size: Option<u64>,
    /// Take a medium that carries something else. Never one that is in use.
    pub force: bool,
}

/// Opens the medium that a URI names. Its `journal` key is not looked at.
/// Blocks as opening does. A `mem:` medium is a new one, all zeroes.
///
/// # Errors
/// `Invalid` for a bad URI, `NotFound`, `Permission`, `Busy` when somebody
/// else has it, `Unsupported` for media that this build does not have, `Limit`.
pub fn open(uri: &str, options: &OpenOptions) -> Result<Arc<dyn Medium>> {
    crate::fork::remember();
    match Uri::parse(uri)?.target {
        Target::File { path } => Ok(Arc::new(FileMedium::open(&path, uri, options)?)),
        Target::Mem { bytes } => Ok(Arc::new(MemMedium::new(bytes)?)),
        Target::Nvme { address, namespace } => {
            nvme::open(&Controller::Pci(address), namespace, uri, options)
        }
        Target::VfioUser { socket, namespace } => {
            nvme::open(&Controller::VfioUser(socket), namespace, uri, options)
        }
        Target::Pmr { controller } => nvme::open_region(&controller, uri, options, false),
        Target::Pmem { path, volatile, exclusive } => {
            let spec = pmem::Spec { volatile, exclusive, read_only: options.read_only };
            Ok(Arc::new(pmem::open(&path, uri, spec)?))
        }
        Target::Broker { .. } => Err(not_built()),
    }
}

/// Makes sure that the medium may be overwritten, creates and sizes it if it
/// is a regular file, and opens it. A file that was there is emptied first, so
/// that nothing of it remains; a device keeps its bytes. Blocks as opening
/// does, and for as long as it takes to read the data of a file that is not
/// known to be free.
///
/// # Errors
/// As [`open`], and `Busy` for what is mounted, swapped to, built upon or
/// locked, whatever `force` says; `Occupied` for what carries data, unless
/// `force` is set, with the name of the format; `Invalid` when a size is
/// missing or not wanted.
pub fn format_target(uri: &str, options: &FormatOptions) -> Result<Arc<dyn Medium>> {
    crate::fork::remember();
    let path = match Uri::parse(uri)?.target {
        Target::File { path } => path,
        Target::Mem { bytes } if options.size.is_none_or(|size| size == bytes) => {
            return Ok(Arc::new(MemMedium::new(bytes)?));
        }
        Target::Mem { .. } => {
            return Err(invalid("the size of memory is in its name: mem:SIZE"));
        }
        Target::VfioUser { socket, namespace } => {
            return namespace_target(&Controller::VfioUser(socket), namespace, uri, options);
        }
        Target::Nvme { address, namespace } => {
            return namespace_target(&Controller::Pci(address), namespace, uri, options);
        }
        Target::Pmr { .. } if options.size.is_some() => {
            return Err(invalid(format!("{uri} is a region: it has its own size and takes none")));
        }
        Target::Pmr { controller } => {
            let medium = nvme::open_region(&controller, uri, &OpenOptions::default(), true)?;
            if !options.force {
                free_medium(&*medium)?;
            }
            return Ok(medium);
        }
        Target::Pmem { path, volatile, exclusive } => {
            let spec = pmem::Spec { volatile, exclusive, read_only: false };
            return pmem_target(&path, uri, spec, options);
        }
        Target::Broker { .. } => return Err(not_built()),
    };
    let opened =
        create_locked(&path, options, || open_locked(&path, &OpenOptions::default()), |_| Ok(()))?;
    Ok(Arc::new(FileMedium::from_opened(opened, uri, &OpenOptions::default())?))
}

/// As [`format_target`], on a namespace of a controller.
fn namespace_target(
    controller: &Controller,
    namespace: u32,
    uri: &str,
    options: &FormatOptions,
) -> Result<Arc<dyn Medium>> {
    if options.size.is_some() {
        return Err(invalid(format!("{uri} is a namespace: it has its own size and takes none")));
    }
    let medium = nvme::open(controller, namespace, uri, &OpenOptions::default())?;
    if !options.force {
        free_medium(&*medium)?;
    }
    Ok(medium)
}

/// As [`format_target`], on persistent memory.
fn pmem_target(
    path: &Path,
    uri: &str,
    spec: pmem::Spec,
    options: &FormatOptions,
) -> Result<Arc<dyn Medium>> {
    let device = rustix::fs::stat(path)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice);
    if device {
        if options.size.is_some() {
            return Err(invalid(format!("{uri} is a device: it has its own size and takes none")));
        }
        let medium = pmem::open(path, uri, spec)?;
        if !options.force {
            free_medium(&medium)?;
        }
        return Ok(Arc::new(medium));
    }
    let opened = create_locked(
        path,
        options,
        || pmem::open_locked(path, false),
        |opened| pmem::usable(opened, spec.volatile, true),
    )?;
    Ok(Arc::new(pmem::from_opened(opened, uri, spec)?))
}

/// Opens a file under its lock, creating it if it is missing, and sizes it: not before `fits`
/// has found that it can be the medium.
fn create_locked(
    path: &Path,
    options: &FormatOptions,
    open: impl FnOnce() -> Result<Opened>,
    fits: impl FnOnce(&Opened) -> Result<()>,
) -> Result<Opened> {
    if let Some(size) = options.size
        && (size < BLOCK as u64 || !size.is_multiple_of(BLOCK as u64))
    {
        return Err(invalid(format!("a size of {size} bytes is not a multiple of 4096")));
    }
    let created = create(path, options)?;
    let opened = open()?;
    let prepared = fits(&opened).and_then(|()| prepare(&opened, options));
    if prepared.is_err() && created {
        // It is ours: created and locked by this call, and still empty.
        let _ = std::fs::remove_file(path);
    }
    prepared.map(|()| opened)
}

/// Finds out whether [`format_target`] would take a medium, as far as that can be told without
/// opening a device, and changes nothing: for who formats several media or none.
///
/// # Errors
/// As [`format_target`].
pub fn check_target(uri: &str, options: &FormatOptions) -> Result<()> {
    match Uri::parse(uri)?.target {
        Target::File { path } if !missing(&path, options)? => {
            free(&open_locked(&path, &OpenOptions::default())?, options)?;
        }
        Target::Pmem { path, volatile, .. } if regular(&path) && !missing(&path, options)? => {
            let opened = pmem::open_locked(&path, false)?;
            pmem::usable(&opened, volatile, true)?;
            free(&opened, options)?;
        }
        _ => {}
    }
    Ok(())
}

/// What is not there is a file that is to be made.
fn regular(path: &Path) -> bool {
    rustix::fs::stat(path)
        .map_or(true, |stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
}

/// Creates a missing file; true when it did.
fn create(path: &Path, options: &FormatOptions) -> Result<bool> {
    if !missing(path, options)? {
        return Ok(false);
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags, Mode::from_raw_mode(0o600)) {
        Ok(_) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(errno) => Err(crate::file::open_error(errno, &format!("creating {}", path.display()))),
    }
}

/// Whether a file is to be created. One that is missing or empty needs a size.
fn missing(path: &Path, options: &FormatOptions) -> Result<bool> {
    match rustix::fs::stat(path) {
        Ok(stat) => {
            let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
            if regular && stat.st_size == 0 && options.size.is_none() {
                return Err(invalid(format!(
                    "{} is empty: say which size it gets",
                    path.display()
                )));
            }
            Ok(false)
        }
        Err(Errno::NOENT) if options.size.is_none() => Err(invalid(format!(
            "{} does not exist: say which size it gets, and it is created",
            path.display()
        ))),
        Err(Errno::NOENT) => Ok(true),
        Err(errno) => Err(crate::file::open_error(errno, &format!("opening {}", path.display()))),
    }
}

/// The checks, under the lock.
fn free(opened: &Opened, options: &FormatOptions) -> Result<()> {
    let path = opened.path.display();
    let system = System::live();
    let user = match opened.device {
        Some(number) => system.device_user(number),
        None => system.file_user(&opened.path),
    };
    if let Some(user) = user {
        return Err(Error::new(ErrorKind::Busy, format!("{path} is in use: {user}")));
    }
    match options.force {
        true => Ok(()),
        false => check_free(opened),
    }
}

/// The checks, and the size.
fn prepare(opened: &Opened, options: &FormatOptions) -> Result<()> {
    free(opened, options)?;
    let path = opened.path.display();
    if opened.device.is_some() {
        if options.size.is_some() {
            return Err(invalid(format!("{path} is a device: it has its own size and takes none")));
        }
        return Ok(());
    }
    let size = match options.size {
        Some(size) => size,
        None => size_of(opened)? / BLOCK as u64 * BLOCK as u64,
    };
    if size == 0 {
        return Err(invalid(format!("{path} is smaller than one block: say which size it gets")));
    }
    let sizing = |errno| crate::file::open_error(errno, &format!("giving {path} its size"));
    rustix::fs::ftruncate(&opened.file, 0).map_err(sizing)?;
    rustix::fs::ftruncate(&opened.file, size).map_err(sizing)
}

/// Refuses what carries data of others.
fn check_free(opened: &Opened) -> Result<()> {
    let path = opened.path.display();
    let reading =
        |e: io::Error| Error::new(ErrorKind::Io, format!("looking at what {path} carries: {e}"));
    let source = FileSource { opened, len: size_of(opened)? };
    let found = signature(&source).map_err(reading)?;
    let found = match found {
        Some(name) => Some(name),
        None if opened.device.is_none() && source.has_data().map_err(reading)? => {
            Some("data that is not a known format")
        }
        None => None,
    };
    match found {
        None => Ok(()),
        Some(what) => Err(occupied(&path.to_string(), what)),
    }
}

/// Refuses a device that carries a known format, by reading it as a medium.
fn free_medium(medium: &dyn Medium) -> Result<()> {
    let uri = medium.uri();
    let reading = |e| Error::new(ErrorKind::Io, format!("looking at what {uri} carries: {e}"));
    match signature(&MediumSource::new(medium)?).map_err(reading)? {
        None => Ok(()),
        Some(what) => Err(occupied(uri, what)),
    }
}

fn occupied(name: &str, what: &str) -> Error {
    Error::new(ErrorKind::Occupied, format!("{name} carries {what}; force overwrites it"))
}

/// The bytes of an open file, read through an aligned buffer.
struct FileSource<'a> {
    opened: &'a Opened,
    len: u64,
}

impl FileSource<'_> {
    /// Whether any byte is not zero. Holes are skipped.
    fn has_data(&self) -> io::Result<bool> {
        let file = &self.opened.file;
        let mut at = 0;
        let mut buffer = Pool::new().take(1 << 20).map_err(io::Error::other)?;
        while at < self.len {
            at = match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(at)) {
                Ok(next) => next / BLOCK as u64 * BLOCK as u64,
                // Nothing but a hole up to the end.
                Err(Errno::NXIO) => return Ok(false),
                // No such question here: read everything.
                Err(_) => at,
            };
            let read = rustix::io::pread(file, &mut buffer[..], at)?;
            if buffer[..read].iter().any(|&byte| byte != 0) {
                return Ok(true);
            }
            if read == 0 {
                return Ok(false);
            }
            at += read as u64;
        }
        Ok(false)
    }
}

impl Source for FileSource<'_> {
    fn len(&self) -> u64 {
        self.len
    }

    fn read(&self, offset: u64, to: &mut [u8]) -> io::Result<()> {
        // The file may be open for direct I/O, which wants whole blocks.
        let start = offset / BLOCK as u64 * BLOCK as u64;
        let skip = (offset - start) as usize;
        let mut buffer = Pool::new().take(skip + to.len()).map_err(io::Error::other)?;
        let mut filled = 0;
        while filled < skip + to.len() {
            match rustix::io::pread(&self.opened.file, &mut buffer[filled..], start + filled as u64)
            {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => filled += read,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        to.copy_from_slice(&buffer[skip..skip + to.len()]);
        Ok(())
    }
}

fn not_built() -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "a store behind a broker (broker:) is not built in yet; file:PATH, mem:SIZE, pmem:PATH, \
         nvme:BDF, vfio-user:SOCKET, pmr:BDF and pmr:vfio-user:SOCKET are",
    )
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message)
}
