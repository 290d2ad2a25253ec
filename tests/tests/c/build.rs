//! Making the library, compiling programs against it, running them.

use serde_json::Value;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The top of the repository.
pub(crate) fn top() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The profile of these tests, and the directory that cargo builds into.
pub(crate) fn profile() -> (String, PathBuf) {
    // TARGET/PROFILE/deps/c-HASH
    let test = std::env::current_exe().expect("this test has a path");
    let profile = test.ancestors().nth(2).expect("tests are built into deps");
    let target = profile.parent().expect("a profile's directory is in the target directory");
    let name = match profile.file_name().and_then(OsStr::to_str) {
        Some("debug") | None => "test",
        Some(other) => other,
    };
    (name.to_owned(), target.to_owned())
}

/// The shared library, built once for all tests, with the profile of these tests.
pub(crate) fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let (profile, target) = profile();
        let output = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
            // With the program, as a package is built: they share what is below them.
            .args(["build", "--locked", "--package", "freehold-ffi", "--package", "freehold-cmd"])
            .args(["--message-format", "json"])
            .args(["--profile", &profile, "--target-dir"])
            .arg(target)
            .current_dir(top())
            .stderr(Stdio::inherit())
            .output()
            .expect("cargo runs");
        assert!(output.status.success(), "the library does not build");
        let text = String::from_utf8_lossy(&output.stdout);
        let messages = text.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok());
        let ours = messages.filter(|m| m["target"]["name"] == "freehold_c");
        let files = ours.filter_map(|m| m["filenames"].as_array().cloned()).flatten();
        let names = files.filter_map(|f| f.as_str().map(PathBuf::from));
        let found = names.into_iter().find(|f| f.extension() == Some(OsStr::new("so")));
        found.expect("cargo names the library that it built")
    })
}

/// How a program is compiled.
#[derive(Debug, Clone, Copy)]
pub(crate) enum As {
    C99,
    Cxx17,
    Sanitized,
    /// By clang, where it is.
    Clang,
}

/// An empty directory that goes when this does.
pub(crate) struct Place(pub(crate) PathBuf);

impl Place {
    pub(crate) fn new() -> Place {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("freehold-c-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).expect("the temporary directory can be written");
        Place(dir)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Is a program there? If not, says so: a test that needs it proves nothing then.
pub(crate) fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success());
    if !found {
        println!("SKIPPED: {program} is not installed");
    }
    found
}

fn ran(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    said
}

/// Runs a command that has to succeed; what it said.
pub(crate) fn run(command: &mut Command) -> String {
    ran(command)
}

/// Compiles a program of the repository into a directory. None where the compiler is missing.
pub(crate) fn compile(source: &str, how: As, to: &Path) -> Option<PathBuf> {
    let (compiler, options): (&str, &[&str]) = match how {
        As::C99 => ("gcc", &["-std=c99", "-x", "c", "-O1", "-g"]),
        As::Cxx17 => ("g++", &["-std=c++17", "-x", "c++", "-O1", "-g"]),
        As::Clang => ("clang", &["-std=c99", "-x", "c", "-O1", "-g"]),
        As::Sanitized => (
            "gcc",
            &[
                "-std=c99",
                "-x",
                "c",
                "-O1",
                "-g",
                "-fsanitize=address,undefined",
                "-fno-sanitize-recover=all",
                "-fno-omit-frame-pointer",
            ],
        ),
    };
    if !has(compiler) {
        return None;
    }
    let program = to.join("program");
    let folder = library().parent().expect("the library lies somewhere");
    ran(Command::new(compiler)
        .args(options)
        .args(["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-D_GNU_SOURCE", "-pthread"])
        .arg("-I")
        .arg(top().join("api/ffi/include"))
        .arg("-o")
        .arg(&program)
        .arg(top().join(source))
        .arg("-L")
        .arg(folder)
        .arg(format!("-Wl,-rpath,{}", folder.display()))
        .arg("-lfreehold_c"));
    Some(program)
}
