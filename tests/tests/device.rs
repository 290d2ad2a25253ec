//! A block device as a medium: a loop device over a scratch file.
//!
//! Needs the right to make loop devices (and to mount, for one test); where
//! that is missing, a test says so and is skipped.

use freehold_engine::medium::{BLOCK, ErrorKind, Medium};
use freehold_engine::{FormatOptions, OpenOptions, format_target, open};
use freehold_tests::conformance::{MIN_BLOCKS, run_all};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

const BYTES: u64 = 4 * MIN_BLOCKS * BLOCK as u64;

/// Runs a program; its output when it succeeded, what it said otherwise.
fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }
}

/// A loop device and its file; both go with the value.
struct Loop {
    file: PathBuf,
    device: String,
}

impl Loop {
    /// None, after saying why, where there can be none.
    fn new(name: &str) -> Option<Self> {
        let name = format!("loop-{}-{name}.img", std::process::id());
        let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::File::create(&file).unwrap().set_len(BYTES).unwrap();
        match run("losetup", &["-f", "--show", file.to_str().unwrap()]) {
            Ok(device) => Some(Self { file, device }),
            Err(why) => {
                eprintln!("skipped: no loop device here ({why})");
                std::fs::remove_file(&file).unwrap();
                None
            }
        }
    }

    fn uri(&self) -> String {
        format!("file:{}", self.device)
    }

    fn format(&self, force: bool) -> freehold_engine::medium::Result<Arc<dyn Medium>> {
        format_target(&self.uri(), &FormatOptions { size: None, force })
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = run("losetup", &["-d", &self.device]);
        let _ = std::fs::remove_file(&self.file);
    }
}

#[test]
fn a_device_keeps_the_contract() {
    let Some(device) = Loop::new("contract") else { return };
    for io_uring in [true, false] {
        let options = OpenOptions { io_uring, ..Default::default() };
        run_all(&|| open(&device.uri(), &options).unwrap());
    }
    let options = OpenOptions { direct: false, ..Default::default() };
    run_all(&|| open(&device.uri(), &options).unwrap());
}

#[test]
fn a_device_has_one_owner_and_its_own_size() {
    let Some(device) = Loop::new("owner") else { return };
    let medium = device.format(false).unwrap();
    assert_eq!(medium.geometry().blocks * BLOCK as u64, BYTES);
    let busy = open(&device.uri(), &OpenOptions::default()).unwrap_err();
    assert_eq!(busy.kind(), ErrorKind::Busy, "{busy}");
    drop(medium);
    let sized = FormatOptions { size: Some(BYTES), force: true };
    assert_eq!(format_target(&device.uri(), &sized).unwrap_err().kind(), ErrorKind::Invalid);
    // The file below it is in use as well.
    let below = format!("file:{}", device.file.display());
    let options = FormatOptions { size: None, force: true };
    let busy = format_target(&below, &options).unwrap_err();
    assert_eq!(busy.kind(), ErrorKind::Busy);
    assert!(busy.message().contains("loop device"), "{busy}");
}

#[test]
fn a_mounted_device_is_never_taken() {
    let Some(device) = Loop::new("mounted") else { return };
    if let Err(why) = run("mkfs.ext4", &["-q", "-F", &device.device]) {
        eprintln!("skipped: no file system to mount ({why})");
        return;
    }
    let occupied = device.format(false).unwrap_err();
    assert_eq!(occupied.kind(), ErrorKind::Occupied);
    assert!(occupied.message().contains("ext2/ext3/ext4"), "{occupied}");
    let place = device.file.with_extension("mnt");
    std::fs::create_dir(&place).unwrap();
    let mounted = run("mount", &[&device.device, place.to_str().unwrap()]);
    let refusals = [device.format(true), open(&device.uri(), &OpenOptions::default())];
    if mounted.is_ok() {
        run("umount", &[place.to_str().unwrap()]).unwrap();
    }
    std::fs::remove_dir(&place).unwrap();
    if let Err(why) = mounted {
        eprintln!("skipped: mounting is not allowed here ({why})");
        return;
    }
    for refusal in refusals {
        let error = refusal.expect_err("it was mounted");
        assert_eq!(error.kind(), ErrorKind::Busy);
        assert!(error.message().contains("mounted on"), "{error}");
    }
    device.format(true).unwrap();
}
