//! What a company may do, until when, and what a change of plan costs, in Rust: PL/pgSQL is compared with it.
//!
//! No code that ships uses these rules. In reading order:
//! - `period` — periods counted from an anchor in the company's zone.
//! - `entitlement` — from the sources (catalogue, flag, subscription, override, plan, credits) to a decision.
//! - `threshold` — which part of a limit was reached, and which crossing is announced.
//! - `proration` — what is given back and charged when a plan changes inside a billing period.

mod period;
mod entitlement;
mod threshold;
mod proration;

pub(crate) use entitlement::{
    Answer, CatalogueEntry, CatalogueStatus, CreditStatus, Flag, Grant, Kind, Limit, Mode, NextPlan, Override, Policy,
    Reason, Sources, StatusAccess, Subscription, Terms, Unsubscribed, resolve,
};
pub(crate) use period::{Cadence, Calendar, Period};
pub(crate) use proration::{BillingPeriod, Price, Refusal, prorate};
pub(crate) use threshold::{Threshold, already_reached, to_announce};
