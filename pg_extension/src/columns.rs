//! The columns of our functions' results, kept for as long as the backend lives.
//!
//! A call site lives for one execution of a statement, and working the columns out costs several times what reading a
//! row does. They are the function's own: a declaration that changes gets them worked out again.

use std::ptr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicPtr, AtomicU32};

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::delegate;

/// What one function returns.
struct Kept {
    function: AtomicU32,
    /// How many changes of definitions had been heard of by then.
    definitions: AtomicU32,
    columns: AtomicPtr<pg_sys::TupleDescData>,
}

static KEPT: [Kept; 8] = [const {
    Kept { function: AtomicU32::new(0), definitions: AtomicU32::new(0), columns: AtomicPtr::new(ptr::null_mut()) }
}; 8];

/// The columns that this call is to return: to be used at once, and not kept.
///
/// # Safety
/// Called by the server, for a function that returns columns.
pub(crate) unsafe fn of(call: pg_sys::FunctionCallInfo) -> pg_sys::TupleDesc {
    // SAFETY: `flinfo` is the call's function.
    let function = unsafe { (*(*call).flinfo).fn_oid.to_u32() };
    let kept = &KEPT[function as usize % KEPT.len()];
    let definitions = delegate::definitions();
    let columns = kept.columns.load(Relaxed);
    if !columns.is_null() && kept.function.load(Relaxed) == function && kept.definitions.load(Relaxed) == definitions {
        return columns;
    }
    // SAFETY: as the caller says.
    let columns = unsafe { work_out(call) };
    let old = kept.columns.swap(columns, Relaxed);
    kept.function.store(function, Relaxed);
    kept.definitions.store(definitions, Relaxed);
    if !old.is_null() {
        // SAFETY: ours, and no reference to it outlives a call.
        unsafe { pg_sys::FreeTupleDesc(old) };
    }
    columns
}

unsafe fn work_out(call: pg_sys::FunctionCallInfo) -> pg_sys::TupleDesc {
    // SAFETY: the description is copied to where it outlives every call.
    unsafe {
        let mut columns = ptr::null_mut();
        let class = pg_sys::get_call_result_type(call, ptr::null_mut(), &mut columns);
        if class != pg_sys::TypeFuncClass::TYPEFUNC_COMPOSITE {
            error!("the function's result is not declared as columns");
        }
        let before = pg_sys::MemoryContextSwitchTo(pg_sys::TopMemoryContext);
        let kept = pg_sys::BlessTupleDesc(pg_sys::CreateTupleDescCopy(columns));
        pg_sys::MemoryContextSwitchTo(before);
        kept
    }
}
