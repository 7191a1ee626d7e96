//! Which tenant a table, function or sequence belongs to: the one whose schema it is in.

use std::cell::RefCell;
use std::collections::HashMap;

use pgrx::{Uuid, pg_sys};

use crate::catalog::{Catalog, changes, tenants};
use crate::error::Result;

/// Schemas remembered at most; a session that visits more forgets all.
const CAPACITY: usize = 4096;

#[derive(Default)]
struct Schemas {
    generation: u64,
    tenants: HashMap<pg_sys::Oid, Option<Uuid>>,
}

thread_local! {
    static SCHEMAS: RefCell<Schemas> = RefCell::default();
}

pub fn tenant_of_relation(relation: pg_sys::Oid) -> Result<Option<Uuid>> {
    // SAFETY: a lookup by oid, InvalidOid where there is none.
    tenant_of_schema(unsafe { pg_sys::get_rel_namespace(relation) })
}

pub fn tenant_of_function(function: pg_sys::Oid) -> Result<Option<Uuid>> {
    // SAFETY: a lookup by oid, InvalidOid where there is none.
    tenant_of_schema(unsafe { pg_sys::get_func_namespace(function) })
}

pub fn tenant_of_schema(schema: pg_sys::Oid) -> Result<Option<Uuid>> {
    if schema.to_u32() < pg_sys::FirstNormalObjectId {
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
    let tenant = tenants::of_schema(&Catalog::latest()?, schema)?;
    // SAFETY: reads a variable of the backend.
    let in_parallel_mode = unsafe { pg_sys::IsInParallelMode() };
    if changes::generation() == Some(generation) && !in_parallel_mode {
        SCHEMAS.with_borrow_mut(|schemas| {
            if schemas.generation == generation {
                schemas.tenants.insert(schema, tenant);
            }
        });
    }
    Ok(tenant)
}
