//! The data that is sent: a file, over and over.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A file to be repeated as often as it takes. Any number of threads may read it at once.
pub struct Input {
    content: Content,
    /// Length of the file; the content repeats after so many bytes.
    period: u64,
}

enum Content {
    /// One or more whole repetitions.
    Memory(Vec<u8>),
    /// Read as it is needed, at positions of our own, so that readers do not move each other's.
    File { file: File, path: PathBuf },
}

/// Files below this are read once and kept.
const KEEP_BELOW: u64 = 64 << 20;

/// Short files are repeated in memory up to this, so that no write is cut short by the end of the file.
const REPEAT_TO: usize = 1 << 20;

impl Input {
    /// The regular file at `path`.
    ///
    /// # Errors
    /// One line that says what is wrong with it: it does not exist, cannot be read, is not a regular file, is empty.
    pub fn open(path: &Path) -> Result<Self, String> {
        let failed = |error: io::Error| format!("{}: {error}", shown(path));
        let refused = |why: &str| format!("{}: {why}", shown(path));
        // Asked before it is opened, because opening a FIFO waits for a writer.
        let metadata = std::fs::metadata(path).map_err(failed)?;
        if metadata.is_dir() {
            return Err(refused("is a directory, not a file"));
        }
        if !metadata.is_file() {
            return Err(refused("is not a regular file, and only those can be repeated"));
        }
        let file = File::open(path).map_err(failed)?;
        let length = metadata.len();
        if length >= KEEP_BELOW {
            return Ok(Self { content: Content::File { file, path: path.to_owned() }, period: length });
        }
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(file, KEEP_BELOW), &mut bytes).map_err(failed)?;
        Self::from_bytes(bytes).ok_or_else(|| refused("is empty"))
    }

    /// This program's own executable.
    ///
    /// # Errors
    /// One line that says why it cannot be had.
    pub fn own_executable() -> Result<Self, String> {
        let path = std::env::current_exe();
        path.map_err(|error| error.to_string())
            .and_then(|path| Self::open(&path))
            .map_err(|error| format!("the program's own executable cannot be read, give a --file: {error}"))
    }

    /// These bytes; `None` if there are none.
    #[must_use]
    pub fn from_bytes(mut bytes: Vec<u8>) -> Option<Self> {
        let period = bytes.len();
        if period == 0 {
            return None;
        }
        while bytes.len() < REPEAT_TO {
            bytes.extend_from_within(..); // twice as many whole repetitions
        }
        Some(Self { content: Content::Memory(bytes), period: period as u64 })
    }

    /// `total` bytes from the start of the file on.
    pub(crate) fn start(&self, total: u64) -> Source<'_> {
        Source { input: self, position: 0, left: total, buffer: Vec::new() }
    }

    /// `total` bytes from the middle of the file on: other bytes than [`start`](Self::start) gives.
    pub(crate) fn middle(&self, total: u64) -> Source<'_> {
        Source { position: self.period / 2, ..self.start(total) }
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input").field("period", &self.period).finish_non_exhaustive()
    }
}

/// `path` as part of one line: control characters are escaped.
fn shown(path: &Path) -> String {
    let mut line = String::new();
    for character in path.display().to_string().chars() {
        if character.is_control() {
            line.extend(character.escape_debug());
        } else {
            line.push(character);
        }
    }
    line
}

/// A place in an [`Input`], and how much is still to come.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    input: &'a Input,
    position: u64,
    left: u64,
    buffer: Vec<u8>,
}

impl Source<'_> {
    /// The next bytes, at least one and at most `most` of them; none when all have been given.
    ///
    /// # Errors
    /// What reading the file fails with, naming it; also if it became shorter meanwhile.
    pub(crate) fn next(&mut self, most: usize) -> io::Result<&[u8]> {
        let wanted = usize::try_from(self.left).map_or(most, |left| left.min(most));
        let given = match &self.input.content {
            Content::Memory(bytes) => {
                let rest = usize::try_from(self.position).ok().and_then(|start| bytes.get(start..)).unwrap_or(bytes);
                let given = rest.get(..wanted).unwrap_or(rest);
                self.position = (self.position + given.len() as u64) % bytes.len() as u64;
                given
            }
            Content::File { file, path } => {
                let rest = usize::try_from(self.input.period - self.position).unwrap_or(usize::MAX);
                self.buffer.resize(wanted.min(rest), 0);
                file.read_exact_at(&mut self.buffer, self.position)
                    .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", shown(path))))?;
                self.position = (self.position + self.buffer.len() as u64) % self.input.period;
                &self.buffer
            }
        };
        self.left -= given.len() as u64;
        Ok(given)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut source: Source<'_>, most: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            let part = source.next(most).unwrap();
            if part.is_empty() {
                return bytes;
            }
            assert!(part.len() <= most);
            bytes.extend_from_slice(part);
        }
    }

    #[test]
    fn the_content_repeats_without_a_seam_from_memory_and_from_the_file() {
        let content: Vec<u8> = (0..=250).collect();
        let kept = Input::from_bytes(content.clone()).unwrap();
        let path = std::env::temp_dir().join(format!("relay-input-{}", std::process::id()));
        std::fs::write(&path, &content).unwrap();
        let content_of = Content::File { file: File::open(&path).unwrap(), path: path.clone() };
        let streamed = Input { content: content_of, period: content.len() as u64 };
        std::fs::remove_file(&path).unwrap();

        let total = (REPEAT_TO + 5 * content.len() + 7) as u64;
        let start: Vec<u8> = content.iter().copied().cycle().take(total as usize).collect();
        let middle: Vec<u8> = content.iter().copied().cycle().skip(125).take(total as usize).collect();
        for input in [kept, streamed] {
            for most in [100, 64 * 1024] {
                assert!(all(input.start(total), most) == start);
                assert!(all(input.middle(total), most) == middle);
            }
        }
    }

    #[test]
    fn nothing_cannot_be_repeated() {
        assert!(Input::from_bytes(Vec::new()).is_none());
        assert_eq!(all(Input::from_bytes(vec![7]).unwrap().middle(3), 2), [7, 7, 7]);
    }

    #[test]
    fn what_is_no_file_is_refused_in_one_line_that_names_it() {
        for (path, why) in [("/", "is a directory"), ("/dev/zero", "regular file"), ("/no/such", "No such file")] {
            let error = Input::open(Path::new(path)).unwrap_err();
            assert!(error.starts_with(&format!("{path}: ")) && error.contains(why), "{error}");
        }
        let error = Input::open(Path::new("/no\n\u{1b}[2J/süch")).unwrap_err();
        assert!(error.starts_with("/no\\n\\u{1b}[2J/süch: "), "{error}");
    }
}
