//! How many descriptors a process may have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::Failure;

/// Raises the soft limit as far as it goes: what it is then.
pub(super) fn raise_limit() -> Result<usize, Failure> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    }
    Ok(limit.maximum.map_or(Ok(usize::MAX), usize::try_from)?)
}
