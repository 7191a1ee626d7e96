//! Property tests: a statement about every input, tried on random ones. A failing input is shrunk before it is
//! reported.

use std::fmt::Debug;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, TestRunner};

/// Calls `holds`, which panics if the property fails, with `tries` random values.
#[track_caller]
pub fn of_all<S: Strategy>(strategy: S, tries: u32, mut holds: impl FnMut(S::Value))
where
    S::Value: Debug,
{
    let config = Config { cases: tries, failure_persistence: None, ..Config::default() };
    let state = std::cell::RefCell::new(&mut holds);
    let result = TestRunner::new(config).run(&strategy, |value| {
        (state.borrow_mut())(value);
        Ok(())
    });
    if let Err(problem) = result {
        panic!("{problem}");
    }
}
