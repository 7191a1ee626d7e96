//! Determines the tenant of a table, function or sequence: the one whose schema it is in.

use std::cell::RefCell;
use std::collections::HashMap;

use foldhash::fast::RandomState;
use pgrx::{Uuid, pg_sys};

use crate::catalog::{changes, tenants};
use crate::error::Result;
use crate::pg::{backend, catalogs};

/// Maximum number of cached schemas. When it is reached, all are dropped.
const CAPACITY: usize = 4096;

#[derive(Default)]
struct Schemas {
    generation: u64,
    tenants: HashMap<pg_sys::Oid, Option<Uuid>, RandomState>,
}

thread_local! {
    static SCHEMAS: RefCell<Schemas> = RefCell::default();
}

/// The cached tenant of a relation, valid until any relation changes.
#[derive(Clone, Copy)]
struct Slot {
    relation: pg_sys::Oid,
    changes: u64,
    tenant: Option<Uuid>,
}

const EMPTY: Slot = Slot { relation: pg_sys::InvalidOid, changes: 0, tenant: None };
const SLOTS: usize = 1024;

thread_local! {
    /// Cache in front of `SCHEMAS`, because every query looks up each of its relations.
    static RELATIONS: RefCell<[Slot; SLOTS]> = const { RefCell::new([EMPTY; SLOTS]) };
}

/// Returns the tenant in whose schema the relation is, or `None`.
pub fn tenant_of_relation(relation: pg_sys::Oid) -> Result<Option<Uuid>> {
    let changes = changes::of_relations();
    let (place, known) = cached(relation, changes);
    if let Some(tenant) = known {
        return Ok(tenant);
    }
    let schema = catalogs::relation_schema(relation);
    let tenant = tenant_of_schema(schema)?;
    if schema != pg_sys::InvalidOid && is_cached(schema) && changes::of_relations() == changes {
        RELATIONS.with_borrow_mut(|slots| slots[place] = Slot { relation, changes, tenant });
    }
    Ok(tenant)
}

/// Reports whether the cache knows that the relation belongs to no tenant. Does not read the catalog. False means only
/// that the cache does not know.
pub fn is_known_to_have_no_tenant(relation: pg_sys::Oid) -> bool {
    cached(relation, changes::of_relations()).1 == Some(None)
}

/// Returns the relation's place in the cache, and its tenant if it is cached.
fn cached(relation: pg_sys::Oid, changes: u64) -> (usize, Option<Option<Uuid>>) {
    let place = relation.to_u32() as usize % SLOTS;
    let slot = RELATIONS.with_borrow(|slots| slots[place]);
    (place, (slot.relation == relation && slot.changes == changes).then_some(slot.tenant))
}

/// Reports whether an object is built in, that is, was created with the database. Such an object belongs to no tenant.
pub fn is_builtin(object: pg_sys::Oid) -> bool {
    object.to_u32() < pg_sys::FirstNormalObjectId
}

/// Reports whether the schema's tenant is certain enough to be cached for its relations.
fn is_cached(schema: pg_sys::Oid) -> bool {
    is_builtin(schema)
        || SCHEMAS.with_borrow(|schemas| {
            Some(schemas.generation) == changes::generation() && schemas.tenants.contains_key(&schema)
        })
}

/// Returns the tenant in whose schema the function is, or `None`.
pub fn tenant_of_function(function: pg_sys::Oid) -> Result<Option<Uuid>> {
    if is_builtin(function) {
        return Ok(None);
    }
    tenant_of_schema(catalogs::function_schema(function))
}

/// Returns the tenant to which the schema belongs, or `None`.
pub fn tenant_of_schema(schema: pg_sys::Oid) -> Result<Option<Uuid>> {
    if is_builtin(schema) {
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
