//! The SQL of the documentation prints what the documentation says. The ```sql blocks of a page run in order in one
//! psql session, which begins as a superuser in an empty database. A ```text block directly after a ```sql block is the
//! output that psql must print. Pages other than the README continue its quick start. Blocks marked "```sql no-run" do
//! not run.

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
                Some(expected) if normalized(expected) != normalized(output) => {
                    format!("{page} says\n{}\npsql prints\n{}", normalized(expected), normalized(output))
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

/// Returns the lines of a section. All other lines are empty, so that line numbers stay the same.
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
    // Whether only blank lines are between this line and the last ```sql block.
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
            "text" if right_after => {
                examples.last_mut().expect("the block is right after an example").expected = Some(body)
            }
            _ => {}
        }
        right_after = tag.trim() == "sql";
    }
    examples
}

/// Runs the examples and returns the output of each, with errors among the rows, as in a terminal.
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

/// Normalizes output: replaces ids and times, which differ between runs, and the column widths that depend on them.
fn normalized(text: &str) -> String {
    let mut lines = Vec::new();
    for line in text.lines() {
        let words: Vec<String> = line.split_whitespace().map(placeholder).collect();
        let line = words.join(" ");
        if !line.is_empty() && !line.starts_with("You are now connected to database") {
            lines.push(squeeze(&line));
        }
    }
    lines.join("\n")
}

/// Replaces a uuid, a date, a time or a long hexadecimal number by a placeholder.
fn placeholder(word: &str) -> String {
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

/// Shortens each run of dashes to one, because `-----+--` is as wide as its columns.
fn squeeze(line: &str) -> String {
    let mut out = String::new();
    for c in line.chars() {
        if !(c == '-' && out.ends_with('-')) {
            out.push(c);
        }
    }
    out
}
