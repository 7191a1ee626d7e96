//! What depends on what, as the server's table pg_depend has it; as of now, as the server reads its own catalogs.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use pgrx::{check_for_interrupts, pg_sys};

use super::spi::Row;
use crate::error::Result;

// Which pgrx's bindings leave out.
const PG_DEPEND: u32 = 2608;
const DEPENDER_INDEX: u32 = 2673;
const REFERENCE_INDEX: u32 = 2674;

/// An object of the server's, or a column of one.
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

/// It is a part of what it depends on, and is dropped as that is: so are a partition's index and the like.
const PARTS: [u8; 2] = [b'i', b'P'];
const OF_EXTENSION: u8 = b'e';

impl Object {
    pub fn schema(oid: pg_sys::Oid) -> Self {
        Object { class: pg_sys::NamespaceRelationId, oid, column: 0 }
    }

    /// Drops it and what is left that depends on it, if it is still there. Runs no code of its owner's. An extension that it was put
    /// into stays, for others may use that.
    pub fn drop_cascade(self) -> Result<()> {
        if self.dependencies()?.is_empty() {
            return Ok(());
        }
        let address = pg_sys::ObjectAddress { classId: self.class, objectId: self.oid, objectSubId: self.column };
        self.leave_extension()?;
        // SAFETY: an object that is there; an error of the server if it is gone meanwhile.
        unsafe {
            pg_sys::CommandCounterIncrement();
            pg_sys::performDeletion(&address, pg_sys::DropBehavior::DROP_CASCADE, 0);
        }
        Ok(())
    }

    /// With its parts: DROP would take the extension along.
    pub fn leave_extension(self) -> Result<()> {
        // A table and its columns have one row together.
        let mut seen = HashSet::new();
        for object in self.with_parts()? {
            if seen.insert((object.class, object.oid)) && object.is_itself_of_extension()? {
                let (extension, kind) = (pg_sys::ExtensionRelationId, OF_EXTENSION as std::ffi::c_char);
                // SAFETY: deletes the rows that say so.
                unsafe { pg_sys::deleteDependencyRecordsForClass(object.class, object.oid, extension, kind) };
            }
        }
        Ok(())
    }

    /// Itself, what is a part of it, parts of these, and so on.
    fn with_parts(self) -> Result<Vec<Object>> {
        let mut all = vec![self];
        let mut seen = HashSet::from([self]);
        let mut next = 0;
        while let Some(object) = all.get(next).copied() {
            let parts = object.dependents()?.into_iter().filter(|dependency| PARTS.contains(&dependency.kind));
            all.extend(parts.map(|dependency| dependency.depender).filter(|part| seen.insert(*part)));
            next += 1;
        }
        Ok(all)
    }

    fn is_itself_of_extension(self) -> Result<bool> {
        Ok(self.dependencies()?.iter().any(|dependency| dependency.kind == OF_EXTENSION))
    }

    /// Until the end of the transaction nobody changes what it depends on; of a function nobody without being noticed.
    pub fn lock(self) {
        let mode = pg_sys::AccessExclusiveLock as pg_sys::LOCKMODE;
        // SAFETY: a lock on an oid, in a transaction; whether the object is there is looked at afterwards.
        unsafe {
            if self.class == pg_sys::RelationRelationId {
                pg_sys::LockRelationOid(self.oid, mode);
            } else {
                pg_sys::LockDatabaseObject(self.class, self.oid, 0, mode);
            }
        }
    }

    /// It or a part of it: DROP would take the extension along, or refuse.
    pub fn is_of_extension(self) -> Result<bool> {
        for object in self.with_parts()? {
            if object.is_itself_of_extension()? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn dependencies(self) -> Result<Vec<Dependency>> {
        rows(DEPENDER_INDEX, [(1, self.class), (2, self.oid)])
    }

    fn dependents(self) -> Result<Vec<Dependency>> {
        let mut found = rows(REFERENCE_INDEX, [(4, self.class), (5, self.oid)])?;
        found.retain(|dependency| self.column == 0 || dependency.referred.column == self.column);
        Ok(found)
    }

    /// What it is a part of, or itself.
    fn whole(mut self) -> Result<Self> {
        while let Some(part) = self
            .dependencies()?
            .into_iter()
            .find(|dependency| PARTS.contains(&dependency.kind) && dependency.depender.column == self.column)
        {
            self = part.referred;
        }
        Ok(self)
    }
}

/// What has been read in a search: an object may depend on each column of another, by a row for each.
#[derive(Default)]
struct Known {
    wholes: HashMap<Object, Object>,
    /// By class and oid, and by the column that is referred to.
    dependents: HashMap<(pg_sys::Oid, pg_sys::Oid), HashMap<i32, Vec<(Object, u8)>>>,
}

impl Known {
    fn whole(&mut self, object: Object) -> Result<Object> {
        Ok(match self.wholes.entry(object) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(unknown) => *unknown.insert(object.whole()?),
        })
    }

    /// Each depender once for each kind of dependency.
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

/// Class and oid of the objects in a schema, but for those that are part of another one there.
pub fn what_is_in_schema(schema: pg_sys::Oid) -> Result<Vec<(pg_sys::Oid, pg_sys::Oid)>> {
    let found = Object::schema(schema).dependents()?;
    Ok(found.into_iter().map(|dependency| (dependency.depender.class, dependency.depender.oid)).collect())
}

/// Objects elsewhere that depend on what is in a schema, by others in between or not.
pub struct Dependents {
    /// Each comes before what it depends on.
    pub objects: Vec<Object>,
    /// What is dropped with them, as parts of theirs.
    pub parts: usize,
    /// False where the search came to an end before.
    pub are_all: bool,
}

/// Somewhat more than `most` are not looked for.
pub fn dependents_of_schema(schema: pg_sys::Oid, most: usize) -> Result<Dependents> {
    let root = Object::schema(schema);
    let mut inside = HashSet::from([root]);
    let mut outside = HashSet::new();
    // By what of it each was found.
    let mut depend_on: HashMap<Object, Vec<Object>> = HashMap::new();
    let mut parts: HashMap<Object, usize> = HashMap::new();
    let mut to_do = vec![(root, root)];
    let mut seen_parts = 0usize;
    let mut are_all = true;
    let mut known = Known::default();
    while let Some((object, whole)) = to_do.pop() {
        for (depender, kind) in known.dependents(object)? {
            if PARTS.contains(&kind) {
                *parts.entry(whole).or_default() += 1;
                seen_parts += 1;
                to_do.push((depender, whole));
                continue;
            }
            let depending = known.whole(depender)?;
            let is_inside = object == root || (kind != b'n' && inside.contains(&whole));
            let is_new = if is_inside {
                inside.insert(depending)
            } else {
                !inside.contains(&depending) && outside.insert(depending)
            };
            if !is_inside && depending != whole {
                depend_on.entry(whole).or_default().push(depending);
            }
            if is_new {
                to_do.push((depending, depending));
                if depending != depender {
                    to_do.push((depender, depending));
                }
            }
        }
        // What turns out to be inside counts until then, and has parts too.
        let limit = inside.len().saturating_add(most);
        if outside.len() > limit || seen_parts > limit.saturating_mul(8) {
            are_all = false;
            break;
        }
    }
    outside.retain(|object| !inside.contains(object));
    let parts = outside.iter().filter_map(|object| parts.get(object)).sum();
    Ok(Dependents { objects: in_order(&outside, &depend_on), parts, are_all })
}

/// Those on which nothing depends first. Of a circle any.
fn in_order(objects: &HashSet<Object>, depend_on: &HashMap<Object, Vec<Object>>) -> Vec<Object> {
    let mut order = Vec::with_capacity(objects.len());
    let mut seen = HashSet::new();
    for start in objects {
        // An object, and how many of those that depend on it have been looked at.
        let mut path = vec![(*start, 0)];
        if !seen.insert(*start) {
            continue;
        }
        while let Some((object, next)) = path.last_mut() {
            let depending = depend_on.get(object).and_then(|all| all.get(*next)).copied();
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

fn rows(index: u32, keys: [(i16, pg_sys::Oid); 2]) -> Result<Vec<Dependency>> {
    let mut conditions = keys.map(|(column, oid)| {
        let mut condition = pg_sys::ScanKeyData::default();
        let equal = pg_sys::BTEqualStrategyNumber as u16;
        // SAFETY: fills the structure that it is given; the function is one of the server's own.
        unsafe { pg_sys::ScanKeyInit(&mut condition, column, equal, pg_sys::F_OIDEQ.into(), oid.into()) };
        condition
    });
    check_for_interrupts!();
    let mut found = Vec::new();
    // SAFETY: a table of the server's and its index; what is opened is closed in turn, and by the end of the (sub)transaction after
    // an error; a row is read before the next one.
    unsafe {
        let lock = pg_sys::AccessShareLock as i32;
        let table = pg_sys::table_open(PG_DEPEND.into(), lock);
        let (index, keys) = (index.into(), conditions.as_mut_ptr());
        let scan = pg_sys::systable_beginscan(table, index, true, std::ptr::null_mut(), 2, keys);
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
