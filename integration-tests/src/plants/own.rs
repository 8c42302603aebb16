//! Plants of our own: `integration-tests/plants/CRATE.toml`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use crate::Failure;

/// A file of plants.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bed {
    /// The crate they are for.
    #[serde(rename = "crate")]
    package: String,
    #[serde(rename = "plant")]
    plants: Vec<Own>,
}

/// One mistake that somebody might make.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Own {
    /// Its name.
    pub(super) id: String,
    /// The crate it is for.
    #[serde(skip)]
    pub(super) package: String,
    /// The file, in the crate.
    pub(super) file: String,
    /// The function it is in, where the code alone does not say so.
    #[serde(rename = "in")]
    pub(super) within: Option<String>,
    /// The code it replaces: whole statements, or a whole expression whose *value* is used; a place that is assigned to or
    /// borrowed would become a copy.
    pub(super) find: String,
    /// The code it has instead.
    pub(super) with: String,
    /// What goes wrong.
    pub(super) note: String,
    /// Why nothing catches it, if nothing does.
    pub(super) reason: Option<String>,
    /// Whether the reason is that it changes nothing which a test could see.
    #[serde(default)]
    pub(super) equivalent: bool,
}

/// Why mutants that cargo-mutants draws escape: `drawn.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reasons {
    #[serde(rename = "escape", default)]
    escapes: Vec<Escape>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Escape {
    id: String,
    reason: String,
    #[serde(default)]
    equivalent: bool,
}

/// Why no test catches a plant.
#[derive(Clone, Debug)]
pub(super) struct Reason {
    /// In a sentence.
    pub(super) text: String,
    /// Whether it is that the plant changes nothing which a test could see.
    pub(super) equivalent: bool,
}

/// The file with reasons for what is not ours.
const DRAWN: &str = "drawn.toml";

/// Reads all plants of our own, in the order of the files' names.
pub(super) fn read(directory: &Path) -> Result<Vec<Own>, Failure> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") && !path.ends_with(DRAWN) {
            files.push(path);
        }
    }
    files.sort();
    let mut all: Vec<Own> = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path)?;
        let bed: Bed = toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        for plant in bed.plants {
            if all.iter().any(|known| known.id == plant.id) {
                return Err(format!("two plants are named {}", plant.id).into());
            }
            all.push(Own { package: bed.package.clone(), ..plant });
        }
    }
    Ok(all)
}

/// Reads why drawn mutants escape, by their names.
pub(super) fn read_reasons(directory: &Path) -> Result<BTreeMap<String, Reason>, Failure> {
    let path = directory.join(DRAWN);
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let reasons: Reasons = toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let reason = |Escape { id, reason, equivalent }| (id, Reason { text: reason, equivalent });
    Ok(reasons.escapes.into_iter().map(reason).collect())
}
