//! Models of customers: how often they buy, whether they will again, what they spend, how many stay.
//!
//! Pure functions over plain numbers: no I/O, no clock, no chance. Money is in micro-units, times are in the unit the
//! caller chose and fits in. A formula names the paper or page it is from.
//!
//! In reading order:
//! - [`Periods`] — from purchases to a [`Summary`] per customer (x, tₓ, T), with a hold-out period; [`Sample`] — many.
//! - [`BgNbd`], [`MbgNbd`], [`ParetoNbd`], [`Nbd`] — a [`PurchaseModel`] each, fitted by maximum likelihood;
//!   [`GammaGamma`] — the amount per purchase.
//! - [`auc`], [`brier`], [`calibration_table`], [`Isotonic`] — how good a score is, and how it is set right.

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
mod evaluation;
mod isotonic;
mod quantile;
mod churn;
mod rfm;
mod segments;
mod maximise;
mod hypergeometric;
mod quadrature;
#[cfg(test)]
mod cdnow;
#[cfg(test)]
mod tests;

pub use bg_nbd::BgNbd;
pub use churn::{ChurnModel, ChurnScore, Evaluation, PastCustomer, Reason, Verdict};
pub use error::Error;
pub use evaluation::{CalibrationRow, Scored, auc, brier, calibration_in_the_large, calibration_table};
pub use gamma_gamma::{GammaGamma, Spend};
pub use history::{CustomerHistory, Periods, Purchase, TimeUnit};
pub use isotonic::Isotonic;
pub use maximise::Fit;
pub use mbg_nbd::MbgNbd;
pub use nbd::Nbd;
pub use pareto_nbd::ParetoNbd;
pub use purchase_model::PurchaseModel;
pub use rfm::{Activity, Cuts, Scores};
pub use segments::{MapError, Rule, STANDARD, Segment, SegmentMap};
pub use summary::{Sample, Summary};
