//! Sleeps in a way that lets the backend react to its latch and to interrupts.

use std::time::Duration;

use pgrx::{check_for_interrupts, pg_sys};

/// Sleeps for `length`, or until the latch is set, then processes pending interrupts, such as a request to cancel.
pub fn pause(length: Duration) {
    let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
    // SAFETY: this backend's own latch.
    unsafe {
        pg_sys::WaitLatch(
            pg_sys::MyLatch,
            events as i32,
            length.as_millis() as std::ffi::c_long,
            pg_sys::PG_WAIT_EXTENSION,
        );
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    check_for_interrupts!();
}
