//! What is added to the CONTEXT of errors that the server raises.

use std::ffi::{CStr, CString, c_char, c_int, c_void};

use pgrx::prelude::*;

use crate::error::{Error, Result};

unsafe extern "C-unwind" {
    // Variadic, so pgrx's bindings leave it out.
    fn errcontext_msg(format: *const c_char, ...) -> c_int;
}

type Callback = unsafe extern "C-unwind" fn(*mut c_void);

/// Adds `place` to the CONTEXT of any error that the server raises meanwhile.
pub fn at<T>(place: &str, run: impl FnOnce() -> Result<T>) -> Result<T> {
    let place = CString::new(place).map_err(|_| Error::internal("a zero byte in a migration's name"))?;
    with(add_place, &place, run)
}

/// Adds the line of a script to the parser's errors, in place of a position, which clients would look for in their own
/// statement.
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

/// Keeps a frame on the server's stack of error contexts for as long as the frame lives.
struct ErrorContext<'a>(&'a mut pg_sys::ErrorContextCallback);

impl<'a> ErrorContext<'a> {
    fn push(frame: &'a mut pg_sys::ErrorContextCallback) -> Self {
        // SAFETY: the borrow keeps the frame in place until Drop takes it off the stack.
        unsafe { pg_sys::error_context_stack = frame };
        ErrorContext(frame)
    }
}

impl Drop for ErrorContext<'_> {
    fn drop(&mut self) {
        // SAFETY: back to what was there before push().
        unsafe { pg_sys::error_context_stack = self.0.previous };
    }
}

unsafe extern "C-unwind" fn add_place(place: *mut c_void) {
    // SAFETY: called by the server while it builds a report; place is the C string that with() keeps alive.
    unsafe {
        pg_sys::set_errcontext_domain(std::ptr::null());
        errcontext_msg(c"%s".as_ptr(), place.cast::<c_char>());
    }
}

unsafe extern "C-unwind" fn add_line(script: *mut c_void) {
    // SAFETY: called by the server while it builds a report; script is the C string that with() keeps alive.
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
