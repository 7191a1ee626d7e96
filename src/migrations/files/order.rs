//! Checks that the files of a directory and the registered migrations form one sequence.

use std::collections::BTreeSet;

use super::assemble::Migration;
use crate::catalog::migrations::{self, Registered};
use crate::catalog::{Catalog, applied};
use crate::error::{Error, Result};
use crate::migrations::version::Version;

/// Maximum number of digits of a consecutive number. Longer ones are dates and times, which have gaps.
const MAX_DIGITS: usize = 6;
/// Maximum number of ranges of missing numbers in an error message.
const MAX_RANGES: usize = 5;

/// Refuses gaps in the sequence, and new migrations that come before applied ones. Repeatable migrations are not part
/// of the sequence.
pub fn check(catalog: &Catalog, files: &[Migration]) -> Result<()> {
    let registered: Vec<Registered> =
        migrations::registered(catalog)?.into_iter().filter(|migration| !migration.repeatable).collect();
    let files: Vec<&Migration> = files.iter().filter(|file| !file.version.is_repeatable()).collect();
    refuse_missing_numbers(&files, &registered)?;
    refuse_missing_files(&files, &registered)?;
    refuse_late_versions(catalog, &files, &registered)
}

/// Refuses gaps such as in 1, 2, 4, if all versions are small numbers, and not timestamps for example.
fn refuse_missing_numbers(files: &[&Migration], registered: &[Registered]) -> Result<()> {
    let Some(mut numbers) =
        files.iter().map(|file| small_number(&file.version.text)).collect::<Option<BTreeSet<u32>>>()
    else {
        return Ok(());
    };
    numbers.extend(registered.iter().filter_map(|migration| small_number(&migration.version)));
    let gaps: Vec<(u32, u32)> = numbers
        .iter()
        .zip(numbers.iter().skip(1))
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
        "Add the file, or an empty file if the number was skipped on purpose.",
    ))
}

fn small_number(version: &str) -> Option<u32> {
    (version.len() <= MAX_DIGITS && version.bytes().all(|b| b.is_ascii_digit())).then(|| version.parse().ok()).flatten()
}

/// Refuses a directory that lacks the file of a registered migration. A migration newer than all files is accepted,
/// because it may have been registered from a newer checkout.
fn refuse_missing_files(files: &[&Migration], registered: &[Registered]) -> Result<()> {
    let keys: BTreeSet<&str> = files.iter().map(|file| file.version.sort_key.as_str()).collect();
    let Some(newest) = keys.last() else {
        return Ok(());
    };
    let is_missing =
        |migration: &&Registered| migration.sort_key.as_str() < *newest && !keys.contains(&*migration.sort_key);
    let Some(missing) = registered.iter().find(is_missing) else {
        return Ok(());
    };
    Err(Error::conflict(
        format!("migration version \"{}\" ({}) is registered and has no file", missing.version, missing.name),
        "Restore its file, or remove it with tenant_migration_remove() if no tenant has applied it.",
    ))
}

/// Refuses a new version before one that tenants have applied: these tenants would apply it after the later version,
/// other tenants before that.
fn refuse_late_versions(catalog: &Catalog, files: &[&Migration], registered: &[Registered]) -> Result<()> {
    let is_new = |version: &Version| registered.iter().all(|migration| migration.sort_key != version.sort_key);
    let Some(first) = files.iter().find(|file| is_new(&file.version)) else {
        return Ok(());
    };
    // If no later version is registered, there is no need to read the ledgers.
    if registered.iter().all(|migration| migration.sort_key < first.version.sort_key) {
        return Ok(());
    }
    let Some((newest, tenants)) = applied::newest_after(catalog, &first.version.sort_key)? else {
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
