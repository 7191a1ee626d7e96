//! Limits how long untrusted code may run in a background worker. A process that exceeds the limit is terminated, which
//! no exception handler can catch.

use std::cell::Cell;
use std::time::Duration;

unsafe extern "C-unwind" {
    // Declared in utils/timeout.h, which pgrx's bindings omit.
    fn RegisterTimeout(id: u32, handler: Option<unsafe extern "C-unwind" fn()>) -> u32;
    fn enable_timeout_after(id: u32, delay_ms: i32);
    fn disable_timeout(id: u32, keep_indicator: bool);
    // The backends' handler for SIGTERM. It is safe to call in a signal handler.
    fn die(signal: i32);
}

/// The first timeout id for extensions. PostgreSQL 17 added a built-in timeout before it.
#[cfg(any(feature = "pg15", feature = "pg16"))]
const USER_TIMEOUT: u32 = 12;
#[cfg(not(any(feature = "pg15", feature = "pg16")))]
const USER_TIMEOUT: u32 = 13;

const SIGTERM: i32 = 15;

thread_local! {
    static REGISTERED: Cell<Option<u32>> = const { Cell::new(None) };
}

/// A running time limit. Dropping it ends the limit.
pub struct Deadline(u32);

impl Deadline {
    /// Starts a time limit.
    pub fn after(limit: Duration) -> Self {
        // SAFETY: registered once per process. The handler only calls PostgreSQL's handler for SIGTERM.
        let id = REGISTERED.get().unwrap_or_else(|| unsafe { RegisterTimeout(USER_TIMEOUT, Some(terminate)) });
        REGISTERED.set(Some(id));
        // SAFETY: the id is registered.
        unsafe { enable_timeout_after(id, i32::try_from(limit.as_millis()).unwrap_or(i32::MAX)) };
        Deadline(id)
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        // SAFETY: the id is registered.
        unsafe { disable_timeout(self.0, false) };
    }
}

unsafe extern "C-unwind" fn terminate() {
    // SAFETY: PostgreSQL's handler for SIGALRM calls this function.
    unsafe { die(SIGTERM) };
}
