//! The server's functions that a check needs, as the server has them.
//!
//! pgrx declares each of them with a jump buffer around the call, so that an error becomes a panic. A dozen such
//! buffers cost a check more than its row does. Here those that may raise an error are called together inside one
//! [`guarded`]; the rest raise none, or only for arguments that no caller here passes.

use pgrx::pg_sys;

#[cfg(any(feature = "pg14", feature = "pg15"))]
pub(crate) type File = pg_sys::RelFileNode;
#[cfg(any(feature = "pg16", feature = "pg17", feature = "pg18"))]
pub(crate) type File = pg_sys::RelFileLocator;

// SAFETY: the same signatures in every release that pgrx has bindings for, where they are declared alike.
unsafe extern "C-unwind" {
    // These raise nothing. The last of them may, for a column that was added later with a default that is no plain value,
    // which the tables of `shape` have none of.
    pub(crate) fn GetOuterUserId() -> pg_sys::Oid;
    pub(crate) fn GetCurrentStatementStartTimestamp() -> pg_sys::TimestampTz;
    pub(crate) fn GetCurrentSubTransactionId() -> pg_sys::SubTransactionId;
    pub(crate) fn ActiveSnapshotSet() -> bool;
    pub(crate) fn GetActiveSnapshot() -> pg_sys::Snapshot;
    pub(crate) fn heap_deform_tuple(
        tuple: pg_sys::HeapTuple,
        columns: pg_sys::TupleDesc,
        values: *mut pg_sys::Datum,
        nulls: *mut bool,
    );
    // These raise an error only for what is not pinned, or not open.
    pub(crate) fn ReleaseBuffer(buffer: pg_sys::Buffer);
    pub(crate) fn RelationClose(relation: pg_sys::Relation);
    // These may: only inside `guarded`.
    pub(crate) fn LockRelationOid(relation: pg_sys::Oid, mode: pg_sys::LOCKMODE);
    #[cfg(not(feature = "pg14"))]
    pub(crate) fn RelationIdGetRelation(relation: pg_sys::Oid) -> pg_sys::Relation;
    #[cfg(feature = "pg14")]
    pub(crate) fn try_relation_open(relation: pg_sys::Oid, mode: pg_sys::LOCKMODE) -> pg_sys::Relation;
    pub(crate) fn ReadRecentBuffer(
        file: File,
        fork: pg_sys::ForkNumber::Type,
        block: pg_sys::BlockNumber,
        buffer: pg_sys::Buffer,
    ) -> bool;
    pub(crate) fn LockBuffer(buffer: pg_sys::Buffer, mode: std::ffi::c_int);
    pub(crate) fn heap_hot_search_buffer(
        place: pg_sys::ItemPointer,
        relation: pg_sys::Relation,
        buffer: pg_sys::Buffer,
        snapshot: pg_sys::Snapshot,
        tuple: pg_sys::HeapTuple,
        all_dead: *mut bool,
        first_call: bool,
    ) -> bool;
}

/// Turns an error of the server into a panic, which the outermost guard turns back.
///
/// # Safety
/// In a backend's thread. The closure does not panic, calls no function of pgrx that is guarded itself, and holds
/// nothing that has to be dropped: an error jumps over it. Callbacks of this library that the server runs meanwhile only
/// raise flags.
pub(crate) unsafe fn guarded<T: Copy>(calls: impl FnOnce() -> T) -> T {
    // SAFETY: as the caller says.
    unsafe { pg_sys::ffi::pg_guard_ffi_boundary(calls) }
}
