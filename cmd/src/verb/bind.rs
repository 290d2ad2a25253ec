//! `freehold bind` and `freehold unbind`: give an NVMe controller to programs, and back to the
//! kernel.

use crate::failure::{Failure, Outcome};
use crate::output;
use freehold_engine::medium::{Error, ErrorKind};
use freehold_engine::pci::{Machine, Moved, Slot};
use freehold_engine::uri::{Controller, Target, Uri};
use serde_json::json;

/// Take an NVMe controller from the kernel's driver, for stores on nvme:BDF.
///
/// Its namespaces vanish from /dev. A controller of which a namespace is mounted, swapped to,
/// claimed, or under LVM, MD or ZFS is refused, and so is what is no NVMe controller; nothing
/// is written to the device. It lasts until `unbind`, or until the machine starts again. Takes
/// root.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The controller: its PCI address, as 0000:01:00.0 or nvme:0000:01:00.0
    controller: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Give an NVMe controller back to the kernel's driver.
///
/// Its namespaces appear in /dev again, with all that is on them. Refused while a program has
/// it open. Takes root.
#[derive(Debug, clap::Args)]
pub(crate) struct BackArgs {
    #[command(flatten)]
    args: Args,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let slot = slot(&args.controller)?;
    let moved = slot.bind().map_err(|error| failure(&error))?;
    tell(args, &slot, &moved)?;
    if !args.json {
        let nodes = [slot.group_node(), slot.device_node()].into_iter().flatten();
        for node in nodes.filter(|node| node.exists()) {
            output::line(format!("programs open it by {}", node.display()))?;
        }
    }
    Ok(())
}

pub(crate) fn back(args: &BackArgs) -> Outcome {
    let slot = slot(&args.args.controller)?;
    let moved = slot.unbind().map_err(|error| failure(&error))?;
    tell(&args.args, &slot, &moved)
}

/// The controller that is meant.
fn slot(name: &str) -> Outcome<Slot> {
    let uri = match name.starts_with("nvme:") || name.starts_with("pmr:") {
        true => name.to_owned(),
        false => format!("nvme:{name}"),
    };
    let address = match Uri::parse(&uri).map_err(|error| Failure::usage(error.message()))?.target {
        Target::Nvme { address, .. } => address,
        Target::Pmr { controller: Controller::Pci(address) } => address,
        _ => return Err(Failure::usage(format!("{name} is not on the PCI bus"))),
    };
    Slot::find(&Machine::live(), &address).map_err(|error| failure(&error))
}

/// What cannot be is the caller's to change; what went wrong on the way is a failure.
fn failure(error: &Error) -> Failure {
    match error.kind() {
        ErrorKind::Io => Failure::new(error.message()),
        _ => Failure::usage(error.message()),
    }
}

fn tell(args: &Args, slot: &Slot, moved: &Moved) -> Outcome {
    if args.json {
        return output::json(&json!({
            "controller": slot.address(),
            "from": moved.from,
            "to": moved.to,
        }));
    }
    let to = &moved.to;
    output::line(match &moved.from {
        Some(from) if from == to => format!("{} was bound to {to} already", slot.address()),
        Some(from) => format!("{} is bound to {to}; {from} had it", slot.address()),
        None => format!("{} is bound to {to}", slot.address()),
    })
}
