//! The choice whether a visit waits for locks.

/// Whether to wait for a tenant that another session has locked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    No,
    Yes,
}
