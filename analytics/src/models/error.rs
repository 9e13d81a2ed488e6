//! Why a model gives no number.

/// What is wrong with the data, the parameters or the fit.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    #[error("{model} needs {needed} customers, {given} given")]
    TooFewCustomers { model: &'static str, needed: usize, given: usize },
    #[error("{model} needs customers who came back, none did")]
    NoRepeats { model: &'static str },
    #[error("{model} did not converge: {iterations} iterations, largest gradient {gradient:e}")]
    NotConverged { model: &'static str, iterations: u32, gradient: f64 },
    /// The likelihood rises towards a parameter of zero or infinity: the sample has too little of what it measures.
    #[error("{model} has no maximum: {parameter} went to {value:e}")]
    NoMaximum { model: &'static str, parameter: &'static str, value: f64 },
    #[error("{what} is out of range: {value}")]
    OutOfRange { what: &'static str, value: f64 },
    #[error("{what} cannot be computed at these values")]
    NotFinite { what: &'static str },
}

/// A positive, finite number, or the error that names it.
pub(super) fn positive(what: &'static str, value: f64) -> Result<f64, Error> {
    if value.is_finite() && value > 0.0 { Ok(value) } else { Err(Error::OutOfRange { what, value }) }
}

/// A finite number of at least zero, or the error that names it.
pub(super) fn not_negative(what: &'static str, value: f64) -> Result<f64, Error> {
    if value.is_finite() && value >= 0.0 { Ok(value) } else { Err(Error::OutOfRange { what, value }) }
}

/// The result of a computation, unless it overflowed or its series did not converge.
pub(super) fn finite(what: &'static str, value: f64) -> Result<f64, Error> {
    if value.is_finite() { Ok(value) } else { Err(Error::NotFinite { what }) }
}
