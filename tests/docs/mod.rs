//! The documentation: its examples run, and it is complete.

mod examples;
mod references;

crate::files![examples, references];
