//! Where a row's bytes are in this process: pages in the server's shared memory.
//!
//! What is read here without a pin is a guess, like the place that it is read for.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use pgrx::pg_sys;

use crate::locations::RowLocation;

const LINE: usize = 64;
/// Lines of a row that are fetched: what a row of `secretaria.feature_usage` takes up.
const ROW_LINES: usize = 4;

/// The block that a place's buffer holds at the moment, of any table. The code that pins the buffer compares.
///
/// # Safety
/// A row was found at the place once, so that there is such a buffer.
pub(crate) unsafe fn block_in(place: RowLocation) -> u32 {
    // SAFETY: in the server's shared memory, which stays mapped; other processes may write it meanwhile.
    unsafe {
        let block = &raw const (*descriptor(place.buffer)).bufferdesc.tag.blockNum;
        AtomicU32::from_ptr(block.cast_mut()).load(Relaxed)
    }
}

/// How far from its page's beginning a row is, as a [`RowLocation`] has it, if it is on the page in this buffer.
pub(crate) fn row_at(tuple: &pg_sys::HeapTupleData, buffer: pg_sys::Buffer) -> u16 {
    (tuple.t_data.addr().wrapping_sub(page(buffer).addr()) / ROW_UNIT) as u16
}

/// Rows begin at such distances.
const ROW_UNIT: usize = 8;

/// Asks the processor for the memory that reading a row will touch, so that it comes while something else is done.
pub(crate) fn fetch_row(place: RowLocation) {
    fetch(descriptor(place.buffer).cast());
    let page = page(place.buffer);
    fetch(page);
    fetch(page.wrapping_add(at_line(place.line)));
    for line in 0..ROW_LINES {
        fetch(page.wrapping_add(usize::from(place.row) * ROW_UNIT + line * LINE));
    }
}

/// How far from the page's beginning a line pointer is, which are counted from 1.
const fn at_line(line: u16) -> usize {
    std::mem::offset_of!(pg_sys::PageHeaderData, pd_linp) + (line as usize - 1) * size_of::<pg_sys::ItemIdData>()
}

/// What the server knows of a buffer of the shared ones.
fn descriptor(buffer: pg_sys::Buffer) -> *const pg_sys::BufferDescPadded {
    // SAFETY: a variable that the server sets before it starts any backend.
    unsafe { pg_sys::BufferDescriptors.cast_const().wrapping_add(buffer as usize - 1) }
}

/// The page in a buffer of the shared ones.
fn page(buffer: pg_sys::Buffer) -> *const u8 {
    // SAFETY: as above.
    unsafe { pg_sys::BufferBlocks.cast::<u8>().wrapping_add((buffer as usize - 1) * pg_sys::BLCKSZ as usize) }
}

/// Has no effect that the program can see; where there is no stable way to ask, it does nothing.
pub(crate) fn fetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint to the processor, which ignores any address that is not mapped.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
