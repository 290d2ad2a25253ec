//! `freehold doctor`: what a medium needs, what of it is missing, and the command that
//! mends it. Looks and tries; changes nothing.
//!
//! The checks of each medium stand in a file of their own; `roots` says where the system
//! is looked at, so that tests can make one up.

mod file;
mod pci;
mod pmem;
mod roots;
#[cfg(test)]
mod tests;
mod vfio_user;

use crate::failure::{Failure, Outcome};
use crate::{output, size, table};
use freehold_engine::uri::{Controller, Target, Uri};
use roots::Roots;
use serde_json::{Value, json};

/// Find out what a medium needs and how to mend what is missing.
///
/// Exit code 0 when the store can be opened as far as can be told, 1 when something that
/// it needs is missing, 2 when the name makes no sense.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The medium, whether or not there is a store on it
    uri: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It is as it should be.
    Good,
    /// It works without, but less well.
    Hint,
    /// It does not work so.
    Bad,
    /// This build cannot use it yet, whatever its state.
    Later,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Good => "ok",
            State::Hint => "hint",
            State::Bad => "missing",
            State::Later => "not built",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug)]
struct Check {
    what: &'static str,
    state: State,
    found: String,
    /// The commands that mend it, one a line.
    mend: Option<String>,
}

/// All that was looked at.
#[derive(Debug, Default)]
struct Report(Vec<Check>);

impl Report {
    fn good(&mut self, what: &'static str, found: impl Into<String>) {
        self.0.push(Check { what, state: State::Good, found: found.into(), mend: None });
    }

    fn hint(&mut self, what: &'static str, found: impl Into<String>, mend: impl Into<String>) {
        let mend = Some(mend.into());
        self.0.push(Check { what, state: State::Hint, found: found.into(), mend });
    }

    fn bad(&mut self, what: &'static str, found: impl Into<String>, mend: impl Into<String>) {
        let mend = Some(mend.into());
        self.0.push(Check { what, state: State::Bad, found: found.into(), mend });
    }

    fn later(&mut self, what: &'static str, found: impl Into<String>) {
        self.0.push(Check { what, state: State::Later, found: found.into(), mend: None });
    }

    /// Nothing that is needed is missing.
    fn passes(&self) -> bool {
        self.0.iter().all(|check| matches!(check.state, State::Good | State::Hint))
    }

    fn json(&self, uri: &str) -> Value {
        let checks: Vec<Value> = self
            .0
            .iter()
            .map(|check| {
                json!({
                    "check": check.what,
                    "state": check.state.name(),
                    "found": check.found,
                    "mend": check.mend,
                })
            })
            .collect();
        json!({ "uri": uri, "ok": self.passes(), "checks": checks })
    }
}

pub(crate) fn run(args: &Args) -> Outcome {
    let uri = Uri::parse(&args.uri).map_err(|error| Failure::usage(error.message()))?;
    let report = examine(&uri, &args.uri, &Roots::live());
    if args.json {
        output::json(&report.json(&args.uri))?;
    } else {
        print(&report)?;
    }
    if report.passes() { Ok(()) } else { Err(Failure::Told) }
}

fn print(report: &Report) -> Outcome {
    let mut rows = table::new(&["check", "state", "found"]);
    for check in &report.0 {
        rows.add_row([check.what, check.state.name(), &check.found]);
    }
    table::print(&rows)?;
    for check in &report.0 {
        if let Some(mend) = &check.mend {
            output::line(format!("\n{} ({}): {}", check.what, check.state.name(), check.found))?;
            for line in mend.lines() {
                output::line(format!("    {line}"))?;
            }
        }
    }
    Ok(())
}

/// Looks at all that a medium needs.
fn examine(uri: &Uri, name: &str, roots: &Roots) -> Report {
    let mut report = Report::default();
    match &uri.target {
        Target::File { path } => file::examine(&mut report, path, name),
        Target::Mem { bytes } => memory(&mut report, *bytes, roots),
        Target::VfioUser { socket, namespace } => {
            vfio_user::examine(&mut report, socket, *namespace, name, roots);
        }
        Target::Nvme { address, namespace } => {
            pci::examine(&mut report, address, Some(*namespace), name, roots);
        }
        Target::Pmr { controller: Controller::Pci(address) } => {
            pci::examine(&mut report, address, None, name, roots);
        }
        Target::Pmr { controller: Controller::VfioUser(socket) } => {
            vfio_user::examine_region(&mut report, socket, name, roots);
        }
        Target::Pmem { path, volatile, .. } => {
            pmem::examine(&mut report, path, *volatile, name, roots);
        }
        Target::Broker { .. } => {
            report.later("opening", "a store behind a broker (broker:) is not built in yet");
        }
    }
    report
}

/// Memory of this process.
fn memory(report: &mut Report, bytes: u64, roots: &Roots) {
    let Some(free) = roots.memory_available() else {
        return report.good("memory", format!("{}, as it is needed", size::show(bytes)));
    };
    let text = format!("{} of {} available", size::show(bytes), size::show(free));
    if bytes <= free {
        report.good("memory", text);
    } else {
        report.hint("memory", text, "name a smaller size, or never fill it");
    }
}
