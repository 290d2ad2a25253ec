//! A small reader of Rust: enough to tell code from comments and strings, to
//! find functions and their ends, and to follow `mod` declarations.

use std::collections::BTreeSet;

/// The code alone: comments and the insides of strings and characters become
/// spaces; lines stay where they are.
pub(crate) fn mask(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let end = match bytes[i] {
            b'/' if bytes.get(i + 1) == Some(&b'/') => line_end(bytes, i),
            b'/' if bytes.get(i + 1) == Some(&b'*') => comment_end(bytes, i),
            b'"' => string_end(bytes, i),
            b'r' if !in_word(bytes, i) => raw_end(bytes, i).unwrap_or(i),
            b'b' | b'c' if !in_word(bytes, i) && bytes.get(i + 1) == Some(&b'r') => {
                raw_end(bytes, i + 1).unwrap_or(i)
            }
            b'\'' => char_end(text, i).unwrap_or(i),
            _ => i,
        };
        if end == i {
            out.push(bytes[i]);
            i += 1;
        } else {
            out.extend(bytes[i..end].iter().map(|b| if *b == b'\n' { b'\n' } else { b' ' }));
            i = end;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn in_word(bytes: &[u8], i: usize) -> bool {
    i > 0 && is_word(bytes[i - 1])
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn line_end(bytes: &[u8], from: usize) -> usize {
    bytes[from..].iter().position(|b| *b == b'\n').map_or(bytes.len(), |n| from + n)
}

fn comment_end(bytes: &[u8], from: usize) -> usize {
    let (mut i, mut depth) = (from, 0);
    while i < bytes.len() {
        match &bytes[i..(i + 2).min(bytes.len())] {
            b"/*" => (i, depth) = (i + 2, depth + 1),
            b"*/" => (i, depth) = (i + 2, depth - 1),
            _ => i += 1,
        }
        if depth == 0 {
            return i;
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], from: usize) -> usize {
    let mut i = from + 1;
    while i < bytes.len() {
        match bytes[i] {
            b'\\' => i += 2,
            b'"' => return i + 1,
            _ => i += 1,
        }
    }
    bytes.len()
}

/// The end of `r"..."` or `r#"..."#`, or nothing if this is another word.
fn raw_end(bytes: &[u8], from: usize) -> Option<usize> {
    let hashes = bytes[from + 1..].iter().take_while(|b| **b == b'#').count();
    let start = from + 1 + hashes;
    if bytes.get(start) != Some(&b'"') {
        return None;
    }
    let mut close = vec![b'"'];
    close.resize(hashes + 1, b'#');
    let end = bytes[start + 1..].windows(close.len()).position(|w| w == close);
    Some(end.map_or(bytes.len(), |n| start + 1 + n + close.len()))
}

/// The end of a character, or nothing if this is a lifetime.
fn char_end(text: &str, from: usize) -> Option<usize> {
    let mut rest = text[from + 1..].chars();
    let first = rest.next()?;
    if first == '\\' {
        let escaped = from + 2 + rest.next()?.len_utf8();
        return Some(escaped + text[escaped..].find('\'')? + 1);
    }
    (rest.next() == Some('\'')).then_some(from + 2 + first.len_utf8())
}

/// The words of masked code with where they begin.
pub(crate) fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let bytes = code.as_bytes();
    let mut i = 0;
    std::iter::from_fn(move || {
        while i < bytes.len() && !is_word(bytes[i]) {
            i += 1;
        }
        let start = i;
        while i < bytes.len() && is_word(bytes[i]) {
            i += 1;
        }
        (start < i).then(|| (start, &code[start..i]))
    })
}

/// The line of a place, from 1.
pub(crate) fn line_of(code: &str, at: usize) -> usize {
    code.as_bytes()[..at].iter().filter(|b| **b == b'\n').count() + 1
}

/// A function: its name and its first and last line.
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) first: usize,
    pub(crate) last: usize,
}

/// All functions that have a body, nested ones too.
pub(crate) fn functions(code: &str) -> Vec<Function> {
    let all: Vec<(usize, &str)> = words(code).collect();
    let mut found = Vec::new();
    for pair in all.windows(2) {
        let ((at, word), (next, name)) = (pair[0], pair[1]);
        if word != "fn" || !code[at + 2..next].trim().is_empty() {
            continue;
        }
        if let Some(end) = body_end(code, next) {
            let (first, last) = (line_of(code, at), line_of(code, end));
            found.push(Function { name: name.to_owned(), first, last });
        }
    }
    found
}

/// The closing brace of the first body after `from`, unless a `;` ends it before.
fn body_end(code: &str, from: usize) -> Option<usize> {
    let (mut round, mut curly) = (0_i32, 0_i32);
    for (i, byte) in code.bytes().enumerate().skip(from) {
        match byte {
            b'(' | b'[' => round += 1,
            b')' | b']' => round -= 1,
            b'{' => curly += 1,
            b'}' => curly -= 1,
            b';' if round == 0 && curly == 0 => return None,
            _ => continue,
        }
        if byte == b'}' && curly <= 0 {
            return Some(i);
        }
    }
    None
}

/// The files that one file may declare with `mod name;`, as the pairs that
/// rustc looks for (`name.rs`, `name/mod.rs`). `path` is the file's own.
pub(crate) fn declared(path: &str, code: &str, is_root: bool) -> BTreeSet<String> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let stem = name.strip_suffix(".rs").unwrap_or(name);
    let home = if is_root || name == "mod.rs" { folder.into() } else { format!("{folder}/{stem}") };
    let mut found = BTreeSet::new();
    let mut inside: Vec<Option<String>> = Vec::new();
    let mut open: Option<String> = None;
    let mut after_mod = false;
    let mut last = 0;
    let mut pass = |gap: &str, open: &mut Option<String>, inside: &mut Vec<Option<String>>| {
        for byte in gap.bytes() {
            match byte {
                b'{' => inside.push(open.take()),
                b'}' => {
                    inside.pop();
                }
                b';' => {
                    if let Some(name) = open.take() {
                        let names = inside.iter().flatten().map(|part| format!("{part}/"));
                        let stem = format!("{home}/{}{name}", names.collect::<String>());
                        found.insert(format!("{stem}.rs"));
                        found.insert(format!("{stem}/mod.rs"));
                    }
                }
                _ => {}
            }
        }
    };
    for (at, word) in words(code) {
        pass(&code[last..at], &mut open, &mut inside);
        last = at + word.len();
        open = after_mod.then(|| word.to_owned());
        after_mod = word == "mod";
    }
    pass(&code[last..], &mut open, &mut inside);
    found
}
