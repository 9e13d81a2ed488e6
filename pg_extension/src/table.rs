//! Reading one row by its whole key: from the place it was found last, or through the index.
//!
//! Reads heap pages past the executor: no privileges and no row-level security apply, so `caller` asks first. Every
//! row is judged by the active snapshot, the calling statement's for a check, and the whole key is compared in the row
//! that is found.

use pgrx::pg_sys;

use crate::backend;
use crate::bare;
use crate::locations::{Locations, RowLocation};
use crate::pages;
use crate::row::Row;
use crate::shape::{Known, Shape};
use crate::versions;

/// A table, as this backend knows it.
pub(crate) struct Table {
    shape: &'static Shape,
    known: Option<Known>,
    /// The relation and the file that the remembered places are in.
    file: Option<(pg_sys::Oid, u32)>,
    /// The transaction and subtransaction in which the lock was taken. While both go on, it is held.
    tenure: Option<(u32, u32)>,
}

/// An open table, in the active snapshot.
pub(crate) struct Open {
    relation: pg_sys::Relation,
    known: Known,
    snapshot: pg_sys::Snapshot,
    key: usize,
    /// Where the row that is sought was found last.
    remembered: Option<RowLocation>,
}

/// One column of a key, with its value.
#[derive(Clone, Copy)]
pub(crate) struct Key {
    pub(crate) equal: u32,
    pub(crate) value: pg_sys::Datum,
}

impl Table {
    pub(crate) const fn new(shape: &'static Shape) -> Self {
        Self { shape, known: None, file: None, tenure: None }
    }

    /// Forgets what was learned, except where the remembered places are.
    pub(crate) fn forget(&mut self) {
        self.known = None;
        self.tenure = None;
    }

    /// Opens the table to read one row, and keeps its lock to the end of the transaction, as a query does. None if the
    /// table is missing, has another shape, or there is no snapshot to read with. The places are cleared if they are in
    /// another file.
    ///
    /// Of the row the hash is given, if it may be remembered: its memory comes while the table is opened.
    ///
    /// # Safety
    /// Inside a transaction.
    pub(crate) unsafe fn open(&mut self, places: &mut Locations, hash: Option<u64>) -> Option<Open> {
        hash.into_iter().for_each(|hash| pages::fetch(places.line(hash)));
        // SAFETY: plain calls of the server; the relation is used only while it is open and locked.
        unsafe {
            if !bare::ActiveSnapshotSet() {
                return None;
            }
            let now = (versions::local_transaction(), bare::GetCurrentSubTransactionId());
            // A few turns: definitions may change until the lock is held.
            for _ in 0..4 {
                let relation = match &self.known {
                    Some(known) => known.relation,
                    None => self.named()?,
                };
                let held = self.tenure == Some(now) && self.known.is_some();
                let (open, mut remembered) = bare::guarded(|| {
                    if !held {
                        bare::LockRelationOid(relation, pg_sys::AccessShareLock as i32);
                    }
                    let remembered = hash.and_then(|hash| places.get(hash));
                    remembered.into_iter().for_each(pages::fetch_row);
                    (versions::open_locked(relation), remembered)
                });
                if open.is_null() || backend::definition_changed(self.shape.position) {
                    if !open.is_null() {
                        bare::RelationClose(open);
                    }
                    self.forget();
                    continue;
                }
                self.tenure = Some(now);
                if self.known.is_none() {
                    self.known = self.shape.learn(open);
                    let file = Some((relation, versions::file_of(open)));
                    if self.file != file {
                        places.clear();
                        remembered = None;
                        self.file = file;
                    }
                }
                let Some(known) = self.known else {
                    bare::RelationClose(open);
                    return None;
                };
                let snapshot = bare::GetActiveSnapshot();
                return Some(Open { relation: open, known, snapshot, key: self.shape.key, remembered });
            }
            None
        }
    }

    unsafe fn named(&self) -> Option<pg_sys::Oid> {
        // SAFETY: look-ups of names in the catalogue's caches.
        unsafe {
            let schema = pg_sys::get_namespace_oid(c"secretaria".as_ptr(), true);
            if schema == pg_sys::InvalidOid {
                return None;
            }
            let relation = pg_sys::get_relname_relid(self.shape.name.as_ptr(), schema);
            backend::watch(self.shape.position, relation);
            (relation != pg_sys::InvalidOid).then_some(relation)
        }
    }
}

impl Open {
    /// Whether a place was remembered.
    pub(crate) fn has_guess(&self) -> bool {
        self.remembered.is_some()
    }

    /// The row at the remembered place, if that is in memory and the snapshot sees one there; also says where it is now.
    pub(crate) fn guessed(&self) -> Option<(RowLocation, Row<'_>)> {
        let place = self.remembered?;
        // SAFETY: open and locked, and the buffer that is pinned holds the block.
        let found = unsafe {
            bare::guarded(|| {
                let block = pages::block_in(place);
                versions::pin_recent(self.relation, block, place.buffer).then(|| self.version_in(block, place))?
            })
        };
        // SAFETY: pinned by the look-up.
        found.map(|tuple| unsafe { self.row_of(tuple, place) })
    }

    /// Has the server count a use of a page, which pinning it by its buffer does not: pages without are the first to leave
    /// memory. Nothing of the page is pinned.
    pub(crate) fn count_use(&self, place: RowLocation) {
        // SAFETY: open and locked; the block is read only if the buffer holds it, so that there is one.
        unsafe {
            let block = pages::block_in(place);
            if bare::guarded(|| versions::pin_recent(self.relation, block, place.buffer)) {
                bare::ReleaseBuffer(place.buffer);
                bare::ReleaseBuffer(pg_sys::ReadBuffer(self.relation, block));
            }
        }
    }

    /// Whether the row is elsewhere on its page than remembered.
    pub(crate) fn has_moved(&self, now: RowLocation) -> bool {
        self.remembered != Some(now)
    }

    /// Searches the index for the key; also says where the row was found.
    ///
    /// # Safety
    /// The key's values have the types of the shape's first columns.
    pub(crate) unsafe fn search(&self, key: &[Key]) -> Option<(RowLocation, Row<'_>)> {
        debug_assert_eq!(key.len(), self.key);
        // SAFETY: the index is on this table and its columns are the key's (`learn`); the scan is ended before it is
        // closed, and the row that is found keeps a pin of its own.
        unsafe {
            let index = pg_sys::index_open(self.known.index, pg_sys::AccessShareLock as i32);
            let mut keys = [pg_sys::ScanKeyData::default(); 4];
            for (position, (key, scan_key)) in key.iter().zip(&mut keys).enumerate() {
                pg_sys::ScanKeyEntryInitialize(
                    scan_key,
                    0,
                    position as i16 + 1,
                    pg_sys::BTEqualStrategyNumber as u16,
                    pg_sys::InvalidOid,
                    *(*index).rd_indcollation.add(position),
                    key.equal.into(),
                    key.value,
                );
            }
            let count = key.len() as i32;
            let scan = versions::begin_scan(self.relation, index, self.snapshot, count);
            pg_sys::index_rescan(scan, keys.as_mut_ptr(), count, std::ptr::null_mut(), 0);
            let mut found = None;
            while found.is_none() {
                let pointer = pg_sys::index_getnext_tid(scan, pg_sys::ScanDirection::ForwardScanDirection);
                if pointer.is_null() {
                    break;
                }
                let (block, offset) = pgrx::itemptr::item_pointer_get_both(*pointer);
                found = self.read(block, offset);
            }
            pg_sys::index_endscan(scan);
            pg_sys::index_close(index, pg_sys::NoLock as i32);
            found
        }
    }

    /// Closes the table; its lock stays to the end of the transaction.
    pub(crate) fn close(self) {
        // SAFETY: `Table::open` opened it, once.
        unsafe { bare::RelationClose(self.relation) }
    }

    /// The version of the row under this root that the snapshot sees, and where it is.
    unsafe fn read(&self, block: u32, line: u16) -> Option<(RowLocation, Row<'_>)> {
        // SAFETY: the block exists, and the buffer holds it.
        unsafe {
            let place = RowLocation { buffer: pg_sys::ReadBuffer(self.relation, block), line, row: 0 };
            let tuple = bare::guarded(|| self.version_in(block, place))?;
            Some(self.row_of(tuple, place))
        }
    }

    /// The same, in a buffer that is pinned; without a row the pin is let go. Only inside [`bare::guarded`].
    unsafe fn version_in(&self, block: u32, place: RowLocation) -> Option<pg_sys::HeapTupleData> {
        let buffer = place.buffer;
        let mut pointer = pg_sys::ItemPointerData {
            ip_blkid: pg_sys::BlockIdData { bi_hi: (block >> 16) as u16, bi_lo: block as u16 },
            ip_posid: place.line,
        };
        let mut tuple = pg_sys::HeapTupleData::default();
        // SAFETY: the buffer holds the block; the page is locked while the chain is followed and stays pinned
        // afterwards, which keeps the row's bytes where they are.
        unsafe {
            bare::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE as i32);
            let found = bare::heap_hot_search_buffer(
                &mut pointer,
                self.relation,
                buffer,
                self.snapshot,
                &mut tuple,
                std::ptr::null_mut(),
                true,
            );
            bare::LockBuffer(buffer, pg_sys::BUFFER_LOCK_UNLOCK as i32);
            if !found {
                bare::ReleaseBuffer(buffer);
                return None;
            }
        }
        Some(tuple)
    }

    /// What was found under a root, taken apart, and where it is now.
    unsafe fn row_of(&self, tuple: pg_sys::HeapTupleData, root: RowLocation) -> (RowLocation, Row<'_>) {
        // SAFETY: of this relation, on the pinned buffer.
        unsafe {
            let place = RowLocation { row: pages::row_at(&tuple, root.buffer), ..root };
            (place, Row::of(tuple, self.relation, &self.known, root.buffer))
        }
    }
}
