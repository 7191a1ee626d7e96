//! Attacks. Each one is refused to the attacker, and the same action succeeds for a caller who may do it.

mod admin_sessions;
mod before_planning;
mod catalog;
mod channels;
mod choices;
mod clone;
mod deletion;
mod deletion_races;
mod explain;
mod forged_identity;
mod identity;
mod keys;
mod left_behind;
mod maintenance;
mod malformed_input;
mod migrations;
mod names;
mod nontransactional;
mod nontransactional_commands;
mod oracles;
mod other_databases;
mod outsiders;
mod planted_code;
mod pools;
mod privileges;
mod reads_writes;
mod removal;
mod renaming;
mod roles;
mod session_state;
mod shared_locks;
mod shared_table_parts;
mod shared_tables;
mod superuser;
mod unchained_hook;
mod waiting;

crate::files![
    admin_sessions,
    before_planning,
    catalog,
    channels,
    choices,
    clone,
    deletion,
    deletion_races,
    explain,
    forged_identity,
    identity,
    keys,
    left_behind,
    maintenance,
    malformed_input,
    migrations,
    names,
    nontransactional,
    nontransactional_commands,
    oracles,
    other_databases,
    outsiders,
    planted_code,
    pools,
    privileges,
    reads_writes,
    removal,
    renaming,
    roles,
    session_state,
    shared_locks,
    shared_table_parts,
    shared_tables,
    superuser,
    unchained_hook,
    waiting
];
