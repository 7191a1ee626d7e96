//! Members of tenants, and instance admins: who they are, and the rules for changing that.

pub mod instance_admins;
pub mod members;
