//! The number of crates that a program builds which depends on the library without its default features.

use std::collections::BTreeSet;
use std::process::Command;

/// Most crates besides ours.
const CRATES_MAX: usize = 30;

#[test]
fn the_library_alone_is_light() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let tree = Command::new(cargo)
        .args(["tree", "--package", "ringest", "--no-default-features", "--edges", "normal"])
        .args(["--prefix", "none", "--format", "{p}", "--locked", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let text = String::from_utf8(tree.stdout).unwrap();
    let crates: BTreeSet<_> = text
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| !name.starts_with("ringest"))
        .collect();
    assert!(crates.contains("io-uring"), "{crates:?}");
    assert!(
        crates.len() <= CRATES_MAX,
        "{} crates besides ours, at most {CRATES_MAX}: make a dependency optional: {crates:?}",
        crates.len()
    );
}
