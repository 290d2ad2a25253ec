//! What went wrong with a call, and what its thread is told of it.

use crate::code::{self, FH_EBADF, FH_EFAULT, FH_EINVAL, FH_EPANIC};
use crate::object::not_forked;
use freehold::Error;
use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Why a call failed. One word, since it comes back with every call.
pub(crate) struct Fault(Box<Why>);

enum Why {
    /// The store said so.
    Store(Error),
    /// The boundary did.
    Here(c_int, String),
}

/// What a call comes to.
pub(crate) type Outcome<T = ()> = Result<T, Fault>;

impl From<Error> for Fault {
    #[cold]
    fn from(e: Error) -> Self {
        Fault(Box::new(Why::Store(e)))
    }
}

impl Fault {
    #[cold]
    pub(crate) fn new(code: c_int, why: impl Into<String>) -> Self {
        Fault(Box::new(Why::Here(code, why.into())))
    }

    #[cold]
    pub(crate) fn invalid(why: impl Into<String>) -> Self {
        Fault::new(FH_EINVAL, why)
    }

    #[cold]
    pub(crate) fn null(what: &str) -> Self {
        Fault::new(FH_EFAULT, format!("{what} is a null pointer"))
    }

    #[cold]
    pub(crate) fn handle(what: &str) -> Self {
        Fault::new(FH_EBADF, format!("this is no {what}, or one that was freed"))
    }

    pub(crate) fn code(&self) -> c_int {
        match &*self.0 {
            Why::Store(e) => code::of(e.kind()),
            Why::Here(code, _) => *code,
        }
    }

    /// Tells the thread, and gives the code. Whatever else is wrong in a forked child, it is
    /// told that it is one.
    #[cold]
    pub(crate) fn tell(self) -> c_int {
        let this = not_forked().err().unwrap_or(self);
        this.say()
    }

    fn say(self) -> c_int {
        let code = self.code();
        let (message, place) = match *self.0 {
            Why::Store(e) => (e.to_string(), e.place().map(|p| (sentence(&p.what), p.at))),
            Why::Here(_, why) => (why, None),
        };
        let told = Told { message: sentence(&message), place };
        // Nobody is told in a thread that is ending.
        let _ = LAST.try_with(|last| last.replace(told));
        code
    }
}

struct Told {
    message: CString,
    place: Option<(CString, u64)>,
}

thread_local! {
    static LAST: RefCell<Told> =
        RefCell::new(Told { message: CString::default(), place: None });
}

/// Text for C: it ends at a NUL.
pub(crate) fn sentence(text: &str) -> CString {
    let text: Vec<u8> = text.bytes().filter(|b| *b != 0).collect();
    CString::new(text).unwrap_or_default()
}

/// Runs a call. Whatever it comes to, nothing unwinds out of it.
#[inline(always)]
pub(crate) fn count(call: impl FnOnce() -> Outcome<i64>) -> i64 {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(done)) => done,
        Ok(Err(fault)) => fault.tell().into(),
        Err(payload) => panicked(payload).into(),
    }
}

/// The same for a call that answers 0 or a code.
#[inline(always)]
pub(crate) fn status(call: impl FnOnce() -> Outcome) -> c_int {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(())) => 0,
        Ok(Err(fault)) => fault.tell(),
        Err(payload) => panicked(payload),
    }
}

/// The same for a call that answers nothing. A forked child owns nothing, and ends nothing.
#[inline(always)]
pub(crate) fn quietly(call: impl FnOnce()) {
    if freehold_engine::fork::in_child() {
        return;
    }
    if let Err(payload) = catch_unwind(AssertUnwindSafe(call)) {
        panicked(payload);
    }
}

/// A defect.
#[cold]
fn panicked(payload: Box<dyn Any + Send>) -> c_int {
    let why = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(why), _) => (*why).to_owned(),
        (_, Some(why)) => why.clone(),
        _ => "no reason was given".to_owned(),
    };
    // What it is, and what its drop may do, is not known.
    std::mem::forget(payload);
    Fault::new(FH_EPANIC, format!("a defect of the library, please report it: {why}")).tell()
}

/// Says what the last call of this thread that failed said: one sentence, with what to do.
///
/// Parameters: none.
/// Thread: each thread has its own message, and reads no other's.
/// Ownership: the text is the library's. It is good until the next call of this thread that
/// fails.
/// Returns: a text that ends in NUL; an empty one if no call of this thread has failed.
/// Errors: none.
#[unsafe(no_mangle)]
pub extern "C" fn fh_error_message() -> *const c_char {
    LAST.try_with(|last| match last.try_borrow() {
        Ok(told) => told.message.as_ptr(),
        Err(_) => c"".as_ptr(),
    })
    .unwrap_or(c"".as_ptr())
}

/// Says which structure is damaged, after a call of this thread that failed with FH_ECORRUPT.
///
/// Parameters: `block`, if it is not null, gets the number of the structure's block on the
/// medium.
/// Thread: each thread has its own.
/// Ownership: as fh_error_message.
/// Returns: the structure's name; null if the last failure of this thread was another one.
/// Errors: none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_error_place(block: *mut u64) -> *const c_char {
    LAST.try_with(|last| match last.try_borrow().ok()?.place.as_ref() {
        Some((what, at)) => {
            if !block.is_null() {
                // SAFETY: the caller gives null or a place for a number.
                unsafe { block.write(*at) };
            }
            Some(what.as_ptr())
        }
        None => None,
    })
    .ok()
    .flatten()
    .unwrap_or(std::ptr::null())
}

/// The name of a code, such as "FH_ERECALLED": for logs.
///
/// Parameters: `code` is what a call returned.
/// Thread: any.
/// Ownership: the text is constant.
/// Returns: the name; null for a number that is no code of this library.
/// Errors: none.
#[unsafe(no_mangle)]
pub extern "C" fn fh_error_name(code: c_int) -> *const c_char {
    code::name(code).map_or(std::ptr::null(), CStr::as_ptr)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> String {
        // SAFETY: the message is the library's, ends in NUL, and no call failed since.
        unsafe { CStr::from_ptr(fh_error_message()) }.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_panic_does_not_cross() {
        assert_eq!(status(|| panic!("on purpose")), FH_EPANIC);
        assert!(message().ends_with("on purpose"), "{}", message());
        assert_eq!(count(|| panic!("{}", 7)), i64::from(FH_EPANIC));
        quietly(|| std::panic::panic_any(7));
        assert!(message().ends_with("no reason was given"));
    }

    #[test]
    fn each_thread_has_its_message() {
        assert_eq!(status(|| Err(Fault::invalid("here"))), FH_EINVAL);
        std::thread::spawn(|| assert_eq!(message(), "")).join().unwrap();
        assert_eq!(message(), "here");
    }

    #[test]
    fn a_damaged_structure_is_named() {
        let mut block = 0;
        let damaged = || Err(Error::corrupt("superblock", 9, "it is not").into());
        assert_eq!(status(damaged), code::FH_ECORRUPT);
        // SAFETY: the place is good, and the text is the library's.
        let what = unsafe { CStr::from_ptr(fh_error_place(&raw mut block)) };
        assert_eq!((what, block), (c"superblock", 9));
        assert_eq!(status(|| Err(Fault::invalid("other"))), FH_EINVAL);
        // SAFETY: as above.
        assert!(unsafe { fh_error_place(&raw mut block) }.is_null());
    }
}
