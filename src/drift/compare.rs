//! Compares two descriptions of a schema.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::catalog::fingerprints::Thing;

pub struct Difference<'a> {
    pub object: &'a str,
    pub expected: Option<&'a String>,
    pub found: Option<&'a String>,
}

impl Difference<'_> {
    pub fn problem(&self) -> &'static str {
        match (self.expected, self.found) {
            (Some(_), None) => "missing",
            (None, Some(_)) => "unexpected",
            _ => "different",
        }
    }
}

/// Returns the differences, ordered by object. If an object is missing or unexpected as a whole, its parts are omitted.
/// Ignored objects and their parts are omitted too, and so are partitions that were added to a table that is expected.
pub fn differences<'a>(expected: &'a [Thing], found: &'a [Thing], ignored: &HashSet<&str>) -> Vec<Difference<'a>> {
    let (expected, found) = (by_object(expected), by_object(found));
    let objects: BTreeSet<&str> = expected.keys().chain(found.keys()).copied().collect();
    let is_on_one_side = |object: &str| expected.contains_key(object) != found.contains_key(object);
    let is_ignored = |object: &str| {
        let mut next = Some(object);
        while let Some(object) = next {
            if ignored.contains(object) {
                return true;
            }
            next = expected.get(object).or(found.get(object)).map(|thing| thing.parent.as_str());
        }
        false
    };
    let mut differences = Vec::new();
    for object in objects {
        let (wanted, got) = (expected.get(object), found.get(object));
        let is_part_of_omitted = wanted.iter().chain(got.iter()).any(|thing| is_on_one_side(&thing.parent));
        let is_added = wanted.is_none() && got.is_some_and(|thing| is_added_partition(thing, &expected, &found));
        if wanted.map(|thing| &thing.definition) != got.map(|thing| &thing.definition)
            && !is_part_of_omitted
            && !is_ignored(object)
            && !is_added
        {
            let definition = |thing: &&'a Thing| &thing.definition;
            differences.push(Difference { object, expected: wanted.map(definition), found: got.map(definition) });
        }
    }
    differences
}

/// Reports whether this is a partition of an expected table, or of such a partition. Jobs add partitions, for each month
/// for example.
fn is_added_partition(thing: &Thing, expected: &BTreeMap<&str, &Thing>, found: &BTreeMap<&str, &Thing>) -> bool {
    let Some((_, parent)) = thing.definition.split_once("TABLE PARTITION OF ") else {
        return false;
    };
    let is_parent = |object: &str| {
        let table = object.strip_prefix("table ");
        table.is_some_and(|table| parent.strip_prefix(table).is_some_and(|rest| rest.starts_with(' ')))
    };
    expected.keys().any(|object| is_parent(object))
        || found.iter().any(|(object, parent)| is_parent(object) && is_added_partition(parent, expected, found))
}

/// Returns the things that were created, dropped or changed between the two lists.
pub fn changed(before: Vec<Thing>, after: Vec<Thing>) -> Vec<Thing> {
    let (old, new): (HashSet<Thing>, HashSet<Thing>) = (before.into_iter().collect(), after.into_iter().collect());
    old.symmetric_difference(&new).cloned().collect()
}

fn by_object(things: &[Thing]) -> BTreeMap<&str, &Thing> {
    things.iter().map(|thing| (thing.object.as_str(), thing)).collect()
}
