//! Migrations of a tenant's schema, and drift.

mod drift;
mod drift_found;
mod drift_scratch;
mod errors;
mod files;
mod files_refused;
mod functions;
mod interrupted;
mod markers;
mod nontransactional;
mod properties;
mod repeatable;
mod rollback;
mod sandbox;
mod scripts;
mod unfinished;

crate::files![
    drift,
    drift_found,
    drift_scratch,
    errors,
    files,
    files_refused,
    functions,
    unfinished,
    interrupted,
    markers,
    nontransactional,
    properties,
    repeatable,
    rollback,
    sandbox,
    scripts
];
