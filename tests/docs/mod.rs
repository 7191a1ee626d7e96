//! What the docs say.

mod readme;
mod references;

crate::files![readme, references];
