//! The C library as C programs see it: each program of `tests/c` and `api/ffi/examples` is compiled
//! as C99 and as C++17 without a warning, and run: plainly, under sanitizers, under valgrind.
//!
//! `build.rs` makes the library and compiles programs, `programs.rs` has a test for each way to run
//! each of them, `package.rs` installs it as a packager would and looks at what is there.

mod c {
    pub(crate) mod build;
    pub(crate) mod package;
    pub(crate) mod programs;
}
