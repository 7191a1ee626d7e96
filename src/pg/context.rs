//! Adds lines to the CONTEXT of errors that PostgreSQL raises.

use std::ffi::{CStr, CString, c_char, c_int, c_void};

use pgrx::prelude::*;

use crate::error::{Error, Result};

unsafe extern "C-unwind" {
    // pgrx's bindings omit it because it is variadic.
    fn errcontext_msg(format: *const c_char, ...) -> c_int;
}

type Callback = unsafe extern "C-unwind" fn(*mut c_void);

/// Adds `place` to the CONTEXT of any error that PostgreSQL raises while `run` is running.
pub fn at<T>(place: &str, run: impl FnOnce() -> Result<T>) -> Result<T> {
    let place = CString::new(place).map_err(|_| Error::internal("name of a migration contains a zero byte"))?;
    with(add_place, &place, run)
}

/// Adds the line number in the script to the CONTEXT of the parser's errors. It replaces the error position, which
/// clients would look for in their own statement.
pub fn parsing<T>(script: &CStr, run: impl FnOnce() -> T) -> T {
    with(add_line, script, run)
}

fn with<T>(callback: Callback, argument: &CStr, run: impl FnOnce() -> T) -> T {
    let mut frame = pg_sys::ErrorContextCallback {
        // SAFETY: reads the head of the backend's stack of callbacks.
        previous: unsafe { pg_sys::error_context_stack },
        callback: Some(callback),
        arg: argument.as_ptr().cast_mut().cast(),
    };
    let _pushed = ErrorContext::push(&mut frame);
    run()
}

/// Keeps a frame on PostgreSQL's stack of error contexts until it drops.
struct ErrorContext<'a>(&'a mut pg_sys::ErrorContextCallback);

impl<'a> ErrorContext<'a> {
    fn push(frame: &'a mut pg_sys::ErrorContextCallback) -> Self {
        // SAFETY: the borrow keeps the frame in place until Drop removes it from the stack.
        unsafe { pg_sys::error_context_stack = frame };
        ErrorContext(frame)
    }
}

impl Drop for ErrorContext<'_> {
    fn drop(&mut self) {
        // SAFETY: restores the head of the stack as it was before push().
        unsafe { pg_sys::error_context_stack = self.0.previous };
    }
}

unsafe extern "C-unwind" fn add_place(place: *mut c_void) {
    // SAFETY: PostgreSQL calls this while it builds a report. `place` is the C string that with() keeps alive.
    unsafe {
        pg_sys::set_errcontext_domain(std::ptr::null());
        errcontext_msg(c"%s".as_ptr(), place.cast::<c_char>());
    }
}

unsafe extern "C-unwind" fn add_line(script: *mut c_void) {
    // SAFETY: PostgreSQL calls this while it builds a report. `script` is the C string that with() keeps alive.
    unsafe {
        let position = pg_sys::geterrposition();
        if position > 0 {
            let before = CStr::from_ptr(script.cast()).to_string_lossy();
            let line = before.chars().take(position as usize - 1).filter(|c| *c == '\n').count() + 1;
            pg_sys::errposition(0);
            pg_sys::set_errcontext_domain(std::ptr::null());
            errcontext_msg(c"line %d of the script".as_ptr(), line as c_int);
        }
    }
}
