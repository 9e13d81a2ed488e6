//! Asking the PL/pgSQL function of the same name, with the same arguments.
//!
//! Called straight, not by SQL: a role that may call the extension's function need not have the schema on its path. The
//! PL/pgSQL function authorises its caller itself.

use std::ffi::CStr;

use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

/// A function of `secretaria_reference`.
pub(crate) struct Signature {
    pub(crate) name: &'static CStr,
    pub(crate) arguments: &'static [pg_sys::Oid],
}

pub(crate) static CHECK: Signature = Signature {
    name: c"check_feature_access",
    arguments: &[pg_sys::INT8OID, pg_sys::TEXTOID, pg_sys::INT8OID, pg_sys::TIMESTAMPTZOID],
};

pub(crate) static HAS: Signature = Signature { name: c"has_feature", arguments: &[pg_sys::INT8OID, pg_sys::TEXTOID] };

/// Calls it. `prepared` is kept by the caller for as long as `memory` lives, zeroed at first.
///
/// # Safety
/// Inside a transaction; no borrow of the backend's state is held; `prepared` lives in `memory`.
pub(crate) unsafe fn call(
    signature: &Signature,
    prepared: *mut pg_sys::FmgrInfo,
    memory: pg_sys::MemoryContext,
    arguments: &[pg_sys::NullableDatum],
) -> pg_sys::NullableDatum {
    // SAFETY: the call has space for all its arguments, and `pg_guard_ffi_boundary` turns an error of the function into
    // a panic before it passes this frame.
    unsafe {
        if (*prepared).fn_oid == pg_sys::InvalidOid {
            pg_sys::fmgr_info_cxt(find(signature.name, signature.arguments), prepared, memory);
        }
        let size = std::mem::size_of::<pg_sys::FunctionCallInfoBaseData>() + std::mem::size_of_val(arguments);
        let call = pg_sys::palloc0(size).cast::<pg_sys::FunctionCallInfoBaseData>();
        (*call).flinfo = prepared;
        (*call).fncollation = pg_sys::DEFAULT_COLLATION_OID;
        (*call).nargs = arguments.len() as i16;
        std::ptr::copy_nonoverlapping(arguments.as_ptr(), (*call).args.as_mut_ptr(), arguments.len());
        let Some(function) = (*prepared).fn_addr else {
            error!("secretaria_reference.{} has no address", signature.name.to_string_lossy());
        };
        let value = pg_guard_ffi_boundary(|| function(call));
        let isnull = (*call).isnull;
        pg_sys::pfree(call.cast());
        pg_sys::NullableDatum { value, isnull }
    }
}

/// A function of `secretaria_reference` by its name and arguments; raises 0A000 if there is none.
///
/// # Safety
/// Inside a transaction.
pub(crate) unsafe fn find(name: &CStr, arguments: &[pg_sys::Oid]) -> pg_sys::Oid {
    // SAFETY: as the caller says.
    let found = unsafe { look_up(name, arguments) };
    if found == pg_sys::InvalidOid {
        ErrorReport::new(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            format!("function secretaria_reference.{} is missing", name.to_string_lossy()),
            function_name!(),
        )
        .set_hint("bring the database up to date with: secretaria migrate; then: alter extension secretaria update")
        .report(PgLogLevel::ERROR);
    }
    found
}

/// The same; `InvalidOid` if there is none.
///
/// # Safety
/// Inside a transaction.
pub(crate) unsafe fn look_up(name: &CStr, arguments: &[pg_sys::Oid]) -> pg_sys::Oid {
    // SAFETY: look-ups in the catalogue's caches.
    unsafe {
        let schema = pg_sys::get_namespace_oid(c"secretaria_reference".as_ptr(), true);
        let arguments = pg_sys::buildoidvector(arguments.as_ptr(), arguments.len() as i32);
        pg_sys::GetSysCacheOid(
            pg_sys::SysCacheIdentifier::PROCNAMEARGSNSP as i32,
            pg_sys::Anum_pg_proc_oid as i16,
            pg_sys::Datum::from(name.as_ptr()),
            pg_sys::Datum::from(arguments),
            pg_sys::Datum::from(schema),
            pg_sys::Datum::from(0),
        )
    }
}
