//! What an NVMe controller over vfio-user needs.

use super::file::{quoted, store};
use super::{Report, Roots};
use crate::size;
use freehold_engine::bus::Function;
use freehold_engine::medium::ErrorKind;
use freehold_engine::vfio_user::{Client, ClientOptions, Timeouts};
use freehold_engine::{OpenOptions, doctor};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

/// How long a server may take to answer: it does nothing else.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) fn examine(
    report: &mut Report,
    socket: &Path,
    namespace: u32,
    name: &str,
    roots: &Roots,
) {
    let answers = link(report, socket);
    memory(report, roots);
    if answers {
        opens(report, Some(namespace), name);
    }
}

/// What the Persistent Memory Region of one needs.
pub(super) fn examine_region(report: &mut Report, socket: &Path, name: &str, roots: &Roots) {
    let answers = link(report, socket);
    memory(report, roots);
    if answers {
        opens(report, None, name);
    }
}

/// There is a server that answers.
fn link(report: &mut Report, socket: &Path) -> bool {
    let serve = format!("freehold emulate --socket {} --size 10G", quoted(socket));
    match std::fs::metadata(socket) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let found = format!("{} does not exist: no server made it", socket.display());
            report.bad("socket", found, format!("{serve}   # or start your own server"));
            return false;
        }
        Err(error) => {
            let mend = format!("ls -ld {}", quoted(socket));
            report.bad("socket", format!("{}: {error}", socket.display()), mend);
            return false;
        }
        Ok(stat) if !stat.file_type().is_socket() => {
            let found = format!("{} is no socket", socket.display());
            report.bad("socket", found, "name the socket that the server was told to make");
            return false;
        }
        Ok(_) => report.good("socket", socket.display().to_string()),
    }
    let timeouts = Timeouts { connect: PATIENCE, request: PATIENCE, slow: PATIENCE };
    let options = ClientOptions { timeouts, ..ClientOptions::default() };
    let client = match Client::connect(socket, &options) {
        Ok(client) => client,
        Err(error) => {
            let mend = match error.kind() {
                ErrorKind::NotFound => {
                    format!("the server has ended and left its socket; start it again:\n{serve}")
                }
                ErrorKind::Permission => {
                    format!("sudo chown $(id -un) {0} && chmod u+rw {0}", quoted(socket))
                }
                ErrorKind::Busy => {
                    "end the client that the server serves: it serves one at a time".to_owned()
                }
                _ => "FREEHOLD_LOG=debug shows what was said; another version, or another kind \
                      of device, cannot be used"
                    .to_owned(),
            };
            report.bad("server", error.message(), mend);
            return false;
        }
    };
    let limits = client.dma_limits();
    let found = format!(
        "answers: {} interrupt vectors, {} DMA maps at most",
        client.vectors(),
        limits.max_maps
    );
    report.good("server", found);
    class(report, &client)
}

/// The device is an NVMe controller.
fn class(report: &mut Report, client: &Client) -> bool {
    let mut word = [0; 4];
    match client.config(8, &mut word) {
        // PCI Code and ID Assignment: mass storage, non-volatile memory, NVM Express.
        Ok(()) if word[1..] == [0x02, 0x08, 0x01] => {
            report.good("device", "an NVMe controller");
            true
        }
        Ok(()) => {
            let [_, interface, sub, class] = word;
            let found = format!("its PCI class is {class:02x}{sub:02x}{interface:02x}, not 010802");
            report.bad("device", found, "name the socket of an NVMe controller");
            false
        }
        Err(error) => {
            report.bad("device", error.message(), "FREEHOLD_LOG=debug shows what was said");
            false
        }
    }
}

/// Memory that the server can map.
fn memory(report: &mut Report, roots: &Roots) {
    match doctor::memory_for_devices() {
        Ok(()) => report.good("shared memory", "sealed memory files can be made"),
        Err(error) => {
            let mend = "ulimit -f unlimited; ulimit -n 4096   # as far as the text names them; in \
                        a container, allow memfd_create";
            report.bad("shared memory", error.message(), mend);
        }
    }
    let locked = roots.locked.map_or("no limit".to_owned(), size::show);
    report.good(
        "locked memory",
        format!("{locked}; nothing is locked on this side, a server may lock what it maps"),
    );
    pages(report);
}

/// Pages of which memory for devices is made.
pub(super) fn pages(report: &mut Report) {
    if doctor::huge_pages() {
        report.good("huge pages", "2 MiB pages are used");
    } else {
        report.hint(
            "huge pages",
            "none: pages of 4 KiB are used; a server that needs larger ones refuses them, and an \
             IOMMU is slower to look them up",
            "sudo sysctl -w vm.nr_hugepages=64   # optional",
        );
    }
}

/// The driver opens it: version, namespace or region, format.
pub(super) fn opens(report: &mut Report, namespace: Option<u32>, name: &str) {
    let options = OpenOptions { read_only: true, ..OpenOptions::default() };
    let medium = match freehold_engine::open(name, &options) {
        Ok(medium) => medium,
        Err(error) => {
            let mend = match error.kind() {
                ErrorKind::NotFound => "add ?ns=N to the name, with a namespace that is there",
                ErrorKind::Unsupported
                | ErrorKind::Busy
                | ErrorKind::Permission
                | ErrorKind::Limit
                    if !name.contains("vfio-user:") =>
                {
                    "as the message says"
                }
                ErrorKind::Unsupported if namespace.is_none() => {
                    "name a controller with a region that is shared as one memory file; the \
                     emulator has one with --pmr FILE:SIZE"
                }
                ErrorKind::Unsupported => {
                    "format the namespace with blocks of 512 or 4096 bytes, without metadata and \
                     protection: nvme format DEVICE --lbaf=N"
                }
                ErrorKind::Busy => "end the client that the server serves",
                _ => "FREEHOLD_LOG=debug shows what was said; restart the server",
            };
            return report.bad("controller", error.message(), mend);
        }
    };
    let facts = medium.describe().unwrap_or_default();
    let fact = |group: &str, name: &str| {
        let found = facts.iter().find(|fact| fact.group == group && fact.name == name);
        found.map_or_else(|| "unknown".to_owned(), |fact| fact.value.to_string())
    };
    let (model, version) = (fact("controller", "model"), fact("controller", "version"));
    report.good("controller", format!("{model}, NVMe {version}"));
    let geometry = medium.geometry();
    let size = size::show(geometry.blocks * freehold_engine::medium::BLOCK as u64);
    match namespace {
        Some(number) => {
            let text = format!("{number}: {size} in blocks of {} B", geometry.lba_bytes);
            report.good("namespace", text);
        }
        None => {
            let (health, barrier) = (fact("region", "health"), fact("region", "barrier"));
            let text = format!("{size}, {health}; what is stored is durable behind {barrier}");
            match health.as_str() {
                "sound" => report.good("region", text),
                _ => report.bad("region", text, "copy what can be read to another medium"),
            }
        }
    }
    drop(medium);
    store(report, name);
}
