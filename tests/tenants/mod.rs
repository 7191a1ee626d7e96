//! Tenants: creating, reading, changing and deleting them.

mod atomicity;
mod clone;
mod current;
mod deletion_dependents;
mod deletion_session;
mod deletion_vetoes;
mod functions;
mod lifecycle;
mod objects_of_superusers;
mod purge;
mod races;
mod repair;
mod slug_properties;
mod spares;
mod spares_not_whole;

crate::files![
    atomicity,
    clone,
    current,
    deletion_dependents,
    deletion_session,
    deletion_vetoes,
    functions,
    lifecycle,
    objects_of_superusers,
    purge,
    races,
    repair,
    slug_properties,
    spares,
    spares_not_whole
];
