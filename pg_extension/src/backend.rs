//! What one backend remembers: the two tables, where rows were, who is asking, and how often that helped.
//!
//! A backend has one thread, and the invalidation callbacks only raise flags, so nothing here is entered twice.

use std::cell::{RefCell, RefMut};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use pgrx::{pg_guard, pg_sys};

use crate::caller::Kind;
use crate::locations::Locations;
use crate::shape::{COMPANY_ROLES, FEATURE_USAGE};
use crate::table::Table;

/// The state of this backend.
pub(crate) struct Backend {
    pub(crate) usage: Table,
    pub(crate) roles: Table,
    pub(crate) usage_places: Locations,
    pub(crate) role_places: Locations,
    /// The role that asked last, and what kind it is.
    pub(crate) asked: Option<(pg_sys::Oid, Kind)>,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    /// Places where the row no longer was, or never had been.
    pub(crate) mismatches: u64,
}

struct OneThread(RefCell<Backend>);

// SAFETY: a backend runs its functions on one thread; pgrx's guard refuses any other.
unsafe impl Sync for OneThread {}

static BACKEND: OneThread = OneThread(RefCell::new(Backend {
    usage: Table::new(&FEATURE_USAGE),
    roles: Table::new(&COMPANY_ROLES),
    usage_places: Locations::new(),
    role_places: Locations::new(),
    asked: None,
    hits: 0,
    misses: 0,
    mismatches: 0,
}));

/// Raised when a table's definition may have changed, by position of [`Table`]; the next to open that table lowers it.
static DEFINITION_CHANGED: [AtomicBool; 2] = [AtomicBool::new(false), AtomicBool::new(false)];
static ROLES_CHANGED: AtomicBool = AtomicBool::new(false);
/// The tables whose definitions matter, by position of [`Table`].
static WATCHED: [AtomicU32; 2] = [AtomicU32::new(0), AtomicU32::new(0)];

/// The state. Held only while nothing can call back into this library: never across a call of PL/pgSQL.
pub(crate) fn state() -> RefMut<'static, Backend> {
    BACKEND.0.borrow_mut()
}

/// Watches a relation from now on.
pub(crate) fn watch(position: usize, relation: pg_sys::Oid) {
    WATCHED[position].store(relation.to_u32(), Relaxed);
}

/// Whether a table's definition may have changed since the last time this was asked.
pub(crate) fn definition_changed(position: usize) -> bool {
    let changed = &DEFINITION_CHANGED[position];
    changed.load(Relaxed) && changed.swap(false, Relaxed)
}

/// Whether a role may have changed since the last time this was asked.
pub(crate) fn roles_changed() -> bool {
    ROLES_CHANGED.load(Relaxed) && ROLES_CHANGED.swap(false, Relaxed)
}

/// Asks the server to say when a definition or a role changes. Once in each backend.
pub(crate) fn listen() {
    // SAFETY: the callbacks have the signatures the server wants, and do nothing but raise flags.
    unsafe {
        pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), pg_sys::Datum::from(0));
        pg_sys::CacheRegisterSyscacheCallback(
            pg_sys::SysCacheIdentifier::NAMESPACEOID as i32,
            Some(schema_changed),
            pg_sys::Datum::from(0),
        );
        pg_sys::CacheRegisterSyscacheCallback(
            pg_sys::SysCacheIdentifier::AUTHOID as i32,
            Some(role_changed),
            pg_sys::Datum::from(0),
        );
    }
}

#[pg_guard]
extern "C-unwind" fn relation_changed(_argument: pg_sys::Datum, relation: pg_sys::Oid) {
    let relation = relation.to_u32();
    for (watched, changed) in WATCHED.iter().zip(&DEFINITION_CHANGED) {
        if relation == 0 || watched.load(Relaxed) == relation {
            changed.store(true, Relaxed);
        }
    }
}

#[pg_guard]
extern "C-unwind" fn schema_changed(_argument: pg_sys::Datum, _cache: i32, _hash: u32) {
    for changed in &DEFINITION_CHANGED {
        changed.store(true, Relaxed);
    }
}

#[pg_guard]
extern "C-unwind" fn role_changed(_argument: pg_sys::Datum, _cache: i32, _hash: u32) {
    ROLES_CHANGED.store(true, Relaxed);
}
