//! What a company may do, until when, how much of it is left, and what a change of plan costs: rules without I/O.
//!
//! The same rules exist in SQL, where they run beside the rows; these are the ones that are tested on their own.
//!
//! In reading order:
//! - [`Calendar`] — periods counted from an anchor in the company's zone; [`Period`] — one of them.
//! - [`resolve`] — from [`Sources`] (catalogue, flag, subscription, override, plan, credits) to a [`Decision`].
//! - [`Threshold`] — which part of a limit was reached, and which crossing is announced.
//! - [`Proration`] — what is given back and charged when a plan changes inside a billing period.

mod period;
mod entitlement;
mod threshold;
mod proration;

pub use entitlement::{
    Answer, CatalogueEntry, CatalogueStatus, Decision, Flag, Grant, Kind, Limit, Mode, NextPlan, Override, Policy,
    Reason, Source, Sources, Standing, StatusAccess, Subscription, Terms, Unsubscribed, resolve,
};
pub use period::{Cadence, Calendar, OutOfRange, Period};
pub use proration::{BillingPeriod, Line, Price, Proration, Refusal, prorate};
pub use threshold::{Threshold, already_reached, crossed, to_announce};
