//! Where the releases of PostgreSQL differ.

use pgrx::pg_sys;

use crate::bare;

/// Which transaction this backend is in, as a number that it does not use again.
///
/// # Safety
/// Only in a backend, whose entry in the process array exists.
pub(crate) unsafe fn local_transaction() -> u32 {
    // SAFETY: `MyProc` is set before any function can be called.
    unsafe {
        #[cfg(any(feature = "pg14", feature = "pg15", feature = "pg16"))]
        return (*pg_sys::MyProc).lxid;
        #[cfg(any(feature = "pg17", feature = "pg18"))]
        return (*pg_sys::MyProc).vxid.lxid;
    }
}

/// The file a relation lives in: another one after `truncate`, `vacuum full` or `cluster`.
///
/// # Safety
/// The relation is open.
pub(crate) unsafe fn file_of(relation: pg_sys::Relation) -> u32 {
    // SAFETY: open, says the caller.
    unsafe {
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        return (*relation).rd_node.relNode.to_u32();
        #[cfg(any(feature = "pg16", feature = "pg17", feature = "pg18"))]
        return (*relation).rd_locator.relNumber.to_u32();
    }
}

/// Opens a table that may be gone, without looking it up by name first, or null.
///
/// # Safety
/// The table's number is locked; inside [`bare::guarded`].
pub(crate) unsafe fn open_locked(table: pg_sys::Oid) -> pg_sys::Relation {
    // SAFETY: as the caller says.
    unsafe {
        // This release counts reads in memory that only opening in full keeps up to date.
        #[cfg(feature = "pg14")]
        return bare::try_relation_open(table, pg_sys::NoLock as i32);
        #[cfg(not(feature = "pg14"))]
        bare::RelationIdGetRelation(table)
    }
}

/// Pins the buffer that held a block of a table once, if it does still. That also says that the block exists: a table
/// that becomes shorter gives its buffers up. Saves asking how long the file is and where the block is.
///
/// # Safety
/// The relation is open and locked; inside [`bare::guarded`].
pub(crate) unsafe fn pin_recent(table: pg_sys::Relation, block: u32, buffer: pg_sys::Buffer) -> bool {
    // SAFETY: open, says the caller; whose buffer it is now is what the server compares.
    unsafe {
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        let file = (*table).rd_node;
        #[cfg(any(feature = "pg16", feature = "pg17", feature = "pg18"))]
        let file = (*table).rd_locator;
        buffer > 0 && bare::ReadRecentBuffer(file, pg_sys::ForkNumber::MAIN_FORKNUM, block, buffer)
    }
}

/// Begins a scan of an index that is not instrumented.
///
/// # Safety
/// Both relations are open and locked, and the snapshot is registered or active.
pub(crate) unsafe fn begin_scan(
    table: pg_sys::Relation,
    index: pg_sys::Relation,
    snapshot: pg_sys::Snapshot,
    keys: i32,
) -> pg_sys::IndexScanDesc {
    // SAFETY: as the caller says.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        return pg_sys::index_beginscan(table, index, snapshot, keys, 0);
        #[cfg(feature = "pg18")]
        return pg_sys::index_beginscan(table, index, snapshot, std::ptr::null_mut(), keys, 0);
    }
}

/// Whether a role may call a function.
///
/// # Safety
/// Inside a transaction, and the function exists.
pub(crate) unsafe fn may_execute(function: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    // SAFETY: look-ups in the catalogue's caches.
    let answer = unsafe {
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        let answer = pg_sys::pg_proc_aclcheck(function, role, pg_sys::ACL_EXECUTE);
        #[cfg(any(feature = "pg16", feature = "pg17", feature = "pg18"))]
        let answer = pg_sys::object_aclcheck(pg_sys::ProcedureRelationId, function, role, pg_sys::ACL_EXECUTE.into());
        answer
    };
    answer == pg_sys::AclResult::ACLCHECK_OK
}
