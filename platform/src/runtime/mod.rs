//! The process: its settings, clock, tasks and name, and how its processors run.

pub mod clock;
pub mod instance;
pub mod object_store;
pub(crate) mod pace;
pub mod processor;
pub mod settings;
pub mod task;
