//! Which tenant a table, function or sequence belongs to: the one whose schema it is in.

use std::cell::RefCell;
use std::collections::HashMap;

use foldhash::fast::RandomState;
use pgrx::{Uuid, pg_sys};

use crate::catalog::{changes, tenants};
use crate::error::Result;
use crate::pg::{backend, catalogs};

/// Schemas remembered at most; a session that visits more forgets all.
const CAPACITY: usize = 4096;

#[derive(Default)]
struct Schemas {
    generation: u64,
    tenants: HashMap<pg_sys::Oid, Option<Uuid>, RandomState>,
}

thread_local! {
    static SCHEMAS: RefCell<Schemas> = RefCell::default();
}

/// What is known of a relation, until some relation changes.
#[derive(Clone, Copy)]
struct Slot {
    relation: pg_sys::Oid,
    changes: u64,
    tenant: Option<Uuid>,
}

const EMPTY: Slot = Slot { relation: pg_sys::InvalidOid, changes: 0, tenant: None };
const SLOTS: usize = 1024;

thread_local! {
    /// In front of the schemas: every query asks this for each of its relations.
    static RELATIONS: RefCell<[Slot; SLOTS]> = const { RefCell::new([EMPTY; SLOTS]) };
}

pub fn tenant_of_relation(relation: pg_sys::Oid) -> Result<Option<Uuid>> {
    let changes = changes::of_relations();
    let (slot_of, known) = known(relation, changes);
    if let Some(tenant) = known {
        return Ok(tenant);
    }
    let schema = catalogs::relation_schema(relation);
    let tenant = tenant_of_schema(schema)?;
    if schema != pg_sys::InvalidOid && is_remembered(schema) && changes::of_relations() == changes {
        RELATIONS.with_borrow_mut(|slots| slots[slot_of] = Slot { relation, changes, tenant });
    }
    Ok(tenant)
}

/// Without a look at the catalog; "no" says nothing.
pub fn is_known_to_have_no_tenant(relation: pg_sys::Oid) -> bool {
    known(relation, changes::of_relations()).1 == Some(None)
}

fn known(relation: pg_sys::Oid, changes: u64) -> (usize, Option<Option<Uuid>>) {
    let slot_of = relation.to_u32() as usize % SLOTS;
    let slot = RELATIONS.with_borrow(|slots| slots[slot_of]);
    (slot_of, (slot.relation == relation && slot.changes == changes).then_some(slot.tenant))
}

/// Whether an object was there when the database was created: no tenant's.
pub fn is_servers_own(object: pg_sys::Oid) -> bool {
    object.to_u32() < pg_sys::FirstNormalObjectId
}

/// Whether the answer about the schema is one to keep.
fn is_remembered(schema: pg_sys::Oid) -> bool {
    is_servers_own(schema)
        || SCHEMAS.with_borrow(|schemas| {
            Some(schemas.generation) == changes::generation() && schemas.tenants.contains_key(&schema)
        })
}

pub fn tenant_of_function(function: pg_sys::Oid) -> Result<Option<Uuid>> {
    if is_servers_own(function) {
        return Ok(None);
    }
    tenant_of_schema(catalogs::function_schema(function))
}

pub fn tenant_of_schema(schema: pg_sys::Oid) -> Result<Option<Uuid>> {
    if is_servers_own(schema) {
        return Ok(None);
    }
    let Some(generation) = changes::generation() else {
        return Ok(None);
    };
    let known = SCHEMAS.with_borrow_mut(|schemas| {
        if schemas.generation != generation || schemas.tenants.len() >= CAPACITY {
            schemas.tenants.clear();
            schemas.generation = generation;
        }
        schemas.tenants.get(&schema).copied()
    });
    if let Some(tenant) = known {
        return Ok(tenant);
    }
    let tenant = tenants::of_schema(schema)?;
    let in_parallel_mode = backend::is_in_parallel_mode();
    if changes::generation() == Some(generation) && !in_parallel_mode {
        SCHEMAS.with_borrow_mut(|schemas| {
            if schemas.generation == generation {
                schemas.tenants.insert(schema, tenant);
            }
        });
    }
    Ok(tenant)
}
