//! Queries on tenants' tables: which rows they return, and what the isolation costs.

mod catalog_tables;
mod cursors;
mod cursors_before_a_user;
mod estimates;
mod maintenance;
mod many_tables;
mod new_tables;
mod no_cost_per_row;
mod policies_kept;
mod query_paths;
mod renamed_schemas;
mod self_audit;
mod shared_table_access;
mod shared_tables;

crate::files![
    catalog_tables,
    cursors,
    cursors_before_a_user,
    estimates,
    maintenance,
    many_tables,
    new_tables,
    no_cost_per_row,
    policies_kept,
    query_paths,
    renamed_schemas,
    self_audit,
    shared_table_access,
    shared_tables
];
