//! Checks the layers of src/: a module uses only the modules of lower layers, and the files of a folder depend on each
//! other in one direction only. Reads the sources, so that a dependency in the wrong direction fails here before others
//! build on it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The layers, top first. Modules of the same layer do not use each other.
const LAYERS: [&[&str]; 13] = [
    &["lib"],
    &["api"],
    &["drift", "fleet"],
    &["people", "tenants"],
    &["migrations"],
    &["schema"],
    &["protection"],
    &["isolation"],
    &["access"],
    &["catalog"],
    &["settings"],
    &["pg"],
    &["model"],
];
/// The module that every layer may use.
const SHARED: &str = "error";

/// The maximum number of lines of a file.
const MAX_LINES: usize = 400;

/// Returns the sources, sorted: the path below `src` without extension and without `mod`, and the text.
fn sources() -> Vec<(Vec<String>, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../src");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let relative = path.strip_prefix(&root).expect("a path in src").with_extension("");
                let parts: Vec<String> = relative
                    .iter()
                    .map(|part| part.to_string_lossy().into_owned())
                    .filter(|part| part != "mod")
                    .collect();
                found.push((parts, fs::read_to_string(&path).expect("a source")));
            }
        }
    }
    found.retain(|(path, _)| path[0] != "bin");
    found.sort();
    found
}

/// Returns the paths that a source names with `crate::` or `super::`, from the crate's root. Comments are ignored.
fn named_paths(path: &[String], source: &str) -> BTreeSet<Vec<String>> {
    let code: String = source.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n");
    let mut found = BTreeSet::new();
    for (place, _) in code.match_indices("crate::") {
        expand(&mut found, Vec::new(), &code[place + "crate::".len()..]);
    }
    for (place, _) in code.match_indices("super::") {
        // The second half of `super::super::` has been read with the first.
        if code[..place].ends_with("super::") {
            continue;
        }
        let (mut parent, mut rest) = (path.to_vec(), &code[place..]);
        while let Some(after) = rest.strip_prefix("super::") {
            parent.pop();
            rest = after;
        }
        expand(&mut found, parent, rest);
    }
    found
}

/// Adds the paths that the text begins with: `a::b`, or `{a, b::c}`.
fn expand(found: &mut BTreeSet<Vec<String>>, prefix: Vec<String>, text: &str) {
    if let Some(list) = text.strip_prefix('{') {
        let mut depth = 0;
        let mut item = String::new();
        for character in list.chars() {
            match character {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    expand(found, prefix.clone(), item.trim());
                    item.clear();
                    continue;
                }
                _ => {}
            }
            item.push(character);
        }
        return expand(found, prefix, item.trim());
    }
    let name: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    if name.is_empty() {
        return;
    }
    let rest = &text[name.len()..];
    let mut path = prefix;
    path.push(name);
    match rest.strip_prefix("::") {
        Some(rest) => expand(found, path, rest),
        None => {
            found.insert(path);
        }
    }
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// Returns what is wrong if module `from` uses module `to`, or None.
fn violation(from: &str, to: &str) -> Option<String> {
    if from == to || to == SHARED {
        return None;
    }
    match (layer_of(from), layer_of(to)) {
        (Some(above), Some(below)) if above < below => None,
        (Some(_), Some(_)) => Some(format!("{from} -> {to} is not a dependency on a lower layer")),
        _ => Some(format!("{from} -> {to}: not assigned to a layer")),
    }
}

/// Returns the dependencies between modules that violate the layers, with the file that contains each.
fn violations(sources: &[(Vec<String>, String)]) -> Vec<String> {
    let mut wrong = BTreeSet::new();
    for (path, source) in sources {
        for to in named_paths(path, source) {
            // In lib.rs, crate:: can name items of the crate's root.
            if layer_of(&to[0]).is_none() && to[0] != SHARED {
                continue;
            }
            if let Some(violation) = violation(&path[0], &to[0]) {
                wrong.insert(format!("src/{}.rs: {violation}", path.join("/")));
            }
        }
    }
    wrong.into_iter().collect()
}

/// Returns the files that each file uses. A re-export by a folder's `mod` names only the folder, so it is not resolved
/// to a file.
fn file_dependencies(sources: &[(Vec<String>, String)]) -> BTreeMap<String, BTreeSet<String>> {
    let files: BTreeSet<String> = sources.iter().map(|(path, _)| path.join("::")).collect();
    let mut dependencies = BTreeMap::new();
    for (path, source) in sources {
        let from = path.join("::");
        let mut to = BTreeSet::new();
        for mut name in named_paths(path, source) {
            while !name.is_empty() && !files.contains(&name.join("::")) {
                name.pop();
            }
            let name = name.join("::");
            // A folder's own mod.rs declares its files.
            let is_own_folder =
                from == name || from.starts_with(&format!("{name}::")) || name.starts_with(&format!("{from}::"));
            if !name.is_empty() && !is_own_folder {
                to.insert(name);
            }
        }
        dependencies.insert(from, to);
    }
    dependencies
}

/// Returns a cycle of files, if there is one.
fn cycle(dependencies: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn visit(
        file: &str,
        dependencies: &BTreeMap<String, BTreeSet<String>>,
        done: &mut BTreeSet<String>,
        path: &mut Vec<String>,
    ) -> Option<Vec<String>> {
        if let Some(place) = path.iter().position(|one| one == file) {
            return Some(path[place..].to_vec());
        }
        if done.contains(file) {
            return None;
        }
        path.push(file.to_string());
        let found = dependencies.get(file).into_iter().flatten().find_map(|next| visit(next, dependencies, done, path));
        path.pop();
        done.insert(file.to_string());
        found
    }
    let mut done = BTreeSet::new();
    dependencies.keys().find_map(|file| visit(file, dependencies, &mut done, &mut Vec::new()))
}

#[test]
fn modules_use_only_lower_layers() {
    let wrong = violations(&sources());
    assert!(wrong.is_empty(), "dependencies on a layer that is not lower:\n{}", wrong.join("\n"));
}

#[test]
fn every_module_has_a_layer() {
    let modules: BTreeSet<String> = sources().into_iter().map(|(path, _)| path[0].clone()).collect();
    let unknown: Vec<_> = modules.iter().filter(|name| layer_of(name).is_none() && *name != SHARED).collect();
    assert!(unknown.is_empty(), "no layer for {unknown:?}");
}

#[test]
fn files_have_no_cycles() {
    let found = cycle(&file_dependencies(&sources()));
    assert!(found.is_none(), "a cycle: {}", found.unwrap_or_default().join(" -> "));
}

#[test]
fn files_are_short() {
    let long: Vec<_> = sources()
        .iter()
        .map(|(path, source)| (path.join("/"), source.lines().count()))
        .filter(|(_, lines)| *lines > MAX_LINES)
        .collect();
    assert!(long.is_empty(), "files of more than {MAX_LINES} lines: {long:?}");
}

/// Proves that the test can fail: it finds a forbidden dependency, however it is written.
#[test]
fn a_forbidden_dependency_is_found() {
    let file = |path: &str, source: &str| (path.split('/').map(String::from).collect::<Vec<_>>(), source.to_string());
    for source in [
        "use crate::tenants::create;",
        "use crate::{error::Result, tenants};",
        "fn f() { crate::tenants::create::create() }",
        "use super::super::tenants;",
        "use crate::model::{\n    ids,\n};\nuse crate::{\n    pg,\n    tenants::{create, clone},\n};",
    ] {
        let found = violations(&[file("access/rules", source)]);
        assert_eq!(found, ["src/access/rules.rs: access -> tenants is not a dependency on a lower layer"], "{source}");
    }
    let allowed = "// crate::tenants is above\nuse crate::catalog::tenants;\nuse crate::model::Slug;";
    assert!(violations(&[file("access/rules", allowed)]).is_empty());
}

#[test]
fn a_cycle_is_found() {
    let file = |path: &str, source: &str| (path.split('/').map(String::from).collect::<Vec<_>>(), source.to_string());
    let found = cycle(&file_dependencies(&[
        file("access/cache", "use super::rules;"),
        file("access/rules", "use super::cache::{self, Moment};"),
    ]));
    assert_eq!(found, Some(vec!["access::cache".to_string(), "access::rules".to_string()]));
}
