//! Properties: what holds of every input, tried on random ones. One that fails is made small before it is told.

use std::fmt::Debug;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, TestRunner};

/// Tries `holds` on so many values; it panics where it does not hold.
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
