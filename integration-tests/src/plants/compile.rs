//! Compiling the planted tree: what the compiler says against plants, and the test binaries.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::source::Place;
use crate::Failure;

/// How cargo is called.
pub(super) struct Cargo {
    root: PathBuf,
    target: PathBuf,
    jobs: usize,
}

/// The name of the binary whose tests try every interleaving; their module's, too.
pub(super) const LOOM: &str = "loom_tests";

/// A binary of tests.
#[derive(Clone, Debug)]
pub(super) struct TestBinary {
    /// Its crate.
    pub(super) package: String,
    /// The name of the target.
    pub(super) name: String,
    /// The file.
    pub(super) path: PathBuf,
    /// The directory of the crate's manifest, where tests run.
    pub(super) directory: PathBuf,
}

impl TestBinary {
    /// Its crate and its name.
    pub(super) fn title(&self) -> String {
        format!("{} {}", self.package, self.name)
    }
}

/// An error of the compiler, with every place it points at, the first one first.
#[derive(Clone, Debug)]
pub(super) struct Complaint {
    /// The error, in one line.
    pub(super) message: String,
    /// File, from the root, and place.
    pub(super) places: Vec<(String, Place)>,
}

/// What a call of cargo came to.
#[derive(Debug, Default)]
pub(super) struct Compiled {
    /// The compiler's errors.
    pub(super) complaints: Vec<Complaint>,
    /// The test binaries that were built.
    pub(super) binaries: Vec<TestBinary>,
    /// Whether all went well.
    pub(super) success: bool,
}

/// The directory that cargo builds `root` in.
pub(super) fn target_directory(root: &Path) -> Result<PathBuf, Failure> {
    let metadata = metadata(root)?;
    Ok(metadata["target_directory"].as_str().ok_or("cargo names no target directory")?.into())
}

fn metadata(root: &Path) -> Result<Value, Failure> {
    let output =
        Command::new("cargo").args(["metadata", "--no-deps", "--format-version", "1"]).current_dir(root).output()?;
    if !output.status.success() {
        return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

impl Cargo {
    /// Builds the tree at `root` beside what lies in `target`, whose dependencies it uses where cargo can (from 1.91 on).
    pub(super) fn new(root: &Path, target: &Path, jobs: usize) -> Self {
        Self { root: root.to_owned(), target: target.to_owned(), jobs }
    }

    /// Checks the library of each of the workspace's crates, or of `package` alone.
    pub(super) fn check(&self, package: Option<&str>) -> Result<Compiled, Failure> {
        let mut command = self.command("check");
        command.args(["--lib", "--keep-going"]);
        match package {
            Some(package) => command.args(["--all-features", "--package", package]),
            None => command.arg("--workspace"),
        };
        self.run(command)
    }

    /// Builds the tests of `packages`, or of all.
    pub(super) fn tests(&self, packages: Option<&[&str]>) -> Result<Compiled, Failure> {
        let mut command = self.command("test");
        // The features are those of the whole workspace, whatever part of it is built.
        command.args(["--workspace", "--no-run"]);
        if let Some(packages) = packages {
            command.arg("--lib");
            for name in self.test_targets(packages)? {
                command.args(["--test", &name]);
            }
        }
        let mut compiled = self.run(command)?;
        if let Some(packages) = packages {
            compiled.binaries.retain(|binary| packages.contains(&binary.package.as_str()));
        }
        Ok(compiled)
    }

    /// Builds the tests that try every interleaving, as `.ci/run` does.
    pub(super) fn loom(&self) -> Result<Compiled, Failure> {
        let mut command = self.command_in("test", &self.target.join("loom"));
        command.args(["--package", "channel-core", "--lib", "--release", "--no-run"]).env("RUSTFLAGS", "--cfg loom");
        let mut compiled = self.run(command)?;
        for binary in &mut compiled.binaries {
            LOOM.clone_into(&mut binary.name);
        }
        Ok(compiled)
    }

    fn command(&self, verb: &str) -> Command {
        self.command_in(verb, &self.target)
    }

    fn command_in(&self, verb: &str, target: &Path) -> Command {
        let mut command = Command::new("cargo");
        command.arg(verb).current_dir(&self.root);
        command.args(["--jobs", &self.jobs.to_string()]);
        command.env("CARGO_TARGET_DIR", target.join("plants/out"));
        command.env("CARGO_BUILD_BUILD_DIR", target);
        command.env("CARGO_INCREMENTAL", "0"); // it is built once
        command
    }

    fn test_targets(&self, packages: &[&str]) -> Result<Vec<String>, Failure> {
        let metadata = metadata(&self.root)?;
        let mut names = Vec::new();
        for package in metadata["packages"].as_array().into_iter().flatten() {
            if !packages.contains(&package["name"].as_str().unwrap_or_default()) {
                continue;
            }
            for target in package["targets"].as_array().into_iter().flatten() {
                if target["kind"][0] == "test" {
                    names.extend(target["name"].as_str().map(str::to_owned));
                }
            }
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    fn run(&self, mut command: Command) -> Result<Compiled, Failure> {
        command.arg("--message-format=json").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        // Read beside the messages, so that neither pipe fills up.
        let said = std::thread::spawn(move || stderr.map(std::io::read_to_string).transpose());
        let mut compiled = Compiled::default();
        for line in stdout.into_iter().flat_map(|stdout| BufReader::new(stdout).lines()) {
            let message: Value = serde_json::from_str(&line?)?;
            match message["reason"].as_str() {
                Some("compiler-message") => compiled.complaints.extend(self.complaint(&message["message"])),
                Some("compiler-artifact") => compiled.binaries.extend(binary(&message)),
                _ => {}
            }
        }
        compiled.success = child.wait()?.success();
        if !compiled.success && compiled.complaints.is_empty() {
            let said = said.join().map_err(|_| "reading what cargo says panicked")??.unwrap_or_default();
            return Err(format!("cargo failed:\n{said}").into());
        }
        Ok(compiled)
    }

    fn complaint(&self, message: &Value) -> Option<Complaint> {
        let told = message["message"].as_str()?;
        if message["level"] != "error" || told.starts_with("aborting due to") {
            return None;
        }
        let mut places = Vec::new();
        self.gather(message, &mut places);
        // Where it points nowhere, as the linker does, all of it says more than its first line.
        let told = if places.is_empty() { message["rendered"].as_str().unwrap_or(told) } else { told };
        Some(Complaint { message: told.trim().replace('\n', " "), places })
    }

    /// Every place in our own files that a message or its notes point at, the primary ones first.
    fn gather(&self, message: &Value, places: &mut Vec<(String, Place)>) {
        for primary in [true, false] {
            for span in message["spans"].as_array().into_iter().flatten() {
                if span["is_primary"] == primary {
                    self.gather_span(span, places);
                }
            }
        }
        for child in message["children"].as_array().into_iter().flatten() {
            self.gather(child, places);
        }
    }

    fn gather_span(&self, span: &Value, places: &mut Vec<(String, Place)>) {
        let byte = |name: &str| span[name].as_u64().and_then(|byte| usize::try_from(byte).ok());
        if let (Some(file), Some(start), Some(end)) = (span["file_name"].as_str(), byte("byte_start"), byte("byte_end"))
        {
            let path = Path::new(file);
            let path = path.strip_prefix(&self.root).unwrap_or(path);
            if path.is_relative() {
                places.push((path.to_string_lossy().into_owned(), start..end));
            }
        }
        if span["expansion"]["span"].is_object() {
            self.gather_span(&span["expansion"]["span"], places);
        }
    }
}

fn binary(message: &Value) -> Option<TestBinary> {
    if message["profile"]["test"] != true {
        return None;
    }
    let manifest = Path::new(message["manifest_path"].as_str()?);
    let directory = manifest.parent()?;
    Some(TestBinary {
        package: directory.file_name()?.to_str()?.to_owned(),
        name: message["target"]["name"].as_str()?.to_owned(),
        path: message["executable"].as_str()?.into(),
        directory: directory.to_owned(),
    })
}
