//! The library as a packager installs it: into a folder, and used from there by header, pkg-config
//! file and library alone.

use super::build::{Place, has, profile, run, top};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Where it is installed, once for all tests.
fn installed() -> &'static Path {
    static PLACE: OnceLock<PathBuf> = OnceLock::new();
    PLACE.get_or_init(|| {
        let (profile, target) = profile();
        // One folder for all runs: it is in the target directory, and goes with that.
        let dest = target.join("c-package");
        let _ = std::fs::remove_dir_all(&dest);
        run(Command::new(top().join("api/ffi/install"))
            .args(["--prefix", "/usr", "--profile", &profile, "--target-dir"])
            .arg(&target)
            .arg("--destdir")
            .arg(&dest));
        dest
    })
}

/// Names of symbols that a library shows, each with its version.
fn symbols(library: &Path) -> BTreeSet<String> {
    let said = run(Command::new("nm").args(["-D", "--defined-only"]).arg(library));
    let names = said.lines().filter_map(|l| l.split_whitespace().nth(2));
    names.filter(|n| n.contains("@@")).map(str::to_owned).collect()
}

#[test]
fn all_that_a_package_has_is_there() {
    let dest = installed();
    for path in [
        "usr/include/freehold.h",
        "usr/lib/libfreehold.a",
        "usr/lib/libfreehold.so",
        "usr/lib/libfreehold.so.0",
        "usr/lib/pkgconfig/freehold.pc",
        "usr/bin/freehold",
        "usr/share/man/man1/freehold.1",
        "usr/share/man/man3/freehold.3",
        "usr/share/man/man3/fh_queue_poll.3",
        "usr/share/bash-completion/completions/freehold",
        "usr/share/zsh/site-functions/_freehold",
        "usr/share/fish/vendor_completions.d/freehold.fish",
        "usr/lib/udev/rules.d/60-freehold.rules",
        "usr/lib/sysusers.d/freehold.conf",
        "usr/lib/tmpfiles.d/freehold.conf",
        "usr/share/doc/freehold/examples/page_cache.c",
    ] {
        assert!(dest.join(path).is_file(), "{path} is missing");
    }
    let mut pages = std::fs::read_dir(dest.join("usr/share/man/man3")).unwrap();
    let symbols = std::fs::read_to_string(top().join("api/ffi/symbols")).unwrap();
    assert_eq!(pages.by_ref().count(), symbols.lines().count() + 1, "a page for each function");
}

#[test]
fn the_symbols_are_those_that_are_listed() {
    let listed = std::fs::read_to_string(top().join("api/ffi/symbols")).unwrap();
    let listed: BTreeSet<String> = listed.lines().map(|n| format!("{n}@@FREEHOLD_0.1")).collect();
    let shown = symbols(&installed().join("usr/lib/libfreehold.so"));
    let differ: Vec<_> = listed.symmetric_difference(&shown).collect();
    assert!(differ.is_empty(), "{differ:?}");
    let about =
        run(Command::new("readelf").arg("-d").arg(installed().join("usr/lib/libfreehold.so")));
    assert!(about.contains("soname: [libfreehold.so.0]"), "{about}");
}

/// A man page says what the header says.
#[test]
fn a_man_page_has_its_parts() {
    let page = installed().join("usr/share/man/man3/fh_file_stat.3");
    let page = std::fs::read_to_string(page).unwrap();
    let parts = ["NAME", "SYNOPSIS", "PARAMETERS", "THREAD", "OWNERSHIP", "RETURN VALUE", "ERRORS"];
    for part in parts.into_iter().chain(["STRUCTURES"]) {
        assert!(page.contains(&format!(".SH {part}\n")), "no {part} in\n{page}");
    }
    assert!(page.contains("int fh_file_stat("), "{page}");
}

/// With header, pkg-config file and library alone: shared, static, and as C++.
#[test]
fn a_program_is_built_from_the_package() {
    if !has("pkg-config") || !has("gcc") || !has("g++") {
        return;
    }
    let (dest, place) = (installed(), Place::new());
    let lib = dest.join("usr/lib");
    let config = |more: &[&str]| {
        let said = run(Command::new("pkg-config")
            .env("PKG_CONFIG_PATH", lib.join("pkgconfig"))
            .env("PKG_CONFIG_SYSROOT_DIR", dest)
            .env("PKG_CONFIG_ALLOW_SYSTEM_CFLAGS", "1")
            .env("PKG_CONFIG_ALLOW_SYSTEM_LIBS", "1")
            .args(["--cflags", "--libs", "freehold"])
            .args(more));
        said.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let source = dest.join("usr/share/doc/freehold/examples/packaged.c");
    for (compiler, language, more) in
        [("gcc", "c", &[][..]), ("g++", "c++", &[]), ("gcc", "c", &["--static"])]
    {
        let program = place.0.join("program");
        let flags = config(more);
        let mut command = Command::new(compiler);
        command.args(["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-x", language]).arg(&source);
        command.args(["-x", "none", "-o"]).arg(&program);
        if !more.is_empty() {
            // The shared one is beside it, and would be taken.
            command.arg(lib.join("libfreehold.a"));
            command.args(flags.iter().filter(|f| f.as_str() != "-lfreehold"));
        } else {
            command.args(&flags);
        }
        run(&mut command);
        let said = run(Command::new(&program).env("LD_LIBRARY_PATH", &lib));
        assert!(said.starts_with("freehold "), "{said}");
    }
}
