//! The binary's own rooms: settings, serving, commands. What they do lives in the other crates.

mod settings;
pub mod openapi;
pub mod processors;
pub mod quota;
pub mod serve;
pub mod commands;

pub use settings::Settings;
