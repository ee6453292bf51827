//! No circle between files of a member, none between its rooms (top folders), and no member that uses one above it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::house::graph::{Graph, circles, edges};
use crate::house::modules::Crate;

/// Members, lowest first, and the members that each may use. The program may use all.
const MEMBERS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("engine", &["base"]),
    ("records", &["base", "engine"]),
    ("ship", &["base", "engine", "records"]),
    ("client", &["base", "engine"]),
    ("load", &["base", "engine", "records"]),
    ("bench", &["base", "engine", "load"]),
    ("doctor", &["base", "engine"]),
];

/// Circles that are still to be cut, by the files or rooms in each. The test fails when one is gone, so that it is
/// taken off this list.
const KNOWN: &[&[&str]] = &[];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The graph of files and the graph of rooms of one crate, and its edges to other members.
#[derive(Default)]
struct Walls {
    files: Graph,
    rooms: Graph,
    members: BTreeMap<String, Vec<String>>,
}

/// Reads the crate at `root`. Names in the graphs are relative to `base`; the rooms are the folders and files in
/// `floor`.
fn read(base: &Path, root: &Path, floor: &Path) -> Walls {
    let mut walls = Walls::default();
    let name = |path: &Path| path.strip_prefix(base).unwrap_or(path).display().to_string();
    let room = |path: &Path| {
        let inside = path.strip_prefix(floor).ok()?;
        Some(name(&floor.join(inside.components().next()?)))
    };
    let found = Crate::read(root);
    for file in found.files() {
        walls.files.entry(name(file)).or_default();
    }
    for edge in found.edges() {
        let place = format!("{}:{}", name(&edge.from), edge.line);
        let add = |graph: &mut Graph, from: String, to: String| {
            graph.entry(to.clone()).or_default();
            graph.entry(from).or_default().entry(to).or_default().insert(place.clone());
        };
        if edge.to.extension().is_none() {
            walls.members.entry(name(&edge.to)).or_default().push(place);
            continue;
        }
        add(&mut walls.files, name(&edge.from), name(&edge.to));
        if let (Some(from), Some(to)) = (room(&edge.from), room(&edge.to))
            && from != to
        {
            add(&mut walls.rooms, from, to);
        }
    }
    walls
}

/// Returns the circles of both graphs: the names in each, and its edges as text.
fn all_circles(walls: &Walls) -> Vec<(BTreeSet<String>, String)> {
    let of = |graph: &Graph| -> Vec<_> {
        circles(graph).into_iter().map(|circle| (circle.clone(), edges(graph, &circle))).collect()
    };
    let mut found = of(&walls.files);
    for circle in of(&walls.rooms) {
        if !found.contains(&circle) {
            found.push(circle);
        }
    }
    found
}

fn every_crate() -> Vec<Walls> {
    let src = source();
    let member = |name: &str| read(&src, &src.join(name).join("lib.rs"), &src.join(name));
    let mut found: Vec<Walls> = MEMBERS.iter().map(|(name, _)| member(name)).collect();
    found.push(read(&src, &src.join("main.rs"), &src.join("cli")));
    found.push(read(&src, &src.join("lib.rs"), &src));
    found
}

#[test]
fn files_and_rooms_use_one_another_in_one_direction() {
    let mut known: Vec<BTreeSet<String>> =
        KNOWN.iter().map(|circle| circle.iter().map(|one| (*one).to_owned()).collect()).collect();
    let mut report = String::new();
    for (circle, edges) in every_crate().iter().flat_map(all_circles) {
        let before = known.len();
        known.retain(|one| *one != circle);
        if known.len() == before {
            let names: Vec<&str> = circle.iter().map(String::as_str).collect();
            report += &format!("a circle of {}:\n{edges}", names.join(", "));
        }
    }
    for gone in known {
        report += &format!(
            "this circle is cut; take it off KNOWN in tests/it/house/walls.rs: {gone:?}\n"
        );
    }
    assert!(report.is_empty(), "move what both sides need to a file of its own:\n{report}");
}

#[test]
fn members_use_only_members_below_them() {
    let mut report = String::new();
    for ((name, allowed), walls) in MEMBERS.iter().zip(every_crate()) {
        let allowed: Vec<String> = allowed.iter().map(|one| format!("ringest_{one}")).collect();
        for (used, places) in walls.members.iter().filter(|(used, _)| !allowed.contains(used)) {
            report += &format!("{name} uses {used}: {}\n", places.join("  "));
        }
        let manifest = source().join(name).join("Cargo.toml");
        let text = std::fs::read_to_string(&manifest).expect("a member has a Cargo.toml");
        for used in text.lines().filter(|line| line.starts_with("ringest-")) {
            let used: String =
                used.chars().take_while(|one| one.is_alphanumeric() || *one == '-').collect();
            if !allowed.contains(&used.replace('-', "_")) {
                report += &format!("{} names {used}\n", manifest.display());
            }
        }
    }
    assert!(report.is_empty(), "not in the table of tests/it/house/walls.rs:\n{report}");
}

/// A tree in which each kind of path makes an edge, with one circle of files and one of rooms.
#[test]
fn a_circle_in_a_made_up_tree_is_found() {
    let folder = std::env::temp_dir().join(format!("ringest-walls-{}", std::process::id()));
    let files = [
        ("lib.rs", "pub mod low; pub mod high; pub mod side;"),
        ("side.rs", "pub fn one() { let _ = ringest_other::two; }"),
        ("low/mod.rs", "pub mod inner; mod leaf; pub use inner::Thing;"),
        ("low/inner.rs", "use super::leaf::{self, other as another};\npub struct Thing;"),
        (
            "low/leaf.rs",
            "pub fn other() {}\nmacro_rules! m { () => { $crate::x }; }\nfn f() { super::Thing; }",
        ),
        ("high/mod.rs", "pub mod top; pub mod bottom;"),
        ("high/top.rs", "use crate::{low::Thing, side};\nfn f() { side::one() }"),
        ("high/bottom.rs", "pub struct Three;\n#[cfg(test)]\nuse crate::high::top;"),
    ];
    let write = |(name, text): &(&str, &str)| {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().expect("a file is in a folder"))
            .expect("a folder is made");
        std::fs::write(path, text).expect("a file is written");
    };
    files.iter().for_each(write);
    let look = || read(&folder, &folder.join("lib.rs"), &folder);
    let walls = look();
    let found = all_circles(&walls);
    assert_eq!(walls.members["ringest_other"], ["side.rs:1"]);
    assert_eq!(walls.files["high/top.rs"].keys().collect::<Vec<_>>(), ["low/inner.rs", "side.rs"]);
    let places = ["high/top.rs:1", "high/top.rs:2"].map(str::to_owned);
    assert_eq!(walls.files["high/top.rs"]["side.rs"], BTreeSet::from(places));
    assert!(walls.files["high/bottom.rs"].is_empty(), "{:?}", walls.files);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].1.contains("low/inner.rs -> low/leaf.rs\n        low/inner.rs:1"),
        "{}",
        found[0].1
    );
    assert!(
        found[0].1.contains("low/leaf.rs -> low/inner.rs\n        low/leaf.rs:3"),
        "{}",
        found[0].1
    );

    write(&("side.rs", "pub fn one() {}\nfn two(_: crate::high::bottom::Three) {}"));
    let circles: Vec<_> = all_circles(&look()).into_iter().map(|(circle, _)| circle).collect();
    let rooms = BTreeSet::from(["high".to_owned(), "side.rs".to_owned()]);
    assert!(circles.contains(&rooms), "{circles:?}");
    std::fs::remove_dir_all(folder).expect("the folder is removed");
}
