//! What files add to the medium contract: locks, safety checks, reopening.

use freehold_engine::medium::{BLOCK, Error, ErrorKind, Medium, Op};
use freehold_engine::{FormatOptions, OpenOptions, format_target, open};
use freehold_tests::conformance::Driver;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

const SIZE: u64 = 4 << 20;
/// Set for the child that holds a lock: the URI.
const HOLD: &str = "FREEHOLD_TEST_HOLD";

/// A name in the build's directory; what it names goes with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let name = format!("file-{}-{name}.fh", std::process::id());
        Self(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name))
    }

    /// A file of `SIZE` bytes.
    fn sized(name: &str) -> Self {
        let scratch = Self::new(name);
        std::fs::File::create(&scratch.0).unwrap().set_len(SIZE).unwrap();
        scratch
    }

    fn uri(&self) -> String {
        format!("file:{}", self.0.display())
    }

    fn open(&self) -> Result<Arc<dyn Medium>, Error> {
        open(&self.uri(), &OpenOptions::default())
    }

    fn open_read_only(&self) -> Result<Arc<dyn Medium>, Error> {
        open(&self.uri(), &OpenOptions { read_only: true, ..Default::default() })
    }

    fn format(&self, size: Option<u64>, force: bool) -> Result<Arc<dyn Medium>, Error> {
        format_target(&self.uri(), &FormatOptions { size, force })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn kind<T: std::fmt::Debug>(result: Result<T, Error>) -> ErrorKind {
    result.expect_err("it must be refused").kind()
}

/// Another process that opens a file and holds it until its input ends.
struct Holder {
    child: Child,
    input: Option<ChildStdin>,
    /// Kept open, so that the child can say more.
    _output: BufReader<ChildStdout>,
    /// What it said of its opening.
    said: String,
}

impl Holder {
    fn start(scratch: &Scratch) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_holds", "--nocapture"])
            .env(HOLD, scratch.uri())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let said = (&mut output)
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.split_once("HOLDER ").map(|(_, said)| said.to_owned()))
            .expect("the child says how it went");
        Self { child, input, _output: output, said }
    }

    fn has_it(&self) -> bool {
        self.said == "has it"
    }

    /// Lets it end by itself.
    fn end(&mut self) {
        drop(self.input.take());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// No test by itself: what [`Holder`] runs.
#[test]
fn child_that_holds() {
    let Ok(uri) = std::env::var(HOLD) else { return };
    let opened = open(&uri, &OpenOptions::default());
    let said = match &opened {
        Ok(_) => "has it".to_owned(),
        Err(error) => format!("{:?}", error.kind()),
    };
    println!("HOLDER {said}");
    std::io::stdout().flush().unwrap();
    let _ = std::io::stdin().read_line(&mut String::new());
}

#[test]
fn what_was_flushed_is_there_after_opening_again() {
    for (io_uring, direct) in [(true, true), (true, false), (false, true), (false, false)] {
        let scratch = Scratch::sized("again");
        let options = OpenOptions { io_uring, direct, ..Default::default() };
        let mut driver = Driver::new(&open(&scratch.uri(), &options).unwrap(), 8);
        driver.write(5, 3, 7);
        driver.run(Op::Flush);
        drop(driver);
        let mut driver = Driver::new(&open(&scratch.uri(), &options).unwrap(), 8);
        assert_eq!(driver.blocks, SIZE / BLOCK as u64);
        driver.expect(5, 3, 7);
    }
}

#[test]
fn another_process_is_kept_out_and_named() {
    let scratch = Scratch::sized("other");
    let mut holder = Holder::start(&scratch);
    assert!(holder.has_it());
    let error = scratch.open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    let pid = holder.child.id().to_string();
    assert!(error.message().contains(&pid), "the holder is not named: {error}");
    assert_eq!(kind(scratch.open_read_only()), ErrorKind::Busy);
    assert_eq!(kind(scratch.format(None, true)), ErrorKind::Busy, "force is no way in");
    holder.end();
    scratch.open().unwrap();
}

#[test]
fn of_processes_that_race_one_gets_it() {
    let scratch = Scratch::sized("race");
    for round in 0..5 {
        let holders: Vec<Holder> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..3).map(|_| scope.spawn(|| Holder::start(&scratch))).collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        let said: Vec<&str> = holders.iter().map(|h| h.said.as_str()).collect();
        assert_eq!(said.iter().filter(|&&s| s == "has it").count(), 1, "round {round}: {said:?}");
        assert_eq!(said.iter().filter(|&&s| s == "Busy").count(), 2, "round {round}: {said:?}");
    }
}

#[test]
fn a_killed_process_leaves_no_lock() {
    let scratch = Scratch::sized("killed");
    let holder = Holder::start(&scratch);
    assert!(holder.has_it());
    drop(holder);
    scratch.open().unwrap();
}

#[test]
fn the_same_process_is_kept_out_too() {
    let scratch = Scratch::sized("same");
    let medium = scratch.open().unwrap();
    let error = scratch.open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert!(error.message().contains("this process"), "{error}");
    let queue = medium.queue(1).unwrap();
    drop(medium);
    assert_eq!(kind(scratch.open()), ErrorKind::Busy, "a queue is still there");
    drop(queue);
    scratch.open().unwrap();
}

#[test]
fn a_queue_dropped_in_flight_does_not_keep_the_file() {
    let scratch = Scratch::sized("orphan");
    for round in 0..50 {
        let mut driver = Driver::new(&scratch.open().unwrap(), 16);
        for tag in 0..16 {
            let buf = driver.pattern(32, tag);
            driver.submit(tag, Op::Write { at: tag * 32, buf, fua: true });
        }
        driver.queue.ring();
        drop(driver);
        // Opening waits for what is in flight, and then has the file alone.
        let mut driver = Driver::new(&scratch.open().unwrap(), 1);
        driver.write(0, 1, round + 1000);
        driver.expect(0, 1, round + 1000);
    }
}

#[test]
fn readers_share_and_do_not_write() {
    let scratch = Scratch::sized("readers");
    let mut writer = Driver::new(&scratch.open().unwrap(), 1);
    writer.write(1, 1, 1);
    drop(writer);
    let (one, two) = (scratch.open_read_only().unwrap(), scratch.open_read_only().unwrap());
    assert_eq!(kind(scratch.open()), ErrorKind::Busy);
    for medium in [one, two] {
        let mut driver = Driver::new(&medium, 2);
        driver.expect(1, 1, 1);
        driver.run(Op::Flush);
        let buf = driver.pattern(1, 2);
        for op in [
            Op::Write { at: 1, buf, fua: false },
            Op::WriteZeroes { at: 1, count: 1 },
            Op::Deallocate { at: 1, count: 1 },
        ] {
            let rejected = driver.queue.submit(1, op).unwrap_err();
            assert_eq!(rejected.error.unwrap().kind(), ErrorKind::Permission);
        }
        driver.expect(1, 1, 1);
    }
    scratch.open().unwrap();
}

#[test]
fn what_is_no_file_or_device_is_refused() {
    let scratch = Scratch::new("none");
    assert_eq!(kind(scratch.open()), ErrorKind::NotFound);
    assert_eq!(kind(open("file:/", &OpenOptions::default())), ErrorKind::Invalid);
    assert_eq!(kind(open("/dev/null", &OpenOptions::default())), ErrorKind::Invalid);
    std::fs::write(&scratch.0, [0; 4095]).unwrap();
    assert_eq!(kind(scratch.open()), ErrorKind::Invalid, "less than a block");
    let nobody = open("vfio-user:/x", &OpenOptions::default());
    assert_eq!(kind(nobody), ErrorKind::NotFound, "no server listens there");
    assert_eq!(kind(open("pmem:/x", &OpenOptions::default())), ErrorKind::NotFound);
    for uri in ["nvme:ffff:ff:1f.7", "pmr:ffff:ff:1f.7"] {
        assert_eq!(kind(open(uri, &OpenOptions::default())), ErrorKind::NotFound, "{uri}");
    }
    let error = open("broker:/x", &OpenOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("not built in yet"), "{error}");
}

#[test]
fn formatting_creates_a_sparse_file_of_the_size() {
    let scratch = Scratch::new("create");
    assert_eq!(kind(scratch.format(None, false)), ErrorKind::Invalid, "which size?");
    for size in [0, 1, 4095, 4097] {
        assert_eq!(kind(scratch.format(Some(size), false)), ErrorKind::Invalid);
    }
    assert!(!scratch.0.exists(), "a refusal creates nothing");
    let medium = scratch.format(Some(1 << 40), false).unwrap();
    assert_eq!(medium.geometry().blocks, (1 << 40) / BLOCK as u64);
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::metadata(&scratch.0).unwrap();
    assert!(meta.blocks() * 512 < 1 << 20, "it is not sparse");
    assert_eq!(kind(scratch.format(None, true)), ErrorKind::Busy, "it is open");
    drop(medium);
    // All zeroes is free, and keeps its size if none is given.
    assert_eq!(scratch.format(None, false).unwrap().geometry().blocks, 1 << 28);
    assert_eq!(scratch.format(Some(SIZE), false).unwrap().geometry().blocks, 1 << 10);
}

#[test]
fn formatting_takes_nothing_that_carries_data() {
    let scratch = Scratch::new("occupied");
    let image = |parts: &[(usize, &[u8])]| {
        let mut bytes = vec![0; SIZE as usize];
        for (at, part) in parts {
            bytes[*at..at + part.len()].copy_from_slice(part);
        }
        bytes
    };
    let cases: [(Vec<u8>, &str); 5] = [
        (image(&[(0, b"XFSB")]), "XFS"),
        (image(&[(0x438, &[0x53, 0xef])]), "ext4"),
        (image(&[(0, b"FREEHOLD")]), "Freehold"),
        (image(&[(4086, b"SWAPSPACE2")]), "swap"),
        (image(&[(SIZE as usize - 1, b"x")]), "not a known format"),
    ];
    for (bytes, name) in cases {
        std::fs::write(&scratch.0, &bytes).unwrap();
        let error = scratch.format(None, false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Occupied, "{name}");
        assert!(error.message().contains(name), "{name}: {error}");
        assert!(std::fs::read(&scratch.0).unwrap() == bytes, "{name}: a refusal changed it");
        drop(scratch.format(None, true).unwrap());
        let left = std::fs::read(&scratch.0).unwrap();
        assert!(left.len() == SIZE as usize && left.iter().all(|&b| b == 0), "{name}");
    }
    std::fs::write(&scratch.0, b"short text").unwrap();
    assert_eq!(kind(scratch.format(Some(SIZE), false)), ErrorKind::Occupied);
    assert_eq!(kind(scratch.format(None, true)), ErrorKind::Invalid, "too small, and no size");
    assert_eq!(std::fs::read(&scratch.0).unwrap(), b"short text");
    scratch.format(Some(SIZE), true).unwrap();
}

#[test]
fn memory_is_formatted_by_its_name() {
    let options = FormatOptions::default();
    assert_eq!(format_target("mem:8M", &options).unwrap().geometry().blocks, 2048);
    let other = FormatOptions { size: Some(SIZE), force: false };
    assert_eq!(kind(format_target("mem:8M", &other)), ErrorKind::Invalid);
    assert_eq!(kind(open("mem:0", &OpenOptions::default())), ErrorKind::Invalid);
}
