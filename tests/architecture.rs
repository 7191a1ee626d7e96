//! The floors of the house: each module knows those below it and none above, and files of a folder know each other one way
//! only. Read from the sources, so that an arrow up fails here before it grows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Top first. Modules of one floor do not know each other.
const FLOORS: [&[&str]; 13] = [
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
/// What every floor may use.
const GROUND: &str = "error";

/// As many lines as a file may have.
const MOST_LINES: usize = 400;

/// The sources: the path below `src` without the extension, `mod` left out, and the text.
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
                let inside = path.strip_prefix(&root).expect("a path in src").with_extension("");
                let parts: Vec<String> = inside
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

/// The paths that a source names with `crate::` or `super::`, from the root. Comments are left out.
fn named(path: &[String], source: &str) -> BTreeSet<Vec<String>> {
    let code: String = source.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n");
    let mut found = BTreeSet::new();
    for (place, _) in code.match_indices("crate::") {
        expand(&mut found, Vec::new(), &code[place + "crate::".len()..]);
    }
    for (place, _) in code.match_indices("super::") {
        // The second of `super::super::` has been read with the first.
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

/// Adds the paths that a text begins with: `a::b`, or `{a, b::c}`.
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

fn floor_of(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

/// What is wrong with a module's knowing another one, if anything is.
fn complaint(from: &str, to: &str) -> Option<String> {
    if from == to || to == GROUND {
        return None;
    }
    match (floor_of(from), floor_of(to)) {
        (Some(above), Some(below)) if above < below => None,
        (Some(_), Some(_)) => Some(format!("{from} -> {to} goes up or sideways")),
        _ => Some(format!("{from} -> {to}: not among the floors")),
    }
}

/// The arrows between modules that are wrong, with the file that each starts in.
fn wrong_arrows(sources: &[(Vec<String>, String)]) -> Vec<String> {
    let mut wrong = BTreeSet::new();
    for (path, source) in sources {
        for to in named(path, source) {
            // What lib.rs names with crate:: is the crate's root.
            if floor_of(&to[0]).is_none() && to[0] != GROUND {
                continue;
            }
            if let Some(complaint) = complaint(&path[0], &to[0]) {
                wrong.insert(format!("src/{}.rs: {complaint}", path.join("/")));
            }
        }
    }
    wrong.into_iter().collect()
}

/// The files that each file uses. One that a folder's `mod` re-exports is known by the folder's name alone, and left out.
fn arrows_between_files(sources: &[(Vec<String>, String)]) -> BTreeMap<String, BTreeSet<String>> {
    let files: BTreeSet<String> = sources.iter().map(|(path, _)| path.join("::")).collect();
    let mut arrows = BTreeMap::new();
    for (path, source) in sources {
        let from = path.join("::");
        let mut to = BTreeSet::new();
        for mut name in named(path, source) {
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
        arrows.insert(from, to);
    }
    arrows
}

/// A circle of files, if there is one.
fn circle(arrows: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn visit(
        file: &str,
        arrows: &BTreeMap<String, BTreeSet<String>>,
        done: &mut BTreeSet<String>,
        way: &mut Vec<String>,
    ) -> Option<Vec<String>> {
        if let Some(place) = way.iter().position(|one| one == file) {
            return Some(way[place..].to_vec());
        }
        if done.contains(file) {
            return None;
        }
        way.push(file.to_string());
        let found = arrows.get(file).into_iter().flatten().find_map(|next| visit(next, arrows, done, way));
        way.pop();
        done.insert(file.to_string());
        found
    }
    let mut done = BTreeSet::new();
    arrows.keys().find_map(|file| visit(file, arrows, &mut done, &mut Vec::new()))
}

#[test]
fn modules_know_only_the_floors_below() {
    let wrong = wrong_arrows(&sources());
    assert!(wrong.is_empty(), "arrows that go up:\n{}", wrong.join("\n"));
}

#[test]
fn every_module_is_on_a_floor() {
    let modules: BTreeSet<String> = sources().into_iter().map(|(path, _)| path[0].clone()).collect();
    let unknown: Vec<_> = modules.iter().filter(|name| floor_of(name).is_none() && *name != GROUND).collect();
    assert!(unknown.is_empty(), "no floor for {unknown:?}");
}

#[test]
fn files_know_each_other_one_way() {
    let found = circle(&arrows_between_files(&sources()));
    assert!(found.is_none(), "a circle: {}", found.unwrap_or_default().join(" -> "));
}

#[test]
fn files_are_short() {
    let long: Vec<_> = sources()
        .iter()
        .map(|(path, source)| (path.join("/"), source.lines().count()))
        .filter(|(_, lines)| *lines > MOST_LINES)
        .collect();
    assert!(long.is_empty(), "files of more than {MOST_LINES} lines: {long:?}");
}

/// The test can fail: arrows that are planted are found, however they are written.
#[test]
fn a_planted_arrow_is_found() {
    let file = |path: &str, source: &str| (path.split('/').map(String::from).collect::<Vec<_>>(), source.to_string());
    for source in [
        "use crate::tenants::create;",
        "use crate::{error::Result, tenants};",
        "fn f() { crate::tenants::create::create() }",
        "use super::super::tenants;",
        "use crate::model::{\n    ids,\n};\nuse crate::{\n    pg,\n    tenants::{create, clone},\n};",
    ] {
        let found = wrong_arrows(&[file("access/rules", source)]);
        assert_eq!(found, ["src/access/rules.rs: access -> tenants goes up or sideways"], "{source}");
    }
    let innocent = "// crate::tenants is above\nuse crate::catalog::tenants;\nuse crate::model::Slug;";
    assert!(wrong_arrows(&[file("access/rules", innocent)]).is_empty());
}

#[test]
fn a_planted_circle_is_found() {
    let file = |path: &str, source: &str| (path.split('/').map(String::from).collect::<Vec<_>>(), source.to_string());
    let found = circle(&arrows_between_files(&[
        file("access/cache", "use super::rules;"),
        file("access/rules", "use super::cache::{self, Moment};"),
    ]));
    assert_eq!(found, Some(vec!["access::cache".to_string(), "access::rules".to_string()]));
}
