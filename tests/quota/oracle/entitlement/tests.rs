//! Claims about the waterfall: who decides, and that time turns nothing before `valid_until`.

use proptest::prelude::*;
use proptest::sample::select;

use jiff::tz::TimeZone;

use super::*;
use crate::oracle::Cadence;

const METERED: CatalogueEntry = CatalogueEntry {
    kind: Kind::Metered { reset: Cadence::Month },
    status: CatalogueStatus::Active,
    unsubscribed: Unsubscribed::Loses,
};
const ACTIVE: Policy = Policy { access: StatusAccess::Allowed, reason: Reason::SubscriptionInactive };
const TRIALING: Policy = Policy { access: StatusAccess::UntilTrialEnds, reason: Reason::TrialExpired };
const PAST_DUE: Policy = Policy { access: StatusAccess::UntilGraceEnds, reason: Reason::SubscriptionInactive };
const SUSPENDED: Policy = Policy { access: StatusAccess::Refused, reason: Reason::SubscriptionInactive };

fn day(day: i64) -> Timestamp {
    Timestamp::from_second(day * 86_400).unwrap()
}

fn hard(units: i64) -> Terms {
    Terms { limit: Limit::Hard { units }, value: None }
}

fn subscribed(policy: Policy) -> Subscription {
    Subscription {
        policy,
        trial_ends_at: None,
        grace_until: None,
        cancel_at: None,
        anchor_at: day(0),
        zone: TimeZone::UTC,
        terms: Some(hard(100)),
        next: None,
    }
}

fn sources(subscription: Option<&Subscription>) -> Sources<'_> {
    Sources { feature: METERED, flag: Flag::Unset, subscription, exception: None, grants: &[], credited_units: 0 }
}

/// `limit reason source`, as a row would say it.
fn said(sources: &Sources<'_>, at: Timestamp) -> String {
    let it = resolve(sources, at).unwrap();
    let limit = match it.answer {
        Answer::Refused => "refused".to_owned(),
        Answer::Allowed(Terms { limit: Limit::Unlimited, .. }) => "unlimited".to_owned(),
        Answer::Allowed(Terms { limit: Limit::Hard { units }, .. }) => format!("hard {units}"),
        Answer::Allowed(Terms { limit: Limit::Soft { units }, .. }) => format!("soft {units}"),
    };
    format!("{limit}, {} by {}", it.reason.as_str(), it.source.as_str())
}

#[test]
fn each_step_decides_before_the_next() {
    let active = subscribed(ACTIVE);
    let refuse = Override { mode: Mode::Refuse, expires_at: None };
    let mut it = sources(Some(&active));
    assert_eq!(said(&it, day(1)), "hard 100, ok by plan");
    it.exception = Some(&refuse);
    assert_eq!(said(&it, day(1)), "refused, feature_unavailable by override");
    it.subscription = None;
    assert_eq!(said(&it, day(1)), "refused, no_subscription by subscription");
    it.flag = Flag::Off;
    assert_eq!(said(&it, day(1)), "refused, feature_disabled by flag");
    it.feature.status = CatalogueStatus::Disabled;
    assert_eq!(said(&it, day(1)), "refused, feature_disabled by catalogue");
}

#[test]
fn what_is_always_on_outlives_the_subscription_but_not_the_kill_switch() {
    let suspended = subscribed(SUSPENDED);
    let mut it = sources(Some(&suspended));
    assert_eq!(said(&it, day(1)), "refused, subscription_inactive by subscription");
    it.feature.unsubscribed = Unsubscribed::Keeps;
    assert_eq!(said(&it, day(1)), "unlimited, ok by catalogue");
    it.flag = Flag::Off;
    assert_eq!(said(&it, day(1)), "refused, feature_disabled by flag");
}

#[test]
fn a_trial_and_a_grace_period_end_at_their_instant() {
    let trial = Subscription { trial_ends_at: Some(day(14)), ..subscribed(TRIALING) };
    assert_eq!(said(&sources(Some(&trial)), day(13)), "hard 100, ok by plan");
    assert_eq!(said(&sources(Some(&trial)), day(14)), "refused, trial_expired by subscription");
    let grace = Subscription { grace_until: Some(day(3)), ..subscribed(PAST_DUE) };
    assert_eq!(said(&sources(Some(&grace)), day(2)), "hard 100, ok by plan");
    assert_eq!(said(&sources(Some(&grace)), day(3)), "refused, subscription_inactive by subscription");
    assert_eq!(said(&sources(Some(&subscribed(PAST_DUE))), day(0)), "refused, subscription_inactive by subscription");
}

#[test]
fn a_change_of_plan_and_a_cancellation_hold_from_their_instant() {
    let next = Some(NextPlan { change_at: day(30), terms: Some(hard(10)) });
    let moving = Subscription { next, cancel_at: Some(day(60)), ..subscribed(ACTIVE) };
    assert_eq!(said(&sources(Some(&moving)), day(29)), "hard 100, ok by plan");
    assert_eq!(said(&sources(Some(&moving)), day(30)), "hard 10, ok by plan");
    assert_eq!(said(&sources(Some(&moving)), day(60)), "refused, subscription_inactive by subscription");
}

#[test]
fn an_override_replaces_or_adds_until_it_ends() {
    let active = subscribed(ACTIVE);
    let mut it = sources(Some(&active));
    let stack = Override { mode: Mode::Stack(hard(50)), expires_at: Some(day(10)) };
    it.exception = Some(&stack);
    assert_eq!(said(&it, day(9)), "hard 150, ok by override");
    assert_eq!(said(&it, day(10)), "hard 100, ok by plan");
    let soft = Terms { limit: Limit::Soft { units: 7 }, value: None };
    let lenient = Override { mode: Mode::Stack(soft.clone()), expires_at: None };
    it.exception = Some(&lenient);
    assert_eq!(said(&it, day(9)), "soft 107, ok by override");
    let replace = Override { mode: Mode::Grant(soft), expires_at: None };
    it.exception = Some(&replace);
    assert_eq!(said(&it, day(9)), "soft 7, ok by override");
}

#[test]
fn nothing_is_added_to_what_has_no_limit_or_is_not_sold() {
    let stack = Override { mode: Mode::Stack(hard(50)), expires_at: None };
    let unlimited = Terms { limit: Limit::Unlimited, value: None };
    let endless = Subscription { terms: Some(unlimited), ..subscribed(ACTIVE) };
    let mut it = sources(Some(&endless));
    it.exception = Some(&stack);
    assert_eq!(said(&it, day(1)), "unlimited, ok by override");
    let lacking = Subscription { terms: None, ..subscribed(ACTIVE) };
    it.subscription = Some(&lacking);
    assert_eq!(said(&it, day(1)), "refused, feature_unavailable by plan");
}

#[test]
fn credits_raise_the_limit_while_they_last() {
    let active = subscribed(ACTIVE);
    let open = CreditStatus::Open;
    let grants = [
        Grant { amount_units: 20, consumed_units: 5, effective_at: day(0), expires_at: Some(day(5)), standing: open },
        Grant { amount_units: 7, consumed_units: 0, effective_at: day(3), expires_at: None, standing: open },
        Grant {
            amount_units: 9,
            consumed_units: 0,
            effective_at: day(0),
            expires_at: None,
            standing: CreditStatus::Voided,
        },
    ];
    let it = Sources { grants: &grants, credited_units: 5, ..sources(Some(&active)) };
    assert_eq!(said(&it, day(1)), "hard 120, ok by plan");
    assert_eq!(said(&it, day(3)), "hard 127, ok by plan");
    assert_eq!(said(&it, day(5)), "hard 112, ok by plan", "what was consumed stays in the limit of its period");
}

#[test]
fn a_period_follows_the_subscription_or_never_ends() {
    let active = subscribed(ACTIVE);
    let decision = resolve(&sources(Some(&active)), day(1)).unwrap();
    assert_eq!(decision.period, Period::Between { start_at: day(0), end_at: day(31) });
    assert_eq!(resolve(&sources(None), day(1)).unwrap().period, Period::Always);
}

fn instant() -> impl Strategy<Value = Timestamp> {
    (0_i64..100).prop_map(day)
}

fn grant() -> impl Strategy<Value = Grant> {
    let standing = select(vec![CreditStatus::Open, CreditStatus::Voided]);
    (1_i64..50, 0_i64..50, 0_i64..100, prop::option::of(1_i64..50), standing).prop_map(
        |(amount, consumed, from, lasts, standing)| Grant {
            amount_units: amount,
            consumed_units: consumed.min(amount),
            effective_at: day(from),
            expires_at: lasts.map(|days| day(from + days)),
            standing,
        },
    )
}

prop_compose! {
    fn subscription()(
        policy in select(vec![ACTIVE, TRIALING, PAST_DUE, SUSPENDED]),
        trial_ends_at in prop::option::of(instant()),
        grace_until in prop::option::of(instant()),
        cancel_at in prop::option::of(instant()),
        terms in prop::option::of((0_i64..100).prop_map(hard)),
        next in prop::option::of((instant(), prop::option::of((0_i64..100).prop_map(hard)))),
    ) -> Subscription {
        let next = next.map(|(change_at, terms)| NextPlan { change_at, terms });
        Subscription { trial_ends_at, grace_until, cancel_at, terms, next, ..subscribed(policy) }
    }
}

fn exception() -> impl Strategy<Value = Override> {
    let mode = prop_oneof![
        Just(Mode::Refuse),
        (0_i64..100).prop_map(|units| Mode::Grant(hard(units))),
        (0_i64..100).prop_map(|units| Mode::Stack(hard(units))),
    ];
    (mode, prop::option::of(instant())).prop_map(|(mode, expires_at)| Override { mode, expires_at })
}

proptest! {
    #[test]
    fn time_changes_nothing_before_valid_until(
        subscription in prop::option::of(subscription()),
        exception in prop::option::of(exception()),
        grants in prop::collection::vec(grant(), 0..4),
        keeps in select(vec![Unsubscribed::Keeps, Unsubscribed::Loses]),
        at in instant(),
        later in instant(),
    ) {
        let feature = CatalogueEntry { unsubscribed: keeps, ..METERED };
        let subscription = subscription.as_ref();
        let exception = exception.as_ref();
        let it = Sources { feature, flag: Flag::On, subscription, exception, grants: &grants, credited_units: 0 };
        let (now, then) = (resolve(&it, at).unwrap(), resolve(&it, later).unwrap());
        if at <= later && now.valid_until.is_none_or(|end| later < end) {
            prop_assert_eq!((now.answer, now.reason, now.source), (then.answer, then.reason, then.source));
        }
    }
}
