//! Each program in C, each way to run it.

use super::build::{As, Place, compile, has, run};
use std::path::Path;
use std::process::Command;

/// What a program is given.
#[derive(Debug, Clone, Copy)]
enum On {
    /// A store in memory.
    Memory,
    /// A store in a file.
    File,
    /// A store on a file that plays persistent memory.
    Persistent,
}

impl On {
    fn uri(self, dir: &Path) -> String {
        match self {
            On::Memory => "mem:64M".to_owned(),
            On::File => format!("file:{}/store", dir.display()),
            On::Persistent => format!("pmem:{}/store?volatile=1&exclusive=1", dir.display()),
        }
    }
}

fn plainly(source: &str, how: As, media: &[On]) {
    let place = Place::new();
    let Some(program) = compile(source, how, &place.0) else { return };
    for on in media {
        let dir = Place::new();
        run(Command::new(&program).arg(on.uri(&dir.0)));
    }
}

/// Memory errors, leaks and undefined behaviour of the program, and of what the library does with
/// the program's memory.
fn sanitized(source: &str, on: On) {
    let (place, dir) = (Place::new(), Place::new());
    let Some(program) = compile(source, As::Sanitized, &place.0) else { return };
    let options = "detect_stack_use_after_return=1:allow_user_segv_handler=1";
    run(Command::new(&program).arg(on.uri(&dir.0)).env("ASAN_OPTIONS", options));
}

fn valgrind(source: &str, on: On) {
    let (place, dir) = (Place::new(), Place::new());
    if !has("valgrind") {
        return;
    }
    let Some(program) = compile(source, As::C99, &place.0) else { return };
    run(Command::new("valgrind")
        .args(["--error-exitcode=99", "--leak-check=full", "--errors-for-leak-kinds=definite"])
        .args(["--show-leak-kinds=definite", "--quiet", "--trace-children=no"])
        .arg("--child-silent-after-fork=yes")
        .arg(&program)
        .arg(on.uri(&dir.0))
        .arg("gentle"));
}

macro_rules! programs {
    ($($name:ident: $source:literal on $($medium:ident),+;)*) => {$(
        mod $name {
            use super::{As, On};

            const SOURCE: &str = $source;
            const MEDIA: &[On] = &[$(On::$medium),+];

            #[test]
            fn as_c99() {
                super::plainly(SOURCE, As::C99, MEDIA);
            }

            #[test]
            fn as_cxx17() {
                super::plainly(SOURCE, As::Cxx17, MEDIA);
            }

            #[test]
            fn by_clang() {
                super::plainly(SOURCE, As::Clang, &MEDIA[..1]);
            }

            #[test]
            fn under_sanitizers() {
                super::sanitized(SOURCE, MEDIA[0]);
            }

            #[test]
            fn under_valgrind() {
                super::valgrind(SOURCE, MEDIA[0]);
            }
        }
    )*};
}

programs! {
    a_store: "tests/c/store.c" on Memory, File, Persistent;
    misuse: "tests/c/misuse.c" on Memory, File;
    a_queue: "tests/c/queue.c" on Memory, File;
    a_lease: "tests/c/lease.c" on Memory, File, Persistent;
    an_overdue_pin: "tests/c/overdue.c" on Persistent;
    an_action: "tests/c/action.c" on Memory, File;
    seals: "tests/c/seals.c" on Memory, File;
    threads: "tests/c/threads.c" on Memory, File;
    a_fork: "tests/c/fork.c" on Memory, File;
    a_page_cache: "api/ffi/examples/page_cache.c" on Memory, File;
}
