//! The built program, a place to work in, and what a run gave.

use serde_json::Value;
use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The program, built once for all tests with the profile that these tests
/// were built with. `FREEHOLD_PROGRAM` names another one to test.
pub(crate) fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| match std::env::var_os("FREEHOLD_PROGRAM") {
        Some(path) => path.into(),
        None => build(),
    })
}

fn build() -> PathBuf {
    // …/TARGET/PROFILE/deps/program-HASH
    let test = std::env::current_exe().expect("this test has a path");
    let profile_dir = test.ancestors().nth(2).expect("tests are built into deps");
    let target_dir =
        profile_dir.parent().expect("a profile's directory is in the target directory");
    let profile = match profile_dir.file_name().and_then(OsStr::to_str) {
        Some("debug") | None => "test",
        Some(other) => other,
    };
    let output = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        .args(["build", "--locked", "--package", "freehold-cmd", "--message-format", "json"])
        .args(["--profile", profile, "--target-dir"])
        .arg(target_dir)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "the program does not build");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == "freehold")
        .find_map(|message| Some(PathBuf::from(message["executable"].as_str()?)))
        .expect("cargo names the program that it built")
}

/// What a run of the program gave.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
    command: String,
}

impl Ran {
    fn new(command: &Command, output: Output) -> Ran {
        Ran {
            code: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            command: format!("{command:?}"),
        }
    }

    /// It exited with 0 and said nothing on stderr; gives its output.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}: {}", self.command, self.stderr);
        assert_eq!(self.stderr, "", "{}", self.command);
        String::from_utf8(self.stdout).expect("the output is UTF-8")
    }

    /// It exited with 0 and printed JSON.
    #[track_caller]
    pub(crate) fn json(self) -> Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    /// It exited with `code` and one line on stderr, which says `what`.
    #[track_caller]
    pub(crate) fn refused(self, code: i32, what: &str) {
        assert_eq!(self.code, Some(code), "{}: {}", self.command, self.stderr);
        assert!(self.stderr.starts_with("freehold: "), "{}: {}", self.command, self.stderr);
        assert_eq!(self.stderr.lines().count(), 1, "{}: {}", self.command, self.stderr);
        let said = self.stderr.to_lowercase();
        assert!(said.contains(&what.to_lowercase()), "no {what:?} in {}", self.stderr);
        assert!(!said.contains("panicked"), "{}", self.stderr);
    }
}

/// A directory that goes when this does, and the URI of a store in it.
pub(crate) struct Place {
    pub(crate) dir: PathBuf,
    pub(crate) uri: String,
}

impl Place {
    /// An empty directory.
    pub(crate) fn empty() -> Place {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("freehold-program-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).expect("the temporary directory can be written");
        let uri = format!("file:{}/store", dir.display());
        Place { dir, uri }
    }

    /// A directory with a store of 64 MiB.
    pub(crate) fn with_store() -> Place {
        let place = Place::empty();
        place.run(["format", &place.uri, "--size", "64M"]).ok();
        place
    }

    /// The store's file.
    pub(crate) fn image(&self) -> PathBuf {
        self.path("store")
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.join(name)
    }

    /// Makes a local file.
    pub(crate) fn local(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).expect("the temporary directory can be written");
        path
    }

    /// The program, to be run here.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(program());
        command.args(args).current_dir(&self.dir).env("TMPDIR", &self.dir).stdin(Stdio::null());
        command.env_remove("FREEHOLD_LOG");
        command
    }

    /// Runs the program.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ran {
        self.finish(self.command(args))
    }

    /// Runs a command to its end.
    pub(crate) fn finish(&self, mut command: Command) -> Ran {
        let output = command.output().expect("the program runs");
        Ran::new(&command, output)
    }

    /// Runs a verb on the store: `verb URI args`.
    pub(crate) fn on<S: AsRef<OsStr>>(&self, verb: &str, args: impl IntoIterator<Item = S>) -> Ran {
        let mut command = self.command([verb, &self.uri]);
        command.args(args);
        self.finish(command)
    }

    /// Runs a verb on the store with bytes on standard input.
    pub(crate) fn on_with<S: AsRef<OsStr>>(
        &self,
        verb: &str,
        args: impl IntoIterator<Item = S>,
        input: &[u8],
    ) -> Ran {
        let mut command = self.command([verb, &self.uri]);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program runs");
        let mut pipe = child.stdin.take().expect("stdin is piped");
        let output = std::thread::scope(|scope| {
            // The program may end without reading it all.
            scope.spawn(move || drop(pipe.write_all(input)));
            child.wait_with_output().expect("the program ends")
        });
        Ran::new(&command, output)
    }

    /// Stores bytes under a name.
    #[track_caller]
    pub(crate) fn put(&self, name: &str, bytes: &[u8]) {
        self.on_with("put", ["-", name], bytes).ok();
    }

    /// A file's bytes.
    #[track_caller]
    pub(crate) fn cat(&self, name: &str) -> Vec<u8> {
        let ran = self.on("cat", [name]);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
        ran.stdout
    }

    /// All names, from `ls`.
    #[track_caller]
    pub(crate) fn names(&self) -> Vec<String> {
        self.on::<&str>("ls", []).ok().lines().map(str::to_string).collect()
    }

    /// `check` finds nothing.
    #[track_caller]
    pub(crate) fn assert_clean(&self) {
        let report = self.on("check", ["--json"]).json();
        assert_eq!(report["clean"], true, "{report}");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("left for a look: {}", self.dir.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

/// Ends a child that a failing test leaves behind.
pub(crate) struct Ending(pub(crate) Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reproducible bytes.
pub(crate) fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb)
    };
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend(next().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
