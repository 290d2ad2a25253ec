//! The files of the repository: what git tracks or would track, or, without
//! git, what lies in the folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A text file: its path from the top of the repository, with `/`, and its text.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// All files. Those that are not text have their path alone.
pub(crate) struct Tree {
    pub(crate) paths: Vec<String>,
    pub(crate) sources: Vec<Source>,
}

impl Tree {
    /// Reads the repository that this test was built in.
    pub(crate) fn read() -> Self {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut paths = from_git(&top).unwrap_or_else(|| from_folder(&top));
        paths.retain(|path| top.join(path).is_file());
        paths.sort();
        let text = |path: &String| fs::read(top.join(path)).ok().map(String::from_utf8);
        let sources = paths
            .iter()
            .filter_map(|path| Some(Source { path: path.clone(), text: text(path)?.ok()? }))
            .collect();
        Self { paths, sources }
    }

    /// The text files whose name ends in `end`.
    pub(crate) fn ending<'a>(&'a self, end: &'a str) -> impl Iterator<Item = &'a Source> {
        self.sources.iter().filter(move |source| source.path.ends_with(end))
    }
}

fn from_git(top: &Path) -> Option<Vec<String>> {
    if !top.join(".git").exists() {
        return None;
    }
    let mut git = Command::new("git");
    git.current_dir(top).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let out = git.output().ok().filter(|out| out.status.success())?;
    let text = String::from_utf8(out.stdout).ok()?;
    Some(text.split_terminator('\0').map(String::from).collect())
}

/// Everything but build output, stores and hidden folders.
fn from_folder(top: &Path) -> Vec<String> {
    let mut paths = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(top.join(&folder)) else { continue };
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = folder.join(&name);
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_folder && name != "target" && name != ".git" {
                folders.push(path);
            } else if !is_folder && !name.ends_with(".fh") {
                paths.push(path.to_string_lossy().into_owned());
            }
        }
    }
    paths
}

/// The path that a relative one in a file means.
pub(crate) fn join(from: &str, target: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    parts.join("/")
}
