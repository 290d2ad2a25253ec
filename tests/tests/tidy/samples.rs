//! Each rule is shown a bad sample, which it must find, and a good one that looks
//! like it, which it must not.

use super::tree::Source;
use super::{layers, prose, rules, scan};
use std::collections::{BTreeMap, BTreeSet};

fn paths(of: &[&str]) -> Vec<String> {
    of.iter().map(|path| (*path).to_owned()).collect()
}

#[test]
fn sample_mask_keeps_code_alone() {
    let code = "let a = 'x'; // unsafe\nlet b = \"un\\\"safe\"; /* a /* b */ c */ fn f<'a>() {}\n";
    let masked = scan::mask(code);
    assert_eq!(masked.len(), code.len());
    assert!(masked.contains("fn f<'a>() {}"), "{masked}");
    assert!(!masked.contains("safe") && !masked.contains('c') && !masked.contains('x'), "{masked}");
    let raw = scan::mask("r#\"un\"safe\"# br\"y\" '\\'' '\"' 'é' after");
    assert_eq!(raw.trim(), "after");
}

#[test]
fn sample_unsafe_in_the_wrong_place() {
    let bad = "//! A file.\nfn f() { unsafe { g() } }\n";
    assert_eq!(rules::unsafe_places("blockmap/src/x.rs", bad).len(), 1);
    assert_eq!(rules::unsafe_places("engine/src/x.rs", bad).len(), 0);
    assert_eq!(rules::unsafe_places("api/ffi/src/x.rs", bad).len(), 0);
    let talk =
        "//! Nothing unsafe.\n#![deny(unsafe_op_in_unsafe_fn)]\nconst A: &str = \"unsafe\";\n";
    assert_eq!(rules::unsafe_places("blockmap/src/x.rs", talk).len(), 0);
    let slice = "fn f() { core::slice::from_raw_parts_mut(p, n) }\n";
    assert_eq!(rules::unsafe_places("engine/src/nvme/x.rs", slice).len(), 1);
    assert_eq!(rules::unsafe_places("engine/src/memory/x.rs", slice).len(), 0);
}

#[test]
fn sample_unsafe_is_not_forbidden() {
    assert_eq!(rules::forbids_unsafe("api/src/lib.rs", "//! The API.\n").len(), 1);
    let said = "//! #![forbid(unsafe_code)]\n// #![forbid(unsafe_code)]\n";
    assert_eq!(rules::forbids_unsafe("api/src/lib.rs", said).len(), 1);
    let done = "//! The API.\n#![forbid(unsafe_code)]\n";
    assert_eq!(rules::forbids_unsafe("api/src/lib.rs", done).len(), 0);
    assert_eq!(rules::forbids_unsafe("engine/src/lib.rs", "//! Devices.\n").len(), 0);
}

#[test]
fn sample_unsafe_without_an_argument() {
    let rule = |text| rules::safety_arguments("engine/src/x.rs", text).len();
    assert_eq!(rule("fn f() {\n    unsafe { g() }\n}\n"), 1);
    assert_eq!(rule("unsafe impl Send for X {}\n"), 1);
    assert_eq!(rule("unsafe extern \"C\" {\n    fn f();\n}\n"), 1);
    assert_eq!(rule("fn f() {\n    // SAFETY: g is total.\n    unsafe { g() }\n}\n"), 0);
    assert_eq!(rule("/// # Safety\n/// Never.\npub unsafe extern \"C\" fn f() {}\n"), 0);
    assert_eq!(rule("// SAFETY: one.\nunsafe { g() }\nunsafe { h() }\n"), 1);
    let far = format!("// SAFETY: long ago.\n{}unsafe {{ g() }}\n", "a();\n".repeat(12));
    assert_eq!(rule(&far), 1);
}

#[test]
fn sample_long_files_and_functions() {
    let rule = |text: &str| rules::shape("engine/src/x.rs", text);
    assert_eq!(rule("//! A file.\nfn f() {}\n").len(), 0);
    assert_eq!(rule("// A file.\n").len(), 1);
    assert_eq!(rule(&"//! Long.\n".repeat(601)).len(), 1);
    assert_eq!(rule(&"//! Long.\n".repeat(600)).len(), 0);
    let braces = "//! F.\nfn f(a: [u8; 2]) {\n    if a { b(\"}\"); }\n}\nfn g() {}\n";
    let found = scan::functions(&scan::mask(braces));
    let ends: Vec<(usize, usize)> = found.iter().map(|f| (f.first, f.last)).collect();
    assert_eq!(ends, [(2, 4), (5, 5)]);
    let long = |n| format!("//! F.\nfn f() {{\n{}}}\n", "    a('}');\n".repeat(n));
    assert_eq!(rule(&long(68)).len(), 0);
    assert_eq!(rule(&long(69)).len(), 1);
    let declared =
        format!("//! F.\ntrait T {{\n    fn f();\n{}}}\n", "    const A: u8;\n".repeat(99));
    assert_eq!(rule(&declared).len(), 0);
}

#[test]
fn sample_unfinished() {
    let rule = |text: &str| rules::unfinished("api/src/x.rs", text).len();
    assert_eq!(rule(concat!("fn f() { to", "do!() }\n")), 1);
    assert_eq!(rule(concat!("fn f() { unimple", "mented!() }\n")), 1);
    assert_eq!(rule(concat!("let a = d", "bg!(b);\n")), 1);
    assert_eq!(rule(concat!("// FIX", "ME: later\n")), 1);
    assert_eq!(rule(concat!("// XX", "X\n")), 1);
    assert_eq!(rule(concat!("#[ig", "nore = \"slow\"]\n")), 1);
    assert_eq!(rule("let a = \"nothing\"; // a plain remark\n"), 0);
}

#[test]
fn sample_dead_file() {
    let source = |path: &str, text: &str| Source { path: path.into(), text: text.into() };
    let all = [
        source(
            "api/src/lib.rs",
            "//! L.\nmod a;\npub mod b;\nmod c {\n    mod d;\n}\n// mod e;\n#[path = \"x/g.rs\"]\nmod h;\n",
        ),
        source("api/src/x/g.rs", "//! G.\n"),
        source("api/src/a.rs", "//! A.\nmod f;\n"),
        source("api/src/a/f.rs", "//! F.\n"),
        source("api/src/b/mod.rs", "//! B.\n#[cfg(test)]\nmod tests;\n"),
        source("api/src/b/tests.rs", "//! T.\n"),
        source("api/src/c/d.rs", "//! D.\n"),
        source("api/src/e.rs", "//! E.\n"),
        source("api/src/f.rs", "//! F.\n"),
    ];
    let paths: Vec<String> = all.iter().map(|source| source.path.clone()).collect();
    let roots = rules::roots("api", "", &paths);
    let dead = rules::dead_files(&all.iter().collect::<Vec<_>>(), &roots);
    assert_eq!(dead.len(), 2, "{dead:?}");
    assert!(dead[0].starts_with("api/src/e.rs") && dead[1].starts_with("api/src/f.rs"));
}

#[test]
fn sample_roots() {
    let all =
        paths(&["t/tests/a.rs", "t/tests/b/main.rs", "t/tests/b/c.rs", "t/build.rs", "t/x/y.rs"]);
    let manifest = "[[bin]]\nname = \"y\"\npath = \"x/y.rs\"\n";
    let roots = rules::roots("t", manifest, &all);
    let expected = paths(&["t/build.rs", "t/tests/a.rs", "t/tests/b/main.rs", "t/x/y.rs"]);
    assert_eq!(roots, expected.into_iter().collect::<BTreeSet<_>>());
}

#[test]
fn sample_top_level() {
    let bad = layers::top_level(&paths(&["Cargo.toml", "scripts/a.sh", ".ci/run", "notes.md"]));
    assert_eq!(bad.len(), 2, "{bad:?}");
}

#[test]
fn sample_calls_that_go_up() {
    let up = "[dependencies]\nfreehold-blockmap.workspace = true\n";
    assert_eq!(layers::floors("engine", up).len(), 1);
    assert_eq!(layers::floors("api", up).len(), 0);
    let by_test = "[dev-dependencies]\nx = { package = \"freehold\", path = \"../api\" }\n";
    assert_eq!(layers::floors("blockmap", by_test).len(), 1);
    let section = "[target.'cfg(unix)'.dependencies.freehold-cmd]\npath = \"../cmd\"\n";
    assert_eq!(layers::floors("tests", section).len(), 1);
    assert_eq!(
        layers::floors("cmd", "[dependencies]\nfreehold-engine.workspace = true\n").len(),
        1
    );
    assert_eq!(layers::floors("cmd", "[dependencies]\nfreehold.workspace = true\n").len(), 0);
    assert_eq!(layers::floors("plugins", "").len(), 1);
    assert_eq!(layers::floors("bench", "[dependencies]\nfreehold-magic = \"1\"\n").len(), 1);
    let talk = "[package]\nname = \"freehold-cmd\"\n[features]\nsim = [\"freehold/sim\"]\n";
    assert_eq!(layers::floors("engine", talk).len(), 0);
}

#[test]
fn sample_nothing_inherited() {
    let workspace = "[workspace]\nmembers = [\"api\"]\n";
    let mut good = String::from("[package]\nname = \"freehold\"\n");
    for key in ["version", "edition", "rust-version", "license", "publish"] {
        good += &format!("{key}.workspace = true\n");
    }
    good += "[lints]\nworkspace = true\n";
    assert_eq!(layers::inherits("api", &good, workspace), Vec::<String>::new());
    assert_eq!(layers::inherits("cmd", &good, workspace).len(), 1);
    let lints = good.replace("[lints]", "[other]");
    assert_eq!(layers::inherits("api", &lints, workspace).len(), 1);
    let licence = good.replace("license.workspace = true", "license = \"GPL-3.0\"");
    assert_eq!(layers::inherits("api", &licence, workspace).len(), 1);
    assert_eq!(layers::workspace("[workspace.package]\nlicense = \"MIT\"\n").len(), 2);
}

#[test]
fn sample_links() {
    let all = paths(&["docs/a.md", "docs/b/c.md", "README.md"]);
    let rule = |text| prose::links("docs/a.md", text, &all).len();
    assert_eq!(rule("[c](b/c.md#part) [r](../README.md) [b](b) [w](https://a.example/x)\n"), 0);
    assert_eq!(rule("[d](b/d.md) and [c](c.md)\n"), 2);
    assert_eq!(rule("```\na[0](x)\n```\n"), 0);
}

#[test]
fn sample_machine_paths() {
    let text = concat!("a\nsee /wo", "rk/notes and\n/ro", "ot/.cache\n");
    assert_eq!(prose::machine_paths("docs/a.md", text).len(), 2);
    assert_eq!(prose::machine_paths("docs/a.md", "the root/ of the framework/\n").len(), 0);
}

#[test]
fn sample_laws() {
    let source = "//! T.\n#[test]\n#[should_panic]\nfn b1_holds() {}\nfn m1_is_no_test() {}\n";
    let tests = prose::tests(source);
    assert_eq!(tests, ["b1_holds"]);
    let later = BTreeMap::from([("B2", "no trees yet"), ("B1", "stale"), ("B9", ""), ("X1", "?")]);
    let bad = prose::tested_laws(&["M1", "B1", "B2", "B9"], &later, &tests);
    assert_eq!(bad.len(), 4, "{bad:?}");
    let bad = prose::tested_laws(&["B10"], &BTreeMap::new(), &paths(&["b1_holds", "b100_x"]));
    assert_eq!(bad.len(), 1, "{bad:?}");
    let named: Vec<String> =
        prose::named_laws("**B13, x.** by law M1; B2 and RB3").into_iter().collect();
    assert_eq!(named, ["B13", "M1"]);
}
