//! What is asked when one feature of one company is resolved: rows of the catalogue, plans and exceptions, as types.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::Reason;
use crate::billing::Cadence;

/// What a feature is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Had or not had.
    Boolean,
    /// Had with a value.
    Static,
    /// Counted.
    Metered {
        /// When the count starts again.
        reset: Cadence,
    },
}

/// Whether a feature is sold at all. Archived ones are as if they had never been, and are not resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatalogueStatus {
    /// As the rest decides.
    Active,
    /// Off for everybody.
    Disabled,
}

/// What a feature is to a company that pays for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsubscribed {
    /// It stays allowed (`always_on`).
    Keeps,
    /// It is refused.
    Loses,
}

/// What the catalogue says of a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CatalogueEntry {
    /// What it is.
    pub kind: Kind,
    /// Whether it is sold.
    pub status: CatalogueStatus,
    /// What it is without a subscription.
    pub unsubscribed: Unsubscribed,
}

/// A company's own switch for a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flag {
    /// No row.
    Unset,
    /// On, as if there were none.
    On,
    /// Off, whatever the plan says.
    Off,
}

/// How much of a metered feature there is per period, in its smallest unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// As much as is wanted.
    Unlimited,
    /// What goes over is refused.
    Hard {
        /// Never negative.
        units: i64,
    },
    /// What goes over is accepted and counted as overage.
    Soft {
        /// Never negative.
        units: i64,
    },
}

impl Limit {
    /// The same limit with more room; none stays none. Held at the largest amount there is.
    pub fn raised(self, by_units: i64) -> Limit {
        self.stacked(Limit::Hard { units: by_units })
    }

    /// Both limits together: none if either is none, soft if either is soft.
    pub fn stacked(self, other: Limit) -> Limit {
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
pub struct Terms {
    /// How much; [`Limit::Unlimited`] for what is not metered.
    pub limit: Limit,
    /// What a static feature says.
    pub value: Option<Value>,
}

/// Whether a subscription status gives anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusAccess {
    /// As long as it lasts.
    Allowed,
    /// Until the trial ends.
    UntilTrialEnds,
    /// Until the grace period ends.
    UntilGraceEnds,
    /// Not at all.
    Refused,
}

/// What a subscription status means: a row of `subscription_policies`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// What it allows.
    pub access: StatusAccess,
    /// What is said once it does not.
    pub reason: Reason,
}

/// A plan that a subscription moves to.
#[derive(Debug, Clone, PartialEq)]
pub struct NextPlan {
    /// When.
    pub change_at: Timestamp,
    /// What that plan says of this feature; none if it lacks it.
    pub terms: Option<Terms>,
}

/// A company's live subscription, seen from one feature.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// What its status means.
    pub policy: Policy,
    /// When the trial ends; without one it is over.
    pub trial_ends_at: Option<Timestamp>,
    /// When the grace period ends; without one there is none.
    pub grace_until: Option<Timestamp>,
    /// When it is over for good.
    pub cancel_at: Option<Timestamp>,
    /// What periods are counted from.
    pub anchor_at: Timestamp,
    /// Whose wall time they follow.
    pub zone: TimeZone,
    /// What its plan says of this feature; none if it lacks it.
    pub terms: Option<Terms>,
    /// The plan it moves to.
    pub next: Option<NextPlan>,
}

/// How an override meets the plan.
#[derive(Debug, Clone, PartialEq)]
pub enum Mode {
    /// The plan is not asked: these terms hold.
    Grant(Terms),
    /// The plan is not asked: the feature is refused.
    Refuse,
    /// Added to what the plan gives, if the plan has the feature: soft if either is, this value before the plan's.
    Stack(Terms),
}

/// What was changed for one company alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Override {
    /// How it meets the plan.
    pub mode: Mode,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
}

/// Whether credits still count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// They do.
    Open,
    /// They were taken back.
    Voided,
}

/// Credits beyond the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// How many there were.
    pub amount_units: i64,
    /// How many are gone.
    pub consumed_units: i64,
    /// From when they can be used.
    pub effective_at: Timestamp,
    /// Until when.
    pub expires_at: Option<Timestamp>,
    /// Whether they still count.
    pub standing: Standing,
}

/// All that is asked about one company and feature.
#[derive(Debug, Clone)]
pub struct Sources<'a> {
    /// What the catalogue says.
    pub feature: CatalogueEntry,
    /// The company's switch.
    pub flag: Flag,
    /// Its live subscription.
    pub subscription: Option<&'a Subscription>,
    /// What was changed for it.
    pub exception: Option<&'a Override>,
    /// Its credits for this feature.
    pub grants: &'a [Grant],
    /// Credits that the current period has consumed already: they are in its count, so they stay in its limit.
    pub credited_units: i64,
}
