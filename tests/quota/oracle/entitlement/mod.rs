//! Who decides what a company may do with one feature: the waterfall from the catalogue down to credits.
//!
//! Catalogue, flag, subscription, override, plan; credits are added to what they leave.
//! What time alone will change is an instant of the answer, [`Decision::valid_until`].

mod sources;

use jiff::Timestamp;

pub(crate) use self::sources::{
    CatalogueEntry, CatalogueStatus, CreditStatus, Flag, Grant, Kind, Limit, Mode, NextPlan, Override, Policy, Sources,
    StatusAccess, Subscription, Terms, Unsubscribed,
};
use super::period::{Calendar, OutOfRange, Period};

/// Why, in the words of `feature_usage.reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    Ok,
    /// Switched off, for all or for the company.
    FeatureDisabled,
    NoSubscription,
    /// What was bought is suspended, canceled, or past its grace.
    SubscriptionInactive,
    /// The trial is over.
    TrialExpired,
    /// What was bought does not have it.
    FeatureUnavailable,
}

impl Reason {
    /// The word in rows and answers.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Reason::Ok => "ok",
            Reason::FeatureDisabled => "feature_disabled",
            Reason::NoSubscription => "no_subscription",
            Reason::SubscriptionInactive => "subscription_inactive",
            Reason::TrialExpired => "trial_expired",
            Reason::FeatureUnavailable => "feature_unavailable",
        }
    }
}

/// Who decided, in the words of `feature_usage.source`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The catalogue: off for all, or kept by all.
    Catalogue,
    Flag,
    /// The state of the subscription, or that there is none.
    Subscription,
    /// An exception for the company.
    Override,
    Plan,
}

impl Source {
    /// The word in rows and answers.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Source::Catalogue => "catalogue",
            Source::Flag => "flag",
            Source::Subscription => "subscription",
            Source::Override => "override",
            Source::Plan => "plan",
        }
    }
}

/// Whether, and how much.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    /// On these terms, credits included.
    Allowed(Terms),
    Refused,
}

/// What holds for one company and feature.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Decision {
    /// Whether, and how much.
    pub(crate) answer: Answer,
    pub(crate) reason: Reason,
    pub(crate) source: Source,
    /// What a count belongs to.
    pub(crate) period: Period,
    /// The earliest instant at which something else may hold; none: until something is edited.
    pub(crate) valid_until: Option<Timestamp>,
}

/// Resolves one feature of one company at an instant.
///
/// # Errors
/// [`OutOfRange`] if the period reaches beyond the calendar.
pub(crate) fn resolve(sources: &Sources<'_>, at: Timestamp) -> Result<Decision, OutOfRange> {
    let (mut answer, reason, source) = decide(sources, at);
    let mut grants: &[Grant] = &[]; // They matter only where they have a limit to raise.
    if let (Kind::Metered { .. }, Answer::Allowed(terms)) = (sources.feature.kind, &mut answer)
        && terms.limit != Limit::Unlimited
    {
        grants = sources.grants;
        let left = grants.iter().fold(0_i64, |sum, grant| sum.saturating_add(grant.left_at(at)));
        terms.limit = terms.limit.raised(left.saturating_add(sources.credited_units));
    }
    let period = match (sources.feature.kind, sources.subscription) {
        (Kind::Metered { reset }, Some(it)) => Calendar::new(it.anchor_at, it.zone.clone(), reset).period_at(at)?,
        _ => Period::Always,
    };
    Ok(Decision { answer, reason, source, period, valid_until: valid_until(sources, grants, at) })
}

/// Without credits: the first that has something to say decides.
fn decide(sources: &Sources<'_>, at: Timestamp) -> (Answer, Reason, Source) {
    if sources.feature.status == CatalogueStatus::Disabled {
        return (Answer::Refused, Reason::FeatureDisabled, Source::Catalogue);
    }
    if sources.flag == Flag::Off {
        return (Answer::Refused, Reason::FeatureDisabled, Source::Flag);
    }
    let Some(subscription) = sources.subscription else {
        return unless_kept(sources.feature, Reason::NoSubscription, Source::Subscription);
    };
    if !subscription.is_in_force(at) {
        return unless_kept(sources.feature, subscription.policy.reason, Source::Subscription);
    }
    let plan = subscription.terms_at(at);
    match (sources.exception.filter(|it| it.expires_at.is_none_or(|end| at < end)).map(|it| &it.mode), plan) {
        (Some(Mode::Grant(terms)), _) => (Answer::Allowed(terms.clone()), Reason::Ok, Source::Override),
        (Some(Mode::Refuse), _) => (Answer::Refused, Reason::FeatureUnavailable, Source::Override),
        (Some(Mode::Stack(more)), Some(plan)) => {
            let value = more.value.clone().or_else(|| plan.value.clone());
            let terms = Terms { limit: plan.limit.stacked(more.limit), value };
            (Answer::Allowed(terms), Reason::Ok, Source::Override)
        }
        (None, Some(plan)) => (Answer::Allowed(plan.clone()), Reason::Ok, Source::Plan),
        (_, None) => unless_kept(sources.feature, Reason::FeatureUnavailable, Source::Plan),
    }
}

fn unless_kept(feature: CatalogueEntry, reason: Reason, source: Source) -> (Answer, Reason, Source) {
    match feature.unsubscribed {
        Unsubscribed::Keeps => {
            (Answer::Allowed(Terms { limit: Limit::Unlimited, value: None }), Reason::Ok, Source::Catalogue)
        }
        Unsubscribed::Loses => (Answer::Refused, reason, source),
    }
}

impl Grant {
    fn left_at(&self, at: Timestamp) -> i64 {
        let lasts = self.effective_at <= at && self.expires_at.is_none_or(|end| at < end);
        if self.standing == CreditStatus::Open && lasts { self.amount_units - self.consumed_units } else { 0 }
    }
}

impl Subscription {
    fn is_in_force(&self, at: Timestamp) -> bool {
        let by_status = match self.policy.access {
            StatusAccess::Allowed => true,
            StatusAccess::UntilTrialEnds => self.trial_ends_at.is_some_and(|end| at < end),
            StatusAccess::UntilGraceEnds => self.grace_until.is_some_and(|end| at < end),
            StatusAccess::Refused => false,
        };
        by_status && self.cancel_at.is_none_or(|end| at < end)
    }

    fn terms_at(&self, at: Timestamp) -> Option<&Terms> {
        match &self.next {
            Some(next) if next.change_at <= at => next.terms.as_ref(),
            _ => self.terms.as_ref(),
        }
    }

    /// The instants at which it gives something else.
    fn turns(&self) -> [Option<Timestamp>; 3] {
        let by_status = match self.policy.access {
            StatusAccess::UntilTrialEnds => self.trial_ends_at,
            StatusAccess::UntilGraceEnds => self.grace_until,
            StatusAccess::Allowed | StatusAccess::Refused => None,
        };
        [by_status, self.cancel_at, self.next.as_ref().map(|it| it.change_at)]
    }
}

fn valid_until(sources: &Sources<'_>, grants: &[Grant], at: Timestamp) -> Option<Timestamp> {
    let subscription = sources.subscription.into_iter().flat_map(Subscription::turns);
    let exception = sources.exception.into_iter().map(|it| it.expires_at);
    let open = grants.iter().filter(|it| it.standing == CreditStatus::Open);
    let grants = open.flat_map(|it| [Some(it.effective_at), it.expires_at]);
    subscription.chain(exception).chain(grants).flatten().filter(|instant| *instant > at).min()
}

#[cfg(test)]
mod tests;
