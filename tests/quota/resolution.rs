//! How a right is resolved, and that what is stored is what resolving says.

use tokio_postgres::Client;

use crate::support::{
    Database, assert_entitlements_verify, at, company, plan, record, records, refused, starter, subscribe, subscribed,
};

/// The stored decision: allowed, limit, reason, source.
async fn stored(client: &Client, company: i64, feature: &str) -> String {
    let query = format!(
        "select allowed, limit_value, reason, source from secretaria.feature_usage
        where company_id = {company} and feature = '{feature}' and slot = 0"
    );
    record(client, &query).await
}

async fn run(client: &Client, statement: &str) {
    client.batch_execute(statement).await.unwrap_or_else(|it| panic!("{statement}: {it:?}"));
}

#[tokio::test]
async fn an_override_replaces_stacks_and_expires() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    at(&client, "2026-03-01 00:00Z").await;
    let company = subscribed(&client).await;
    let insert = "insert into secretaria.company_overrides
        (company_id, feature, mode, allowed, limit_value, expires_at, reason)";
    run(
        &client,
        &format!("{insert} values ({company}, 'agents', 'replace', true, 50, '2026-03-10 00:00Z', 'a favour')"),
    )
    .await;
    assert_eq!(stored(&client, company, "agents").await, "(t,50,ok,override)");
    run(&client, "update secretaria.company_overrides set mode = 'stack'").await;
    assert_eq!(stored(&client, company, "agents").await, "(t,53,ok,override)");
    // A plan without the feature has nothing to stack on; a plan without a limit stays without.
    run(&client, &format!("{insert} values ({company}, 'analytics_export', 'stack', true, 1, null, 'a favour')")).await;
    assert_eq!(stored(&client, company, "analytics_export").await, "(f,,feature_unavailable,plan)");
    run(&client, &format!("{insert} values ({company}, 'reminders', 'replace', false, null, null, 'abuse')")).await;
    assert_eq!(stored(&client, company, "reminders").await, "(f,,feature_unavailable,override)");
    run(&client, &format!("{insert} values ({company}, 'ai_tokens', 'replace', true, null, null, 'no limit')")).await;
    assert_eq!(stored(&client, company, "ai_tokens").await, "(t,,ok,override)");

    let asked = format!("select allowed, limit_value, source from check_feature_access({company}, 'agents')");
    at(&client, "2026-03-09 23:59Z").await;
    assert_eq!(record(&client, &asked).await, "(t,53,override)");
    at(&client, "2026-03-10 00:00Z").await;
    assert_eq!(record(&client, &asked).await, "(t,3,plan)");
    assert_entitlements_verify(&client).await;
    run(&client, "delete from secretaria.company_overrides").await;
    assert_eq!(stored(&client, company, "agents").await, "(t,3,ok,plan)");
    assert_entitlements_verify(&client).await;
}

#[tokio::test]
async fn a_plan_without_a_limit_stays_without_when_stacked() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let company = company(&client).await;
    subscribe(&client, company, plan(&client, "open", "('agents', null, false, null)").await).await;
    let insert = "insert into secretaria.company_overrides (company_id, feature, mode, limit_value, reason)";
    run(&client, &format!("{insert} values ({company}, 'agents', 'stack', 5, 'a favour')")).await;
    assert_eq!(stored(&client, company, "agents").await, "(t,,ok,override)");
}

#[tokio::test]
async fn a_switch_is_stronger_than_the_plan_and_the_catalogue_than_both() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let (one, other) = (subscribed(&client).await, subscribed(&client).await);
    run(
        &client,
        &format!("insert into secretaria.feature_flags values ({one}, 'data_export', false), ({one}, 'agents', false)"),
    )
    .await;
    assert_eq!(stored(&client, one, "data_export").await, "(f,,feature_disabled,flag)");
    assert_eq!(stored(&client, one, "agents").await, "(f,,feature_disabled,flag)");
    assert_eq!(stored(&client, other, "agents").await, "(t,3,ok,plan)");
    run(&client, "update secretaria.feature_flags set enabled = true").await;
    assert_eq!(stored(&client, one, "agents").await, "(t,3,ok,plan)");

    run(&client, "update secretaria.features_catalog set status = 'disabled' where feature = 'agents'").await;
    assert_eq!(stored(&client, one, "agents").await, "(f,,feature_disabled,catalogue)");
    assert_eq!(stored(&client, other, "agents").await, "(f,,feature_disabled,catalogue)");
    run(&client, "insert into secretaria.features_catalog (feature, name, kind) values ('voice', 'Voice', 'boolean')")
        .await;
    assert_eq!(stored(&client, other, "voice").await, "(f,,feature_unavailable,plan)");
    assert_entitlements_verify(&client).await;
}

#[tokio::test]
async fn an_archived_feature_is_not_found_and_its_use_is_kept() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let (used, unused) = (subscribed(&client).await, subscribed(&client).await);
    run(
        &client,
        &format!("update secretaria.feature_usage set used = 2 where feature = 'agents' and company_id = {used}"),
    )
    .await;
    run(&client, "update secretaria.features_catalog set status = 'archived' where feature = 'agents'").await;
    for company in [used, unused] {
        let asked = format!("select allowed, reason from check_feature_access({company}, 'agents')");
        assert_eq!(record(&client, &asked).await, "(f,feature_not_found)");
        assert_eq!(records(&client, &format!("select * from entitlements({company})")).await.len(), 7);
    }
    let left = records(&client, "select company_id, used from secretaria.feature_usage where feature = 'agents'").await;
    assert_eq!(left, [format!("({used},2)")]);
    assert_entitlements_verify(&client).await;
    run(&client, "update secretaria.features_catalog set status = 'active' where feature = 'agents'").await;
    let back = format!("select used, limit_value from check_feature_access({used}, 'agents')");
    assert_eq!(record(&client, &back).await, "(2,3)");
    assert_eq!(stored(&client, unused, "agents").await, "(t,3,ok,plan)");
    assert_entitlements_verify(&client).await;
}

#[tokio::test]
async fn a_published_version_never_changes() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let version = starter(&client).await;
    for statement in [
        "update secretaria.plan_features set limit_value = 4 where feature = 'agents'".to_owned(),
        "delete from secretaria.plan_features where feature = 'agents'".to_owned(),
        format!(
            "insert into secretaria.plan_features (plan_version_id, feature) values ({version}, 'analytics_export')"
        ),
        format!("update secretaria.plan_versions set price_minor = 1 where plan_version_id = {version}"),
        format!(
            "update secretaria.plan_versions set state = 'draft', published_at = null where plan_version_id = {version}"
        ),
    ] {
        assert_eq!(refused(&client, &statement, &[]).await, "55000", "{statement}");
    }
}

#[tokio::test]
async fn a_draft_that_is_subscribed_to_is_resolved_as_it_is_written() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let company = company(&client).await;
    let draft = "with p as (insert into secretaria.plans (code, name) values ('draft', 'Draft') returning plan_id)
        insert into secretaria.plan_versions (plan_id, version) select plan_id, 1 from p returning plan_version_id";
    let draft: i64 = client.query_one(draft, &[]).await.unwrap().get(0);
    subscribe(&client, company, draft).await;
    assert_eq!(stored(&client, company, "agents").await, "(f,,feature_unavailable,plan)");
    run(
        &client,
        &format!(
            "insert into secretaria.plan_features (plan_version_id, feature, limit_value) values ({draft}, 'agents', 9)"
        ),
    )
    .await;
    assert_eq!(stored(&client, company, "agents").await, "(t,9,ok,plan)");
    run(&client, &format!("update secretaria.plan_features set limit_value = 8 where plan_version_id = {draft}")).await;
    assert_eq!(stored(&client, company, "agents").await, "(t,8,ok,plan)");
    run(&client, &format!("delete from secretaria.plan_features where plan_version_id = {draft}")).await;
    assert_eq!(stored(&client, company, "agents").await, "(f,,feature_unavailable,plan)");
    assert_entitlements_verify(&client).await;
}

#[tokio::test]
async fn what_is_due_changes_the_plan_and_ends_the_subscription() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    at(&client, "2026-03-01 00:00Z").await;
    let company = subscribed(&client).await;
    let bigger = plan(&client, "bigger", "('agents', 30, false, null), ('analytics_export', null, false, null)").await;
    run(
        &client,
        &format!(
            "update secretaria.subscriptions set next_plan_version_id = {bigger}, next_change_at = '2026-03-31 13:00Z',
            cancel_at = '2026-04-30 13:00Z'"
        ),
    )
    .await;
    let asked = format!("select allowed, reason, limit_value from check_feature_access({company}, 'agents')");
    for (instant, answer) in [
        ("2026-03-31 12:59Z", "(t,ok,3)"),
        ("2026-03-31 13:00Z", "(t,ok,30)"),
        ("2026-04-30 12:59Z", "(t,ok,30)"),
        ("2026-04-30 13:00Z", "(f,subscription_inactive,)"),
    ] {
        at(&client, instant).await;
        assert_eq!(record(&client, &asked).await, answer, "{instant}");
        // It is the same whether the row was stored before or is stored now.
        assert_entitlements_verify(&client).await;
        run(&client, &format!("select secretaria_reference._materialise({company})")).await;
        assert_eq!(record(&client, &asked).await, answer, "{instant}, stored");
        assert_entitlements_verify(&client).await;
    }
}

#[tokio::test]
async fn what_a_status_allows_is_a_row_and_not_code() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let company = subscribed(&client).await;
    run(&client, "update secretaria.subscriptions set status = 'suspended'").await;
    assert_eq!(stored(&client, company, "agents").await, "(f,,subscription_inactive,subscription)");
    assert_eq!(stored(&client, company, "data_export").await, "(t,,ok,catalogue)");
    run(&client, "update secretaria.subscription_policies set allows = true where status = 'suspended'").await;
    assert_eq!(stored(&client, company, "agents").await, "(t,3,ok,plan)");
    run(&client, "update secretaria.subscriptions set ended_at = now()").await;
    assert_eq!(stored(&client, company, "agents").await, "(f,,no_subscription,subscription)");
    assert_entitlements_verify(&client).await;
}

#[tokio::test]
async fn credits_come_on_top_while_they_hold() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    at(&client, "2026-03-01 00:00Z").await;
    let company = subscribed(&client).await;
    let grant = format!(
        "insert into secretaria.usage_grants (company_id, feature, amount, effective_at, expires_at)
        values ({company}, 'whatsapp_messages',"
    );
    run(&client, &format!("{grant} 100, '2026-02-01 00:00Z', null)")).await;
    run(&client, &format!("{grant} 50, '2026-03-05 00:00Z', '2026-03-10 00:00Z')")).await;
    let asked = format!("select limit_value, remaining from check_feature_access({company}, 'whatsapp_messages')");
    for (instant, answer) in [
        ("2026-03-01 00:00Z", "(2100,2100)"),
        ("2026-03-05 00:00Z", "(2150,2150)"),
        ("2026-03-10 00:00Z", "(2100,2100)"),
    ] {
        at(&client, instant).await;
        assert_eq!(record(&client, &asked).await, answer, "{instant}");
        assert_entitlements_verify(&client).await;
    }
    // What this period took from a grant stays part of its limit, so that it is no overage.
    run(&client, &format!("select secretaria_reference._materialise({company})")).await;
    run(&client, "update secretaria.feature_usage set used = 2030 where feature = 'whatsapp_messages'").await;
    run(&client, "update secretaria.usage_grants set consumed = 30 where expires_at is null").await;
    let taken = "insert into secretaria.usage_grant_takings (company_id, grant_id, period_start, amount)
        select g.company_id, g.grant_id, u.period_start, g.consumed
        from secretaria.usage_grants g join secretaria.feature_usage u using (company_id, feature)
        where g.consumed > 0";
    run(&client, taken).await;
    assert_eq!(record(&client, &asked).await, "(2100,70)");
    assert_entitlements_verify(&client).await;
    // In the next period there is what was left.
    at(&client, "2026-03-31 13:00Z").await;
    assert_eq!(record(&client, &asked).await, "(2070,2070)");
    at(&client, "2026-03-12 00:00Z").await;
    run(&client, "update secretaria.usage_grants set voided_at = '2026-03-12 00:00Z'").await;
    assert_eq!(record(&client, &asked).await, "(2030,0)");
    assert_entitlements_verify(&client).await;
}

#[tokio::test]
async fn a_moved_period_closes_the_old_one_and_comes_back_where_it_stopped() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    at(&client, "2026-03-10 00:00Z").await;
    let company = subscribed(&client).await;
    let row = "select used, reserved, arming, fired_threshold, period_start from secretaria.feature_usage
        where feature = 'whatsapp_messages'";
    let closed = "select used, period_start from secretaria.feature_usage_periods where feature = 'whatsapp_messages'";
    let set = "update secretaria.feature_usage set used = 1700, reserved = 7, fired_threshold = 80
        where feature = 'whatsapp_messages'";
    run(&client, set).await;
    run(&client, "update secretaria.subscriptions set ended_at = '2026-03-10 00:00Z'").await;
    assert_eq!(record(&client, closed).await, "(1700,\"2026-02-28 13:00:00+00\")");
    assert_eq!(record(&client, row).await, "(0,0,2,0,-infinity)");
    subscribe(&client, company, starter(&client).await).await;
    assert_eq!(records(&client, closed).await.len(), 0);
    assert_eq!(record(&client, row).await, "(1700,0,3,80,\"2026-02-28 13:00:00+00\")");
    // Another month is another period.
    at(&client, "2026-04-01 00:00Z").await;
    run(&client, &format!("select secretaria_reference._materialise({company})")).await;
    assert_eq!(record(&client, closed).await, "(1700,\"2026-02-28 13:00:00+00\")");
    assert_eq!(record(&client, row).await, "(0,0,4,0,\"2026-03-31 13:00:00+00\")");
    assert_entitlements_verify(&client).await;
}

#[tokio::test]
async fn a_new_limit_arms_the_thresholds_it_leaves_ahead() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let company = subscribed(&client).await;
    run(
        &client,
        "update secretaria.feature_usage set used = 1700, fired_threshold = 80 where feature = 'whatsapp_messages'",
    )
    .await;
    let limit = |limit: i64| {
        format!(
            "insert into secretaria.company_overrides (company_id, feature, limit_value, reason)
            values ({company}, 'whatsapp_messages', {limit}, 'test') on conflict (company_id, feature)
            do update set limit_value = excluded.limit_value"
        )
    };
    let row = "select limit_value, ceiling, arming, fired_threshold from secretaria.feature_usage
        where feature = 'whatsapp_messages'";
    let before = record(&client, row).await;
    assert!(before.ends_with(",1,80)"), "{before}");
    for (new, expected) in [
        (10_000, "(10000,10000,2,0)"),
        (1_700, "(1700,1700,3,100)"),
        (1_000, "(1000,1700,4,100)"),
        (2_125, "(2125,2125,5,80)"),
    ] {
        run(&client, &limit(new)).await;
        assert_eq!(record(&client, row).await, expected);
    }
    // An edit that changes nothing arms nothing.
    run(&client, &limit(2_125)).await;
    assert_eq!(record(&client, row).await, "(2125,2125,5,80)");
    assert_entitlements_verify(&client).await;
}

#[tokio::test]
async fn verifying_finds_what_was_written_by_hand() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let company = subscribed(&client).await;
    run(&client, "update secretaria.feature_usage set limit_value = 4, ceiling = 4 where feature = 'agents'").await;
    run(&client, "delete from secretaria.feature_usage where feature = 'reminders'").await;
    let wrong = records(&client, "select feature, field, stored, resolved from verify_entitlements()").await;
    assert!(wrong.contains(&"(agents,limit_value,4,3)".to_owned()), "{wrong:?}");
    assert!(wrong.contains(&"(reminders,allowed,,true)".to_owned()), "{wrong:?}");
    assert!(wrong.iter().all(|it| it.contains("agents") || it.contains("reminders")), "{wrong:?}");
    assert_eq!(records(&client, &format!("select * from verify_entitlements({company})")).await.len(), wrong.len());
    assert_eq!(records(&client, "select * from verify_entitlements(0)").await.len(), 0);
}

#[tokio::test]
async fn the_catalogue_is_edited_at_read_committed_only() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    run(&client, "begin isolation level repeatable read").await;
    let statement = "update secretaria.features_catalog set status = 'disabled' where feature = 'agents'";
    assert_eq!(refused(&client, statement, &[]).await, "0A000");
}
