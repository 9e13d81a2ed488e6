//! Where a row's bytes are in this process: pages in the server's shared memory.

use pgrx::pg_sys;

use crate::locations::Place;

const LINE: usize = 64;
/// Lines of a row that are fetched: what a row of `secretaria.feature_usage` takes up.
const ROW_LINES: usize = 4;

/// How far from its page's beginning a row is.
///
/// # Safety
/// The row is on the page in this buffer, which is pinned.
pub(crate) unsafe fn offset_of(tuple: &pg_sys::HeapTupleData, buffer: pg_sys::Buffer) -> u16 {
    // SAFETY: pinned, says the caller; a page is not longer than 32 KiB.
    unsafe { tuple.t_data.addr().wrapping_sub(page(buffer).addr()) as u16 }
}

/// Asks the processor for the memory that reading a row will touch, so that it comes while something else is done.
/// A guess like the place itself: a wrong one costs nothing but the fetching.
pub(crate) fn fetch_ahead(place: Place) {
    if place.buffer <= 0 {
        return;
    }
    // SAFETY: addresses only, no access: fetching is a hint to the processor, which ignores any that is not mapped.
    unsafe {
        fetch(pg_sys::BufferDescriptors.wrapping_add(place.buffer as usize - 1).cast());
        let page = page(place.buffer);
        fetch(page);
        let pointers = std::mem::offset_of!(pg_sys::PageHeaderData, pd_linp);
        fetch(page.wrapping_add(pointers + usize::from(place.offset) * size_of::<pg_sys::ItemIdData>()));
        for line in 0..ROW_LINES {
            fetch(page.wrapping_add(usize::from(place.at) + line * LINE));
        }
    }
}

/// The page in a buffer of the shared ones.
unsafe fn page(buffer: pg_sys::Buffer) -> *const u8 {
    // SAFETY: a variable that the server sets before it starts any backend.
    unsafe { pg_sys::BufferBlocks.cast::<u8>().wrapping_add((buffer as usize - 1) * pg_sys::BLCKSZ as usize) }
}

/// Has no effect that the program can see; where there is no stable way to ask, it does nothing.
unsafe fn fetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: never faults.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
