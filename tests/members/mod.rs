//! Members, and who is calling.

mod cached_access;
mod cached_own_changes;
mod functions;
mod identity;
mod identity_settings;

crate::files![cached_access, cached_own_changes, functions, identity, identity_settings];
