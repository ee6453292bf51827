//! The modules of one crate, and the file that each path in them leads to.
//!
//! A path is followed as rustc does it: from `crate`, `super`, `self`, a child module or an imported name through
//! modules and re-exports to the file that defines the item. Macros are read like other code.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::house::tokens::{Token, attributes, group, starts, tokens, without_tests};

type Segments = Vec<String>;

/// A `use` or an inline path: where it stands, the inline module it stands in, and its segments.
#[derive(Debug)]
struct Mention {
    line: usize,
    inline: Segments,
    segments: Segments,
}

/// One file of a crate.
#[derive(Debug, Default)]
struct Module {
    file: PathBuf,
    /// Nothing but declarations of modules, re-exports and attributes.
    only_declares: bool,
    mentions: Vec<Mention>,
    /// Names that `use` brings in, and the path of each.
    imports: BTreeMap<String, Segments>,
    /// Modules of which `use …::*` brings in all names.
    globs: Vec<Segments>,
}

/// An edge of the file graph, or a path that leads to another member (`to` is its name then).
#[derive(Debug)]
pub(crate) struct Edge {
    pub(crate) from: PathBuf,
    pub(crate) line: usize,
    pub(crate) to: PathBuf,
}

/// A crate, read from its root file on. Keys are paths of modules; the root's is empty.
#[derive(Debug)]
pub(crate) struct Crate {
    modules: BTreeMap<Segments, Module>,
}

impl Crate {
    /// Reads the crate whose root is the file `root`.
    pub(crate) fn read(root: &Path) -> Self {
        let mut found = Self { modules: BTreeMap::new() };
        found.read_module(root.to_owned(), &[]);
        found
    }

    fn read_module(&mut self, file: PathBuf, path: &[String]) {
        let source = std::fs::read_to_string(&file)
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let mut module = Module { file, ..Module::default() };
        let mut reader = Reader {
            tokens: without_tests(&tokens(&source)),
            at: 0,
            code: 0,
            children: Vec::new(),
        };
        reader.read(&mut module);
        module.only_declares = reader.code == 0;
        let is_root = module.file.ends_with("mod.rs") || path.is_empty();
        let folder =
            if is_root { module.file.with_file_name("") } else { module.file.with_extension("") };
        self.modules.insert(path.to_vec(), module);
        for child in reader.children {
            let flat = folder.join(format!("{child}.rs"));
            let nested = folder.join(&child).join("mod.rs");
            let file = if flat.exists() { flat } else { nested };
            let child: Segments = path.iter().cloned().chain([child]).collect();
            self.read_module(file, &child);
        }
    }

    /// Returns every file of the crate.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        self.modules.values().map(|module| module.file.as_path())
    }

    /// Returns an edge for each path from one file to another, and for each to another member.
    pub(crate) fn edges(&self) -> Vec<Edge> {
        let mut found = Vec::new();
        for (path, module) in &self.modules {
            for mention in &module.mentions {
                let to =
                    self.target(path, &mention.inline, &mention.segments, &mut BTreeSet::new());
                let counts = |to: &PathBuf| *to != module.file && !module.only_declares;
                if let Some(to) = to.filter(counts) {
                    found.push(Edge { from: module.file.clone(), line: mention.line, to });
                }
            }
        }
        found
    }

    /// Returns the file or the member that `segments` leads to from the module at `path`. `None`: to neither, or to
    /// a file that only declares.
    fn target(
        &self,
        path: &[String],
        inline: &[String],
        segments: &[String],
        seen: &mut BTreeSet<Segments>,
    ) -> Option<PathBuf> {
        let absolute = self.absolute(path, inline, segments)?;
        if absolute[0].starts_with("ringest_") {
            return Some(PathBuf::from(&absolute[0]));
        }
        if !seen.insert(absolute.clone()) {
            return None;
        }
        let mut here: Segments = Vec::new();
        for (at, name) in absolute[1..].iter().enumerate() {
            let module = &self.modules[&here];
            let child: Segments = here.iter().cloned().chain([name.clone()]).collect();
            if self.modules.contains_key(&child) {
                here = child;
                continue;
            }
            let rest = &absolute[at + 2..];
            if let Some(import) = module.imports.get(name) {
                let onward: Segments = import.iter().chain(rest).cloned().collect();
                return self.target(&here, &[], &onward, seen).or_else(|| self.file(&here));
            }
            if module.only_declares {
                let onward = |glob: &Segments| {
                    glob.iter().chain([name]).chain(rest).cloned().collect::<Segments>()
                };
                return module
                    .globs
                    .iter()
                    .find_map(|glob| self.target(&here, &[], &onward(glob), seen));
            }
            break;
        }
        self.file(&here)
    }

    fn file(&self, path: &[String]) -> Option<PathBuf> {
        self.modules
            .get(path)
            .filter(|module| !module.only_declares)
            .map(|module| module.file.clone())
    }

    /// Returns `segments` from the crate's root on (`crate` in front), or from another member's name on.
    fn absolute(
        &self,
        path: &[String],
        inline: &[String],
        segments: &[String],
    ) -> Option<Segments> {
        let mut base: Segments =
            ["crate".to_owned()].iter().chain(path).chain(inline).cloned().collect();
        let (first, mut rest) = segments.split_first()?;
        match first.as_str() {
            "crate" => base.truncate(1),
            "self" => {}
            "super" => {
                base.pop();
                while rest.first().is_some_and(|one| one == "super") {
                    base.pop();
                    rest = &rest[1..];
                }
            }
            member if member.starts_with("ringest_") => return Some(segments.to_vec()),
            name => {
                let child: Segments = path.iter().cloned().chain([name.to_owned()]).collect();
                if let Some(import) =
                    self.modules.get(path).and_then(|module| module.imports.get(name))
                {
                    let known = ["crate", "self", "super"].contains(&import[0].as_str())
                        || import[0].starts_with("ringest_");
                    let onward: Segments = import.iter().chain(rest).cloned().collect();
                    return if known { self.absolute(path, inline, &onward) } else { None };
                }
                if !self.modules.contains_key(&child) {
                    return None;
                }
                base.push(name.to_owned());
            }
        }
        Some(base.into_iter().chain(rest.iter().cloned()).collect())
    }
}

/// Walks over the tokens of one file.
struct Reader {
    tokens: Vec<Token>,
    at: usize,
    /// Tokens that are neither declarations of modules nor `use`.
    code: usize,
    children: Vec<String>,
}

impl Reader {
    fn read(&mut self, module: &mut Module) {
        let mut inline: Vec<(String, usize)> = Vec::new();
        let mut depth = 0;
        while self.at < self.tokens.len() {
            let rest = &self.tokens[self.at..];
            let line = rest[0].line;
            let names: Segments = inline.iter().map(|(name, _)| name.clone()).collect();
            match rest[0].text.as_str() {
                "#" if attributes(rest) > 0 => self.at += attributes(rest),
                "pub" => {
                    let scoped = rest.get(1).is_some_and(|next| next.text == "(");
                    self.at += 1 + if scoped { group(&rest[1..]) } else { 0 };
                    let next = self.tokens.get(self.at).map_or("", |token| token.text.as_str());
                    self.code += usize::from(!["mod", "use"].contains(&next));
                }
                "mod" if rest.get(2).is_some_and(|end| end.text == ";") => {
                    self.children.push(rest[1].text.clone());
                    self.at += 3;
                }
                "mod" if rest.get(2).is_some_and(|open| open.text == "{") => {
                    inline.push((rest[1].text.clone(), depth));
                    (self.at, self.code) = (self.at + 2, self.code + 1);
                }
                "use" => {
                    self.at += 1;
                    self.tree(Vec::new(), line, &names, module);
                }
                _ => {
                    self.code += 1;
                    match rest[0].text.as_str() {
                        "{" => depth += 1,
                        "}" => {
                            depth -= 1;
                            if inline.last().is_some_and(|(_, opened)| *opened == depth) {
                                inline.pop();
                            }
                        }
                        _ => {}
                    }
                    self.path(line, &names, module);
                }
            }
        }
    }

    /// Reads a path of two segments or more, if one stands here.
    fn path(&mut self, line: usize, inline: &[String], module: &mut Module) {
        let inside = self.at > 0 && self.tokens[self.at - 1].text == "::";
        let mut segments = vec![self.tokens[self.at].text.clone()];
        let word = self.tokens[self.at].is_word();
        self.at += 1;
        if !word || inside {
            return;
        }
        while starts(&self.tokens[self.at..], "::")
            && self.tokens.get(self.at + 1).is_some_and(Token::is_word)
        {
            segments.push(self.tokens[self.at + 1].text.clone());
            self.at += 2;
        }
        if segments.len() > 1 {
            module.mentions.push(Mention { line, inline: inline.to_vec(), segments });
        }
    }

    /// Reads the rest of a `use`, whose segments so far are `prefix`, up to its `;`, `,` or `}`.
    fn tree(&mut self, mut prefix: Segments, line: usize, inline: &[String], module: &mut Module) {
        let mut alias = None;
        let mut leaf = true;
        while let Some(token) = self.tokens.get(self.at).cloned() {
            match token.text.as_str() {
                ";" => {
                    self.at += 1;
                    break;
                }
                "," | "}" => break,
                "{" => {
                    leaf = false;
                    self.at += 1;
                    while !starts(&self.tokens[self.at..], "}") {
                        let line = self.tokens[self.at].line;
                        self.tree(prefix.clone(), line, inline, module);
                        self.at += usize::from(starts(&self.tokens[self.at..], ","));
                    }
                }
                "*" => {
                    leaf = false;
                    module.globs.push(prefix.clone());
                    let mention =
                        Mention { line, inline: inline.to_vec(), segments: prefix.clone() };
                    module.mentions.push(mention);
                }
                "as" => {
                    alias = self.tokens.get(self.at + 1).map(|token| token.text.clone());
                    self.at += 1;
                }
                "::" => {}
                _ => prefix.push(token.text),
            }
            self.at += 1;
        }
        if leaf && !prefix.is_empty() {
            if prefix.len() > 1 && prefix.last().is_some_and(|last| last == "self") {
                prefix.pop();
            }
            module.mentions.push(Mention {
                line,
                inline: inline.to_vec(),
                segments: prefix.clone(),
            });
            let name = alias.or_else(|| prefix.last().cloned()).unwrap_or_default();
            module.imports.insert(name, prefix);
        }
    }
}
