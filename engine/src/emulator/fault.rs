//! What shall go wrong, by a small grammar.
//!
//! ```text
//! SPEC    = KIND [ ":" KEY "=" VALUE { "," KEY "=" VALUE } ]
//! KIND    = drop | delay | duplicate | corrupt | status | fatal | vanish | region
//! ```
//!
//! | kind | what happens to a command that is chosen |
//! | --- | --- |
//! | `drop` | it is executed and never completed |
//! | `delay` | it is executed and completed `ms=N` later (default 100) |
//! | `duplicate` | its completion is posted twice |
//! | `corrupt` | its completion is wrong: `what=cid` (default: an identifier nobody gave), `phase`, `head` (SQ head), `queue` (SQ identifier) |
//! | `status` | it is not executed and fails with `sct=N,sc=N` (default 0 and 6, Internal Error; `0x` for hexadecimal); `dnr=1` |
//! | `fatal` | it is not executed; CSTS.CFS is set and the controller stops |
//! | `vanish` | it is not executed; the connection is closed, or with `how=exit` the emulator ends as if killed |
//! | `region` | a barrier of the Persistent Memory Region makes nothing durable, and PMRSTS says from then on `err=N`, `health=N` (HSTS), or both |
//!
//! Which commands are chosen: those of `op=` (`read`, `write`, `flush`, `zeroes`,
//! `compare`, `deallocate`, `copy`, `io` for any of these, which is the default, or
//! `admin`; `barrier` for barriers of the region, which are what `region` is for and where
//! beside it `vanish` alone can strike: then some of what was stored is kept), and of them the `nth=N`, each `every=N`, the first after `after=N` others
//! (`fatal` and `vanish` once, the others from then on), or by chance one in `chance=N`;
//! without any, all. `count=N` ends it after so many.

use super::random::Random;
use crate::medium::{Error, ErrorKind, Result};
use crate::nvme::spec::command::nvm;
use crate::nvme::spec::status::Status;
use std::str::FromStr;
use std::time::Duration;

/// What happens to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Drop,
    Delay(Duration),
    Duplicate,
    Corrupt(Corruption),
    Status(Status),
    Fatal,
    Vanish { exit: bool },
    Region { error: u8, health: u8 },
}

/// What is wrong with a completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Corruption {
    Cid,
    Phase,
    Head,
    Queue,
}

/// Which commands a fault looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Io,
    Admin,
    Opcode(u8),
    Barrier,
}

/// What may be struck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Io(u8),
    Admin,
    Barrier,
}

/// Which of those that it looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    All,
    Nth(u64),
    Every(u64),
    After(u64),
    Chance(u64),
}

/// One thing that goes wrong. Made from text: see the module `fault` in
/// docs/nvme.md for the grammar.
///
/// ```
/// use freehold_engine::emulator::Fault;
/// let fault: Fault = "delay:ms=50,op=read,nth=7".parse()?;
/// assert!("delay:nth=".parse::<Fault>().is_err());
/// # let _ = fault;
/// # Ok::<(), freehold_engine::medium::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    action: Action,
    scope: Scope,
    choice: Choice,
    count: u64,
}

/// The settings of a specification, taken out one by one.
struct Settings<'a> {
    text: &'a str,
    pairs: Vec<(&'a str, &'a str)>,
}

impl<'a> Settings<'a> {
    fn new(text: &'a str, rest: Option<&'a str>) -> Result<Self> {
        let mut pairs = Vec::new();
        for part in rest.into_iter().flat_map(|rest| rest.split(',')) {
            let Some(pair) = part.split_once('=') else {
                return Err(bad(text, &format!("`{part}` is not KEY=VALUE")));
            };
            pairs.push(pair);
        }
        Ok(Self { text, pairs })
    }

    fn take(&mut self, key: &str) -> Option<&'a str> {
        let at = self.pairs.iter().position(|pair| pair.0 == key)?;
        Some(self.pairs.remove(at).1)
    }

    fn number(&mut self, key: &str) -> Result<Option<u64>> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let number = match value.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16),
            None => value.parse(),
        };
        number.map(Some).map_err(|_| bad(self.text, &format!("{key}={value} is not a number")))
    }

    /// A number that is not zero.
    fn positive(&mut self, key: &str) -> Result<Option<u64>> {
        match self.number(key)? {
            Some(0) => Err(bad(self.text, &format!("{key} counts from 1"))),
            other => Ok(other),
        }
    }

    fn choice(&mut self) -> Result<Choice> {
        let mut found = Vec::new();
        found.extend(self.positive("nth")?.map(Choice::Nth));
        found.extend(self.positive("every")?.map(Choice::Every));
        found.extend(self.number("after")?.map(Choice::After));
        found.extend(self.positive("chance")?.map(Choice::Chance));
        match found[..] {
            [] => Ok(Choice::All),
            [one] => Ok(one),
            _ => Err(bad(self.text, "give one of nth, every, after and chance")),
        }
    }

    fn scope(&mut self, action: Action) -> Result<Scope> {
        let region = matches!(action, Action::Region { .. });
        let scope = match self.take("op") {
            None if region => Scope::Barrier,
            None | Some("io") => Scope::Io,
            Some("admin") => Scope::Admin,
            Some("read") => Scope::Opcode(nvm::READ),
            Some("write") => Scope::Opcode(nvm::WRITE),
            Some("flush") => Scope::Opcode(nvm::FLUSH),
            Some("zeroes") => Scope::Opcode(nvm::WRITE_ZEROES),
            Some("compare") => Scope::Opcode(nvm::COMPARE),
            Some("deallocate") => Scope::Opcode(nvm::DATASET_MANAGEMENT),
            Some("copy") => Scope::Opcode(nvm::COPY),
            Some("barrier") => Scope::Barrier,
            Some(other) => return Err(bad(self.text, &format!("there is no op `{other}`"))),
        };
        match (region, scope == Scope::Barrier, action) {
            (true, false, _) => Err(bad(self.text, "it strikes op=barrier alone")),
            (false, true, action) if !matches!(action, Action::Vanish { .. }) => {
                Err(bad(self.text, "op=barrier is for region and vanish"))
            }
            _ => Ok(scope),
        }
    }

    fn action(&mut self, kind: &str) -> Result<Action> {
        Ok(match kind {
            "drop" => Action::Drop,
            "delay" => Action::Delay(Duration::from_millis(
                self.number("ms")?.unwrap_or(100).min(3_600_000),
            )),
            "duplicate" => Action::Duplicate,
            "corrupt" => Action::Corrupt(match self.take("what") {
                None | Some("cid") => Corruption::Cid,
                Some("phase") => Corruption::Phase,
                Some("head") => Corruption::Head,
                Some("queue") => Corruption::Queue,
                Some(other) => {
                    return Err(bad(
                        self.text,
                        &format!("nothing named `{other}` can be corrupted"),
                    ));
                }
            }),
            "status" => {
                let sct = self.number("sct")?.unwrap_or(0) as u8;
                let sc = self.number("sc")?.unwrap_or(6) as u8;
                let status = Status::new(sct, sc);
                if status.is_success() {
                    return Err(bad(self.text, "sct=0,sc=0 is success"));
                }
                Action::Status(match self.number("dnr")? {
                    Some(1) => status.final_(),
                    _ => status,
                })
            }
            "fatal" => Action::Fatal,
            "vanish" => match self.take("how") {
                None | Some("close") => Action::Vanish { exit: false },
                Some("exit") => Action::Vanish { exit: true },
                Some(other) => {
                    return Err(bad(self.text, &format!("how={other}: give close or exit")));
                }
            },
            "region" => {
                let error = self.number("err")?.unwrap_or(0).min(0xff) as u8;
                let health = self.number("health")?.unwrap_or(0).min(7) as u8;
                if error == 0 && health == 0 {
                    return Err(bad(self.text, "give err=N, health=N, or both"));
                }
                Action::Region { error, health }
            }
            other => return Err(bad(self.text, &format!("there is no fault `{other}`"))),
        })
    }
}

fn bad(text: &str, why: &str) -> Error {
    Error::new(
        ErrorKind::Invalid,
        format!("fault `{text}`: {why}; write KIND:KEY=VALUE,... as in delay:ms=50,op=read,nth=7"),
    )
}

impl FromStr for Fault {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (kind, rest) = match text.split_once(':') {
            Some((kind, rest)) => (kind, Some(rest)),
            None => (text, None),
        };
        let mut settings = Settings::new(text, rest)?;
        let action = settings.action(kind)?;
        let (scope, choice) = (settings.scope(action)?, settings.choice()?);
        let once = matches!(choice, Choice::Nth(_))
            || matches!(action, Action::Fatal | Action::Vanish { .. } | Action::Region { .. });
        let count = settings.positive("count")?.unwrap_or(if once { 1 } else { u64::MAX });
        match settings.pairs.first() {
            Some((key, _)) => Err(bad(text, &format!("`{key}` is not known here"))),
            None => Ok(Self { action, scope, choice, count }),
        }
    }
}

/// The faults of an emulator, and how far each has come.
#[derive(Debug)]
pub(super) struct Faults {
    list: Vec<(Fault, u64)>,
    random: Random,
}

impl Faults {
    pub(super) fn new(list: &[Fault], seed: u64) -> Self {
        let list = list.iter().map(|fault| (fault.clone(), 0)).collect();
        Self { list, random: Random::new(seed) }
    }

    /// What happens to the next command of a queue; the first fault that chooses it
    /// decides.
    pub(super) fn strike(&mut self, admin: bool, opcode: u8) -> Option<Action> {
        self.choose(if admin { Target::Admin } else { Target::Io(opcode) })
    }

    /// What happens to the next barrier of the region.
    pub(super) fn strike_barrier(&mut self) -> Option<Action> {
        self.choose(Target::Barrier)
    }

    fn choose(&mut self, target: Target) -> Option<Action> {
        let mut struck = None;
        for (fault, seen) in &mut self.list {
            let looks = match (fault.scope, target) {
                (Scope::Io, Target::Io(_))
                | (Scope::Admin, Target::Admin)
                | (Scope::Barrier, Target::Barrier) => true,
                (Scope::Opcode(wanted), Target::Io(opcode)) => opcode == wanted,
                _ => false,
            };
            if !looks {
                continue;
            }
            *seen += 1;
            let chosen = match fault.choice {
                Choice::All => true,
                Choice::Nth(n) => *seen == n,
                Choice::Every(n) => seen.is_multiple_of(n),
                Choice::After(n) => *seen > n,
                Choice::Chance(n) => self.random.below(n) == 0,
            };
            if chosen && fault.count > 0 && struck.is_none() {
                fault.count -= 1;
                struck = Some(fault.action);
            }
        }
        struck
    }

    /// Whether nothing can go wrong any more.
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_fault_is_refused() {
        for text in [
            "",
            "explode",
            "drop:",
            "drop:nth",
            "drop:nth=0",
            "drop:nth=1,every=2",
            "delay:ms=x",
            "corrupt:what=all",
            "status:sc=0,sct=0",
            "drop:op=think",
            "drop:ms=4",
            "vanish:how=slowly",
            "region",
            "region:err=0",
            "region:err=1,op=write",
            "drop:op=barrier",
        ] {
            assert!(text.parse::<Fault>().is_err(), "{text}");
        }
    }

    fn strikes(text: &str, n: usize) -> Vec<usize> {
        let mut faults = Faults::new(&[text.parse().unwrap()], 7);
        (1..=n).filter(|_| faults.strike(false, nvm::READ).is_some()).collect()
    }

    #[test]
    fn commands_are_chosen_by_number() {
        let at = |text: &str| {
            let mut faults = Faults::new(&[text.parse().unwrap()], 7);
            (1..=10).filter(|_| faults.strike(false, nvm::READ).is_some()).collect::<Vec<_>>()
        };
        assert_eq!(at("drop:nth=3"), [3]);
        assert_eq!(at("drop:every=4"), [4, 8]);
        assert_eq!(at("drop:after=7"), [8, 9, 10]);
        assert_eq!(at("fatal:after=7"), [8]);
        assert_eq!(at("drop:every=2,count=2"), [2, 4]);
        assert_eq!(at("drop:op=write"), [0; 0]);
        assert_eq!(at("drop:op=admin"), [0; 0]);
        assert_eq!(strikes("drop:op=read", 3).len(), 3);
        let mut faults = Faults::new(&["region:health=3,nth=2".parse().unwrap()], 7);
        assert_eq!(faults.strike(false, nvm::READ), None);
        let struck = [1, 2, 3].map(|_| faults.strike_barrier());
        assert_eq!(struck, [None, Some(Action::Region { error: 0, health: 3 }), None]);
    }
}
