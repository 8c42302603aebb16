//! The loop that ships, tasks and watches stand on the rest of the crate, which knows nothing of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What of the rest the upper room uses that is not public, the constructor `Error::timed_out` apart.
const PRIVATE: [&str; 3] = ["blocking::Within", "blocking::limit_of", "event_fd"];

/// Each file of the sources, by its path below them, without comments and its own tests.
fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut files) = (vec![root.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("\n#[cfg(all(test").next().unwrap().split("\n#[cfg(test)]").next().unwrap();
            let code: Vec<&str> = code.lines().map(|line| line.split("//").next().unwrap()).collect();
            files.push((path.strip_prefix(&root).unwrap().to_path_buf(), code.join("\n")));
        }
    }
    files
}

/// Whether it belongs to the upper room.
fn is_upper(path: &Path) -> bool {
    path.starts_with("tasks") || path == Path::new("tasks.rs")
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// What the `use` items and paths of `code` name: for `crate::a::{b, c}` that is `a::b` and `a::c`, for `crate::D` it is `D`.
fn used(code: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for path in code.split("crate::").skip(1) {
        let end = path.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(path.len());
        let (module, rest) = path.split_at(end);
        match rest.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
            Some((names, _)) => used.extend(words(names).map(|name| format!("{module}{name}"))),
            None => drop(used.insert(module.to_owned())),
        }
    }
    used
}

#[test]
fn nothing_that_channels_are_made_of_knows_the_loop_that_ships_tasks_or_watches() {
    let sources = sources();
    let face = &sources.iter().find(|(path, _)| path == Path::new("tasks.rs")).unwrap().1;
    let face = face.split(';').filter_map(|item| item.split("pub use ").nth(1)).flat_map(words);
    let names: BTreeSet<&str> =
        face.filter(|name| *name == "current_context" || name.starts_with(char::is_uppercase)).collect();
    assert!(
        ["EventLoop", "AioChannel", "WatchGuard", "current_context"].iter().all(|name| names.contains(name)),
        "{names:?}"
    );
    for (path, code) in sources.iter().filter(|(path, _)| !is_upper(path) && path != Path::new("lib.rs")) {
        let uses = code.split(';').filter(|item| item.trim_start().starts_with("use ")).flat_map(words);
        let known: Vec<&str> = uses.filter(|word| names.contains(word) || *word == "tasks").collect();
        assert!(known.is_empty() && !code.contains("tasks::"), "{} knows {known:?}", path.display());
    }
}

#[test]
fn tasks_and_watches_need_little_that_is_not_public() {
    let sources = sources();
    let lib = &sources.iter().find(|(path, _)| path == Path::new("lib.rs")).unwrap().1;
    let public: BTreeSet<&str> =
        lib.split("pub use ").skip(1).filter_map(|item| item.split(';').next()).flat_map(words).collect();
    let upper = sources.iter().filter(|(path, _)| is_upper(path));
    let used: BTreeSet<String> = upper.flat_map(|(_, code)| used(code)).collect();
    let private: Vec<&str> =
        used.iter().map(|name| &**name).filter(|name| *name != "tasks" && !public.contains(name)).collect();
    assert_eq!(private, PRIVATE);
}

/// The files of `layered`, each of which uses those in front of it alone.
const LAYERED: [&str; 15] = [
    "engine", "state", "bounds", "closers", "silence", "outbox", "deciding", "writing", "base", "reading", "handlers",
    "core", "parts", "opening", "closing",
];

#[test]
fn in_a_layer_the_arrows_go_one_way() {
    let sources = sources();
    let of_layered = sources.iter().filter_map(|(path, code)| Some((path.strip_prefix("layered").ok()?, code)));
    let mut files = 0;
    for (path, code) in of_layered {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let place = LAYERED.iter().position(|known| *known == name);
        let place = place.unwrap_or_else(|| panic!("{name} has no place"));
        let used = code.split("use super::").skip(1).filter_map(|item| item.split("::").next());
        for used in used.filter(|used| !used.contains(';')) {
            assert!(LAYERED[..place].contains(&used), "{name} uses {used}");
        }
        files += 1;
    }
    assert_eq!(files, LAYERED.len());
}
