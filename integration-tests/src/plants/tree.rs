//! A copy of the working tree, to be planted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::switch::{self, Switch, Switched};
use crate::Failure;

/// The copy.
pub(super) struct Tree {
    original: PathBuf,
    /// Where it is.
    pub(super) root: PathBuf,
}

impl Tree {
    /// One that is only read.
    #[cfg(test)]
    pub(super) fn uncopied(original: &Path) -> Self {
        Self { original: original.to_owned(), root: original.to_owned() }
    }

    /// Copies everything in `original` that git does not ignore to `root`; what is the same already keeps its time, so that cargo builds only what changed.
    pub(super) fn copy(original: &Path, root: &Path) -> Result<Self, Failure> {
        let output = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(original)
            .output()?;
        if !output.status.success() {
            return Err(format!("git ls-files: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        let files = String::from_utf8(output.stdout)?;
        let tree = Self { original: original.to_owned(), root: root.to_owned() };
        let mut kept = BTreeSet::new();
        for file in files.split_terminator('\0') {
            let from = original.join(file);
            if !from.is_file() {
                continue; // removed, and not yet from git
            }
            kept.insert(root.join(file));
            if file == "Cargo.toml" {
                tree.write(file, &as_another_version(&fs::read_to_string(from)?)?)?;
            } else if !is_planted(file) {
                tree.write_bytes(file, &fs::read(from)?)?;
            }
        }
        remove_others(root, &kept)?;
        Ok(tree)
    }

    /// The text of a file as it is in the original.
    pub(super) fn original(&self, file: &str) -> Result<String, Failure> {
        Ok(fs::read_to_string(self.original.join(file)).map_err(|error| format!("{file}: {error}"))?)
    }

    /// Writes a file, if that changes it.
    pub(super) fn write(&self, file: &str, text: &str) -> Result<(), Failure> {
        self.write_bytes(file, text.as_bytes())
    }

    /// As [`write`](Self::write), for a file of a planted crate, whose root also names the module of the switches.
    pub(super) fn write_planted(&self, file: &str, text: &str) -> Result<(), Failure> {
        if file.ends_with("/src/lib.rs") {
            return self.write(file, &format!("{text}\nmod {};\n", switch::MODULE));
        }
        self.write(file, text)
    }

    fn write_bytes(&self, file: &str, bytes: &[u8]) -> Result<(), Failure> {
        let to = self.root.join(file);
        if fs::read(&to).is_ok_and(|there| there == bytes) {
            return Ok(());
        }
        if let Some(directory) = to.parent() {
            fs::create_dir_all(directory)?;
        }
        fs::write(&to, bytes)?;
        Ok(())
    }

    /// Writes every source file of `packages` with its switches, numbered below `count`, and the module they ask.
    pub(super) fn plant(
        &self,
        packages: &[&str],
        switches: &BTreeMap<String, Vec<Switch>>,
        count: usize,
    ) -> Result<BTreeMap<String, Switched>, Failure> {
        let mut planted = BTreeMap::new();
        for package in packages {
            self.write(&format!("{package}/src/{}.rs", switch::MODULE), &switch::module(count))?;
            for file in sources(&self.original, package)? {
                let none = Vec::new();
                let here = switches.get(&file).unwrap_or(&none);
                let switched =
                    switch::insert(&self.original(&file)?, here).map_err(|failure| format!("{file}: {failure}"))?;
                self.write_planted(&file, &switched.text)?;
                planted.insert(file, switched);
            }
        }
        Ok(planted)
    }
}

/// Files that only [`Tree::plant`] writes.
fn is_planted(file: &str) -> bool {
    super::PLANTED.iter().any(|package| file.strip_prefix(package).is_some_and(|rest| rest.starts_with("/src/")))
}

/// The `.rs` files below `src` of a crate, from the root.
fn sources(root: &Path, package: &str) -> io::Result<Vec<String>> {
    let mut files = Vec::new();
    let mut directories = vec![format!("{package}/src")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(root.join(&directory))? {
            let entry = entry?;
            let path = format!("{directory}/{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                directories.push(path);
            } else if path.ends_with(".rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// The workspace's manifest with a version of its own: cargo tells packages of one name, version and place *in their workspace*
/// not apart, and the copy is built beside the original, with the dependencies that are built already.
fn as_another_version(manifest: &str) -> Result<String, Failure> {
    let line = manifest.lines().find(|line| line.starts_with("version = \"")).ok_or("the workspace has no version")?;
    Ok(manifest.replacen(line, &format!("{}+plants\"", line.trim_end_matches('"')), 1))
}

/// Removes files that are gone from the original, which cargo would build.
fn remove_others(root: &Path, kept: &BTreeSet<PathBuf>) -> io::Result<()> {
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path.is_dir() {
                directories.push(path);
            } else if !kept.contains(&path) && !path.ends_with(format!("{}.rs", switch::MODULE)) {
                fs::remove_file(path)?;
            }
        }
    }
    Ok(())
}
