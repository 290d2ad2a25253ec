//! Rules for the top of the repository and the manifests of its crates.

/// What may stand at the top; dotfiles may too.
const TOP: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "engine",
    "blockmap",
    "api",
    "cmd",
    "tests",
    "bench",
    "docs",
    "README.md",
    "LICENSE-MIT",
    "LICENSE-APACHE",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "rustfmt.toml",
];

/// The floors, by folder and package: a crate uses only lower numbers.
const FLOORS: &[(&str, &str, u32)] = &[
    ("engine", "freehold-engine", 0),
    ("blockmap", "freehold-blockmap", 1),
    ("api/ring", "freehold-ring", 2),
    ("api", "freehold", 3),
    ("api/ffi", "freehold-ffi", 4),
    ("api/sqlite", "freehold-sqlite", 4),
    ("cmd", "freehold-cmd", 5),
    ("tests", "freehold-tests", 5),
    ("bench", "freehold-bench", 5),
];

/// What every manifest takes from the workspace.
const INHERITED: &[&str] = &["version", "edition", "rust-version", "license", "publish"];

/// Nothing but the fixed names stands at the top.
pub(crate) fn top_level(paths: &[String]) -> Vec<String> {
    let mut names: Vec<&str> = paths.iter().filter_map(|path| path.split('/').next()).collect();
    names.dedup();
    names.retain(|name| !name.starts_with('.') && !TOP.contains(name));
    names.iter().map(|name| format!("{name}: does not belong at the top level")).collect()
}

/// A line of a manifest with the section that it stands in.
fn entries(manifest: &str) -> Vec<(String, &str, &str)> {
    let mut section = String::new();
    let mut entries = Vec::new();
    for line in manifest.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_matches(['[', ']']).to_owned();
            entries.push((section.clone(), "", ""));
        } else if let Some((key, value)) = line.split_once('=') {
            entries.push((section.clone(), key.trim(), value.trim()));
        }
    }
    entries
}

/// The packages that a manifest depends on in any way.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (section, key, value) in entries(manifest) {
        let parts: Vec<&str> = section.rsplit('.').collect();
        let is_list = parts[0].ends_with("dependencies");
        let is_one = parts.len() > 1 && parts[1].ends_with("dependencies");
        let package = value.split_once("package").map(|(_, rest)| quoted(rest));
        match package {
            Some(package) if is_list => found.push(package),
            _ if is_list && !key.is_empty() => {
                found.push(key.split('.').next().unwrap_or(key).trim_matches('"').to_owned());
            }
            _ if is_one && key == "package" => found.push(quoted(value)),
            _ if is_one && key.is_empty() => found.push(parts[0].trim_matches('"').to_owned()),
            _ => {}
        }
    }
    found
}

fn quoted(text: &str) -> String {
    text.split('"').nth(1).unwrap_or_default().to_owned()
}

/// Calls go down: a crate depends on lower floors only, and cmd on the API.
pub(crate) fn floors(krate: &str, manifest: &str) -> Vec<String> {
    let Some((_, _, own)) = FLOORS.iter().find(|(folder, ..)| *folder == krate) else {
        return vec![format!("{krate}: a crate that stands on no floor")];
    };
    let mut bad = Vec::new();
    let used = dependencies(manifest);
    for name in used.iter().filter(|name| name.starts_with("freehold")) {
        match FLOORS.iter().find(|(_, package, _)| package == name) {
            Some((_, _, floor)) if floor < own => {}
            Some(_) => bad.push(format!("{krate}: may not use {name}, which is not below it")),
            None => bad.push(format!("{krate}: uses {name}, which stands on no floor")),
        }
    }
    if krate == "cmd" && !used.iter().any(|name| name == "freehold") {
        bad.push("cmd: does not use the API".to_owned());
    }
    bad
}

/// Every crate is a member of the workspace and takes its lints, version and
/// licence from it.
pub(crate) fn inherits(krate: &str, manifest: &str, workspace: &str) -> Vec<String> {
    let entries = entries(manifest);
    let has = |section: &str, key: &str, value: &str| {
        entries.iter().any(|(s, k, v)| s == section && *k == key && *v == value)
    };
    let mut bad = Vec::new();
    if !has("lints", "workspace", "true") {
        bad.push(format!("{krate}: lacks [lints] workspace = true"));
    }
    for key in INHERITED {
        let inline = has("package", key, "{ workspace = true }");
        if !inline && !has("package", &format!("{key}.workspace"), "true") {
            bad.push(format!("{krate}: {key} is not inherited from the workspace"));
        }
    }
    if !workspace.contains(&format!("\"{krate}\"")) {
        bad.push(format!("{krate}: is not a member of the workspace"));
    }
    bad
}

/// The workspace fixes the licence and the oldest compiler.
pub(crate) fn workspace(manifest: &str) -> Vec<String> {
    let entries = entries(manifest);
    let value = |key: &str| {
        entries.iter().find(|(s, k, _)| s == "workspace.package" && *k == key).map(|(.., v)| *v)
    };
    let mut bad = Vec::new();
    if value("license") != Some("\"MIT OR Apache-2.0\"") {
        bad.push("Cargo.toml: the licence is MIT OR Apache-2.0".to_owned());
    }
    if value("rust-version").is_none() {
        bad.push("Cargo.toml: no rust-version".to_owned());
    }
    bad
}
