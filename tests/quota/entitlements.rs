//! What a company may do is resolved alike in Rust and in PL/pgSQL, from sources that are drawn at random.

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use crate::oracle::{
    Answer, Cadence, CatalogueEntry, CatalogueStatus, CreditStatus, Flag, Grant, Kind, Limit, Mode, NextPlan, Override,
    Period, Policy, Reason, Sources, StatusAccess, Subscription, Terms, Unsubscribed, resolve,
};
use crate::support::{Database, company, plan};

const FEATURES: usize = 6;

const fn entry(kind: Kind, status: CatalogueStatus, unsubscribed: Unsubscribed) -> CatalogueEntry {
    CatalogueEntry { kind, status, unsubscribed }
}

/// One of each kind of feature, by name.
const CATALOGUE: [(&str, CatalogueEntry); FEATURES] = [
    ("o_monthly", entry(Kind::Metered { reset: Cadence::Month }, CatalogueStatus::Active, Unsubscribed::Loses)),
    ("o_daily", entry(Kind::Metered { reset: Cadence::Day }, CatalogueStatus::Active, Unsubscribed::Keeps)),
    ("o_seats", entry(Kind::Metered { reset: Cadence::Never }, CatalogueStatus::Active, Unsubscribed::Loses)),
    ("o_export", entry(Kind::Boolean, CatalogueStatus::Active, Unsubscribed::Loses)),
    ("o_model", entry(Kind::Static, CatalogueStatus::Active, Unsubscribed::Keeps)),
    ("o_off", entry(Kind::Boolean, CatalogueStatus::Disabled, Unsubscribed::Keeps)),
];

/// Rows of `subscription_policies`, by status.
const POLICIES: [(&str, Policy); 5] = [
    ("active", Policy { access: StatusAccess::Allowed, reason: Reason::SubscriptionInactive }),
    ("trialing", Policy { access: StatusAccess::UntilTrialEnds, reason: Reason::TrialExpired }),
    ("past_due", Policy { access: StatusAccess::UntilGraceEnds, reason: Reason::SubscriptionInactive }),
    ("canceled", Policy { access: StatusAccess::Refused, reason: Reason::SubscriptionInactive }),
    ("suspended", Policy { access: StatusAccess::Refused, reason: Reason::SubscriptionInactive }),
];

const ZONE: &str = "America/Sao_Paulo";

/// A sequence that is the same in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn units(&mut self) -> i64 {
        self.below(100) as i64
    }

    /// Midnights of a hundred days.
    fn instant(&mut self) -> Timestamp {
        day(self.below(100) as i64)
    }

    fn maybe<T>(&mut self, draw: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.below(2) == 0).then(|| draw(self))
    }

    /// What a plan or an override says of a feature of a kind.
    fn terms(&mut self, kind: Kind) -> Terms {
        let limit = match (kind, self.below(3)) {
            (Kind::Metered { .. }, 0) => Limit::Hard { units: self.units() },
            (Kind::Metered { .. }, 1) => Limit::Soft { units: self.units() },
            _ => Limit::Unlimited,
        };
        Terms { limit, value: (kind == Kind::Static).then(|| json!({ "model": self.units() })) }
    }

    fn exception(&mut self, kind: Kind) -> Override {
        let mode = match self.below(3) {
            0 => Mode::Grant(self.terms(kind)),
            1 => Mode::Refuse,
            // Stacking needs a limit, which is nothing to what is not metered.
            _ => Mode::Stack(Terms { limit: Limit::Hard { units: self.units() }, ..self.terms(kind) }),
        };
        Override { mode, expires_at: self.maybe(Chance::instant) }
    }

    fn grant(&mut self) -> Grant {
        let (from, amount_units) = (self.below(100) as i64, 1 + self.units());
        Grant {
            amount_units,
            consumed_units: self.units().min(amount_units),
            effective_at: day(from),
            expires_at: self.maybe(|it| day(from + 1 + it.units())),
            standing: if self.below(4) == 0 { CreditStatus::Voided } else { CreditStatus::Open },
        }
    }
}

fn day(number: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + number * 86_400).unwrap()
}

/// A plan of the test: its version, and what it says of each feature.
struct Plan {
    version: i64,
    terms: [Option<Terms>; FEATURES],
}

/// A subscription with the positions of its plans; what these say is filled in for each feature.
struct Bought {
    subscription: Subscription,
    status: &'static str,
    held: usize,
    next: Option<(Timestamp, usize)>,
}

/// Everything that is known of one company.
struct Drawn {
    bought: Option<Bought>,
    flags: [Flag; FEATURES],
    exceptions: [Option<Override>; FEATURES],
    grants: [Vec<Grant>; FEATURES],
}

fn sql(instant: Option<Timestamp>) -> String {
    instant.map_or_else(|| "null".to_owned(), |it| format!("'{it}'"))
}

/// The columns `limit_value, soft, value`.
fn columns(terms: &Terms) -> String {
    let (limit, soft) = match terms.limit {
        Limit::Unlimited => ("null".to_owned(), false),
        Limit::Hard { units } => (units.to_string(), false),
        Limit::Soft { units } => (units.to_string(), true),
    };
    let value = terms.value.as_ref().map_or_else(|| "null".to_owned(), |it| format!("'{it}'"));
    format!("{limit}, {soft}, {value}")
}

async fn run(client: &Client, statement: &str) {
    client.batch_execute(statement).await.unwrap_or_else(|it| panic!("{statement}: {it:?}"));
}

async fn make_catalogue(client: &Client) {
    for (feature, entry) in CATALOGUE {
        let (kind, reset) = match entry.kind {
            Kind::Boolean => ("boolean", "never"),
            Kind::Static => ("static", "never"),
            Kind::Metered { reset } => ("metered", reset.as_str()),
        };
        let status = if entry.status == CatalogueStatus::Disabled { "disabled" } else { "active" };
        let kept = entry.unsubscribed == Unsubscribed::Keeps;
        let columns = "feature, name, kind, reset, always_on, status";
        let values = format!("'{feature}', 'A feature', '{kind}', '{reset}', {kept}, '{status}'");
        run(client, &format!("insert into secretaria.features_catalog ({columns}) values ({values})")).await;
    }
}

async fn make_plan(client: &Client, chance: &mut Chance, code: &str) -> Plan {
    let terms = CATALOGUE.map(|(_, entry)| (chance.below(4) > 0).then(|| chance.terms(entry.kind)));
    let mut rows = vec!["('agents', 3, false, null)".to_owned()];
    let named = CATALOGUE.iter().zip(&terms).filter_map(|((name, _), terms)| Some((name, terms.as_ref()?)));
    rows.extend(named.map(|(name, terms)| format!("('{name}', {})", columns(terms))));
    Plan { version: plan(client, code, &rows.join(", ")).await, terms }
}

fn draw(chance: &mut Chance, plans: &[Plan]) -> Drawn {
    let of_plans = plans.len() as u64;
    let bought = (chance.below(6) > 0).then(|| {
        // As often in force as not.
        let (status, policy) = if chance.below(2) == 0 { POLICIES[0] } else { POLICIES[chance.below(5) as usize] };
        let held = chance.below(of_plans) as usize;
        let next = (chance.below(3) == 0).then(|| (chance.instant(), chance.below(of_plans) as usize));
        let trial_ends_at = if status == "trialing" { Some(chance.instant()) } else { chance.maybe(Chance::instant) };
        let subscription = Subscription {
            policy,
            trial_ends_at,
            grace_until: chance.maybe(Chance::instant),
            cancel_at: (chance.below(4) == 0).then(|| chance.instant()),
            anchor_at: chance.instant(),
            zone: TimeZone::get(ZONE).unwrap(),
            terms: None,
            next: None,
        };
        Bought { subscription, status, held, next }
    });
    Drawn {
        bought,
        flags: CATALOGUE.map(|_| match chance.below(8) {
            0 => Flag::Off,
            1 => Flag::On,
            _ => Flag::Unset,
        }),
        exceptions: CATALOGUE.map(|(_, entry)| (chance.below(3) == 0).then(|| chance.exception(entry.kind))),
        grants: CATALOGUE.map(|(_, entry)| match entry.kind {
            Kind::Metered { .. } => (0..chance.below(3)).map(|_| chance.grant()).collect(),
            _ => Vec::new(),
        }),
    }
}

/// Writes a company as it was drawn.
async fn insert(client: &Client, drawn: &Drawn, plans: &[Plan]) -> i64 {
    let company = company(client).await;
    if let Some(Bought { subscription: it, status, held, next }) = &drawn.bought {
        run(
            client,
            &format!(
                "insert into secretaria.subscriptions (company_id, subscription_id, plan_version_id, status, anchor_at,
                   time_zone, trial_ends_at, grace_until, cancel_at, next_plan_version_id, next_change_at)
                 values ({company}, '{}', {}, '{status}', '{}', '{ZONE}', {}, {}, {}, {}, {})",
                Uuid::from_u64_pair(7, company.unsigned_abs()),
                plans[*held].version,
                it.anchor_at,
                sql(it.trial_ends_at),
                sql(it.grace_until),
                sql(it.cancel_at),
                next.map_or_else(|| "null".to_owned(), |(_, index)| plans[index].version.to_string()),
                sql(next.map(|(change_at, _)| change_at)),
            ),
        )
        .await;
    }
    for (index, (feature, _)) in CATALOGUE.iter().enumerate() {
        if drawn.flags[index] != Flag::Unset {
            let is_on = drawn.flags[index] == Flag::On;
            run(client, &format!("insert into secretaria.feature_flags values ({company}, '{feature}', {is_on})"))
                .await;
        }
        if let Some(exception) = &drawn.exceptions[index] {
            let refused = Terms { limit: Limit::Unlimited, value: None };
            let (mode, allowed, terms) = match &exception.mode {
                Mode::Grant(terms) => ("replace", true, terms),
                Mode::Refuse => ("replace", false, &refused),
                Mode::Stack(terms) => ("stack", true, terms),
            };
            run(
                client,
                &format!(
                    "insert into secretaria.company_overrides
                       (company_id, feature, mode, allowed, limit_value, soft, value, expires_at, reason)
                     values ({company}, '{feature}', '{mode}', {allowed}, {}, {}, 'test')",
                    columns(terms),
                    sql(exception.expires_at),
                ),
            )
            .await;
        }
        for grant in &drawn.grants[index] {
            let voided_at = (grant.standing == CreditStatus::Voided).then(|| day(40));
            run(
                client,
                &format!(
                    "insert into secretaria.usage_grants
                       (company_id, feature, amount, consumed, effective_at, expires_at, voided_at)
                     values ({company}, '{feature}', {}, {}, '{}', {}, {})",
                    grant.amount_units,
                    grant.consumed_units,
                    grant.effective_at,
                    sql(grant.expires_at),
                    sql(voided_at),
                ),
            )
            .await;
        }
    }
    company
}

/// Both answers in one form: allowed, soft, limit, the period, until when, reason, source, value.
fn in_rust(drawn: &Drawn, plans: &[Plan], index: usize, at: Timestamp) -> String {
    let subscription = drawn.bought.as_ref().map(|it| Subscription {
        terms: plans[it.held].terms[index].clone(),
        next: it.next.map(|(change_at, plan)| NextPlan { change_at, terms: plans[plan].terms[index].clone() }),
        ..it.subscription.clone()
    });
    let sources = Sources {
        feature: CATALOGUE[index].1,
        flag: drawn.flags[index],
        subscription: subscription.as_ref(),
        exception: drawn.exceptions[index].as_ref(),
        grants: &drawn.grants[index],
        credited_units: 0,
    };
    let decision = resolve(&sources, at).unwrap();
    let (allowed, soft, limit, value) = match decision.answer {
        Answer::Refused => (false, false, None, None),
        Answer::Allowed(Terms { limit, value }) => match limit {
            Limit::Unlimited => (true, false, None, value),
            Limit::Hard { units } => (true, false, Some(units), value),
            Limit::Soft { units } => (true, true, Some(units), value),
        },
    };
    let (start_at, end_at) = match decision.period {
        Period::Always => (None, None),
        Period::Between { start_at, end_at } => (Some(start_at), Some(end_at)),
    };
    let (reason, source) = (decision.reason.as_str(), decision.source.as_str());
    let value = value.map(|it| it["model"].to_string());
    format!("{allowed} {soft} {limit:?} {start_at:?} {end_at:?} {:?} {reason} {source} {value:?}", decision.valid_until)
}

const RESOLVED: &str = "
select r.allowed, r.soft, r.limit_value,
  case when isfinite(r.period_start) then r.period_start end as start_at,
  case when isfinite(r.period_end) then r.period_end end as end_at,
  case when isfinite(r.valid_until) then r.valid_until end as valid_until,
  r.reason, r.source, r.value ->> 'model' as value, r.feature
from secretaria_reference._resolve($1, $2) r
where r.feature like 'o\\_%'";

fn in_sql(row: &Row) -> String {
    let (allowed, soft, limit): (bool, bool, Option<i64>) = (row.get(0), row.get(1), row.get(2));
    let instants: [Option<Timestamp>; 3] = [row.get(3), row.get(4), row.get(5)];
    let [start_at, end_at, valid_until] = instants;
    let (reason, source, value): (&str, &str, Option<String>) = (row.get(6), row.get(7), row.get(8));
    format!("{allowed} {soft} {limit:?} {start_at:?} {end_at:?} {valid_until:?} {reason} {source} {value:?}")
}

#[tokio::test]
async fn both_languages_resolve_alike() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    make_catalogue(&client).await;
    let mut chance = Chance(20_260_101);
    let mut plans = Vec::new();
    for code in ["o_one", "o_two", "o_three", "o_four"] {
        plans.push(make_plan(&client, &mut chance, code).await);
    }
    let (mut wrong, mut compared, mut why) = (Vec::new(), 0, BTreeSet::new());
    for _ in 0..120 {
        let drawn = draw(&mut chance, &plans);
        let company = insert(&client, &drawn, &plans).await;
        for _ in 0..4 {
            let at = chance.instant();
            let rows = client.query(RESOLVED, &[&company, &at]).await.unwrap();
            assert_eq!(rows.len(), FEATURES);
            for row in &rows {
                let feature: &str = row.get("feature");
                let index = CATALOGUE.iter().position(|(name, _)| *name == feature).unwrap();
                let (rust, sql) = (in_rust(&drawn, &plans, index, at), in_sql(row));
                if rust != sql {
                    wrong.push(format!("company {company}, {feature} at {at}:\n  {rust}\n  {sql}"));
                }
                why.insert((row.get::<_, String>("reason"), row.get::<_, String>("source")));
                compared += 1;
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {compared}:\n{}", wrong.len(), wrong[..wrong.len().min(10)].join("\n"));
    // Every rule has decided something, or this proved little.
    let why: Vec<_> = why.iter().map(|(reason, source)| format!("{reason} {source}")).collect();
    assert_eq!(
        why,
        [
            "feature_disabled catalogue",
            "feature_disabled flag",
            "feature_unavailable override",
            "feature_unavailable plan",
            "no_subscription subscription",
            "ok catalogue",
            "ok override",
            "ok plan",
            "subscription_inactive subscription",
            "trial_expired subscription",
        ]
    );
}
