//! From a row to an answer: arithmetic only, no server. The same rules as `secretaria_reference._check`'s.

/// What a row of `secretaria.feature_usage` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Whether the feature is counted at all.
    pub(crate) metered: bool,
    pub(crate) allowed: bool,
    pub(crate) soft: bool,
    /// None: no limit.
    pub(crate) limit: Option<i64>,
    pub(crate) used: i64,
    pub(crate) reserved: i64,
}

/// Where the answer's reason comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The row's reason stands.
    AsStored,
    SoftLimitExceeded,
    UsageLimitReached,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) allowed: bool,
    pub(crate) decision: Decision,
    /// None: no limit, or not counted.
    pub(crate) remaining: Option<i64>,
    /// None: not counted.
    pub(crate) overage: Option<i64>,
}

impl Reading {
    /// Whether `required` more may be used (from 0).
    pub(crate) fn answer(&self, required: i64) -> Answer {
        let as_stored =
            |remaining, overage| Answer { allowed: self.allowed, decision: Decision::AsStored, remaining, overage };
        let limit = match (self.metered, self.allowed, self.limit) {
            (false, ..) => return as_stored(None, None),
            (true, false, _) => return as_stored(Some(0), Some(0)),
            (true, true, None) => return as_stored(None, Some(0)),
            (true, true, Some(limit)) => limit,
        };
        // In wider numbers, where the difference exists; the result lies between 0 and the limit.
        let headroom = i128::from(limit) - i128::from(self.used) - i128::from(self.reserved);
        let remaining = headroom.max(0) as i64;
        let overage = self.used.saturating_sub(limit).max(0);
        let decision = match (required <= remaining, self.soft) {
            (true, _) => Decision::AsStored,
            (false, true) => Decision::SoftLimitExceeded,
            (false, false) => Decision::UsageLimitReached,
        };
        Answer {
            allowed: decision != Decision::UsageLimitReached,
            decision,
            remaining: Some(remaining),
            overage: Some(overage),
        }
    }
}
