//! What can be set: `secretaria.location_cache`, `secretaria.location_cache_entries`, `secretaria.slots`,
//! `secretaria.test_now`.

use std::ffi::{CStr, CString};

use pgrx::PostgresGucEnum;
use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};
use pgrx::pg_sys;

/// When a counter is sharded. PL/pgSQL reads it by its name.
#[derive(Clone, Copy, PostgresGucEnum)]
#[expect(non_camel_case_types, reason = "the server shows these names")]
pub(crate) enum Slots {
    auto,
    on,
    off,
}

static LOCATION_CACHE: GucSetting<bool> = GucSetting::<bool>::new(true);
static LOCATION_CACHE_ENTRIES: GucSetting<i32> = GucSetting::<i32>::new(393_216);
static SLOTS: GucSetting<Slots> = GucSetting::<Slots>::new(Slots::auto);
static TEST_NOW: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);

/// Tells the server about them; a value that was set before the library was loaded is taken over.
///
/// A session that has loaded an older release of this library defined them with it, and may load this one beside it for
/// the bindings (see `secretaria--0.3.0.sql`). They stay the older one's, which goes on answering the checks.
pub(crate) fn define() {
    if are_defined() {
        return;
    }
    GucRegistry::define_bool_guc(
        c"secretaria.location_cache",
        c"Remembers where rows of secretaria.feature_usage were found.",
        c"Off: every check searches the index. The answers are the same.",
        &LOCATION_CACHE,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"secretaria.location_cache_entries",
        c"How many places each session remembers at most, eleven bytes each.",
        c"Rounded down to six times a power of two. A change forgets what was remembered.",
        &LOCATION_CACHE_ENTRIES,
        64,
        16_777_216,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_enum_guc(
        c"secretaria.slots",
        c"When a counter is spread over several rows.",
        c"auto: once its writers meet. on: at its first increment. off: never. The answers are the same.",
        &SLOTS,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_string_guc(
        c"secretaria.test_now",
        c"The time that checks take for now. For tests.",
        c"Only a superuser can set it; empty means the statement's time.",
        &TEST_NOW,
        GucContext::Suset,
        GucFlags::default(),
    );
}

/// Whether the server knows them as more than names that somebody has set.
fn are_defined() -> bool {
    let name = c"secretaria.location_cache".as_ptr();
    // SAFETY: look-ups in the server's table of settings; the name is a string.
    unsafe {
        !pg_sys::GetConfigOption(name, true, false).is_null()
            && pg_sys::GetConfigOptionFlags(name, true) & pg_sys::GUC_CUSTOM_PLACEHOLDER as i32 == 0
    }
}

// The server's own variables are read, where it keeps the settings: nothing is copied, and no thread is asked for.

/// Whether places are remembered.
pub(crate) fn location_cache() -> bool {
    // SAFETY: the server writes it between calls, in the same thread.
    unsafe { *LOCATION_CACHE.as_ptr() }
}

/// How many places are remembered at most.
pub(crate) fn location_cache_entries() -> usize {
    // SAFETY: as above.
    usize::try_from(unsafe { *LOCATION_CACHE_ENTRIES.as_ptr() }).unwrap_or(64)
}

/// When a counter is sharded. Asked by name, as PL/pgSQL does, since an older release of this library
/// may hold the setting. None for a word that it does not have.
///
/// # Safety
/// In a backend's thread.
pub(crate) unsafe fn slots() -> Option<Slots> {
    // SAFETY: as the caller says.
    match unsafe { named(c"secretaria.slots") } {
        b"" | b"auto" => Some(Slots::auto),
        b"on" => Some(Slots::on),
        b"off" => Some(Slots::off),
        _ => None,
    }
}

/// The same as `clock_is_moved`, by name like `slots`.
///
/// # Safety
/// In a backend's thread.
pub(crate) unsafe fn clock_is_moved_by_name() -> bool {
    // SAFETY: as the caller says.
    unsafe { !named(c"secretaria.test_now").is_empty() }
}

/// What a setting says; nothing for one that there is not.
unsafe fn named<'a>(name: &CStr) -> &'a [u8] {
    // SAFETY: the string is the server's and stays while no setting changes.
    unsafe {
        let value = pg_sys::GetConfigOption(name.as_ptr(), true, false);
        if value.is_null() { b"" } else { CStr::from_ptr(value).to_bytes() }
    }
}

/// Whether the clock was moved; PL/pgSQL reads what it then says.
pub(crate) fn clock_is_moved() -> bool {
    // SAFETY: as above; a string of the server's, or none.
    unsafe {
        let time = *TEST_NOW.as_ptr();
        !time.is_null() && *time != 0
    }
}
