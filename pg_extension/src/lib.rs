//! The `secretaria` extension: the read path of the entitlements, answered without the executor.
//!
//! Promise: for every argument, role, snapshot and setting it gives the answer of the function of the same name in
//! `secretaria_reference`. It reads one row of `secretaria.feature_usage`; whatever that row alone cannot answer is
//! handed to the reference. It writes nothing, and works without `shared_preload_libraries`.
//!
//! Not part of the main workspace: it is loaded by the server, whose symbols it leaves open.

mod backend;
mod caller;
mod calls;
mod decision;
mod locations;
mod many;
mod reference;
mod result;
mod row;
mod settings;
mod shape;
mod table;
mod versions;

use pgrx::prelude::*;

::pgrx::pg_module_magic!(name, version);

/// Runs once in each backend, when the library is loaded.
#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    settings::define();
    backend::listen();
}
