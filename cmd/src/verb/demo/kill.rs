//! Kills the writer in the middle, several times, and looks what is left.

use super::expected::Expected;
use super::stage::Stage;
use super::writer::{LOG, SNAPSHOT, record};
use crate::failure::{Failure, Outcome};
use crate::pattern::Rng;
use crate::size;
use freehold::{File, Store};
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long a writer may take to get going.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the rounds have shown.
#[derive(Debug, Default)]
pub(super) struct Kills {
    pub(super) rounds: u32,
    /// Records that were acknowledged, all of which survived.
    pub(super) acknowledged: u64,
}

/// What the writer said was durable before it died, counted since the beginning.
#[derive(Debug, Default, Clone, Copy)]
struct Acknowledged {
    records: u64,
    snapshot: u64,
}

/// Runs and kills writers; verifies everything after each.
pub(super) fn rounds(stage: &mut Stage, others: &[Expected]) -> Outcome<Kills> {
    let mut rng = Rng::new(stage.seed ^ 2);
    let mut present = 0;
    let mut said = Acknowledged::default();
    for round in 1..=stage.scale.kills {
        stage.leave()?;
        let start = Instant::now();
        let patience = Duration::from_millis(50 + rng.below(400));
        let before = said.records;
        said = write_and_kill(stage, present, said, patience)?;
        let lived = start.elapsed();
        stage.enter()?;
        let store = stage.store();
        let recovery = store.recovery().clone();
        present = records(&store.open_file(LOG)?, stage.seed, said.records, "the log")?;
        if said.snapshot > 0 {
            records(&store.open_file(SNAPSHOT)?, stage.seed, said.snapshot, "the snapshot")?;
        }
        clean(store)?;
        for file in others {
            file.verify(store)?;
        }
        let text = format!(
            "round {round}: after {} more made durable; all there, check clean, others unharmed",
            size::of(said.records - before, "record")
        );
        stage.say_took("kill -9", lived, text)?;
        stage.say_took(
            "recover",
            recovery.elapsed,
            format!("{} of the journal replayed", size::of(recovery.records, "record")),
        )?;
    }
    Ok(Kills { rounds: stage.scale.kills, acknowledged: said.records })
}

/// Starts a writer, lets it work for a while, kills it.
fn write_and_kill(
    stage: &Stage,
    present: u64,
    before: Acknowledged,
    patience: Duration,
) -> Outcome<Acknowledged> {
    let fail = |error: std::io::Error| Failure::new(format!("cannot run the writer: {error}"));
    let mut child = Command::new(std::env::current_exe().map_err(fail)?)
        .arg("demo-writer")
        .arg(&stage.uri)
        .arg(format!("--seed={}", stage.seed))
        .arg(format!("--records={present}"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(fail)?;
    let pipe = child.stdout.take().expect("stdout is piped");
    let (begun, has_begun) = mpsc::channel();
    let said = std::thread::scope(|scope| {
        let listener = scope.spawn(move || listen(BufReader::new(pipe), before, &begun));
        // Time counts from the first record, so that every writer gets to write.
        let _ = has_begun.recv_timeout(PATIENCE);
        std::thread::sleep(patience);
        let killed = child.kill().and_then(|()| child.wait());
        let said = listener.join().map_err(|_| Failure::new("the listener panicked"))?;
        match killed.map_err(fail)?.signal() {
            Some(9) => Ok(said),
            _ => Err(Failure::new("the writer ended by itself, before it was killed")),
        }
    })?;
    if said.records == before.records {
        return Err(Failure::new("the writer wrote nothing before it was killed"));
    }
    Ok(said)
}

/// Hears what the writer acknowledges. The pipe keeps what was said before
/// the death; a line cut short was not said.
fn listen(mut pipe: impl BufRead, before: Acknowledged, begun: &mpsc::Sender<()>) -> Acknowledged {
    let mut said = before;
    let mut line = Vec::new();
    while pipe.read_until(b'\n', &mut line).is_ok() && line.pop() == Some(b'\n') {
        match parse(&line) {
            Some(("record", count)) => said.records = count,
            Some(("snapshot", count)) => said.snapshot = count,
            _ => {}
        }
        let _ = begun.send(());
        line.clear();
    }
    said
}

fn parse(line: &[u8]) -> Option<(&str, u64)> {
    let (what, count) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    Some((what, count.parse().ok()?))
}

/// Compares a log with the records that it must hold at least; gives how many
/// whole ones there are. What follows them was never acknowledged.
pub(super) fn records(file: &File, seed: u64, at_least: u64, what: &str) -> Outcome<u64> {
    let mut at = 0;
    let mut buf = Vec::new();
    for number in 0.. {
        let want = record(seed, number);
        buf.resize(want.len(), 0);
        let n = file.read_at(&mut buf, at)?;
        if n < want.len() || buf != want {
            if number < at_least {
                return Err(Failure::new(format!(
                    "{what} lost record {number} at byte {at}: {at_least} were acknowledged \
                     (seed {seed})"
                )));
            }
            return Ok(number);
        }
        at += n as u64;
    }
    Ok(u64::MAX)
}

pub(super) fn clean(store: &Store) -> Outcome {
    match store.check()?.findings.first() {
        None => Ok(()),
        Some(finding) => Err(Failure::new(format!(
            "check after recovery: {} at {}: {}",
            finding.structure, finding.address, finding.what
        ))),
    }
}
