//! The house keeps its order: who may import whom, what `domain` never does, how large a file gets.

use sha2::Digest as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The rooms in order: each may use those before it, and itself.
const ROOMS: &[&str] = &["domain", "config", "store", "journal", "gateway", "admin", "cli"];
/// Rooms of one rank: `store` and `journal` know nothing of each other.
const STRANGERS: &[(&str, &str)] = &[("journal", "store")];
const LINES_MAX: usize = 500;

/// Words that have no place in the pure room, and why.
const IMPURE: &[(&str, &str)] = &[
    ("tokio", "no async and no I/O"),
    ("hyper::", "no I/O"),
    ("async ", "no async"),
    (".await", "no async"),
    ("std::fs", "no I/O"),
    ("std::net::Tcp", "no I/O"),
    ("std::io", "no I/O"),
    ("std::thread", "no threads"),
    ("SystemTime", "no clock: `now` is a parameter"),
    ("Instant", "no clock: `now` is a parameter"),
    ("getrandom", "no randomness: it is a parameter"),
    ("rand::", "no randomness: it is a parameter"),
    ("RandomState", "no randomness: it is a parameter"),
    ("std::env", "no environment"),
    ("rusqlite", "no I/O"),
    ("tracing", "it decides, others tell"),
];

fn files(room: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut rooms = vec![room.to_owned()];
    while let Some(room) = rooms.pop() {
        for entry in std::fs::read_dir(&room).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                rooms.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Code without its comments; line numbers stay.
fn code(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| line.split("//").next().unwrap_or_default().to_owned()).collect()
}

/// The code without what is only built for tests, which may use what it likes; line numbers stay.
fn product(path: &Path) -> Vec<String> {
    if test_modules().iter().any(|module| path.starts_with(module) || path == module.with_extension("rs")) {
        return Vec::new();
    }
    without_tests(code(path))
}

/// Every module that a file declares behind `#[cfg(test)]`, as its path without an extension.
fn test_modules() -> &'static [PathBuf] {
    static FOUND: OnceLock<Vec<PathBuf>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let mut found = Vec::new();
        for file in files(&root().join("src")) {
            let is_room = ["mod.rs", "lib.rs", "main.rs"].iter().any(|name| file.ends_with(name));
            let room = if is_room { file.parent().unwrap().to_owned() } else { file.with_extension("") };
            let mut announced = false;
            for line in code(&file).iter().filter(|line| !line.trim().is_empty()) {
                let name = line.trim().strip_suffix(';').and_then(|item| item.rsplit_once("mod "));
                found.extend(name.filter(|_| announced).map(|(_, name)| room.join(name)));
                announced =
                    line.trim() == "#[cfg(test)]" || (announced && line.trim_start().starts_with("#["));
            }
        }
        found
    })
}

/// Empties every item behind a `#[cfg(test)]`: to its semicolon, or to the brace that closes it.
fn without_tests(mut lines: Vec<String>) -> Vec<String> {
    let mut closing = None;
    let mut announced = false;
    for line in &mut lines {
        if line.trim() == "#[cfg(test)]" {
            announced = true;
        } else if announced && !line.trim().is_empty() && !line.trim_start().starts_with("#[") {
            announced = false;
            let indent = line.len() - line.trim_start().len();
            if !line.trim_end().ends_with([';', '}']) {
                closing = Some(format!("{}}}", " ".repeat(indent)));
            }
            line.clear();
        } else if let Some(last) = &closing {
            if line.trim_end() == last {
                closing = None;
            }
            line.clear();
        }
    }
    lines
}

/// The first of `lines`, with those that close a list of imports which it opens.
fn statement(lines: &[String]) -> String {
    let open = lines.first().is_some_and(|line| line.contains("crate::{") && !line.contains(';'));
    let count = if open { lines.iter().position(|line| line.contains(';')).unwrap_or_default() } else { 0 };
    lines.iter().take(count + 1).map(String::as_str).collect()
}

/// Rooms that `line` names behind `crate::`, also as `crate::{a, b}`.
fn imports(line: &str) -> Vec<&'static str> {
    let named = |room: &&&str| {
        line.contains(&format!("crate::{room}::"))
            || line.contains(&format!("crate::{room};"))
            || line
                .split_once("crate::{")
                .is_some_and(|(_, list)| list.split([',', '{', '}', ':']).any(|word| word.trim() == **room))
    };
    ROOMS.iter().filter(named).copied().collect()
}

/// Whether `from` may use `to`.
fn allowed(from: &str, to: &str) -> bool {
    let rank = |room: &str| ROOMS.iter().position(|known| *known == room);
    rank(to) <= rank(from) && !STRANGERS.contains(&(from, to))
}

#[test]
fn imports_run_one_way() {
    let mut wrong = Vec::new();
    for room in ROOMS {
        for file in files(&root().join("src").join(room)) {
            let lines = product(&file);
            for number in 0..lines.len() {
                for other in
                    imports(&statement(&lines[number..])).into_iter().filter(|other| !allowed(room, other))
                {
                    wrong.push(format!("{}:{}: {room} may not use {other}", file.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_import_table_sees_every_spelling() {
    assert_eq!(imports("use crate::store::Store;"), ["store"]);
    assert_eq!(imports("use crate::{domain::time::Millis, gateway};"), ["domain", "gateway"]);
    let torn =
        ["use crate::{", "    store::Store,", "    admin,", "};", "use crate::cli;"].map(str::to_owned);
    assert_eq!(imports(&statement(&torn)), ["store", "admin"]);
    assert_eq!(imports("fn x() -> crate::cli::Exit {"), ["cli"]);
    assert!(allowed("cli", "domain") && allowed("gateway", "store") && allowed("store", "store"));
    assert!(!allowed("domain", "config") && !allowed("store", "gateway") && !allowed("journal", "store"));
}

#[test]
fn only_what_is_built_for_tests_is_left_out() {
    let text =
        "a\n#[cfg(test)]\nmod tests;\nb\n#[cfg(test)]\n#[path = \"x\"]\nmod more {\n    {\n    }\n}\nc";
    let lines = without_tests(text.lines().map(str::to_owned).collect());
    let kept: Vec<&str> = lines
        .iter()
        .map(|line| line.as_str())
        .filter(|line| !line.is_empty() && !line.contains('#'))
        .collect();
    assert_eq!(kept, ["a", "b", "c"]);
}

#[test]
fn the_domain_is_pure() {
    let mut wrong = Vec::new();
    for file in files(&root().join("src/domain")) {
        for (number, line) in product(&file).iter().enumerate() {
            for (word, why) in IMPURE.iter().filter(|(word, _)| line.contains(word)) {
                wrong.push(format!("{}:{}: `{word}`: {why}", file.display(), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_file_is_longer_than_it_can_be_read() {
    let all = ["src", "tests", "benches"].map(|room| root().join(room));
    for file in all.iter().filter(|room| room.is_dir()).flat_map(|room| files(room)) {
        let lines = std::fs::read_to_string(&file).unwrap().lines().count();
        assert!(
            lines <= LINES_MAX,
            "{} has {lines} lines, more than {LINES_MAX}: it is two nouns",
            file.display()
        );
    }
}

#[test]
fn nothing_is_left_for_later_and_no_test_is_switched_off() {
    // Assembled, so that this file does not find itself.
    let words = [["todo", "!("], ["unimplemented", "!("], ["#[ig", "nore"], ["dbg", "!("]]
        .map(|parts| parts.concat());
    let mut wrong = Vec::new();
    let all = ["src", "tests", "benches"].map(|room| root().join(room));
    for file in all.iter().filter(|room| room.is_dir()).flat_map(|room| files(room)) {
        for (number, line) in code(&file).iter().enumerate() {
            for word in words.iter().filter(|word| line.contains(word.as_str())) {
                wrong.push(format!("{}:{}: {word}", file.display(), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn there_is_one_integration_binary() {
    let entries = std::fs::read_dir(root().join("tests")).unwrap().map(|entry| entry.unwrap().file_name());
    let main = std::fs::read_to_string(root().join("tests/main.rs")).unwrap();
    for name in entries.filter_map(|name| name.to_str()?.strip_suffix(".rs").map(str::to_owned)) {
        assert!(name == "main" || main.contains(&format!("mod {name};")), "tests/{name}.rs is never built");
    }
}

/// Functions go by names that say with which dependencies they were built; a profile of others helps nobody, and says nothing.
#[test]
fn the_profile_of_release_builds_was_recorded_with_these_dependencies() {
    let lock = sha2::Sha256::digest(std::fs::read(root().join("Cargo.lock")).unwrap());
    let lock: String = lock.iter().map(|byte| format!("{byte:02x}")).collect();
    let recorded = std::fs::read_to_string(root().join("benches/profile/recorded")).unwrap();
    assert!(
        recorded.lines().any(|line| line.split_whitespace().next() == Some(&lock)),
        "benches/profile was recorded with another Cargo.lock: run benches/profile/record"
    );
}
