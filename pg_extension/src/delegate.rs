//! `secretaria_delegate`: one C symbol that is every function which has nothing to gain from being written in C.
//!
//! It calls the function of its own name and argument types in `secretaria_reference`, with the call it was given:
//! arguments, collation, trigger and result set pass through untouched, so functions that return rows and triggers
//! work too. The server applies what that function has beside its body (`security definer`, `set search_path`) and
//! checks privileges: a role that may not call it may not call it through here.
//!
//! An error of that function does not stop here. pgrx's guard would catch it and raise another one of the same
//! message, without the constraint, the table and any SQLSTATE it does not list; so the call is made without one, and
//! the server's jump passes [`secretaria_delegate`] as it passes C. That is sound because nothing in that frame has to
//! be dropped: see RFC 2945 on plain old frames.

use std::mem::{MaybeUninit, size_of};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::plpgsql;
use crate::versions;

/// Counts the changes of functions and schemas that this backend has heard of.
static DEFINITIONS: AtomicU32 = AtomicU32::new(0);

/// What a call site keeps while it lives: for a query, or, in PL/pgSQL, for a transaction.
pub(crate) struct Site {
    target: pg_sys::FmgrInfo,
    /// What an increment calls instead where it is plain, and then if that counted nothing; looked up when it first is.
    pub(crate) fast_path: pg_sys::FmgrInfo,
    pub(crate) slow_path: pg_sys::FmgrInfo,
    function: unsafe extern "C-unwind" fn(pg_sys::FunctionCallInfo) -> pg_sys::Datum,
    /// [`DEFINITIONS`] when it was looked up.
    definitions: u32,
}

/// A call with space for as many arguments as a function may have.
#[repr(C)]
pub(crate) struct Frame {
    call: pg_sys::FunctionCallInfoBaseData,
    arguments: [pg_sys::NullableDatum; pg_sys::FUNC_MAX_ARGS as usize],
}

#[unsafe(no_mangle)]
#[doc(hidden)]
extern "C" fn pg_finfo_secretaria_delegate() -> &'static pg_sys::Pg_finfo_record {
    const V1: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
    &V1
}

/// Not guarded, on purpose: nothing here may need to be dropped, and nothing may panic.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C-unwind" fn secretaria_delegate(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: the server calls this with a call of `nargs` arguments, which `Frame` has space for; `Frame` lays them
    // out as the server does. The caller's own call is left as it is, for code that looks at it after an error.
    unsafe {
        let site = site((*call).flinfo);
        pass_on(call, &raw mut (*site).target, (*site).function)
    }
}

/// Calls a function with the call of another one of the same arguments and result.
///
/// # Safety
/// In a frame that holds nothing to be dropped: an error passes it.
pub(crate) unsafe fn pass_on(
    call: pg_sys::FunctionCallInfo,
    target: *mut pg_sys::FmgrInfo,
    function: unsafe extern "C-unwind" fn(pg_sys::FunctionCallInfo) -> pg_sys::Datum,
) -> pg_sys::Datum {
    // SAFETY: as the caller says; see above for the frame.
    unsafe {
        let mut frame = MaybeUninit::<Frame>::uninit();
        let size =
            size_of::<pg_sys::FunctionCallInfoBaseData>() + (*call).nargs as usize * size_of::<pg_sys::NullableDatum>();
        std::ptr::copy_nonoverlapping(call.cast::<u8>(), frame.as_mut_ptr().cast::<u8>(), size);
        let passed: pg_sys::FunctionCallInfo = frame.as_mut_ptr().cast();
        (*passed).flinfo = target;
        let value = function(passed);
        (*call).isnull = (*passed).isnull;
        value
    }
}

/// What this call site calls; looked up again when a function may have changed since.
///
/// # Safety
/// `own` is the function that the server calls, inside a transaction.
#[pg_guard]
pub(crate) unsafe extern "C-unwind" fn site(own: *mut pg_sys::FmgrInfo) -> *mut Site {
    // SAFETY: only this library uses `fn_extra` of its functions; the memory lives as long as the call site.
    unsafe {
        let kept = (*own).fn_extra.cast::<Site>();
        // Read before looking up: what changes meanwhile is looked up next time.
        let definitions = DEFINITIONS.load(Relaxed);
        // One that returns rows may be between two of them; its call site ends with its query.
        if !kept.is_null() && ((*kept).definitions == definitions || (*own).fn_retset) {
            return kept;
        }
        let found = find((*own).fn_oid);
        let mut target = pg_sys::FmgrInfo::default();
        pg_sys::fmgr_info_cxt(found, &mut target, (*own).fn_mcxt);
        target.fn_expr = (*own).fn_expr;
        let Some(function) = target.fn_addr else { error!("function {found:?} has no address") };
        // Not in the old one's place, which a call under way may still use.
        let site = pg_sys::MemoryContextAllocZero((*own).fn_mcxt, size_of::<Site>()).cast::<Site>();
        let none = pg_sys::FmgrInfo::default;
        site.write(Site { target, fast_path: none(), slow_path: none(), function, definitions });
        (*own).fn_extra = site.cast();
        site
    }
}

/// The function of the same name and arguments in `secretaria_reference`, if it is declared alike and may be called.
unsafe fn find(own: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: look-ups in the catalogue's caches, which the server renews when they change.
    unsafe {
        let name = pg_sys::get_func_name(own);
        if name.is_null() {
            error!("function {own:?} was dropped");
        }
        let name = std::ffi::CStr::from_ptr(name);
        let (mut types, mut count) = (std::ptr::null_mut(), 0);
        let result = pg_sys::get_func_signature(own, &mut types, &mut count);
        let types = if count == 0 { &[] } else { std::slice::from_raw_parts(types, count as usize) };
        let found = plpgsql::find(name, types);
        // A result read as another type would be a pointer to anywhere.
        if pg_sys::get_func_rettype(found) != result
            || pg_sys::get_func_retset(found) != pg_sys::get_func_retset(own)
            || pg_sys::func_strict(found) != pg_sys::func_strict(own)
        {
            ErrorReport::new(
                PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
                format!("secretaria_reference.{0} and secretaria.{0} are declared differently", name.to_string_lossy()),
                function_name!(),
            )
            .set_hint("bring the extension up to date with: alter extension secretaria update")
            .report(PgLogLevel::ERROR);
        }
        if !versions::may_execute(found, pg_sys::GetUserId()) {
            ErrorReport::new(
                PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!("permission denied for function {}", name.to_string_lossy()),
                function_name!(),
            )
            .report(PgLogLevel::ERROR);
        }
        found
    }
}

/// Asks the server to say when a function or a schema changes. Once in each backend.
pub(crate) fn listen() {
    for cache in [pg_sys::SysCacheIdentifier::PROCOID, pg_sys::SysCacheIdentifier::NAMESPACEOID] {
        // SAFETY: the callback has the signature the server wants, and only counts.
        unsafe {
            pg_sys::CacheRegisterSyscacheCallback(cache as i32, Some(definition_changed), pg_sys::Datum::from(0));
        }
    }
}

/// How many changes of functions and schemas this backend has heard of.
pub(crate) fn definitions() -> u32 {
    DEFINITIONS.load(Relaxed)
}

#[pg_guard]
extern "C-unwind" fn definition_changed(_argument: pg_sys::Datum, _cache: i32, _hash: u32) {
    DEFINITIONS.fetch_add(1, Relaxed);
}
