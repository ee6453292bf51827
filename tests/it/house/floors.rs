//! Limits on files and folders, and a doc line on each module.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::house::tokens::{starts, tokens, without_tests};

/// More files than this in a folder, and a newcomer searches instead of reading names.
const FILES_MAX: usize = 16;
/// Longer than this, and a file is about two things.
const LINES_MAX: usize = 500;
/// Files that are longer still, to be split. The test fails when one is short, so that it is taken off this list.
const KNOWN_LONG: &[&str] = &["src/engine/batch/arena.rs", "src/load/generator.rs"];

/// Returns every Rust file of the workspace.
fn rust_files() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders: Vec<PathBuf> =
        ["src", "tests", "benches"].iter().map(|one| root.join(one)).collect();
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the tree can be read") {
            let path = entry.expect("a folder of the tree can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                files.push(path);
            }
        }
    }
    assert!(files.len() > 100, "these are not the files of the tree: {files:?}");
    files
}

/// Returns the name of a file from the root of the workspace on.
fn named(file: &Path) -> String {
    file.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap_or(file).display().to_string()
}

#[test]
fn folders_are_small() {
    let mut counts: BTreeMap<PathBuf, usize> = BTreeMap::new();
    for file in rust_files() {
        *counts.entry(file.with_file_name("")).or_default() += 1;
    }
    let large: Vec<_> = counts.into_iter().filter(|(_, count)| *count > FILES_MAX).collect();
    assert!(large.is_empty(), "split these folders, {FILES_MAX} files are the limit: {large:#?}");
}

#[test]
fn files_are_short() {
    let lines =
        |file: &PathBuf| std::fs::read_to_string(file).map_or(0, |text| text.lines().count());
    let long: Vec<String> = rust_files()
        .into_iter()
        .filter(|file| lines(file) > LINES_MAX)
        .map(|file| named(&file))
        .collect();
    let new: Vec<_> = long.iter().filter(|file| !KNOWN_LONG.contains(&file.as_str())).collect();
    assert!(new.is_empty(), "split these files, {LINES_MAX} lines are the limit: {new:#?}");
    let gone: Vec<_> =
        KNOWN_LONG.iter().filter(|known| !long.iter().any(|file| file == *known)).collect();
    assert!(gone.is_empty(), "these files are short; take them off KNOWN_LONG: {gone:#?}");
}

#[test]
fn each_module_has_a_doc_line() {
    let mut bare = Vec::new();
    for file in rust_files()
        .into_iter()
        .filter(|file| file.components().any(|part| part.as_os_str() == "src"))
    {
        let source = std::fs::read_to_string(&file).expect("a file of the tree can be read");
        let lines: Vec<&str> = source.lines().collect();
        let found = without_tests(&tokens(&source));
        let declared =
            found.windows(3).filter(|window| starts(window, "mod") && window[2].text == ";");
        for name in declared.map(|window| &window[1]) {
            let above = lines[..name.line - 1]
                .iter()
                .rev()
                .find(|line| !line.trim_start().starts_with("#["));
            let documented = above.is_some_and(|line| line.trim_start().starts_with("///"));
            if !documented {
                bare.push(format!("{}:{}: mod {}", file.display(), name.line, name.text));
            }
        }
    }
    assert!(bare.is_empty(), "say in a line what each of these is: {bare:#?}");
}
