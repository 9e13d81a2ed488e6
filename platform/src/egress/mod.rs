//! Egress: HTTP requests to providers and to receivers that companies name, and which addresses may be reached.

pub mod attempt;
mod client;
mod policy;

pub use client::{BodyError, Response, TransportError, client, endpoint, exchange, restricted_client, traced};
pub use policy::Policy;
