//! The binary's own modules: settings, serving, commands. The work itself is in the other crates.

mod settings;
pub mod openapi;
pub mod processors;
pub mod quota;
pub mod serve;
pub mod commands;

pub use settings::Settings;
