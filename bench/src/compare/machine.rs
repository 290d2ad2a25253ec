//! Where it was measured, so that figures can be judged.

use std::path::Path;
use std::process::Command;

/// Lines of "what: which".
pub(crate) fn describe(dir: &Path, commit: Option<&str>, device: bool) -> Vec<(String, String)> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, key: &str| {
        text.lines()
            .find(|line| line.starts_with(key))
            .and_then(|line| line.split(':').nth(1))
            .map_or("unknown".to_owned(), |v| v.trim().to_owned())
    };
    let cpu = read("/proc/cpuinfo");
    let cores = cpu.lines().filter(|line| line.starts_with("processor")).count();
    let kib: u64 = field(&read("/proc/meminfo"), "MemTotal")
        .split_whitespace()
        .next()
        .and_then(|n| n.parse().ok())
        .unwrap_or(0);
    let kernel = rustix::system::uname();
    let line = |key: &str, value: String| (key.to_owned(), value);
    vec![
        line("CPU", format!("{}, {cores} cores", field(&cpu, "model name"))),
        line("memory", format!("{:.0} GiB", kib as f64 / (1 << 20) as f64)),
        line("kernel", kernel.release().to_string_lossy().into_owned()),
        line("images on", file_system(dir)),
        line("device", if device { "loop device" } else { "plain file" }.to_owned()),
        line("XFS", version("mkfs.xfs", "-V")),
        line("btrfs", version("mkfs.btrfs", "--version")),
        line("commit", commit.unwrap_or("unknown").to_owned()),
    ]
}

/// What a program says of itself.
fn version(program: &str, flag: &str) -> String {
    match Command::new(program).arg(flag).output() {
        Ok(out) => String::from_utf8_lossy(&out.stdout)
            .lines()
            .next()
            .unwrap_or("of no version")
            .to_owned(),
        Err(_) => "not installed".to_owned(),
    }
}

/// The kind of file system that a folder is on.
fn file_system(dir: &Path) -> String {
    let out = Command::new("stat").args(["-f", "-c", "%T"]).arg(dir).output();
    out.map_or("unknown".into(), |o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
}
