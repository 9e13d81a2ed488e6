//! Who asks, and for which companies: decided by who logged in (or by `set role`), never by the function's owner.
//!
//! The same rules as `secretaria_reference._may` has for reading; a role that may ask for every company may count for
//! every company.

use std::ffi::CStr;

use pgrx::pg_sys;

use crate::backend::{self, Backend};
use crate::bare;
use crate::locations;
use crate::table::Key;

/// What a role may ask.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Of every company.
    Any,
    /// Of the company in `app.company_id`.
    Named,
    /// Of the company that `secretaria.company_roles` has for it, if any.
    Own,
}

/// Whether the asking role may read of this company. None: PL/pgSQL has to say.
///
/// # Safety
/// Inside a transaction.
pub(crate) unsafe fn may_read(state: &mut Backend, company: i64) -> Option<bool> {
    // SAFETY: as the caller says.
    unsafe {
        let role = bare::GetOuterUserId();
        match kind(state, role)? {
            Kind::Any => Some(true),
            Kind::Named => match named_company() {
                None | Some(b"") => Some(false),
                Some(setting) => Some(number(setting)? == company),
            },
            Kind::Own => Some(own_company(state, role)? == Some(company)),
        }
    }
}

/// Whether the asking role may ask for, and count for, every company.
///
/// # Safety
/// Inside a transaction.
pub(crate) unsafe fn may_ask_for_all(state: &mut Backend) -> bool {
    // SAFETY: as the caller says.
    unsafe { kind(state, bare::GetOuterUserId()) == Some(Kind::Any) }
}

/// What kind of role this is; asked of the catalogue once, until some role changes.
unsafe fn kind(state: &mut Backend, role: pg_sys::Oid) -> Option<Kind> {
    if backend::roles_changed() {
        state.asked = None;
    }
    if let Some((asked, kind)) = state.asked
        && asked == role
    {
        return Some(kind);
    }
    // SAFETY: look-ups in the catalogue's caches; the name is copied into this call's memory.
    let kind = unsafe {
        let name = pg_sys::GetUserNameFromId(role, true);
        if name.is_null() {
            return None;
        }
        match CStr::from_ptr(name).to_bytes() {
            b"secretaria_service" | b"secretaria_operator" | b"secretaria_owner" | b"secretaria_quota" => Kind::Any,
            b"secretaria_api" => Kind::Named,
            _ if pg_sys::superuser_arg(role) => Kind::Any,
            _ => Kind::Own,
        }
    };
    state.asked = Some((role, kind));
    Some(kind)
}

/// The setting `app.company_id`, if there is one.
unsafe fn named_company<'a>() -> Option<&'a [u8]> {
    // SAFETY: the string is the server's and stays while no setting changes, which nothing here does.
    unsafe {
        let setting = pg_sys::GetConfigOption(c"app.company_id".as_ptr(), true, false);
        (!setting.is_null()).then(|| CStr::from_ptr(setting).to_bytes())
    }
}

/// A number in its usual form; PL/pgSQL reads or refuses every other spelling.
fn number(setting: &[u8]) -> Option<i64> {
    setting.first().filter(|first| **first != b'+')?;
    std::str::from_utf8(setting).ok()?.parse().ok()
}

/// The company a role speaks for, read from its row. `Some(None)`: of none.
unsafe fn own_company(state: &mut Backend, role: pg_sys::Oid) -> Option<Option<i64>> {
    let Backend { roles, role_places, .. } = state;
    // SAFETY: the key's value is a name of the server's length, and lives to the end of this call.
    unsafe {
        let mut name = pg_sys::NameData::default();
        let spelled = pg_sys::GetUserNameFromId(role, true);
        if spelled.is_null() {
            return None;
        }
        pg_sys::namestrcpy(&mut name, spelled);
        let spelled = CStr::from_ptr(name.data.as_ptr()).to_bytes();
        role_places.bound(64);
        let hash = locations::hash(0, spelled, 0);
        let open = roles.open(role_places, Some(hash))?;
        let mut company = None;
        if let Some((_, row)) = open.guessed() {
            if same_name(row.value(0), spelled) {
                company = Some(row.integer(1));
            }
            row.release();
        }
        if company.is_none()
            && let Some((place, row)) = open
                .search(&[Key { equal: pg_sys::F_NAMEEQ, value: pg_sys::Datum::from(std::ptr::from_mut(&mut name)) }])
        {
            company = Some(row.integer(1));
            role_places.put(hash, place);
            row.release();
        }
        open.close();
        Some(company)
    }
}

unsafe fn same_name(datum: pg_sys::Datum, spelled: &[u8]) -> bool {
    // SAFETY: the column is a name: bytes that end with a zero.
    unsafe { CStr::from_ptr(datum.cast_mut_ptr::<std::ffi::c_char>()).to_bytes() == spelled }
}
