//! The object access hook: functions that a role is about to call, in a query or without one, tables that are
//! truncated, and schemas that are named or searched.

use std::ffi::c_void;

use pgrx::prelude::*;

use super::chain::{PREVIOUS, forget_start};
use crate::access::security_definers;
use crate::catalog::changes;
use crate::isolation::refusal::{Raise, refuse, require_owner_of_shared_table};
use crate::isolation::{check, held_cursors, pinned_schema, tenant_of};
use crate::pg::roles;

/// Handles an object access event. PostgreSQL calls this for each function in every query, so it has no guard: see
/// `queries`.
pub unsafe extern "C-unwind" fn object_access(
    access: pg_sys::ObjectAccessType::Type,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
    sub_object: i32,
    argument: *mut c_void,
) {
    // SAFETY: calls the previous hook with its own arguments.
    unsafe {
        if let Some(previous) = PREVIOUS.object_access {
            previous(access, class, object, sub_object, argument);
        }
    }
    match access {
        pg_sys::ObjectAccessType::OAT_FUNCTION_EXECUTE => {
            // set_config is such a function, and a client may call it without a query.
            forget_start();
            if !check::is_harmless(object) || held_cursors::any_open() {
                before_function(object);
            }
        }
        // Called for each table that is truncated, whether the command names it or it is truncated along with another.
        pg_sys::ObjectAccessType::OAT_TRUNCATE => require_owner_of_shared_table(object),
        // SAFETY: for this event, `argument` is an ObjectAccessNamespaceSearch.
        pg_sys::ObjectAccessType::OAT_NAMESPACE_SEARCH => unsafe {
            if !tenant_of::is_builtin(object) || pinned_schema::any_pinned() {
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
        || check::is_untrusted_in_foreign_key_action(function).unwrap_or_raise()
    {
        refuse("function", check::function_name(function));
    }
    security_definers::note_call(function);
}

/// Refuses an inaccessible schema that a statement names, and skips one that is on the search_path. Called when
/// PostgreSQL searches a schema.
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
        search.result = !check::is_hidden_from_path(schema);
    }
}
