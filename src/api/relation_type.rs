//! The input function of the type `fluxbase_tenant.relation`, which sql/catalog.sql creates.

use std::ffi::CStr;

use pgrx::prelude::*;

use crate::pg::parse_tree;

/// Returns the OID of the relation with this name, as regclass does, or 0 if there is none. Returns a number, because
/// pgrx turns the OID 0 into NULL.
#[pg_extern(sql = false)]
fn relation_in(name: &CStr) -> i64 {
    if name == c"-" {
        return 0;
    }
    parse_tree::relation_of_name(name).to_u32().into()
}
