//! What persistent memory needs, as far as can be looked at.

use super::file::{opens, quoted};
use super::{Report, Roots};
use freehold_engine::doctor;
use rustix::fs::{Access, FileType};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

pub(super) fn examine(report: &mut Report, path: &Path, volatile: bool, name: &str, roots: &Roots) {
    match doctor::writes_lines_back() {
        Some(instruction) => report.good("processor", format!("writes back by {instruction}")),
        None => {
            let found = "cannot write a line of its caches back";
            return report.bad("processor", found, "persistent memory needs an x86-64 machine");
        }
    }
    let stat = match fs::metadata(path) {
        Ok(stat) => stat,
        Err(error) => {
            let mend = format!(
                "freehold format {} --size 10G   # on a mount with the option dax\nndctl list -N   \
                 # shows what persistent memory there is",
                quoted(Path::new(name))
            );
            return report.bad("place", format!("{}: {error}", path.display()), mend);
        }
    };
    match FileType::from_raw_mode(stat.mode()) {
        FileType::CharacterDevice => report.good("place", "a device; devdax is what it has to be"),
        FileType::RegularFile => dax(report, path, volatile, roots),
        _ => {
            let found = format!("{} is no file and no devdax device", path.display());
            return report.bad("place", found, "ndctl create-namespace -m devdax");
        }
    }
    match rustix::fs::access(path, Access::READ_OK | Access::WRITE_OK) {
        Ok(()) => {
            report.good("permission", "may be read and written");
            opens(report, name);
        }
        Err(errno) => {
            let mend = format!("sudo chown $(id -un) {0} && chmod u+rw {0}", quoted(path));
            report.bad("permission", format!("may not be read and written: {errno}"), mend);
        }
    }
}

/// The file is on a mount that maps the memory itself.
fn dax(report: &mut Report, path: &Path, volatile: bool, roots: &Roots) {
    let full = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mounts = roots.mounts();
    let holding = mounts.iter().filter(|[_, place, ..]| full.starts_with(place));
    let Some([source, place, kind, options]) = holding.max_by_key(|[_, place, ..]| place.len())
    else {
        return report.hint("DAX", "which mount it is on is not known", "findmnt -T PATH");
    };
    let on = options.split(',').any(|option| option == "dax" || option == "dax=always");
    if on {
        return report.good("DAX", format!("{place} ({kind}) maps the memory itself"));
    }
    let found = format!("{place} ({kind}) is not mounted with dax: stores go to the page cache");
    if volatile {
        return report.hint("DAX", found, "volatile=1 goes on: nothing is durable by a store");
    }
    let mend = format!(
        "sudo umount {0} && sudo mount -o dax {1} {0}",
        quoted(Path::new(place)),
        quoted(Path::new(source))
    );
    report.bad("DAX", found, mend);
}
