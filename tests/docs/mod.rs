//! What the docs say.

mod examples;
mod references;

crate::files![examples, references];
