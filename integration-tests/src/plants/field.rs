//! All plants, and what the compiler has against some of them.

use std::collections::{BTreeMap, BTreeSet};

use super::PLANTED;
use super::compile::{Cargo, Compiled, TestBinary};
use super::drawn::{Mutant, draw};
use super::own::{Own, Reason};
use super::source::{Place, Source};
use super::switch::{Switch, Switched};
use super::tree::Tree;
use crate::Failure;

/// A plant, wherever it comes from. Its number is its place in the field.
pub(super) struct Plant {
    /// Its name.
    pub(super) id: String,
    /// The crate it is for.
    pub(super) package: String,
    /// The file, from the root.
    pub(super) file: String,
    /// What goes wrong.
    pub(super) note: String,
    /// Why nothing catches it.
    pub(super) reason: Option<Reason>,
    /// The text that a drawn mutant has, and where.
    text: Option<(Place, String)>,
    /// How it gets into the code.
    pub(super) growth: Growth,
}

impl Plant {
    /// Whether cargo-mutants thought of it.
    pub(super) fn is_drawn(&self) -> bool {
        self.text.is_some()
    }

    /// Whether it is known to change nothing which a test could see.
    pub(super) fn is_equivalent(&self) -> bool {
        self.reason.as_ref().is_some_and(|reason| reason.equivalent)
    }
}

/// How a plant gets into the code.
pub(super) enum Growth {
    /// It is in the one build.
    Switch(Switch),
    /// It needs a build of its own.
    Alone,
    /// It is no program.
    Unviable,
}

/// All plants, and the files they are in.
pub(super) struct Field<'a> {
    tree: &'a Tree,
    sources: BTreeMap<String, Source>,
    /// All of them.
    pub(super) plants: Vec<Plant>,
}

/// Rounds of compiling until no plant is in the way; each takes out at least one.
const ROUNDS: usize = 40;

impl<'a> Field<'a> {
    /// A field without plants, in `tree`.
    pub(super) fn new(tree: &'a Tree) -> Self {
        Self { tree, sources: BTreeMap::new(), plants: Vec::new() }
    }

    /// Adds our own.
    pub(super) fn add_own(&mut self, plants: Vec<Own>) -> Result<(), Failure> {
        let mut gone = Vec::new();
        for own in plants {
            let number = self.plants.len();
            let file = format!("{}/{}", own.package, own.file);
            let switch = self.source(&file).and_then(|source| {
                let place = source.find(&own.find, own.within.as_deref())?;
                Switch::replace(number, source, place, &own.with)
            });
            match switch {
                Ok(switch) => self.plants.push(Plant {
                    id: own.id,
                    package: own.package,
                    file,
                    note: own.note,
                    reason: own.reason.map(|text| Reason { text, equivalent: own.equivalent }),
                    text: None,
                    growth: Growth::Switch(switch),
                }),
                Err(failure) => gone.push(format!("{} ({file}): {failure}", own.id)),
            }
        }
        if gone.is_empty() { Ok(()) } else { Err(format!("these plants no longer apply:\n{}", gone.join("\n")).into()) }
    }

    /// Adds `count` of `mutants`, drawn by `seed`.
    pub(super) fn add_drawn(
        &mut self,
        mutants: Vec<Mutant>,
        seed: u64,
        count: usize,
        reasons: &BTreeMap<String, Reason>,
    ) -> Result<(), Failure> {
        for mutant in draw(mutants, seed, count) {
            let number = self.plants.len();
            let source = self.source(&mutant.file)?;
            let place = mutant.place(source)?;
            let growth = mutant.switch(number, source, &place).map_or(Growth::Alone, Growth::Switch);
            let id = mutant.id();
            self.plants.push(Plant {
                reason: reasons.get(&id).cloned(),
                id,
                text: Some((place, mutant.replacement().to_owned())),
                package: mutant.package,
                file: mutant.file,
                note: mutant.name,
                growth,
            });
        }
        Ok(())
    }

    /// Takes out what does not compile: as a switch first, and for good what does not compile in a build of its own either.
    pub(super) fn weed(&mut self, cargo: &Cargo) -> Result<(), Failure> {
        for _ in 0..ROUNDS {
            let planted = self.plant()?;
            let compiled = cargo.check(None)?;
            if compiled.success {
                break;
            }
            for number in self.blame(&compiled, &planted)? {
                self.plants[number].growth = Growth::Alone;
            }
        }
        for number in 0..self.plants.len() {
            if matches!(self.plants[number].growth, Growth::Alone) {
                self.plant_alone(number)?;
                if !cargo.check(Some(&self.plants[number].package))?.success {
                    self.plants[number].growth = Growth::Unviable;
                }
                self.plant()?;
            }
        }
        Ok(())
    }

    /// Builds the tests of `packages`, or of all, with all switches in the code.
    pub(super) fn build(&self, cargo: &Cargo, packages: Option<&[&str]>) -> Result<Vec<TestBinary>, Failure> {
        let planted = self.plant()?;
        let mut compiled = cargo.tests(packages)?;
        if compiled.success && packages.is_none() {
            let interleavings = cargo.loom()?;
            compiled.binaries.extend(interleavings.binaries);
            compiled.complaints.extend(interleavings.complaints);
            compiled.success = interleavings.success;
        }
        if compiled.success {
            return Ok(compiled.binaries);
        }
        let blamed = self.blame(&compiled, &planted)?;
        let names: Vec<&str> = blamed.iter().map(|number| self.plants[*number].id.as_str()).collect();
        Err(format!("these do not compile with the tests: {}", names.join(", ")).into())
    }

    /// Puts a drawn mutant into its file as it is, without switches.
    pub(super) fn plant_alone(&self, number: usize) -> Result<(), Failure> {
        let plant = &self.plants[number];
        let (Some(source), Some((place, with))) = (self.sources.get(&plant.file), &plant.text) else { return Ok(()) };
        let text = format!("{}{with}{}", &source.text[..place.start], &source.text[place.end..]);
        self.tree.write_planted(&plant.file, &text)
    }

    /// What is in the field, in a sentence.
    pub(super) fn census(&self) -> String {
        let drawn = self.plants.iter().filter(|plant| plant.is_drawn()).count();
        let unviable = self.plants.iter().filter(|plant| matches!(plant.growth, Growth::Unviable)).count();
        let own = self.plants.len() - drawn;
        format!("{own} plants of our own, and {drawn} drawn by cargo-mutants, of which {unviable} do not compile")
    }

    fn source(&mut self, file: &str) -> Result<&Source, Failure> {
        if !self.sources.contains_key(file) {
            let source = Source::parse(self.tree.original(file)?).map_err(|failure| format!("{file}: {failure}"))?;
            self.sources.insert(file.to_owned(), source);
        }
        Ok(&self.sources[file])
    }

    /// Writes all switches.
    fn plant(&self) -> Result<BTreeMap<String, Switched>, Failure> {
        let mut switches: BTreeMap<String, Vec<Switch>> = BTreeMap::new();
        for plant in &self.plants {
            if let Growth::Switch(switch) = &plant.growth {
                switches.entry(plant.file.clone()).or_default().push(switch.clone());
            }
        }
        self.tree.plant(&PLANTED, &switches, self.plants.len())
    }

    /// Which plants the compiler complains of.
    fn blame(&self, compiled: &Compiled, planted: &BTreeMap<String, Switched>) -> Result<BTreeSet<usize>, Failure> {
        let mut blamed = BTreeSet::new();
        for complaint in &compiled.complaints {
            let told = |blame: fn(&Switched, &Place) -> Option<usize>| {
                complaint.places.iter().find_map(|(file, place)| blame(planted.get(file)?, place))
            };
            let culprit = told(Switched::blame).or_else(|| told(Switched::blame_arm));
            let Some(number) = culprit else {
                let (file, place) = complaint.places.first().cloned().unwrap_or_default();
                return Err(format!("{file}, bytes {place:?}: {}, and no plant is near", complaint.message).into());
            };
            let plant = &self.plants[number];
            if !plant.is_drawn() {
                return Err(format!("{} ({}) does not compile: {}", plant.id, plant.file, complaint.message).into());
            }
            blamed.insert(number);
        }
        Ok(blamed)
    }
}
