//! Crates that are no members of the workspace: what they use is public.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

/// Runs the tests of the crate in the folder `name` beside this file, with the packages that the workspace has locked, and built where
/// those are.
#[track_caller]
pub(crate) fn passes_its_tests(name: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = root.join("tests/outside").join(name);
    fs::copy(root.join("../Cargo.lock"), folder.join("Cargo.lock")).expect("the workspace's lock file");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a folder for what is built");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut test = Command::new(cargo);
    test.args(["test", "--offline", "--quiet", "--manifest-path"]).arg(folder.join("Cargo.toml"));
    let ran = test.arg("--target-dir").arg(target).output().expect("cargo");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(ran.status.success(), "{name}: {}\n{}\n{}", ran.status, text(&ran.stdout), text(&ran.stderr));
}
