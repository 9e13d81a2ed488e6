//! Models of customers: how often they buy, whether they will again, what they spend, how many stay.
//!
//! Pure functions over plain numbers: no I/O, no clock, no chance. Money is in micro-units, times are in the unit the
//! caller chose and fits in. A formula names the paper or page it is from.
//!
//! In reading order:
//! - [`history`] — from purchases to a [`Summary`] per customer (x, tₓ, T), with a hold-out period; [`Sample`] — many.
//! - [`BgNbd`], [`MbgNbd`], [`ParetoNbd`], [`Nbd`] — a [`PurchaseModel`] each, fitted by maximum likelihood;
//!   [`GammaGamma`] — the amount per purchase.
//! - [`evaluation`] — how good a score is; [`Isotonic`] — how its probabilities are set right.
//! - [`churn`] — who will not buy again, beside silence alone, and why; [`rfm`] and [`segments`] — customers in fifths.
//! - [`survival`] — how long they stay; [`revenue`] — what stays of them and their revenue; [`nps`] — what they say.
//! - [`benchmark`] — a company among others; [`upsell`] and [`next_best_action`] — what to propose.

mod error;
pub mod history;
mod summary;
mod purchase_model;
mod poisson_gamma;
mod dropout;
mod bg_nbd;
mod mbg_nbd;
mod pareto_nbd;
mod nbd;
mod gamma_gamma;
mod maximise;
mod hypergeometric;
mod quadrature;
mod quantile;
pub mod evaluation;
mod isotonic;
pub mod churn;
pub mod rfm;
pub mod segments;
pub mod survival;
pub mod revenue;
pub mod nps;
pub mod benchmark;
pub mod upsell;
pub mod next_best_action;
#[cfg(test)]
mod cdnow;
#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;

pub use bg_nbd::BgNbd;
pub use error::Error;
pub use gamma_gamma::{GammaGamma, Spend};
pub use isotonic::Isotonic;
pub use maximise::Fit;
pub use mbg_nbd::MbgNbd;
pub use nbd::Nbd;
pub use pareto_nbd::ParetoNbd;
pub use purchase_model::PurchaseModel;
pub use summary::{Sample, Summary};
