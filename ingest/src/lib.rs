//! Room 1: signed hooks in, facts on Kafka out. A 202 means the fact is durable.

pub mod parse;
pub mod rejection;
pub mod signature;
