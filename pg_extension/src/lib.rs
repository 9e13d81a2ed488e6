//! The `secretaria` extension: every public function of `secretaria_reference`, and checks without the executor.
//!
//! Promise: for every argument, role, snapshot and setting it gives the answer of the function of the same name in
//! `secretaria_reference`. A check reads one row of `secretaria.feature_usage`; what that row alone cannot answer is
//! handed to PL/pgSQL, and so is everything that is no check (`delegate`). An increment finds out here whether it is
//! plain, and leaves the writing to PL/pgSQL (`increments`). Nothing is written by the library itself, and it works
//! without `shared_preload_libraries`.
//!
//! Not part of the main workspace: it is loaded by the server, whose symbols it leaves open.

mod backend;
mod bare;
mod caller;
mod calls;
mod columns;
mod decision;
mod delegate;
mod increments;
mod locations;
mod many;
mod pages;
mod plpgsql;
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
    delegate::listen();
}
