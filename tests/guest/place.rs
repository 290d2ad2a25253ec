//! The controllers of the guest, and how it asks its host for something.

use freehold_engine::bus::Function;
use freehold_engine::vfio::{self, Vfio};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// The controller with four namespaces of 4096-byte blocks, a CMB of 16 MiB and a PMR.
pub(crate) const FIRST: &str = "0000:00:10.0";

/// The controller with one namespace of 512-byte blocks, in a slot that it can be taken from.
pub(crate) fn second() -> String {
    let port = Path::new("/sys/bus/pci/devices/0000:00:08.0");
    let names = fs::read_dir(port).expect("the port is there");
    let found = names
        .filter_map(|e| Some(e.ok()?.file_name().to_string_lossy().into_owned()))
        .find(|name| name.starts_with("0000:") && name.ends_with(".0"));
    found.expect("a controller is in the slot")
}

/// A folder that the host reads, too.
pub(crate) fn shared() -> PathBuf {
    std::env::var_os("FREEHOLD_GUEST").expect("tests/qemu runs this in a guest").into()
}

/// Whether there is time for more.
pub(crate) fn long() -> bool {
    std::env::var("FREEHOLD_LONG").is_ok_and(|it| !it.is_empty())
}

/// Runs a program; its output is shown when it fails.
pub(crate) fn run(program: &str, args: &[&str]) -> Output {
    let output = Command::new(program).args(args).output();
    output.unwrap_or_else(|e| panic!("{program}: {e}"))
}

/// As [`run`], and demands that it succeeds. What it has printed.
pub(crate) fn must(program: &str, args: &[&str]) -> String {
    let output = run(program, args);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{program} {args:?}: {}\n{out}{err}", output.status);
    out
}

/// The program that is tested.
pub(crate) fn freehold(args: &[&str]) -> Output {
    run(&program(), args)
}

/// As [`freehold`], and demands that it succeeds.
pub(crate) fn freehold_must(args: &[&str]) -> String {
    must(&program(), args)
}

fn program() -> String {
    std::env::var("FREEHOLD_PROGRAM").expect("tests/qemu names the program")
}

/// The driver that a function is bound to.
pub(crate) fn driver(bdf: &str) -> Option<String> {
    let link = fs::read_link(format!("/sys/bus/pci/devices/{bdf}/driver")).ok()?;
    Some(link.file_name()?.to_string_lossy().into_owned())
}

/// Gives a controller to VFIO, if it is not there yet.
pub(crate) fn bound(bdf: &str) {
    if driver(bdf).as_deref() != Some("vfio-pci") {
        freehold_must(&["bind", bdf]);
    }
}

/// A function to drive by hand.
pub(crate) fn opened(bdf: &str) -> Arc<dyn Function> {
    Vfio::open(bdf, vfio::Options::default()).expect("it opens")
}

/// The name of a namespace as a medium, with its controller given to VFIO.
pub(crate) fn namespace(bdf: &str, ns: u32) -> String {
    bound(bdf);
    format!("nvme:{bdf}?ns={ns}")
}

/// The name of the first controller's region as a medium.
pub(crate) fn region() -> String {
    bound(FIRST);
    format!("pmr:{FIRST}")
}

/// Has the host give QEMU's monitor a command.
pub(crate) fn ask(command: &str) {
    static NUMBER: OnceLock<std::sync::atomic::AtomicU32> = OnceLock::new();
    let number = NUMBER.get_or_init(Default::default);
    let number = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let new = shared().join("asking");
    fs::write(&new, format!("{command}\n")).expect("the host's folder takes it");
    fs::rename(new, shared().join(format!("ask.{number}"))).expect("the host's folder takes it");
}

/// Waits for something that somebody else does.
pub(crate) fn wait(what: &str, mut over: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !over() {
        assert!(begun.elapsed() < Duration::from_secs(40), "{what} did not come about");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What the kernel has said so far.
pub(crate) fn kernel_log() -> String {
    must("dmesg", &[])
}
