//! The object access hook: functions that clients call without a query, tables that are emptied, schemas that are named.

use std::ffi::c_void;

use pgrx::prelude::*;

use super::chain::{PREVIOUS, forget_start};
use crate::access::security_definers;
use crate::catalog::changes;
use crate::isolation::refusal::{Raise, keep_for_others, refuse};
use crate::isolation::{check, held_cursors, pinned_schema, tenant_of};
use crate::pg::roles;

/// Each query comes by here for the functions that it calls, so this one is without a guard: see `queries`.
pub unsafe extern "C-unwind" fn object_access(
    access: pg_sys::ObjectAccessType::Type,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
    sub_object: i32,
    argument: *mut c_void,
) {
    // SAFETY: the hook that was there, with its own arguments.
    unsafe {
        if let Some(previous) = PREVIOUS.object_access {
            previous(access, class, object, sub_object, argument);
        }
    }
    match access {
        pg_sys::ObjectAccessType::OAT_FUNCTION_EXECUTE => {
            // set_config is a function, and one that a client may call without a query.
            forget_start();
            if !check::is_harmless(object) || held_cursors::are_open() {
                before_function(object);
            }
        }
        // Of each table that is emptied, whoever named it or not.
        pg_sys::ObjectAccessType::OAT_TRUNCATE => keep_for_others(object),
        // SAFETY: what the server passes with it.
        pg_sys::ObjectAccessType::OAT_NAMESPACE_SEARCH => unsafe {
            if !tenant_of::is_servers_own(object) || pinned_schema::is_any() {
                search_schema(object, &mut *argument.cast());
            }
        },
        _ => {}
    }
}

#[pg_guard]
extern "C-unwind" fn before_function(function: pg_sys::Oid) {
    held_cursors::before_function(function).unwrap_or_raise();
    if check::function_is_inaccessible(function, roles::current()).unwrap_or_raise()
        || check::is_brought_by_a_key(function).unwrap_or_raise()
    {
        refuse("function", check::function_name(function));
    }
    security_definers::note_call(function);
}

/// A schema is searched: because a statement names it, or because it is on the search_path, from where it is dropped.
#[pg_guard]
extern "C-unwind" fn search_schema(schema: pg_sys::Oid, search: &mut pg_sys::ObjectAccessNamespaceSearch) {
    if !search.result {
        return;
    }
    if search.ereport_on_violation {
        pinned_schema::permit(schema).unwrap_or_raise();
        changes::catch_up();
        if check::schema_is_inaccessible(schema).unwrap_or_raise() {
            refuse("schema", check::schema_name(schema));
        }
    } else {
        search.result = !check::drops_from_path(schema);
    }
}
