//! The tables that are read, as this library expects them. PL/pgSQL reads one of another shape.

use std::ffi::CStr;

use pgrx::pg_sys;

/// A column as this library expects it: name and type.
type Column = (&'static CStr, pg_sys::Oid);

/// A table as this library expects it; PL/pgSQL reads any other shape.
pub(crate) struct Shape {
    /// Which of the watched relations it is.
    pub(crate) position: usize,
    pub(crate) name: &'static CStr,
    /// The key's columns first, in the order of the unique index that is searched.
    columns: &'static [Column],
    /// How many columns the key has.
    pub(crate) key: usize,
}

/// The most columns that are read of any table, and the most that one may have.
pub(crate) const WIDEST: usize = 16;
pub(crate) const MAX_ATTRIBUTES: usize = 32;

/// Columns of `secretaria.feature_usage`, as positions in a row.
pub(crate) mod usage {
    pub(crate) const COMPANY: usize = 0;
    pub(crate) const FEATURE: usize = 1;
    pub(crate) const SLOT: usize = 2;
    pub(crate) const LIMIT: usize = 3;
    pub(crate) const USED: usize = 4;
    pub(crate) const RESERVED: usize = 5;
    pub(crate) const PERIOD_START: usize = 6;
    pub(crate) const PERIOD_END: usize = 7;
    pub(crate) const VALID_UNTIL: usize = 8;
    pub(crate) const ALLOWED: usize = 9;
    pub(crate) const SOFT: usize = 10;
    pub(crate) const KIND: usize = 11;
    pub(crate) const REASON: usize = 12;
    pub(crate) const SOURCE: usize = 13;
    pub(crate) const SLOTS: usize = 14;
}

pub(crate) static FEATURE_USAGE: Shape = Shape {
    position: 0,
    name: c"feature_usage",
    columns: &[
        (c"company_id", pg_sys::INT8OID),
        (c"feature", pg_sys::TEXTOID),
        (c"slot", pg_sys::INT2OID),
        (c"limit_value", pg_sys::INT8OID),
        (c"used", pg_sys::INT8OID),
        (c"reserved", pg_sys::INT8OID),
        (c"period_start", pg_sys::TIMESTAMPTZOID),
        (c"period_end", pg_sys::TIMESTAMPTZOID),
        (c"valid_until", pg_sys::TIMESTAMPTZOID),
        (c"allowed", pg_sys::BOOLOID),
        (c"soft", pg_sys::BOOLOID),
        (c"kind", pg_sys::TEXTOID),
        (c"reason", pg_sys::TEXTOID),
        (c"source", pg_sys::TEXTOID),
        (c"slots", pg_sys::INT2OID),
    ],
    key: 3,
};

pub(crate) static COMPANY_ROLES: Shape = Shape {
    position: 1,
    name: c"company_roles",
    columns: &[(c"role_name", pg_sys::NAMEOID), (c"company_id", pg_sys::INT8OID)],
    key: 1,
};

/// What was learned about a table; forgotten whenever its definition may have changed.
#[derive(Clone, Copy)]
pub(crate) struct Known {
    pub(crate) relation: pg_sys::Oid,
    pub(crate) index: pg_sys::Oid,
    /// Positions (from 0) of the shape's columns in the table's rows.
    pub(crate) at: [usize; WIDEST],
}

impl Shape {
    /// Finds the columns and the index, or none if the table is not as expected.
    ///
    /// # Safety
    /// The relation is open and locked.
    pub(crate) unsafe fn learn(&self, open: pg_sys::Relation) -> Option<Known> {
        // SAFETY: the relation is open and locked, so that what the catalogue says of it stays true.
        unsafe {
            let relation = (*open).rd_id;
            let class = &*(*open).rd_rel;
            let attributes = usize::try_from(class.relnatts).ok()?;
            let plain = class.relkind == pg_sys::RELKIND_RELATION as std::ffi::c_char
                && class.relam == pg_sys::Oid::from(pg_sys::HEAP_TABLE_AM_OID.to_u32())
                && !class.relhassubclass;
            if !plain || attributes > MAX_ATTRIBUTES {
                return None;
            }
            let mut at = [0; WIDEST];
            for (position, (name, wanted)) in self.columns.iter().enumerate() {
                let number = pg_sys::get_attnum(relation, name.as_ptr());
                if number <= 0 || pg_sys::get_atttype(relation, number) != *wanted {
                    return None;
                }
                at[position] = number as usize - 1;
            }
            let index = index_on(open, &at[..self.key])?;
            Some(Known { relation, index, at })
        }
    }
}

/// The unique index on exactly these columns, in this order.
unsafe fn index_on(open: pg_sys::Relation, columns: &[usize]) -> Option<pg_sys::Oid> {
    // SAFETY: the relation is open and locked; each index is closed again, and keeps its lock.
    unsafe {
        let list = pg_sys::RelationGetIndexList(open);
        if list.is_null() {
            return None;
        }
        let indexes = std::slice::from_raw_parts((*list).elements, (*list).length as usize);
        indexes.iter().map(|cell| cell.oid_value).find(|&candidate| {
            let index = pg_sys::index_open(candidate, pg_sys::AccessShareLock as i32);
            let form = &*(*index).rd_index;
            let keys = form.indkey.values.as_slice(form.indnatts as usize);
            let fits = form.indisunique
                && form.indimmediate
                && form.indisvalid
                && !form.indcheckxmin
                && (*index).rd_indpred.is_null()
                && (*index).rd_indexprs.is_null()
                && usize::try_from(form.indnkeyatts) == Ok(columns.len())
                && keys.len() == columns.len()
                && keys.iter().zip(columns).all(|(&key, &column)| i32::from(key) == column as i32 + 1);
            pg_sys::index_close(index, pg_sys::NoLock as i32);
            fits
        })
    }
}
