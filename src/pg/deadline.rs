//! A limit on how long code of others may run in a background worker: a process that exceeds it is terminated, which no
//! handler of exceptions can catch.

use std::cell::Cell;
use std::time::Duration;

unsafe extern "C-unwind" {
    // In utils/timeout.h, which pgrx's bindings leave out.
    fn RegisterTimeout(id: u32, handler: Option<unsafe extern "C-unwind" fn()>) -> u32;
    fn enable_timeout_after(id: u32, delay_ms: i32);
    fn disable_timeout(id: u32, keep_indicator: bool);
    // What backends answer SIGTERM with; safe to call in a signal handler.
    fn die(signal: i32);
}

/// The first number that extensions may register; PostgreSQL 17 added one before it.
#[cfg(any(feature = "pg15", feature = "pg16"))]
const USER_TIMEOUT: u32 = 12;
#[cfg(not(any(feature = "pg15", feature = "pg16")))]
const USER_TIMEOUT: u32 = 13;

const SIGTERM: i32 = 15;

thread_local! {
    static REGISTERED: Cell<Option<u32>> = const { Cell::new(None) };
}

/// While it lives, time is running.
pub struct Deadline(u32);

impl Deadline {
    pub fn after(limit: Duration) -> Self {
        // SAFETY: registered once; the handler is one of the server's.
        let id = REGISTERED.get().unwrap_or_else(|| unsafe { RegisterTimeout(USER_TIMEOUT, Some(terminate)) });
        REGISTERED.set(Some(id));
        // SAFETY: a registered number.
        unsafe { enable_timeout_after(id, i32::try_from(limit.as_millis()).unwrap_or(i32::MAX)) };
        Deadline(id)
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { disable_timeout(self.0, false) };
    }
}

unsafe extern "C-unwind" fn terminate() {
    // SAFETY: called by the server's handler of SIGALRM.
    unsafe { die(SIGTERM) };
}
