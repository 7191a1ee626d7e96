//! Members, and the identity of the caller.

mod cached_access;
mod cached_own_changes;
mod claim_properties;
mod functions;
mod identity;
mod identity_settings;

crate::files![cached_access, cached_own_changes, claim_properties, functions, identity, identity_settings];
