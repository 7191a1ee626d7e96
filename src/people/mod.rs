//! Who may do what: members of tenants, and instance admins.

pub mod instance_admins;
pub mod members;
