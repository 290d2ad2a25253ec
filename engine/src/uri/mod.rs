//! The names of media: parsing only.
//!
//! `SCHEME:BODY?KEY=VALUE&KEY=VALUE`, percent-encoded; a name without a scheme
//! is a path and means `file:`. Opening what is named is in `open`.

mod encode;
mod size;

pub use encode::encode;
pub use size::parse_size;

use crate::medium::{Error, ErrorKind, Result};
use encode::decode;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// What a URI names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `file:PATH`: a regular file or a block device.
    File {
        /// Where it is.
        path: PathBuf,
    },
    /// `mem:SIZE`: memory of this process.
    Mem {
        /// Its size in bytes.
        bytes: u64,
    },
    /// `pmem:PATH`: a file on a DAX mount, or a devdax device.
    Pmem {
        /// Where it is.
        path: PathBuf,
        /// `volatile=1`: go on though the file is not DAX.
        volatile: bool,
        /// `exclusive=1`: no other program writes the file.
        exclusive: bool,
    },
    /// `nvme:BDF`: an NVMe controller through VFIO.
    Nvme {
        /// PCI address, as `0000:01:00.0`.
        address: String,
        /// `ns=N`: the namespace.
        namespace: u32,
    },
    /// `vfio-user:SOCKET`: an NVMe controller that another process emulates.
    VfioUser {
        /// The socket of the server.
        socket: PathBuf,
        /// `ns=N`: the namespace.
        namespace: u32,
    },
    /// `pmr:BDF` or `pmr:vfio-user:SOCKET`: a Persistent Memory Region.
    Pmr {
        /// The controller that has it.
        controller: Controller,
    },
    /// `broker:SOCKET`: a store that another process serves.
    Broker {
        /// The socket of the broker.
        socket: PathBuf,
    },
}

/// Where a controller is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Controller {
    /// On the PCI bus, at an address as `0000:01:00.0`.
    Pci(String),
    /// Behind a vfio-user socket.
    VfioUser(PathBuf),
}

/// Where the journal of a store is, if not on its own medium.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Journal {
    /// `journal=pmr`: the Persistent Memory Region of the same controller.
    Pmr,
    /// `journal=URI`: another medium.
    Medium(Box<Uri>),
}

/// A parsed URI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uri {
    /// The medium.
    pub target: Target,
    /// The `journal` key. It matters to the store: opening a medium ignores it.
    pub journal: Option<Journal>,
}

impl Uri {
    /// Parses a URI.
    ///
    /// # Errors
    /// `Invalid`, with what is wrong and what would be right.
    pub fn parse(text: &str) -> Result<Self> {
        Self::parse_with(text, true)
    }

    fn parse_with(text: &str, journal_allowed: bool) -> Result<Self> {
        let (name, query) = text.split_once('?').unwrap_or((text, ""));
        let mut keys = Keys::parse(query)?;
        let journal = match keys.take("journal") {
            None => None,
            Some(_) if !journal_allowed => {
                return Err(bad("the medium of a journal cannot have a journal itself"));
            }
            Some(value) if value == b"pmr" => Some(Journal::Pmr),
            Some(value) => {
                let inner = String::from_utf8(value)
                    .map_err(|_| bad("the value of 'journal' is not text in UTF-8"))?;
                Some(Journal::Medium(Box::new(Self::parse_with(&inner, false)?)))
            }
        };
        let target = parse_target(name, &mut keys)?;
        keys.finish()?;
        Ok(Self { target, journal })
    }
}

/// The name of the medium that the `journal` key of a URI means, if it has one.
///
/// # Errors
/// `Invalid` for a URI that is none, and for `journal=pmr` where there is no controller.
pub fn journal_uri(text: &str) -> Result<Option<String>> {
    let uri = Uri::parse(text)?;
    match (uri.journal, uri.target) {
        (None, _) => Ok(None),
        (Some(Journal::Medium(_)), _) => {
            let (_, query) = text.split_once('?').unwrap_or((text, ""));
            let value = Keys::parse(query)?.take("journal").unwrap_or_default();
            Ok(Some(String::from_utf8_lossy(&value).into_owned()))
        }
        (Some(Journal::Pmr), Target::VfioUser { socket, .. }) => {
            Ok(Some(format!("pmr:vfio-user:{}", encode(socket.as_os_str().as_bytes()))))
        }
        (Some(Journal::Pmr), Target::Nvme { address, .. }) => Ok(Some(format!("pmr:{address}"))),
        (Some(Journal::Pmr), _) => Err(bad(
            "journal=pmr is the Persistent Memory Region of the controller that the store is on, \
             and this medium has no controller; name another medium with journal=URI",
        )),
    }
}

/// Splits off the scheme and parses what follows it.
fn parse_target(name: &str, keys: &mut Keys) -> Result<Target> {
    let (scheme, body) = match name.split_once(':') {
        // A slash or dot before the colon makes it a path.
        Some((scheme, body)) if is_scheme(scheme) => (scheme, body),
        _ => ("file", name),
    };
    Ok(match scheme {
        "file" => Target::File { path: path(body, "file:PATH")? },
        "mem" => {
            let text = decode(body)?;
            let text = String::from_utf8_lossy(&text);
            Target::Mem { bytes: parse_size(&text)? }
        }
        "pmem" => Target::Pmem {
            path: path(body, "pmem:PATH")?,
            volatile: keys.flag("volatile")?,
            exclusive: keys.flag("exclusive")?,
        },
        "nvme" => Target::Nvme { address: pci(body)?, namespace: keys.namespace()? },
        "vfio-user" => Target::VfioUser {
            socket: path(body, "vfio-user:SOCKET")?,
            namespace: keys.namespace()?,
        },
        "pmr" => Target::Pmr {
            controller: match body.strip_prefix("vfio-user:") {
                Some(socket) => Controller::VfioUser(path(socket, "pmr:vfio-user:SOCKET")?),
                None => Controller::Pci(pci(body)?),
            },
        },
        "broker" => Target::Broker { socket: path(body, "broker:SOCKET")? },
        other => {
            return Err(bad(format!(
                "there is no medium '{other}:'; known are file, mem, pmem, nvme, vfio-user, pmr \
                 and broker, and a path that begins so is written ./{other}:..."
            )));
        }
    })
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

fn path(body: &str, form: &str) -> Result<PathBuf> {
    let bytes = decode(body)?;
    if bytes.is_empty() {
        return Err(bad(format!("the path is missing: {form}")));
    }
    if bytes.contains(&0) {
        return Err(bad("a path cannot contain a zero byte"));
    }
    Ok(PathBuf::from(OsString::from_vec(bytes)))
}

/// Checks a PCI address: `0000:01:00.0`, or without the domain.
fn pci(body: &str) -> Result<String> {
    let wrong = || bad(format!("'{body}' is not a PCI address such as 0000:01:00.0"));
    let full = if body.len() == 7 { format!("0000:{body}") } else { body.to_owned() };
    let (slot, function) = full.rsplit_once('.').ok_or_else(wrong)?;
    let mut parts = slot.split(':');
    let hex = |part: Option<&str>, digits: usize| {
        part.filter(|p| p.len() == digits && p.chars().all(|c| c.is_ascii_hexdigit()))
            .and_then(|p| u32::from_str_radix(p, 16).ok())
            .ok_or_else(wrong)
    };
    let (_domain, _bus, device) =
        (hex(parts.next(), 4)?, hex(parts.next(), 2)?, hex(parts.next(), 2)?);
    if parts.next().is_some() || device > 31 || hex(Some(function), 1)? > 7 {
        return Err(wrong());
    }
    Ok(full.to_ascii_lowercase())
}

/// The keys of a URI; each is taken by who knows it, and none may be left.
struct Keys(Vec<(String, Vec<u8>)>);

impl Keys {
    fn parse(query: &str) -> Result<Self> {
        let mut keys: Vec<(String, Vec<u8>)> = Vec::new();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (key, value) = part
                .split_once('=')
                .ok_or_else(|| bad(format!("the key '{part}' has no value: {part}=VALUE")))?;
            if keys.iter().any(|(known, _)| known == key) {
                return Err(bad(format!("the key '{key}' is given twice")));
            }
            keys.push((key.to_owned(), decode(value)?));
        }
        Ok(Self(keys))
    }

    fn take(&mut self, key: &str) -> Option<Vec<u8>> {
        let index = self.0.iter().position(|(known, _)| known == key)?;
        Some(self.0.swap_remove(index).1)
    }

    fn flag(&mut self, key: &str) -> Result<bool> {
        match self.take(key).as_deref() {
            None | Some(b"0") => Ok(false),
            Some(b"1") => Ok(true),
            Some(_) => Err(bad(format!("the key '{key}' is 0 or 1"))),
        }
    }

    fn namespace(&mut self) -> Result<u32> {
        let Some(value) = self.take("ns") else { return Ok(1) };
        std::str::from_utf8(&value)
            .ok()
            .and_then(|text| text.parse().ok())
            .filter(|n| (1..u32::MAX).contains(n))
            .ok_or_else(|| bad("the key 'ns' is the number of a namespace, from 1"))
    }

    fn finish(self) -> Result<()> {
        match self.0.first() {
            None => Ok(()),
            Some((key, _)) => Err(bad(format!("this medium has no key '{key}'"))),
        }
    }
}

fn bad(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

#[cfg(test)]
mod tests;
