//! Whether to wait.

/// For a tenant that another session is at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    No,
    Yes,
}
