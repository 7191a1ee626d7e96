//! Checks that what is written in two places agrees: the extension's script and the files that it is generated from,
//! and the documentation and the files and tests that it names.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns the root of the clone.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the clone")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the files below a folder with this extension, as paths from the root.
fn files_below(folder: &str, extension: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}

/// Returns the pages of the documentation.
fn pages() -> Vec<String> {
    let mut pages = files_below("docs", "md");
    let others = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "tests/README.md"];
    pages.extend(others.map(String::from));
    pages
}

/// Returns the texts between backticks in the documentation, with the page that contains them.
fn quoted_in_docs() -> Vec<(String, String)> {
    let mut quoted = Vec::new();
    for page in pages() {
        for line in read(&page).lines() {
            quoted.extend(line.split('`').skip(1).step_by(2).map(|text| (page.clone(), text.to_string())));
        }
    }
    quoted
}

#[test]
fn the_script_is_up_to_date() {
    let status = Command::new(root().join("scripts/schema.sh")).arg("--check").status().expect("a script");
    assert!(status.success(), "run `make schema`");
}

/// Checks that every function is in sql/functions, so that the script contains it with volatility, cost, comment and
/// grants, in the order of sql/.
#[test]
fn functions_are_written_as_sql() {
    let sql: String = files_below("sql/functions", "sql").iter().map(|file| read(file)).collect();
    for file in files_below("src/api", "rs") {
        let source = read(&file);
        for (place, _) in source.match_indices("#[pg_extern") {
            let rest = &source[place..];
            assert!(rest.starts_with("#[pg_extern(sql = false)]"), "{file}: {}", rest.lines().next().unwrap_or(""));
            let name = rest.split("fn ").nth(1).and_then(|rest| rest.split(['(', '<']).next()).expect("a function");
            let wrapper = format!("'{name}_wrapper'");
            assert!(name == "relation_in" || sql.contains(&wrapper), "{file}: {name} is in no file of sql/functions");
        }
    }
}

#[test]
fn the_docs_name_existing_files() {
    let is_path = |text: &str| {
        let roots = ["src/", "sql/", "tests/", "scripts/", "docs/", "examples/", "benches/"];
        roots.iter().any(|root| text.starts_with(root)) && !text.contains([' ', '*', '<'])
    };
    let missing: BTreeSet<_> =
        quoted_in_docs().into_iter().filter(|(_, text)| is_path(text) && !root().join(text).exists()).collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

/// In the table, `attacks::keys::case` names a file and a case, and a name alone that follows it names a case of the
/// same file.
#[test]
fn the_table_of_threats_names_existing_tests() {
    let page = read("docs/security.md");
    let table =
        page.split("## Threats and their tests").nth(1).expect("the table").split("\n## ").next().expect("its end");
    let mut count = 0;
    for line in table.lines().filter(|line| line.starts_with("| ") && line.contains("::")) {
        let tests = line.rsplit(" | ").next().expect("a column");
        let mut file = None;
        for name in tests.split('`').skip(1).step_by(2) {
            let mut parts: Vec<&str> = name.split("::").collect();
            let case = if parts.len() == 2 { None } else { parts.pop() };
            if parts.len() == 2 {
                file = Some(format!("tests/{}/{}.rs", parts[0], parts[1]));
            }
            let file = file.as_deref().unwrap_or_else(|| panic!("no file before {name} in: {line}"));
            let source = read(file);
            if let Some(case) = case {
                assert!(source.contains(&format!("fn {case}(db: &Db)")), "{file} has no case {case}");
            }
            count += 1;
        }
    }
    assert!(count > 100, "the table was not parsed: {count} tests");
}

/// Checks that every file of the suite is declared: a file without a `mod` declaration is not compiled, and nothing
/// else fails.
#[test]
fn every_file_of_the_suite_is_declared() {
    for file in files_below("tests", "rs") {
        let parts: Vec<&str> = file.split('/').collect();
        let [_, folder, name] = parts[..] else { continue };
        let module = name.trim_end_matches(".rs");
        if module != "mod" {
            let declared = read(&format!("tests/{folder}/mod.rs"));
            assert!(declared.contains(&format!("mod {module};")), "{file} is not in tests/{folder}/mod.rs");
        }
    }
}

/// The anchor that a Markdown heading gets.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn links_lead_to_files_and_headings() {
    let mut wrong = Vec::new();
    for page in pages() {
        let folder = Path::new(&page).parent().expect("a folder").to_path_buf();
        let text: String = read(&page).split('`').step_by(2).collect();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { page.clone() } else { folder.join(path).to_string_lossy().into_owned() };
            let is_there = root().join(&target).exists();
            let has_heading = || {
                read(&target)
                    .lines()
                    .any(|line| line.starts_with('#') && anchor(line.trim_start_matches(['#', ' '])) == heading)
            };
            if !is_there || (!heading.is_empty() && !has_heading()) {
                wrong.push(format!("{page}: {link}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
