//! System calls for each operation, of any program, as strace counts them in all its threads.

use super::run;
use serde_json::Value;
use std::io;
use std::path::Path;

/// Seconds of a short run and of a longer one. What a program does beside its operations, it
/// does in both.
const SECONDS: [u64; 2] = [1, 3];

/// Runs a program twice, and holds calls against operations: what the longer run has more of
/// both. `arguments` says how it is run for so many seconds, `operations` finds in the JSON that
/// it prints how many there were. `folder` is for strace's counts.
///
/// # Errors
/// What the program or strace says; that the longer run did not do more.
pub fn each(
    folder: &Path,
    program: &str,
    arguments: impl Fn(u64) -> Vec<String>,
    operations: impl Fn(&Value) -> Option<u64>,
) -> io::Result<f64> {
    let log = folder.join("calls");
    let log = log.to_str().ok_or_else(|| io::Error::other("a folder whose name is not UTF-8"))?;
    let mut seen = [(0, 0); 2];
    for (seconds, seen) in SECONDS.into_iter().zip(&mut seen) {
        let rest = arguments(seconds);
        let mut all = vec!["-f", "-qq", "-c", "-o", log, program];
        all.extend(rest.iter().map(String::as_str));
        let said = run("strace", &all)?;
        // Warnings may stand before the document.
        let json = said.find('{').map_or("", |at| &said[at..]);
        let document: Value = serde_json::from_str(json).map_err(io::Error::other)?;
        let done = operations(&document);
        let calls = total(&std::fs::read_to_string(log)?);
        let nothing = || io::Error::other(format!("{program} or strace counted nothing"));
        *seen = done.zip(calls).ok_or_else(nothing)?;
    }
    let [(few, before), (many, after)] = seen;
    if many <= few {
        return Err(io::Error::other(format!("{program}: {many} operations, {few} in less time")));
    }
    Ok(after.saturating_sub(before) as f64 / (many - few) as f64)
}

/// The calls in the last line of strace's table: `% time, seconds, usecs/call, calls, [errors,]
/// total`.
fn total(table: &str) -> Option<u64> {
    let line = table.lines().rfind(|line| line.ends_with("total"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::total;

    #[test]
    fn the_total_is_found() {
        let table = "% time     seconds  usecs/call     calls    errors syscall\n\
             ------ ----------- ----------- --------- --------- ----------------\n\
             100.00    0.000200           2       100         3 read\n\
             ------ ----------- ----------- --------- --------- ----------------\n\
             100.00    0.000200           2       100         3 total\n";
        assert_eq!(total(table), Some(100));
        assert_eq!(total(&table.replace("         3", "          ")), Some(100));
        assert_eq!(total(""), None);
    }
}
