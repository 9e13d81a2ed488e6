//! What is asked when one feature of one company is resolved: rows of the catalogue, plans and exceptions, as types.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::Reason;
use crate::oracle::Cadence;

/// What a feature is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Had or not had.
    Boolean,
    /// Had with a value.
    Static,
    Metered {
        /// When the count starts again.
        reset: Cadence,
    },
}

/// Whether a feature is sold at all. Archived ones are as if they had never been, and are not resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CatalogueStatus {
    /// As the rest decides.
    Active,
    Disabled,
}

/// What a feature is to a company that pays for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsubscribed {
    /// It stays allowed (`always_on`).
    Keeps,
    Loses,
}

/// What the catalogue says of a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CatalogueEntry {
    pub(crate) kind: Kind,
    /// Whether it is sold.
    pub(crate) status: CatalogueStatus,
    /// What it is without a subscription.
    pub(crate) unsubscribed: Unsubscribed,
}

/// A company's own switch for a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flag {
    Unset,
    /// On, as if there were none.
    On,
    /// Off, whatever the plan says.
    Off,
}

/// How much of a metered feature there is per period, in its smallest unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// As much as is wanted.
    Unlimited,
    /// What goes over is refused.
    Hard { units: i64 },
    /// What goes over is accepted and counted as overage.
    Soft { units: i64 },
}

impl Limit {
    /// The same limit, raised; none stays none. Held at the largest amount there is.
    pub(crate) fn raised(self, by_units: i64) -> Limit {
        self.stacked(Limit::Hard { units: by_units })
    }

    /// Both limits together: none if either is none, soft if either is soft.
    pub(crate) fn stacked(self, other: Limit) -> Limit {
        match (self, other) {
            (Limit::Unlimited, _) | (_, Limit::Unlimited) => Limit::Unlimited,
            (Limit::Hard { units }, Limit::Hard { units: more }) => Limit::Hard { units: units.saturating_add(more) },
            (
                Limit::Hard { units } | Limit::Soft { units },
                Limit::Hard { units: more } | Limit::Soft { units: more },
            ) => Limit::Soft { units: units.saturating_add(more) },
        }
    }
}

/// What a plan or an override gives.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Terms {
    /// How much; [`Limit::Unlimited`] for what is not metered.
    pub(crate) limit: Limit,
    /// What a static feature says.
    pub(crate) value: Option<Value>,
}

/// Whether a subscription status gives anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StatusAccess {
    /// As long as it lasts.
    Allowed,
    /// Until the trial ends.
    UntilTrialEnds,
    /// Until the grace period ends.
    UntilGraceEnds,
    Refused,
}

/// What a subscription status means: a row of `subscription_policies`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) access: StatusAccess,
    /// What is said once it does not.
    pub(crate) reason: Reason,
}

/// A plan that a subscription moves to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NextPlan {
    pub(crate) change_at: Timestamp,
    /// What that plan says of this feature; none if it lacks it.
    pub(crate) terms: Option<Terms>,
}

/// A company's live subscription, seen from one feature.
#[derive(Debug, Clone)]
pub(crate) struct Subscription {
    /// What its status means.
    pub(crate) policy: Policy,
    /// When the trial ends; without one it is over.
    pub(crate) trial_ends_at: Option<Timestamp>,
    /// When the grace period ends; without one there is none.
    pub(crate) grace_until: Option<Timestamp>,
    /// When it is over for good.
    pub(crate) cancel_at: Option<Timestamp>,
    /// What periods are counted from.
    pub(crate) anchor_at: Timestamp,
    /// Whose wall time they follow.
    pub(crate) zone: TimeZone,
    /// What its plan says of this feature; none if it lacks it.
    pub(crate) terms: Option<Terms>,
    /// The plan it moves to.
    pub(crate) next: Option<NextPlan>,
}

/// How an override meets the plan.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Mode {
    /// The plan is not asked: these terms hold.
    Grant(Terms),
    /// The plan is not asked: the feature is refused.
    Refuse,
    /// Added to what the plan gives, if the plan has the feature: soft if either is, this value before the plan's.
    Stack(Terms),
}

/// What was changed for one company alone.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Override {
    /// How it meets the plan.
    pub(crate) mode: Mode,
    pub(crate) expires_at: Option<Timestamp>,
}

/// Whether credits still count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CreditStatus {
    Open,
    /// They were taken back.
    Voided,
}

/// Credits beyond the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grant {
    /// How many there were.
    pub(crate) amount_units: i64,
    /// How many are gone.
    pub(crate) consumed_units: i64,
    /// From when they can be used.
    pub(crate) effective_at: Timestamp,
    pub(crate) expires_at: Option<Timestamp>,
    /// Whether they still count.
    pub(crate) standing: CreditStatus,
}

/// All that is asked about one company and feature.
#[derive(Debug, Clone)]
pub(crate) struct Sources<'a> {
    /// What the catalogue says.
    pub(crate) feature: CatalogueEntry,
    pub(crate) flag: Flag,
    pub(crate) subscription: Option<&'a Subscription>,
    /// What was changed for it.
    pub(crate) exception: Option<&'a Override>,
    /// Its credits for this feature.
    pub(crate) grants: &'a [Grant],
    /// Credits that the current period has consumed already: they are in its count, so they stay in its limit.
    pub(crate) credited_units: i64,
}
