//! One row, where it lies: its columns as the server's values, valid while its page is pinned.

use std::mem::MaybeUninit;

use pgrx::pg_sys;

use crate::bare;
use crate::shape::{Known, MAX_ATTRIBUTES, WIDEST, usage};

/// A row on a pinned page. Its texts point into the page, so the pin is let go only after they were used.
pub(crate) struct Row<'a> {
    /// Filled up to the table's number of columns, which `at` stays below.
    values: [MaybeUninit<pg_sys::Datum>; MAX_ATTRIBUTES],
    nulls: [MaybeUninit<bool>; MAX_ATTRIBUTES],
    at: &'a [usize; WIDEST],
    buffer: pg_sys::Buffer,
    deleter: u32,
}

impl<'a> Row<'a> {
    /// Takes a row apart. The row lets go of the buffer's pin when it is released.
    ///
    /// # Safety
    /// The tuple is one of this relation, which `known` describes, on the pinned buffer.
    pub(crate) unsafe fn of(
        mut tuple: pg_sys::HeapTupleData,
        relation: pg_sys::Relation,
        known: &'a Known,
        buffer: pg_sys::Buffer,
    ) -> Self {
        let mut row = Self {
            values: [MaybeUninit::uninit(); MAX_ATTRIBUTES],
            nulls: [MaybeUninit::uninit(); MAX_ATTRIBUTES],
            at: &known.at,
            buffer,
            // SAFETY: on the pinned buffer; every tuple on a page has this form of header.
            deleter: unsafe { (*tuple.t_data).t_choice.t_heap.t_xmax.into_inner() },
        };
        // SAFETY: `learn` refuses tables with more columns than there is space for.
        unsafe {
            bare::heap_deform_tuple(
                &mut tuple,
                (*relation).rd_att,
                row.values.as_mut_ptr().cast(),
                row.nulls.as_mut_ptr().cast(),
            );
        }
        row
    }

    /// The value of a column that is not null.
    pub(crate) fn value(&self, column: usize) -> pg_sys::Datum {
        // SAFETY: `learn` found the column among the table's, all of which `of` filled.
        unsafe { self.values[self.at[column]].assume_init() }
    }

    /// The value of a column, or none for null.
    pub(crate) fn optional(&self, column: usize) -> Option<pg_sys::Datum> {
        // SAFETY: as for the value.
        let null = unsafe { self.nulls[self.at[column]].assume_init() };
        (!null).then(|| self.value(column))
    }

    /// A number or an instant.
    pub(crate) fn integer(&self, column: usize) -> i64 {
        self.value(column).value() as i64
    }

    pub(crate) fn boolean(&self, column: usize) -> bool {
        self.value(column).value() as u8 != 0
    }

    /// A text, if it is stored plainly. None for null, and for one that is compressed or elsewhere.
    ///
    /// # Safety
    /// The column is a text, and the pin is still held.
    pub(crate) unsafe fn text(&self, column: usize) -> Option<&[u8]> {
        // SAFETY: as the caller says.
        unsafe { plain_text(self.optional(column)?) }
    }

    /// Whether a row of `secretaria.feature_usage` says what holds at this instant.
    pub(crate) fn speaks_of(&self, at: i64) -> bool {
        at < self.integer(usage::VALID_UNTIL)
            && self.integer(usage::PERIOD_START) <= at
            && at < self.integer(usage::PERIOD_END)
    }

    /// The transaction that wrote a newer version, or tried to, or locked this one; 0: none. SQL calls it `xmax`.
    pub(crate) fn deleter(&self) -> u32 {
        self.deleter
    }

    /// Lets go of the page.
    pub(crate) fn release(self) {
        // SAFETY: the code that made this row pinned the buffer for it, once. The transaction's end cleans up after an
        // error before this.
        unsafe { bare::ReleaseBuffer(self.buffer) }
    }
}

/// The bytes of a text that is neither compressed nor stored elsewhere.
///
/// # Safety
/// The datum is a text that lives as long as the slice is used.
pub(crate) unsafe fn plain_text<'a>(datum: pg_sys::Datum) -> Option<&'a [u8]> {
    let text = datum.cast_mut_ptr::<pg_sys::varlena>();
    // SAFETY: a text, says the caller; its header says how long it is.
    unsafe {
        let plain = pgrx::varlena::varatt_is_4b_u(text)
            || (pgrx::varlena::varatt_is_1b(text) && !pgrx::varlena::varatt_is_1b_e(text));
        plain.then(|| {
            std::slice::from_raw_parts(
                pgrx::varlena::vardata_any(text).cast::<u8>(),
                pgrx::varlena::varsize_any_exhdr(text),
            )
        })
    }
}
