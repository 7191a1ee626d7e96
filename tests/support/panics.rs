//! Collects panics, so that a failed assertion appears with its location in the runner's report and not among the
//! progress output.

use std::any::Any;
use std::cell::RefCell;
use std::panic;

thread_local! {
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Installs a panic hook that keeps the message for `caught`. A panic outside a case is printed as usual.
pub fn keep_for_the_report() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let place = info.location().map(|l| format!("{}:{}: ", l.file(), l.line())).unwrap_or_default();
        let text = format!("{place}{}", message(info.payload()));
        LAST.with(|last| {
            // The first panic is the cause. A second one, during cleanup, is dropped.
            last.borrow_mut().get_or_insert(text);
        });
        if !IN_CASE.with(|flag| *flag.borrow()) {
            print(info);
        }
    }));
}

thread_local! {
    static IN_CASE: RefCell<bool> = const { RefCell::new(false) };
}

/// Runs a case and turns its panic into an error with location and message.
pub fn caught(run: impl FnOnce()) -> Result<(), String> {
    IN_CASE.with(|flag| *flag.borrow_mut() = true);
    LAST.with(|last| last.borrow_mut().take());
    let outcome = panic::catch_unwind(panic::AssertUnwindSafe(run));
    IN_CASE.with(|flag| *flag.borrow_mut() = false);
    outcome.map_err(|payload| {
        LAST.with(|last| last.borrow_mut().take()).unwrap_or_else(|| message(payload.as_ref()).to_owned())
    })
}

fn message(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without a message")
}
