//! Writes man pages of section 3 from `freehold.h`: one for each function, with the structs that
//! it takes, and `freehold.3` with the rules and a list of all.
//!
//! `cargo run -p freehold-ffi --bin freehold-manpages -- DIR`

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

/// The header: the same text as in the pages.
const HEADER: &str = include_str!("../include/freehold.h");

/// A declaration and what is said above it.
struct Item {
    text: Vec<String>,
    code: String,
}

/// The items of the header, and the comment that it begins with.
fn items(header: &str) -> (Vec<String>, Vec<Item>) {
    let (mut comments, mut items): (Vec<Vec<String>>, Vec<Item>) = (Vec::new(), Vec::new());
    let (mut text, mut code, mut inside) = (Vec::new(), String::new(), false);
    for line in header.lines() {
        let bare = line.trim();
        if code.is_empty() && (bare == "/*" || bare == "/**") {
            (text, inside) = (Vec::new(), true);
        } else if inside {
            inside = bare != "*/";
            if inside {
                let said = bare.strip_prefix('*').unwrap_or(bare);
                text.push(said.strip_prefix(' ').unwrap_or(said).to_owned());
            } else {
                comments.push(text.clone());
            }
        } else if bare.starts_with('#')
            || bare.starts_with("extern \"C\"")
            || bare.is_empty() && code.is_empty()
        {
            continue;
        } else {
            code += &format!("{line}\n");
            let open = code.matches('{').count() > code.matches('}').count();
            if bare.ends_with(';') && !open {
                items.push(Item {
                    text: std::mem::take(&mut text),
                    code: std::mem::take(&mut code),
                });
            }
        }
    }
    (comments.first().cloned().unwrap_or_default(), items)
}

/// The name of the function that a declaration is of.
fn function(code: &str) -> Option<&str> {
    if code.starts_with("typedef") {
        return None;
    }
    let name = code.split('(').next()?.rsplit([' ', '*', '\n']).next()?;
    name.starts_with("fh_").then_some(name)
}

/// The name of the struct that a declaration defines.
fn structure(code: &str) -> Option<&str> {
    let name = code.strip_prefix("typedef struct ")?.split(' ').next()?;
    code.contains('{').then_some(name)
}

/// Text as roff takes it.
fn roff(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    let lines = text.lines().map(|line| match line.starts_with(['.', '\'']) {
        true => format!("\\&{line}\n"),
        false => format!("{line}\n"),
    });
    lines.collect()
}

/// A sentence's beginning, unless that is a name.
fn begun(text: &str) -> String {
    let first = text.split(' ').next().unwrap_or_default();
    match first.contains(['_', '`']) || text.is_empty() {
        true => text.to_owned(),
        false => text[..1].to_uppercase() + &text[1..],
    }
}

fn code(page: &mut String, code: &str) {
    let _ = write!(page, ".nf\n{}.fi\n", roff(code));
}

fn page(item: &Item, name: &str, structs: &BTreeMap<&str, &Item>) -> String {
    let mut page = format!(".TH {name} 3 \"\" \"Freehold {}\"\n", env!("CARGO_PKG_VERSION"));
    let first = item.text.join(" ");
    let summary = first.split(". ").next().unwrap_or_default().trim_end_matches('.');
    let summary = summary.split(": ").next().unwrap_or(summary);
    let _ = write!(page, ".SH NAME\n{}", roff(&format!("{name} - {summary}")));
    page += ".SH SYNOPSIS\n.B #include <freehold.h>\n.PP\n";
    code(&mut page, &item.code);
    page += ".SH DESCRIPTION\n";
    let titles = [
        ("Parameters:", "PARAMETERS"),
        ("Thread:", "THREAD"),
        ("Ownership:", "OWNERSHIP"),
        ("Returns:", "RETURN VALUE"),
        ("Errors:", "ERRORS"),
    ];
    for line in &item.text {
        let titled = titles.iter().find_map(|(w, t)| Some((t, line.strip_prefix(w)?)));
        match titled {
            Some((title, rest)) => {
                let _ = write!(page, ".SH {title}\n{}", roff(&begun(rest.trim())));
            }
            None if line.is_empty() => page += ".PP\n",
            None => page += &roff(line),
        }
    }
    let used: Vec<_> = structs.iter().filter(|(n, _)| names(&item.code, n)).collect();
    if !used.is_empty() {
        page += ".SH STRUCTURES\n";
        for (_, item) in used {
            page += &roff(&item.text.join("\n"));
            page += ".PP\n";
            code(&mut page, &item.code);
        }
    }
    page += ".SH SEE ALSO\n.BR freehold (3),\n.BR freehold (1)\n";
    page
}

/// Does a declaration name this type?
fn names(code: &str, name: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    code.split(|c| !word(c)).any(|w| w == name)
}

fn overview(head: &[String], functions: &BTreeMap<&str, &Item>) -> String {
    let mut page = format!(".TH freehold 3 \"\" \"Freehold {}\"\n", env!("CARGO_PKG_VERSION"));
    page += ".SH NAME\nfreehold \\- a storage engine in user space\n.SH DESCRIPTION\n";
    for line in head.iter().skip(1) {
        match line.as_str() {
            "" => page += ".PP\n",
            line => page += &roff(line),
        }
    }
    page += ".SH FUNCTIONS\n";
    for name in functions.keys() {
        let _ = write!(page, ".BR {name} (3)\n.br\n");
    }
    page
}

fn write(dir: &Path) -> std::io::Result<usize> {
    std::fs::create_dir_all(dir)?;
    let (head, items) = items(HEADER);
    let functions: BTreeMap<&str, &Item> =
        items.iter().filter_map(|i| Some((function(&i.code)?, i))).collect();
    let structs: BTreeMap<&str, &Item> =
        items.iter().filter_map(|i| Some((structure(&i.code)?, i))).collect();
    for (name, item) in &functions {
        std::fs::write(dir.join(format!("{name}.3")), page(item, name, &structs))?;
    }
    std::fs::write(dir.join("freehold.3"), overview(&head, &functions))?;
    Ok(functions.len() + 1)
}

fn main() -> ExitCode {
    let Some(dir) = std::env::args_os().nth(1) else {
        eprintln!("freehold-manpages: into which folder?");
        return ExitCode::from(2);
    };
    match write(Path::new(&dir)) {
        Ok(_) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("freehold-manpages: {}: {e}", Path::new(&dir).display());
            ExitCode::FAILURE
        }
    }
}
