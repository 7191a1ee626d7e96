//! The extension in its environment: clients, poolers, dumps, replicas.

mod clients;
mod django;
mod drop_extension;
mod dump_restore;
mod parallel_restore;
mod partial_dumps;
mod pooler;
mod replication;

crate::files![clients, django, drop_extension, dump_restore, parallel_restore, partial_dumps, pooler, replication];
