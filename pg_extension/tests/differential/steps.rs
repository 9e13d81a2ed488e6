//! What is done between two questions: everything that can change an answer, as SQL.

use crate::chance::Chance;

/// A kind of step. Each must happen in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    Begin,
    Savepoint,
    RollBackToSavepoint,
    Commit,
    RollBack,
    PublishVersion,
    EditDraft,
    MoveToPlan,
    ChangePlan,
    ScheduleChange,
    Status,
    Cancellation,
    EndSubscription,
    Subscribe,
    Override,
    EndOverride,
    Flag,
    EndFlag,
    Grant,
    VoidGrant,
    Catalogue,
    Clock,
    Increment,
    LateIncrement,
    BulkIncrement,
    Facts,
    Reserve,
    Settle,
    Release,
    Expire,
    Correct,
    SetUsage,
    Vacuum,
    Rewrite,
    Cache,
}

/// Every kind, and how often it is chosen.
pub(crate) const STEPS: &[(Step, u64)] = &[
    (Step::Begin, 120),
    (Step::Savepoint, 60),
    (Step::RollBackToSavepoint, 40),
    (Step::Commit, 25),
    (Step::RollBack, 12),
    (Step::PublishVersion, 10),
    (Step::EditDraft, 12),
    (Step::MoveToPlan, 30),
    (Step::ChangePlan, 20),
    (Step::ScheduleChange, 20),
    (Step::Status, 50),
    (Step::Cancellation, 20),
    (Step::EndSubscription, 12),
    (Step::Subscribe, 30),
    (Step::Override, 50),
    (Step::EndOverride, 30),
    (Step::Flag, 30),
    (Step::EndFlag, 30),
    (Step::Grant, 30),
    (Step::VoidGrant, 12),
    (Step::Catalogue, 16),
    (Step::Clock, 40),
    (Step::Increment, 160),
    (Step::LateIncrement, 15),
    (Step::BulkIncrement, 20),
    (Step::Facts, 20),
    (Step::Reserve, 60),
    (Step::Settle, 30),
    (Step::Release, 15),
    (Step::Expire, 8),
    (Step::Correct, 25),
    (Step::SetUsage, 15),
    (Step::Vacuum, 15),
    (Step::Rewrite, 3),
    (Step::Cache, 15),
];

pub(crate) const COMPANIES: u64 = 6;
pub(crate) const COUNTED: [&str; 3] = ["whatsapp_messages", "ai_tokens", "agents"];
pub(crate) const FEATURES: [&str; 8] = [
    "whatsapp_messages",
    "ai_tokens",
    "agents",
    "ai_replies",
    "reminders",
    "analytics_export",
    "data_export",
    "support_level",
];

/// A step, chosen by weight.
pub(crate) fn choose(chance: &mut Chance) -> Step {
    let mut left = chance.below(STEPS.iter().map(|(_, weight)| weight).sum());
    for (step, weight) in STEPS {
        if left < *weight {
            return *step;
        }
        left -= weight;
    }
    unreachable!("the weights were summed up")
}

/// What a step may be refused with, besides a conflict with another session.
pub(crate) fn forgiven(step: Step) -> &'static [&'static str] {
    match step {
        // The catalogue is edited at READ COMMITTED.
        Step::PublishVersion => &["0A000", "23505"],
        Step::EditDraft | Step::Catalogue => &["0A000"],
        // A draft is not sold, and what is over does not change.
        Step::ChangePlan => &["55000"],
        Step::Subscribe => &["23505"],
        // Archived meanwhile, or it would end before it begins on a clock that was moved.
        Step::Grant => &["42704", "22023"],
        // Archived meanwhile, the key taken, or an instant that a moved clock is too far from.
        Step::Increment | Step::LateIncrement => &["42704", "23505", "22023"],
        Step::Reserve => &["42704", "23505"],
        // It has run out, or its feature was archived.
        Step::Settle | Step::Release => &["55000", "42704"],
        Step::Correct => &["42704", "22003"],
        Step::SetUsage => &["42704"],
        _ => &[],
    }
}

/// The SQL of a step that is not about transactions.
pub(crate) fn statement(step: Step, chance: &mut Chance) -> String {
    let company = 1 + chance.below(COMPANIES);
    match step {
        Step::Begin | Step::Savepoint | Step::RollBackToSavepoint | Step::Commit | Step::RollBack => String::new(),
        Step::PublishVersion | Step::EditDraft | Step::Catalogue => of_the_catalogue(step, chance),
        Step::MoveToPlan
        | Step::ChangePlan
        | Step::ScheduleChange
        | Step::Status
        | Step::Cancellation
        | Step::EndSubscription
        | Step::Subscribe => of_a_subscription(step, company, chance),
        Step::Override | Step::EndOverride | Step::Flag | Step::EndFlag | Step::Grant | Step::VoidGrant => {
            of_one_company(step, company, chance)
        }
        Step::Clock => clock(company, chance),
        Step::Vacuum => "vacuum (truncate off) secretaria.feature_usage".to_owned(),
        Step::Rewrite => "vacuum full secretaria.feature_usage".to_owned(),
        Step::Cache => format!(
            "set secretaria.location_cache = {}; set secretaria.location_cache_entries = {}",
            chance.pick(&["on", "on", "on", "off"]),
            chance.pick(&[64, 524_288])
        ),
        _ => of_usage(step, company, chance),
    }
}

/// An instant that comes while the test runs, later, or that has been.
fn soon(chance: &mut Chance) -> String {
    let distance = chance.pick(&["20 ms", "100 ms", "1 s", "5 s", "3 hours", "20 days", "50 days", "-1 hour"]);
    format!("clock_timestamp() + interval '{distance}'")
}

fn limit(chance: &mut Chance) -> String {
    if chance.one_in(5) { "null".to_owned() } else { chance.below(40).to_string() }
}

fn version(chance: &mut Chance) -> String {
    let back = chance.below(6);
    format!(
        "(select plan_version_id from secretaria.plan_versions order by plan_version_id desc
          offset {back} % (select count(*) from secretaria.plan_versions) limit 1)"
    )
}

fn of_the_catalogue(step: Step, chance: &mut Chance) -> String {
    match step {
        Step::PublishVersion => {
            let sold: Vec<&str> = FEATURES.into_iter().filter(|it| *it == "agents" || !chance.one_in(4)).collect();
            let rows = sold.iter().map(|feature| {
                let limit = if COUNTED.contains(feature) { limit(chance) } else { "null".to_owned() };
                format!("('{feature}', {limit}::bigint, {}, '\"{}\"'::jsonb)", chance.one_in(3), chance.below(9))
            });
            let rows = rows.collect::<Vec<_>>().join(", ");
            format!(
                "with made as (
                   insert into secretaria.plan_versions (plan_id, version)
                   select p.plan_id, (select max(version) + 1 from secretaria.plan_versions v where v.plan_id = p.plan_id)
                   from secretaria.plans p where code = 'starter'
                   returning plan_version_id)
                 insert into secretaria.plan_features (plan_version_id, feature, limit_value, soft, value)
                 select m.plan_version_id, f.feature, f.limit_value, f.soft, f.value
                 from made m cross join (values {rows}) as f (feature, limit_value, soft, value)
                 join secretaria.features_catalog using (feature);
                 update secretaria.plan_versions v set state = 'published', published_at = now()
                 from secretaria.plans p where p.plan_id = v.plan_id and code = 'starter' and state = 'draft'"
            )
        }
        Step::EditDraft => format!(
            "update secretaria.plan_features f set limit_value = {}, soft = {}
             from secretaria.plan_versions v
             where v.plan_version_id = f.plan_version_id and v.state = 'draft' and feature = '{}'",
            limit(chance),
            chance.one_in(3),
            chance.pick(&COUNTED)
        ),
        _ => format!(
            "update secretaria.features_catalog set status = '{}' where feature = '{}'",
            chance.pick(&["active", "active", "active", "disabled", "archived"]),
            chance.pick(&FEATURES)
        ),
    }
}

fn of_a_subscription(step: Step, company: u64, chance: &mut Chance) -> String {
    let live = format!("company_id = {company} and ended_at is null");
    let set = |what: String| format!("update secretaria.subscriptions set {what} where {live}");
    match step {
        Step::MoveToPlan => {
            set(format!("plan_version_id = {}, next_plan_version_id = null, next_change_at = null", version(chance)))
        }
        Step::ScheduleChange => {
            set(format!("next_plan_version_id = {}, next_change_at = {}", version(chance), soon(chance)))
        }
        Step::ChangePlan => format!(
            "select secretaria_reference.change_subscription_plan({company}, subscription_id, {}, '{}')
             from secretaria.subscriptions where {live}",
            version(chance),
            chance.pick(&["immediate", "end_of_term"])
        ),
        Step::Status => set(match chance.below(8) {
            0 | 1 => format!("status = 'trialing', trial_ends_at = {}", soon(chance)),
            2 => format!("status = 'past_due', grace_until = {}", soon(chance)),
            3 => "status = 'suspended'".to_owned(),
            4 => "status = 'canceled'".to_owned(),
            _ => "status = 'active', cancel_at = null".to_owned(),
        }),
        Step::Cancellation => {
            let at = if chance.one_in(2) { soon(chance) } else { "null".to_owned() };
            set(format!("cancel_at = {at}"))
        }
        Step::EndSubscription => set("ended_at = clock_timestamp()".to_owned()),
        _ => format!(
            // Some begin a period within the test's own time.
            "insert into secretaria.subscriptions
               (company_id, subscription_id, plan_version_id, status, anchor_at, time_zone)
             select {company}, gen_random_uuid(), {}, 'active', clock_timestamp() - interval '{}', '{}'
             where not exists (select from secretaria.subscriptions where {live})",
            version(chance),
            chance.pick(&["40 days", "70 days", "1 month -100 ms", "1 month -2 s", "100 years", "0 days"]),
            chance.pick(&["America/Sao_Paulo", "America/Manaus", "Europe/Lisbon", "Asia/Kathmandu"])
        ),
    }
}

fn of_one_company(step: Step, company: u64, chance: &mut Chance) -> String {
    let (feature, counted) = (chance.pick(&FEATURES), chance.pick(&COUNTED));
    match step {
        Step::Override => {
            let mode = chance.pick(&["replace", "stack"]);
            let allowed = mode == "stack" || !chance.one_in(4);
            let limit = if mode == "stack" { chance.below(20).to_string() } else { limit(chance) };
            let expires = if chance.one_in(3) { "null".to_owned() } else { soon(chance) };
            format!(
                "insert into secretaria.company_overrides
                   (company_id, feature, mode, allowed, limit_value, soft, value, expires_at, reason)
                 values ({company}, '{feature}', '{mode}', {allowed}, {limit}, {}, null, {expires}, 'test')
                 on conflict (company_id, feature) do update
                 set mode = excluded.mode, allowed = excluded.allowed, limit_value = excluded.limit_value,
                   soft = excluded.soft, expires_at = excluded.expires_at",
                chance.one_in(3)
            )
        }
        Step::EndOverride => format!("delete from secretaria.company_overrides where company_id = {company}"),
        Step::Flag => format!(
            "insert into secretaria.feature_flags (company_id, feature, enabled)
             values ({company}, '{feature}', {}) on conflict (company_id, feature) do update
             set enabled = excluded.enabled",
            chance.one_in(2)
        ),
        Step::EndFlag => format!("delete from secretaria.feature_flags where company_id = {company}"),
        Step::Grant => format!(
            "select secretaria_reference.grant_credits({company}, '{counted}', {}, expires_at => {})",
            1 + chance.below(15),
            if chance.one_in(3) { "null".to_owned() } else { soon(chance) }
        ),
        _ => format!(
            "select secretaria_reference.void_grant({company}, grant_id) from (
               select grant_id from secretaria.usage_grants where company_id = {company} and voided_at is null
               order by created_at, grant_id limit 1) g"
        ),
    }
}

/// Mostly back to the real time; sometimes to where a row ends, or days away.
fn clock(company: u64, chance: &mut Chance) -> String {
    let hours = chance.pick(&[-900_i64, -30, -1, 1, 30, 900]);
    let edge = chance.pick(&["valid_until", "period_end", "period_start"]);
    let instant = match chance.below(6) {
        0 => format!("clock_timestamp() + interval '{hours} hours'"),
        1 => format!(
            "(select max({edge}) from secretaria.feature_usage where company_id = {company} and isfinite({edge}))"
        ),
        _ => "null".to_owned(),
    };
    format!("select set_config('secretaria.test_now', coalesce(({instant})::text, ''), false)")
}

fn of_usage(step: Step, company: u64, chance: &mut Chance) -> String {
    let feature = chance.pick(&COUNTED);
    let key = if chance.one_in(2) { "null".to_owned() } else { format!("'key {}'", chance.below(400)) };
    let amount = chance.below(8);
    let call = match step {
        Step::Increment => {
            let on_exceed = chance.pick(&["reject", "reject", "cap", "allow"]);
            format!("increment_feature_usage({company}, '{feature}', {amount}, {key}, null, '{on_exceed}')")
        }
        Step::LateIncrement => {
            let late = format!("clock_timestamp() - interval '{} days'", chance.below(34));
            format!("increment_feature_usage({company}, '{feature}', {amount}, {key}, {late})")
        }
        Step::BulkIncrement => format!(
            "increment_feature_usage_bulk(array[{company}, {}]::bigint[], array['{feature}', '{feature}'],
               array[{amount}, 1]::bigint[], array[{key}, null]::text[], array[null, null]::timestamptz[])",
            1 + chance.below(COMPANIES)
        ),
        Step::Facts => format!(
            "record_message_facts_bulk(array[{company}, {company}], array['message_out', 'message_in'],
               array['fact {}', 'fact {}'], array[now(), clock_timestamp()])",
            chance.below(2_000),
            chance.below(2_000)
        ),
        Step::Reserve => format!(
            "reserve_feature_usage({company}, '{feature}', {}, '{}', {key})",
            1 + amount,
            chance.pick(&["30 ms", "1 s", "1 hour"])
        ),
        Step::Expire => "expire_reservations(50)".to_owned(),
        Step::Correct => {
            format!("adjust_feature_usage({company}, '{feature}', {}, null, 'test')", amount as i64 - 5)
        }
        Step::SetUsage => format!("set_feature_usage({company}, '{feature}', {}, 'test')", chance.below(30)),
        _ => {
            let end = if step == Step::Settle { "commit_reservation" } else { "release_reservation" };
            let actual = if step == Step::Settle && chance.one_in(2) { format!(", {amount}") } else { String::new() };
            return format!(
                "select secretaria_reference.{end}({company}, reservation_id{actual}) from (
                   select reservation_id from secretaria.usage_reservations
                   where company_id = {company} and state = 'held' order by created_at desc, reservation_id limit 1) r"
            );
        }
    };
    format!("select * from secretaria_reference.{call}")
}
