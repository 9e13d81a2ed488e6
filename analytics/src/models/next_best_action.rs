//! What to propose to a customer next, and why: rules over limits, trend and churn.
//!
//! Doing nothing is always among the actions, so that what an action brings can be measured against it: by uplift between
//! customers who got it and customers who got nothing, never by clicks. Rules only propose; which of the actions is taken,
//! and with what logged probability, is for an experiment to decide.

use super::error::Error;
use super::upsell::{LimitUse, Projection};

/// What is known of a customer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Situation {
    pub limits: Vec<LimitUse>,
    /// The probability of no activity within the horizon, where there is a usable score.
    pub churn: Option<f64>,
    /// Activity of the last four weeks over that of the four before; `None` without activity before.
    pub trend: Option<f64>,
    /// The last answer to "how likely are you to recommend us".
    pub last_answer: Option<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Nothing,
    /// Someone calls or writes, without an offer.
    Contact,
    /// A plan with a larger limit.
    OfferLargerPlan {
        feature: String,
    },
    /// A smaller plan before they leave for none: little of any limit is used.
    OfferSmallerPlan,
    /// Show what the plan has and they do not use.
    ShowFeatures,
    AskForReference,
}

/// Why an action is proposed.
#[derive(Debug, Clone, PartialEq)]
pub enum Cause {
    LimitReached {
        share: f64,
    },
    LimitSoonReached {
        projected_share: f64,
    },
    LimitReachedBefore {
        times: usize,
    },
    UseGrows {
        growth: f64,
    },
    LittleUsed {
        largest_share: f64,
    },
    LikelyToLeave {
        churn: f64,
    },
    ActivityFalls {
        trend: f64,
    },
    ActivityRises {
        trend: f64,
    },
    Detractor,
    Promoter,
    /// The action is there to be compared with.
    Comparison,
}

/// An action with its causes, strongest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    pub action: Action,
    pub causes: Vec<Cause>,
    /// For the order of proposals only; no probability.
    pub weight: f64,
}

const LIKELY_TO_LEAVE: f64 = 0.6;
const FALLING: f64 = 0.7;
const RISING: f64 = 1.2;
const LITTLE_USED: f64 = 0.2;
const SOON_REACHED: f64 = 0.9;
const GROWING: f64 = 0.1;

/// The actions that suit a customer, the weightiest first; [`Action::Nothing`] is last and always there.
///
/// A customer who is likely to leave is not offered a larger plan.
pub fn proposals(situation: &Situation) -> Result<Vec<Proposal>, Error> {
    if let Some(churn) = situation.churn.filter(|it| !(0.0..=1.0).contains(it)) {
        return Err(Error::OutOfRange { what: "churn", value: churn });
    }
    let projected: Result<Vec<(&LimitUse, Projection)>, Error> =
        situation.limits.iter().map(|it| Ok((it, it.project()?))).collect();
    let projected = projected?;
    let mut proposals = Vec::new();
    let worries = worries(situation);
    let little_used = little_used(&projected);
    if worries.is_empty() {
        proposals.extend(projected.iter().filter_map(|(limit, projection)| larger_plan(limit, projection)));
        proposals.extend(reference(situation));
        proposals.extend(little_used.map(|cause| Proposal {
            action: Action::ShowFeatures,
            causes: vec![cause],
            weight: 0.2,
        }));
    } else {
        let weight = 1.0 + situation.churn.unwrap_or(0.5);
        if let Some(cause) = little_used {
            let causes = worries.iter().cloned().chain([cause]).collect();
            proposals.push(Proposal { action: Action::OfferSmallerPlan, causes, weight: weight - 0.1 });
        }
        proposals.push(Proposal { action: Action::Contact, causes: worries, weight });
    }
    proposals.push(Proposal { action: Action::Nothing, causes: vec![Cause::Comparison], weight: 0.0 });
    proposals.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    Ok(proposals)
}

fn worries(situation: &Situation) -> Vec<Cause> {
    let leaving = situation.churn.filter(|it| *it >= LIKELY_TO_LEAVE).map(|churn| Cause::LikelyToLeave { churn });
    let falling = situation.trend.filter(|it| *it <= FALLING).map(|trend| Cause::ActivityFalls { trend });
    let detractor = situation.last_answer.filter(|it| *it <= 6).map(|_| Cause::Detractor);
    [leaving, falling, detractor].into_iter().flatten().collect()
}

fn larger_plan(limit: &LimitUse, projection: &Projection) -> Option<Proposal> {
    let Projection { share, projected_share, growth, times_reached } = *projection;
    let mut causes = Vec::new();
    if share >= 1.0 {
        causes.push(Cause::LimitReached { share });
    } else if projected_share >= SOON_REACHED {
        causes.push(Cause::LimitSoonReached { projected_share });
    }
    if times_reached >= 2 {
        causes.push(Cause::LimitReachedBefore { times: times_reached });
    }
    // Growth alone is no need of a larger limit.
    if let Some(growth) = growth.filter(|it| *it >= GROWING && !causes.is_empty()) {
        causes.push(Cause::UseGrows { growth });
    }
    let weight = projected_share.clamp(0.0, 2.0) / 2.0 + 0.1 * causes.len() as f64;
    let action = Action::OfferLargerPlan { feature: limit.feature.clone() };
    (!causes.is_empty()).then_some(Proposal { action, causes, weight })
}

fn reference(situation: &Situation) -> Option<Proposal> {
    situation.last_answer.filter(|it| *it >= 9)?;
    let rising = situation.trend.filter(|it| *it >= RISING).map(|trend| Cause::ActivityRises { trend });
    let weight = if rising.is_some() { 0.4 } else { 0.3 };
    let causes = [Some(Cause::Promoter), rising].into_iter().flatten().collect();
    Some(Proposal { action: Action::AskForReference, causes, weight })
}

/// Little of every limit is used, and will not be more by the end of the period.
fn little_used(projected: &[(&LimitUse, Projection)]) -> Option<Cause> {
    let largest_share = projected.iter().map(|it| it.1.projected_share).reduce(f64::max)?;
    (largest_share < LITTLE_USED).then_some(Cause::LittleUsed { largest_share })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(used: i64, past: &[i64]) -> LimitUse {
        LimitUse { feature: "messages".to_owned(), limit: 1_000, used, elapsed: 0.5, past: past.to_vec() }
    }

    fn actions(situation: &Situation) -> Vec<Action> {
        proposals(situation).unwrap().into_iter().map(|it| it.action).collect()
    }

    fn larger() -> Action {
        Action::OfferLargerPlan { feature: "messages".to_owned() }
    }

    #[test]
    fn nothing_is_always_an_action_and_says_why() {
        let only = proposals(&Situation::default()).unwrap();
        assert_eq!(only, [Proposal { action: Action::Nothing, causes: vec![Cause::Comparison], weight: 0.0 }]);
        let busy = Situation {
            limits: vec![limit(990, &[900, 1_000, 1_200])],
            churn: Some(0.1),
            trend: Some(1.5),
            last_answer: Some(10),
        };
        assert_eq!(actions(&busy), [larger(), Action::AskForReference, Action::Nothing]);
        for proposal in proposals(&busy).unwrap() {
            assert!(!proposal.causes.is_empty(), "{proposal:?}");
        }
    }

    #[test]
    fn a_limit_that_will_be_reached_suggests_a_larger_plan() {
        let with = |used, past: &[i64]| Situation { limits: vec![limit(used, past)], ..Situation::default() };
        let causes = |situation: &Situation| proposals(situation).unwrap().remove(0).causes;
        assert_eq!(causes(&with(460, &[])), [Cause::LimitSoonReached { projected_share: 0.92 }]);
        assert_eq!(causes(&with(1_000, &[])), [Cause::LimitReached { share: 1.0 }]);
        let before = causes(&with(300, &[500, 1_000, 1_125]));
        assert_eq!(before, [Cause::LimitReachedBefore { times: 2 }, Cause::UseGrows { growth: 0.5 }]);
        // Growth without a limit in sight, and use in the middle: nothing to offer.
        assert_eq!(actions(&with(150, &[100, 200, 400])), [Action::Nothing]);
    }

    #[test]
    fn one_who_may_leave_is_not_sold_more() {
        let leaving =
            Situation { limits: vec![limit(1_000, &[])], churn: Some(0.8), trend: Some(0.5), last_answer: Some(3) };
        assert_eq!(actions(&leaving), [Action::Contact, Action::Nothing]);
        let causes = proposals(&leaving).unwrap().remove(0).causes;
        let expected = [Cause::LikelyToLeave { churn: 0.8 }, Cause::ActivityFalls { trend: 0.5 }, Cause::Detractor];
        assert_eq!(causes, expected);
        let idle = Situation { limits: vec![limit(10, &[])], churn: Some(0.8), ..Situation::default() };
        assert_eq!(actions(&idle), [Action::Contact, Action::OfferSmallerPlan, Action::Nothing]);
        let quiet = Situation { limits: vec![limit(10, &[])], ..Situation::default() };
        assert_eq!(actions(&quiet), [Action::ShowFeatures, Action::Nothing]);
    }

    #[test]
    fn what_is_no_probability_is_refused() {
        assert!(proposals(&Situation { churn: Some(1.2), ..Situation::default() }).is_err());
        assert!(proposals(&Situation { churn: Some(f64::NAN), ..Situation::default() }).is_err());
        assert!(proposals(&Situation { limits: vec![limit(-1, &[])], ..Situation::default() }).is_err());
    }
}
