//! Finds circles in a graph of files or folders.

use std::collections::{BTreeMap, BTreeSet};

/// Edges from each node to others, each with the places in the source that make it.
pub(crate) type Graph = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// Returns each set of nodes that can all reach one another, of two nodes or more.
pub(crate) fn circles(graph: &Graph) -> Vec<BTreeSet<String>> {
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        graph.keys().map(|node| (node.as_str(), reachable(graph, node))).collect();
    let mut found: Vec<BTreeSet<String>> = Vec::new();
    for (node, others) in &reached {
        if found.iter().any(|circle| circle.contains(*node)) {
            continue;
        }
        let back = |other: &&&str| {
            **other != *node && reached.get(**other).is_some_and(|far| far.contains(node))
        };
        let mut circle: BTreeSet<String> =
            others.iter().filter(back).map(|one| (*one).to_owned()).collect();
        if !circle.is_empty() {
            circle.insert((*node).to_owned());
            found.push(circle);
        }
    }
    found
}

fn reachable<'a>(graph: &'a Graph, from: &str) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    let mut next: Vec<&str> =
        graph.get(from).into_iter().flatten().map(|(to, _)| to.as_str()).collect();
    while let Some(node) = next.pop() {
        if seen.insert(node) {
            next.extend(graph.get(node).into_iter().flatten().map(|(to, _)| to.as_str()));
        }
    }
    seen
}

/// Returns the edges between the nodes of `circle`, a line each, with at most three places.
pub(crate) fn edges(graph: &Graph, circle: &BTreeSet<String>) -> String {
    let mut lines = String::new();
    for from in circle {
        for (to, places) in
            graph.get(from).into_iter().flatten().filter(|(to, _)| circle.contains(*to))
        {
            let shown = places.iter().take(3).map(String::as_str).collect::<Vec<_>>().join("  ");
            let more = places.len().saturating_sub(3);
            let more = if more == 0 { String::new() } else { format!("  and {more} more") };
            lines += &format!("    {from} -> {to}\n        {shown}{more}\n");
        }
    }
    lines
}
