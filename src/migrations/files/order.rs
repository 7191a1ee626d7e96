//! Whether a directory and what is registered make one sequence.

use std::collections::BTreeSet;

use super::assemble::Migration;
use crate::catalog::migrations::{self, Registered};
use crate::catalog::{Catalog, applied};
use crate::error::{Error, Result};
use crate::migrations::version::Version;

/// Numbers of more digits are dates and times, which have gaps.
const MAX_DIGITS: usize = 6;
/// Of missing numbers, in an error.
const MAX_RANGES: usize = 5;

/// What has a gap or comes late is refused. Repeatable migrations have no place in the sequence.
pub fn check(catalog: &Catalog, files: &[Migration]) -> Result<()> {
    let registered: Vec<Registered> =
        migrations::registered(catalog)?.into_iter().filter(|there| !there.repeatable).collect();
    let files: Vec<&Migration> = files.iter().filter(|file| !file.version.is_repeatable()).collect();
    refuse_missing_numbers(&files, &registered)?;
    refuse_missing_files(&files, &registered)?;
    refuse_latecomers(catalog, &files, &registered)
}

/// 1, 2, 4: where all files are numbered so.
fn refuse_missing_numbers(files: &[&Migration], registered: &[Registered]) -> Result<()> {
    let Some(mut there) = files.iter().map(|file| small_number(&file.version.text)).collect::<Option<BTreeSet<u32>>>()
    else {
        return Ok(());
    };
    there.extend(registered.iter().filter_map(|migration| small_number(&migration.version)));
    let gaps: Vec<(u32, u32)> = there
        .iter()
        .zip(there.iter().skip(1))
        .filter(|(before, after)| *before + 1 < **after)
        .map(|(before, after)| (before + 1, after - 1))
        .collect();
    if gaps.is_empty() {
        return Ok(());
    }
    let show = |(from, to): &(u32, u32)| if from == to { from.to_string() } else { format!("{from} to {to}") };
    let mut missing = gaps.iter().take(MAX_RANGES).map(show).collect::<Vec<_>>().join(", ");
    if gaps.len() > MAX_RANGES {
        missing += " and more";
    }
    Err(Error::invalid(
        format!("there is no migration with version {missing}"),
        "Put the file there; where a number was left out on purpose, an empty one.",
    ))
}

fn small_number(version: &str) -> Option<u32> {
    (version.len() <= MAX_DIGITS && version.bytes().all(|b| b.is_ascii_digit())).then(|| version.parse().ok()).flatten()
}

/// What is registered and newer may come from a newer checkout.
fn refuse_missing_files(files: &[&Migration], registered: &[Registered]) -> Result<()> {
    let keys: BTreeSet<&str> = files.iter().map(|file| file.version.sort_key.as_str()).collect();
    let Some(newest) = keys.last() else {
        return Ok(());
    };
    let lost = registered.iter().find(|there| there.sort_key.as_str() < *newest && !keys.contains(&*there.sort_key));
    let Some(lost) = lost else {
        return Ok(());
    };
    Err(Error::conflict(
        format!("migration version \"{}\" ({}) is registered and has no file", lost.version, lost.name),
        "Put its file back, or remove it with tenant_migration_remove() if no tenant has applied it.",
    ))
}

/// A new version that some tenants would apply behind later ones, and others before them.
fn refuse_latecomers(catalog: &Catalog, files: &[&Migration], registered: &[Registered]) -> Result<()> {
    let is_new = |version: &Version| registered.iter().all(|there| there.sort_key != version.sort_key);
    let Some(first) = files.iter().find(|file| is_new(&file.version)) else {
        return Ok(());
    };
    // Without later ones there is no need to look through the ledger.
    if registered.iter().all(|there| there.sort_key < first.version.sort_key) {
        return Ok(());
    }
    let Some((newest, tenants)) = applied::newest_behind(catalog, &first.version.sort_key)? else {
        return Ok(());
    };
    let they = if tenants == 1 { "1 tenant has".to_string() } else { format!("{tenants} tenants have") };
    Err(Error::conflict(
        format!(
            "file \"{}\": version \"{}\" is new and comes before \"{newest}\", which {they} applied",
            first.file, first.version.text
        ),
        "Give it a later version, or register it with tenant_migration_add(), which accepts it.",
    ))
}
