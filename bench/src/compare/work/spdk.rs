//! SPDK's NVMe driver beside ours, on SPDK's own target, where SPDK is built: `SPDK_DIR`
//! names its folder. It needs what SPDK needs: root and huge pages.

use crate::outcome::{Outcome, fail};
use crate::results::{Results, Side, Unit};
use freehold_bench::nvme::{on_first_core, through_driver};
use freehold_engine::uri::encode;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The subsystem that is served.
const NAME: &str = "nqn.2019-07.io.spdk:freehold";

/// How long the target may take to come up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Seconds of a measurement.
const SECONDS: &str = "2";

/// Both on SPDK's null device; or why not.
pub(super) fn run(dir: &Path, side: Side, results: &mut Results, count: u64) -> Outcome {
    let Some(home) = std::env::var_os("SPDK_DIR").map(PathBuf::from) else {
        return fail("SPDK_DIR is not set");
    };
    let perf = ["build/bin/spdk_nvme_perf", "build/examples/perf"].map(|name| home.join(name));
    let Some(perf) = perf.into_iter().find(|path| path.exists()) else {
        return fail("spdk_nvme_perf is not built there");
    };
    let target = Target::start(&home, dir)?;
    let name = encode(target.link.join("cntrl").as_os_str().as_bytes());
    for depth in [1, 32] {
        let uri = format!("vfio-user:{name}");
        let medium = freehold_engine::open(&uri, &Default::default())?;
        let ours = on_first_core(|| through_driver(&medium, depth, count))?;
        drop(medium);
        let theirs = measured(&perf, &target.link, depth)?;
        let mut rate = |who, rate| {
            results.add("nvme", format!("{who}, QD{depth}"), Unit::PerSecond, side, rate);
        };
        rate("driver on SPDK's target", ours);
        rate("SPDK's driver on it", theirs);
    }
    Ok(())
}

/// What spdk_nvme_perf says.
fn measured(perf: &Path, link: &Path, depth: u32) -> Outcome<f64> {
    let out = Command::new(perf)
        .args(["-c", "0x1", "-o", "4096", "-w", "randread", "-t", SECONDS, "-q"])
        .arg(depth.to_string())
        .arg("-r")
        .arg(format!("trtype:VFIOUSER traddr:{}", link.display()))
        .output()?;
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    match iops(&said) {
        Some(rate) if out.status.success() => Ok(rate),
        _ => fail(format!("spdk_nvme_perf: {}", String::from_utf8_lossy(&out.stderr))),
    }
}

/// The rate in the line of totals.
fn iops(said: &str) -> Option<f64> {
    let total = said.lines().find(|line| line.trim_start().starts_with("Total"))?;
    total.split_once(':')?.1.split_whitespace().next()?.parse().ok()
}

/// SPDK's target, which ends with this value.
struct Target {
    child: Child,
    home: PathBuf,
    rpc: PathBuf,
    link: PathBuf,
}

impl Target {
    /// Serves a device that moves no data, on the second core.
    fn start(home: &Path, dir: &Path) -> Outcome<Target> {
        let (rpc, link) = (dir.join("spdk.rpc"), dir.join("spdk"));
        std::fs::create_dir_all(&link)?;
        let child = Command::new(home.join("build/bin/nvmf_tgt"))
            .args(["-m", "0x2", "-r"])
            .arg(&rpc)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let target = Target { child, home: home.to_owned(), rpc, link };
        let give_up = Instant::now() + PATIENCE;
        while target.call(&["spdk_get_version".as_ref()]).is_err() {
            if Instant::now() > give_up {
                return fail("nvmf_tgt does not come up");
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        let name = NAME.as_ref();
        let calls: [&[&OsStr]; 5] = [
            &["nvmf_create_transport".as_ref(), "-t".as_ref(), "VFIOUSER".as_ref()],
            &["bdev_null_create".as_ref(), "null".as_ref(), "1024".as_ref(), "4096".as_ref()],
            &["nvmf_create_subsystem".as_ref(), name, "-a".as_ref()],
            &["nvmf_subsystem_add_ns".as_ref(), name, "null".as_ref()],
            &[
                "nvmf_subsystem_add_listener".as_ref(),
                name,
                "-t".as_ref(),
                "VFIOUSER".as_ref(),
                "-a".as_ref(),
                target.link.as_os_str(),
                "-s".as_ref(),
                "0".as_ref(),
            ],
        ];
        calls.into_iter().try_for_each(|call| target.call(call))?;
        Ok(target)
    }

    fn call(&self, words: &[&OsStr]) -> Outcome {
        let mut command = Command::new(self.home.join("scripts/rpc.py"));
        let out = command.arg("-s").arg(&self.rpc).args(words).output()?;
        match out.status.success() {
            true => Ok(()),
            false => fail(format!("rpc.py: {}", String::from_utf8_lossy(&out.stderr))),
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.link);
        let _ = std::fs::remove_file(&self.rpc);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_line_of_totals_is_read() {
        let said = "Device Information : IOPS MiB/s\nVFIOUSER from core 0: 1.0 2.0\n=====\n\
                    Total                 :  1124567.50    4392.84      28.44\n";
        assert_eq!(super::iops(said), Some(1_124_567.5));
        assert_eq!(super::iops("nothing"), None);
    }
}
