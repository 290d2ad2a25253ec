//! Each workload in a process of its own, and how its results come back: none finds a heap
//! that another has left in pieces, nor memory that another has warmed.

use crate::Args;
use crate::outcome::{Outcome, fail};
use crate::results::{Cost, Results, Side, Unit};
use crate::work::Workload;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

/// What could not be measured.
pub(crate) type Failed = Vec<(&'static str, Side, String)>;

const UNITS: [Unit; 4] = [Unit::PerSecond, Unit::Throughput, Unit::Time, Unit::Number];

/// Writes what this process has measured for the one that started it.
pub(crate) fn leave(path: &Path, results: &Results, failed: &Failed) -> Outcome {
    let cases: Vec<Value> = results
        .cases
        .iter()
        .map(|case| {
            let unit = UNITS.iter().position(|unit| *unit == case.unit);
            let values = case.values.iter().map(|(s, v)| (s.option().to_owned(), json!(v)));
            let costs = case.costs.iter().map(|(s, all)| {
                let all: Vec<_> = all.iter().map(|c| [c.writes, c.flushes]).collect();
                (s.option().to_owned(), json!(all))
            });
            let values: serde_json::Map<_, _> = values.collect();
            let costs: serde_json::Map<_, _> = costs.collect();
            json!({ "name": case.name, "unit": unit, "values": values, "costs": costs })
        })
        .collect();
    let notes: Vec<&str> = results.notes.iter().map(|(_, text)| &**text).collect();
    let failed: Vec<_> = failed.iter().map(|(_, side, why)| (side.option(), why)).collect();
    std::fs::write(path, json!({ "cases": cases, "notes": notes, "failed": failed }).to_string())?;
    Ok(())
}

/// Has a workload measured by a process of its own, which prints its table.
pub(crate) fn measure(
    args: &Args,
    workload: &'static Workload,
    results: &mut Results,
    failed: &mut Failed,
) -> Outcome {
    let dir = args.work.join(workload.name);
    std::fs::create_dir(&dir)?;
    let file = args.work.join(format!("{}.json", workload.name));
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--work").arg(&dir).args(["--only", workload.name]).arg("--results").arg(&file);
    for (on, flag) in [(args.quick, "--quick"), (args.tiny, "--tiny"), (args.plain, "--plain")] {
        command.args(on.then_some(flag));
    }
    if let Some(repeat) = args.repeat {
        command.args(["--repeat", &repeat.to_string()]);
    }
    for side in &args.side {
        command.args(["--side", side]);
    }
    let status = command.status()?;
    let text = std::fs::read_to_string(&file);
    let Ok(text) = text else {
        return fail(format!("the process that measures {} ended with {status}", workload.name));
    };
    std::fs::remove_file(&file)?;
    std::fs::remove_dir_all(&dir)?;
    match take(workload.name, &serde_json::from_str(&text)?, results, failed) {
        Some(()) => Ok(()),
        None => fail(format!("the process that measures {} left no results", workload.name)),
    }
}

/// Adds what a process has left.
fn take(
    workload: &'static str,
    left: &Value,
    results: &mut Results,
    failed: &mut Failed,
) -> Option<()> {
    let side = |name: &str| Side::ALL.into_iter().find(|side| side.option() == name);
    for case in left["cases"].as_array()? {
        let name = case["name"].as_str()?;
        let unit = *UNITS.get(case["unit"].as_u64()? as usize)?;
        for (of, values) in case["values"].as_object()? {
            for value in values.as_array()? {
                results.add(workload, name, unit, side(of)?, value.as_f64()?);
            }
        }
        for (of, costs) in case["costs"].as_object()? {
            for cost in costs.as_array()? {
                let (writes, flushes) = (cost[0].as_f64()?, cost[1].as_f64()?);
                results.cost(workload, name, side(of)?, Cost { writes, flushes });
            }
        }
    }
    for note in left["notes"].as_array()? {
        results.note(workload, note.as_str()?);
    }
    for each in left["failed"].as_array()? {
        failed.push((workload, side(each[0].as_str()?)?, each[1].as_str()?.to_owned()));
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::ALL;

    #[test]
    fn what_is_left_is_what_is_found() {
        let name = ALL[0].name;
        let mut results = Results::default();
        for (unit, value) in UNITS.into_iter().zip([1e6, 2.5, 0.25, 0.0]) {
            results.add(name, format!("{unit:?}"), unit, Side::Freehold, value);
            results.add(name, format!("{unit:?}"), unit, Side::Raw, value * 3.0);
        }
        results.cost(name, "Time", Side::Raw, Cost { writes: 1.5, flushes: 2.0 });
        results.note(name, "a note");
        let failed = vec![(name, Side::Xfs, "no reason".to_owned())];
        let path = std::env::temp_dir().join(format!("freehold-hand-{}", std::process::id()));
        leave(&path, &results, &failed).expect("it is written");
        let left = serde_json::from_str(&std::fs::read_to_string(&path).expect("it is there"));
        std::fs::remove_file(&path).expect("it is there");
        let (mut back, mut lost) = (Results::default(), Vec::new());
        take(name, &left.expect("JSON"), &mut back, &mut lost).expect("all of it");
        assert_eq!(format!("{back:?}"), format!("{results:?}"));
        assert_eq!(lost, failed);
        assert!(take(name, &json!({ "cases": 3 }), &mut back, &mut lost).is_none());
    }
}
