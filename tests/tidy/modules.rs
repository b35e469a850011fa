//! The modules of the workspace and who refers to whom. A path counts for the module that holds what it names: re-exports are
//! followed, across crates as well. Holds no rule.

use crate::paths::{Named, paths};
use crate::text::Text;
use std::collections::{BTreeMap, BTreeSet};

/// A module: its crate, then the names down to it.
pub type Module = Vec<String>;

/// A module refers to another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// Who refers.
    pub from: Module,
    /// To whom.
    pub to: Module,
    /// `file:line`.
    pub place: String,
}

/// A file of a crate.
struct File {
    path: String,
    names: Vec<Named>,
}

/// Modules by their names, with their files.
#[derive(Default)]
pub struct Modules {
    files: BTreeMap<Module, File>,
}

/// Reexports that are followed one after the other at most.
const DEPTH: usize = 16;

impl Modules {
    /// Adds the file of a module.
    pub fn add(&mut self, module: &[&str], path: &str, text: &Text) {
        let module = module.iter().map(|name| name.to_string()).collect();
        self.files.insert(module, File { path: path.to_owned(), names: paths(&text.code) });
    }

    /// Every reference from one module to another of the workspace.
    pub fn references(&self) -> BTreeSet<Reference> {
        let mut references = BTreeSet::new();
        for (from, file) in &self.files {
            for named in &file.names {
                let Some(to) = self.resolve(from, &named.segments, named.alias.is_some(), DEPTH) else { continue };
                if to != *from {
                    let place = format!("{}:{}", file.path, named.line);
                    references.insert(Reference { from: from.clone(), to, place });
                }
            }
        }
        references
    }

    /// The module that holds what a path names, if that is one of the workspace.
    fn resolve(&self, at: &Module, path: &[String], import: bool, depth: usize) -> Option<Module> {
        let depth = depth.checked_sub(1)?;
        let first = path.first()?;
        let is_crate = || self.files.contains_key(std::slice::from_ref(first));
        let (mut module, rest) = match first.as_str() {
            "crate" => (at[..1].to_vec(), &path[1..]),
            "self" => (at.clone(), &path[1..]),
            "super" => {
                let up = path.iter().take_while(|segment| *segment == "super").count();
                (at[..at.len().checked_sub(up)?.max(1)].to_vec(), &path[up..])
            }
            _ if self.files.contains_key(&child(at, first)) => (child(at, first), &path[1..]),
            _ if !import && self.import(at, first).is_some() => (at.clone(), path),
            _ if is_crate() => (vec![first.clone()], &path[1..]),
            _ => return None,
        };
        for (n, name) in rest.iter().enumerate() {
            let below = child(&module, name);
            if self.files.contains_key(&below) {
                module = below;
            } else if let Some(named) = self.import(&module, name) {
                let path = [&named.segments, &rest[n + 1..]].concat();
                return self.resolve(&module, &path, true, depth);
            } else {
                break;
            }
        }
        Some(module)
    }

    /// What a module imports under a name.
    fn import(&self, module: &Module, name: &str) -> Option<&Named> {
        let file = self.files.get(module)?;
        file.names.iter().find(|named| named.alias.as_deref() == Some(name))
    }
}

fn child(module: &Module, name: &str) -> Module {
    module.iter().cloned().chain([name.to_owned()]).collect()
}

/// Modules of one folder that refer to each other in a circle, each with the references that close it.
pub fn circles(references: &BTreeSet<Reference>) -> Vec<Vec<&Reference>> {
    // Who refers to whom among the modules of a folder, by folder.
    let mut folders: BTreeMap<&[String], BTreeMap<(&str, &str), &Reference>> = BTreeMap::new();
    for reference in references {
        let (from, to) = (&reference.from, &reference.to);
        let common = from.iter().zip(to).take_while(|(a, b)| a == b).count();
        // A module and its own parts are one thing, and crates are Cargo's business.
        if common > 0 && common < from.len().min(to.len()) {
            let pair = (from[common].as_str(), to[common].as_str());
            folders.entry(&from[..common]).or_default().entry(pair).or_insert(reference);
        }
    }
    let mut circles = Vec::new();
    for pairs in folders.values() {
        let reach = reachable(pairs.keys().copied());
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        for name in reach.keys() {
            let both =
                |other: &&str| reach[name].contains(other) && reach.get(other).is_some_and(|of| of.contains(name));
            let circle: BTreeSet<&str> = reach[name].iter().filter(|other| both(other)).copied().collect();
            if circle.len() > 1 && seen.insert(name) {
                seen.extend(&circle);
                let inside = pairs.iter().filter(|((a, b), _)| circle.contains(a) && circle.contains(b));
                circles.push(inside.map(|(_, reference)| *reference).collect());
            }
        }
    }
    circles
}

/// Whom each module reaches over one reference or several.
fn reachable<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let mut reach: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (from, to) in pairs {
        reach.entry(from).or_default().insert(to);
    }
    loop {
        let mut grown = false;
        for name in reach.keys().copied().collect::<Vec<_>>() {
            let next: BTreeSet<&str> = reach[name].iter().filter_map(|to| reach.get(to)).flatten().copied().collect();
            if let Some(known) = reach.get_mut(name) {
                let before = known.len();
                known.extend(next);
                grown |= known.len() > before;
            }
        }
        if !grown {
            return reach;
        }
    }
}

/// The names of a circle's modules: `a::b, a::c`.
pub fn members(circle: &[&Reference]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for reference in circle {
        let common = reference.from.iter().zip(&reference.to).take_while(|(a, b)| a == b).count();
        names.insert(reference.from[..=common].join("::"));
        names.insert(reference.to[..=common].join("::"));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules(files: &[(&[&str], &str)]) -> Modules {
        let mut modules = Modules::default();
        files.iter().for_each(|(module, text)| modules.add(module, &module.join("/"), &Text::new(text)));
        modules
    }

    fn pairs(modules: &Modules) -> Vec<(String, String)> {
        modules.references().iter().map(|r| (r.from.join("::"), r.to.join("::"))).collect()
    }

    #[test]
    fn paths_lead_to_the_module_that_holds_what_they_name() {
        let found = modules(&[
            (&["a"], "pub mod store; mod user; pub use store::Run;"),
            (&["a", "store"], "mod run; pub use run::{Run, Row as Line}; pub const STEP: u8 = 0;"),
            (&["a", "store", "run"], "pub struct Run; pub struct Row;"),
            (&["a", "user"], "use crate::store::{self, Line};\nfn f() { store::STEP; store::run::g(); }"),
            (&["b"], "use a::Run;\nfn f() { a::store::STEP; std::mem::drop(1); }"),
        ]);
        let pair = |from: &str, to: &str| (from.to_owned(), to.to_owned());
        let expected = [
            pair("a", "a::store::run"),
            pair("a::store", "a::store::run"),
            pair("a::user", "a::store"),
            pair("a::user", "a::store::run"),
            pair("b", "a::store"),
            pair("b", "a::store::run"),
        ];
        let found: BTreeSet<_> = pairs(&found).into_iter().collect();
        assert_eq!(found, BTreeSet::from(expected));
    }

    #[test]
    fn circles_are_found_among_the_modules_of_a_folder() {
        let parent: (&[&str], &str) = (&["a"], "mod x; mod y; mod z; pub use x::X; pub fn help() {}");
        let chain = modules(&[
            parent,
            (&["a", "x"], "use super::help;"),
            (&["a", "y"], "use crate::X;"),
            (&["a", "z"], "use super::y::Y;"),
        ]);
        assert!(circles(&chain.references()).is_empty(), "parts may use what their module holds itself");
        let circle = modules(&[
            parent,
            (&["a", "x"], "mod deep;"),
            (&["a", "x", "deep"], "use crate::z::Z;"),
            (&["a", "y"], "use crate::X;"),
            (&["a", "z"], "fn f() { super::y::g() }"),
        ]);
        let references = circle.references();
        let found = circles(&references);
        assert_eq!(found.len(), 1);
        assert_eq!(members(&found[0]), BTreeSet::from(["a::x", "a::y", "a::z"].map(String::from)));
        assert_eq!(found[0].len(), 3);
    }
}
