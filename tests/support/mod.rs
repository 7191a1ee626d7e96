//! The fixtures of the cases: temporary servers, a database for each case, connections as each kind of role, assertions
//! on errors.
#![allow(dead_code)] // a helper may be unused

pub mod account;
pub mod audit;
pub mod c_library;
pub mod case;
pub mod cluster;
pub mod database;
pub mod drift;
pub mod error;
pub mod files;
pub mod fleet;
pub mod guardian;
pub mod install;
pub mod panics;
pub mod paths;
pub mod people;
pub mod pooler;
pub mod properties;
pub mod removal;
pub mod scene;
pub mod tables;
pub mod unfinished;

pub use case::{Case, File, Server, run_case};
pub use cluster::Cluster;
pub use database::Db;
#[allow(unused_imports)]
pub use error::{Refusal, expect_error, expect_refusal};
