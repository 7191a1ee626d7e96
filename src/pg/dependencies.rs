//! Dependencies between objects. They are read from pg_depend with a catalog snapshot, as PostgreSQL itself reads them.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use pgrx::{check_for_interrupts, pg_sys};

use super::spi::Row;
use crate::error::Result;

// OIDs of pg_depend and its indexes, which pgrx's bindings omit.
const PG_DEPEND: u32 = 2608;
const DEPENDER_INDEX: u32 = 2673;
const REFERENCE_INDEX: u32 = 2674;

/// A database object, or a column of one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Object {
    pub class: pg_sys::Oid,
    pub oid: pg_sys::Oid,
    column: i32,
}

struct Dependency {
    depender: Object,
    referred: Object,
    kind: u8,
}

/// The kinds of dependency of an object that is a part of another one and is dropped with it, such as the index of a
/// partition.
const PART_KINDS: [u8; 2] = [b'i', b'P'];
const OF_EXTENSION: u8 = b'e';

impl Object {
    pub fn schema(oid: pg_sys::Oid) -> Self {
        Object { class: pg_sys::NamespaceRelationId, oid, column: 0 }
    }

    /// Drops the object if it still exists, and everything that depends on it. Runs no code of its owner. Extensions to
    /// which the object was added are kept, because other roles may use them.
    pub fn drop_cascade(self) -> Result<()> {
        if self.dependencies()?.is_empty() {
            return Ok(());
        }
        let address = pg_sys::ObjectAddress { classId: self.class, objectId: self.oid, objectSubId: self.column };
        self.leave_extension()?;
        // SAFETY: the object existed just now. If it has been dropped since, PostgreSQL raises an error.
        unsafe {
            pg_sys::CommandCounterIncrement();
            pg_sys::performDeletion(&address, pg_sys::DropBehavior::DROP_CASCADE, 0);
        }
        Ok(())
    }

    /// Removes the object and its parts from the extensions to which they were added. Otherwise DROP ... CASCADE would
    /// drop the extensions as well.
    pub fn leave_extension(self) -> Result<()> {
        // A table and its columns share one row.
        let mut seen = HashSet::new();
        for object in self.with_parts()? {
            if seen.insert((object.class, object.oid)) && object.is_itself_of_extension()? {
                let (extension, kind) = (pg_sys::ExtensionRelationId, OF_EXTENSION as std::ffi::c_char);
                // SAFETY: only deletes rows of pg_depend.
                unsafe { pg_sys::deleteDependencyRecordsForClass(object.class, object.oid, extension, kind) };
            }
        }
        Ok(())
    }

    /// Returns the object and, recursively, its parts.
    fn with_parts(self) -> Result<Vec<Object>> {
        let mut all = vec![self];
        let mut seen = HashSet::from([self]);
        let mut next = 0;
        while let Some(object) = all.get(next).copied() {
            let parts = object.dependents()?.into_iter().filter(|dependency| PART_KINDS.contains(&dependency.kind));
            all.extend(parts.map(|dependency| dependency.depender).filter(|part| seen.insert(*part)));
            next += 1;
        }
        Ok(all)
    }

    fn is_itself_of_extension(self) -> Result<bool> {
        // A column belongs to an extension with its table.
        Ok((Object { column: 0, ..self }).dependencies()?.iter().any(|dependency| dependency.kind == OF_EXTENSION))
    }

    /// Locks the object until the end of the transaction, so that no other transaction changes its dependencies. CREATE
    /// OR REPLACE FUNCTION does not respect the lock, but PostgreSQL raises an error if it conflicts with a drop.
    pub fn lock(self) {
        let mode = pg_sys::AccessExclusiveLock as pg_sys::LOCKMODE;
        // SAFETY: a transaction is open. Any OID may be locked, so the caller checks afterwards whether the object
        // exists.
        unsafe {
            if self.class == pg_sys::RelationRelationId {
                pg_sys::LockRelationOid(self.oid, mode);
            } else {
                pg_sys::LockDatabaseObject(self.class, self.oid, 0, mode);
            }
        }
    }

    /// Reports whether the object or a part of it belongs to an extension. DROP would then drop the extension as well,
    /// or be refused.
    pub fn is_of_extension(self) -> Result<bool> {
        for object in self.with_parts()? {
            if object.is_itself_of_extension()? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns what the object depends on. For a table, does not include what its columns depend on: a table may have
    /// many columns, and the same rows would be read for each.
    fn dependencies(self) -> Result<Vec<Dependency>> {
        rows(DEPENDER_INDEX, 1, self, Some(self.column))
    }

    /// Returns what depends on the object. For a table, includes what depends on its columns.
    fn dependents(self) -> Result<Vec<Dependency>> {
        rows(REFERENCE_INDEX, 4, self, (self.column != 0).then_some(self.column))
    }

    /// Returns the object that this one is a part of, or this one.
    fn whole(mut self) -> Result<Self> {
        while let Some(part) = self.dependencies()?.into_iter().find(|dependency| PART_KINDS.contains(&dependency.kind))
        {
            self = part.referred;
        }
        Ok(self)
    }
}

/// The dependencies that a search has read so far. An object may depend on many columns of another one, with a row for
/// each.
#[derive(Default)]
struct Cache {
    wholes: HashMap<Object, Object>,
    /// Keyed by the class and OID of the referenced object, then by its column.
    dependents: HashMap<(pg_sys::Oid, pg_sys::Oid), HashMap<i32, Vec<(Object, u8)>>>,
}

impl Cache {
    fn whole(&mut self, object: Object) -> Result<Object> {
        Ok(match self.wholes.entry(object) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(unknown) => *unknown.insert(object.whole()?),
        })
    }

    /// Returns each dependent once for each kind of dependency.
    fn dependents(&mut self, object: Object) -> Result<Vec<(Object, u8)>> {
        let by_column = match self.dependents.entry((object.class, object.oid)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                let mut by_column: HashMap<i32, Vec<_>> = HashMap::new();
                for Dependency { depender, referred, kind } in (Object { column: 0, ..object }).dependents()? {
                    by_column.entry(referred.column).or_default().push((depender, kind));
                }
                unknown.insert(by_column)
            }
        };
        let columns = by_column.iter().filter(|(column, _)| object.column == 0 || **column == object.column);
        let mut seen = HashSet::new();
        Ok(columns
            .flat_map(|(_, dependents)| dependents)
            .copied()
            .filter(|dependent| seen.insert(*dependent))
            .collect())
    }
}

/// Returns class and OID of the objects in a schema, except those that are a part of another object there.
pub fn objects_in_schema(schema: pg_sys::Oid) -> Result<Vec<(pg_sys::Oid, pg_sys::Oid)>> {
    let found = Object::schema(schema).dependents()?;
    Ok(found.into_iter().map(|dependency| (dependency.depender.class, dependency.depender.oid)).collect())
}

/// The objects outside a schema that depend on objects in it, directly or indirectly.
pub struct Dependents {
    /// Each object precedes those that it depends on.
    pub objects: Vec<Object>,
    /// How many parts of these objects are dropped with them.
    pub parts: usize,
    /// False if the search has stopped early.
    pub is_complete: bool,
}

/// Finds the external dependents of a schema. Stops soon after it has found more than `limit`.
pub fn dependents_of_schema(schema: pg_sys::Oid, limit: usize) -> Result<Dependents> {
    let root = Object::schema(schema);
    let mut inside = HashSet::from([root]);
    let mut outside = HashSet::new();
    // For each object, those found to depend on it.
    let mut dependents_of: HashMap<Object, Vec<Object>> = HashMap::new();
    let mut parts: HashMap<Object, usize> = HashMap::new();
    let mut to_do = vec![(root, root)];
    let mut seen_parts = 0usize;
    let mut is_complete = true;
    let mut cache = Cache::default();
    while let Some((object, whole)) = to_do.pop() {
        for (depender, kind) in cache.dependents(object)? {
            if PART_KINDS.contains(&kind) {
                *parts.entry(whole).or_default() += 1;
                seen_parts += 1;
                to_do.push((depender, whole));
                continue;
            }
            let depending = cache.whole(depender)?;
            let is_inside = object == root || (kind != b'n' && inside.contains(&whole));
            let is_new = if is_inside {
                inside.insert(depending)
            } else {
                !inside.contains(&depending) && outside.insert(depending)
            };
            if !is_inside && depending != whole {
                dependents_of.entry(whole).or_default().push(depending);
            }
            if is_new {
                to_do.push((depending, depending));
                if depending != depender {
                    to_do.push((depender, depending));
                }
            }
        }
        // Objects count as outside until they turn out to be inside, and objects inside have parts too.
        let bound = inside.len().saturating_add(limit);
        if outside.len() > bound || seen_parts > bound.saturating_mul(8) {
            is_complete = false;
            break;
        }
    }
    outside.retain(|object| !inside.contains(object));
    let parts = outside.iter().filter_map(|object| parts.get(object)).sum();
    Ok(Dependents { objects: dependents_first(&outside, &dependents_of), parts, is_complete })
}

/// Sorts objects so that each precedes those that it depends on. In a cycle, the order is arbitrary.
fn dependents_first(objects: &HashSet<Object>, dependents_of: &HashMap<Object, Vec<Object>>) -> Vec<Object> {
    let mut order = Vec::with_capacity(objects.len());
    let mut seen = HashSet::new();
    for start in objects {
        // An object, and how many of its dependents have been visited.
        let mut path = vec![(*start, 0)];
        if !seen.insert(*start) {
            continue;
        }
        while let Some((object, next)) = path.last_mut() {
            let depending = dependents_of.get(object).and_then(|all| all.get(*next)).copied();
            *next += 1;
            match depending {
                Some(depending) if objects.contains(&depending) && seen.insert(depending) => path.push((depending, 0)),
                Some(_) => {}
                None => {
                    order.push(*object);
                    path.pop();
                }
            }
        }
    }
    order
}

/// Reads the rows of pg_depend in which the object is named, in the columns that begin with the number `first`. Without
/// `column`, the rows of all its columns are included.
fn rows(index: u32, first: i16, object: Object, column: Option<i32>) -> Result<Vec<Dependency>> {
    let condition = |number: i16, function: u32, value: pg_sys::Datum| {
        let mut condition = pg_sys::ScanKeyData::default();
        let equal = pg_sys::BTEqualStrategyNumber as u16;
        // SAFETY: initializes the structure passed, with a built-in function.
        unsafe { pg_sys::ScanKeyInit(&mut condition, number, equal, function.into(), value) };
        condition
    };
    let mut conditions = vec![
        condition(first, pg_sys::F_OIDEQ, object.class.into()),
        condition(first + 1, pg_sys::F_OIDEQ, object.oid.into()),
    ];
    conditions.extend(column.map(|column| condition(first + 2, pg_sys::F_INT4EQ, column.into())));
    check_for_interrupts!();
    let mut found = Vec::new();
    // SAFETY: a system catalog and its index. Everything opened is closed below or, after an error, by the end of the
    // (sub)transaction. Each row is read before the scan moves on.
    unsafe {
        let lock = pg_sys::AccessShareLock as i32;
        let table = pg_sys::table_open(PG_DEPEND.into(), lock);
        let (number, keys) = (conditions.len() as i32, conditions.as_mut_ptr());
        let scan = pg_sys::systable_beginscan(table, index.into(), true, std::ptr::null_mut(), number, keys);
        loop {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            let row = Row::of(tuple, (*table).rd_att);
            let object = |first: i32| -> Result<Object> {
                Ok(Object { class: row.need(first)?, oid: row.need(first + 1)?, column: row.need(first + 2)? })
            };
            found.push(Dependency { depender: object(1)?, referred: object(4)?, kind: row.need::<i8>(7)? as u8 });
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(table, lock);
    }
    Ok(found)
}
