//! Queries of members: what they reach, what it costs.

mod catalog_tables;
mod cursors;
mod cursors_before_a_user;
mod estimates;
mod maintenance;
mod many_tables;
mod nothing_per_row;
mod policies_at_birth;
mod policies_stay;
mod query_paths;
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
    nothing_per_row,
    policies_at_birth,
    policies_stay,
    query_paths,
    self_audit,
    shared_table_access,
    shared_tables
];
