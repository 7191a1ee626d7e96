//! The docs promise what their SQL prints. The ```sql blocks of a page run in order, in one psql session that begins as a superuser in an
//! empty database; a ```text block right after one is what psql must print. Pages other than the README continue its quick start. A block
//! marked "```sql no-run" is not run.

use std::fmt::Write;

use crate::cases;
use crate::support::database::feed;
use crate::support::{Db, paths};

cases![examples_print_what_the_docs_say];

const README: &str = "README.md";
const PAGES: [&str; 6] = [
    README,
    "docs/identity.md",
    "docs/isolation.md",
    "docs/migrations.md",
    "docs/operations.md",
    "docs/from-fluxbase-and-nile.md",
];
const END_OF_BLOCK: &str = "=== end of block ===";

#[derive(Clone)]
struct Example {
    page: &'static str,
    line: usize,
    sql: String,
    expected: Option<String>,
}

fn examples_print_what_the_docs_say(db: &Db) {
    let quick_start = examples(README, &section(&read(README), "## Quick start"));
    let mut wrong = String::new();
    for page in PAGES {
        let mut all = examples(page, &read(page));
        assert!(all.iter().any(|e| e.expected.is_some()), "{page} has no ```sql block with a ```text block after it");
        if page != README {
            all.splice(0..0, quick_start.iter().cloned());
        }
        let database = Db::empty(&db.cluster);
        let outputs = run(&database, &all);
        drop(database);
        // The quick start of the next page creates it again.
        db.superuser().batch_execute("DROP ROLE my_app").expect("nothing depends on the role");
        for (Example { page, line, expected, .. }, output) in all.iter().zip(&outputs) {
            let problem = match expected {
                Some(expected) if normal(expected) != normal(output) => {
                    format!("{page} says\n{}\npsql prints\n{}", normal(expected), normal(output))
                }
                None if output.contains("ERROR:") => output.clone(),
                _ => continue,
            };
            let _ = writeln!(wrong, "{page}, line {line}:\n{problem}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

fn read(page: &str) -> String {
    std::fs::read_to_string(paths::root().join(page)).unwrap_or_else(|error| panic!("{page}: {error}"))
}

/// The lines of a section, and empty lines in place of the others, so that line numbers stay.
fn section(text: &str, heading: &str) -> String {
    let mut is_in_it = false;
    let lines = text.lines().map(|line| {
        if line.starts_with("## ") {
            is_in_it = line == heading;
        }
        if is_in_it { line } else { "" }
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn examples(page: &'static str, text: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let mut lines = text.lines().enumerate();
    // Whether nothing but blank lines lies between here and the last example.
    let mut right_after = false;
    while let Some((number, line)) = lines.next() {
        let Some(tag) = line.strip_prefix("```") else {
            right_after &= line.trim().is_empty();
            continue;
        };
        let body: String =
            lines.by_ref().take_while(|(_, l)| !l.starts_with("```")).map(|(_, l)| l.to_owned() + "\n").collect();
        match tag.trim() {
            "sql" => examples.push(Example { page, line: number + 1, sql: body, expected: None }),
            "text" if right_after => examples.last_mut().expect("it is right after one").expected = Some(body),
            _ => {}
        }
        right_after = tag.trim() == "sql";
    }
    examples
}

/// What each example prints, errors among the rows as a terminal shows them.
fn run(database: &Db, examples: &[Example]) -> Vec<String> {
    let mut script = String::new();
    for example in examples {
        let _ = writeln!(script, "{}\\echo {END_OF_BLOCK}", example.sql);
    }
    let mut psql = database.command("sh");
    psql.args(["-c", "exec \"$0\" -X 2>&1"]).arg(database.bin("psql"));
    let output = String::from_utf8(feed(&mut psql, &script).stdout).expect("psql prints UTF-8");
    let parts: Vec<String> = output.split(END_OF_BLOCK).map(str::to_owned).collect();
    assert_eq!(parts.len(), examples.len() + 1, "psql ended early:\n{output}");
    parts
}

/// Ids and times differ from run to run, and the width of columns with them.
fn normal(text: &str) -> String {
    let mut lines = Vec::new();
    for line in text.lines() {
        let words: Vec<String> = line.split_whitespace().map(word).collect();
        let line = words.join(" ");
        if !line.is_empty() && !line.starts_with("You are now connected to database") {
            lines.push(squeeze(&line));
        }
    }
    lines.join("\n")
}

/// A uuid, a time or another long hexadecimal number stands for any other.
fn word(word: &str) -> String {
    let inner = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    if uuid::Uuid::try_parse(inner).is_ok() {
        return word.replace(inner, "<uuid>");
    }
    // psql prints a time as a date and a time of day: two words, the second with the zone.
    let shape: String = inner.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
    if shape == "9999-99-99" {
        return word.replace(inner, "<date>");
    }
    if shape.starts_with("99:99:99") {
        return word.replace(inner, "<time>");
    }
    if let Some((prefix, hex)) = inner.rsplit_once('_')
        && hex.len() >= 32
        && hex.chars().all(|c| c.is_ascii_hexdigit())
    {
        return word.replace(inner, &format!("{prefix}_<hex>"));
    }
    word.to_owned()
}

/// `-----+--` is as wide as its column.
fn squeeze(line: &str) -> String {
    let mut out = String::new();
    for c in line.chars() {
        if !(c == '-' && out.ends_with('-')) {
            out.push(c);
        }
    }
    out
}
