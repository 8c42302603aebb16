//! One promise and how it is tested.

use std::fmt;

/// The test of one promise, over what an `S` makes.
pub struct Clause<S: 'static> {
    name: &'static str,
    pub(crate) test: fn(&S),
}

impl<S> Clause<S> {
    pub(crate) const fn new(name: &'static str, test: fn(&S)) -> Self {
        Self { name, test }
    }

    /// What the clause is called: the promise, and what it says in short.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The number of the promise in `docs/contract.md`, such as `W10`.
    #[must_use]
    pub fn promise(&self) -> String {
        self.name.split('_').next().unwrap_or_default().to_uppercase()
    }
}

impl<S> Clone for Clause<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Clause<S> {}

impl<S> fmt::Debug for Clause<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The clause called `name`.
///
/// # Panics
/// If there is none.
pub(crate) fn named<S>(clauses: &[Clause<S>], name: &str) -> Clause<S> {
    let found = clauses.iter().find(|known| known.name == name);
    *found.unwrap_or_else(|| panic!("no clause is called `{name}`"))
}
