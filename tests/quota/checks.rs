//! What the checks answer, to which caller, and when. Asking writes nothing.

use tokio_postgres::Client;

use crate::support::{Database, at, company, plan, record, records, refused, starter, subscribe, subscribed};

/// The figures of a check: allowed, reason, limit, used, reserved, remaining, overage, soft.
async fn figures(client: &Client, company: i64, feature: &str, required: i64) -> String {
    let query = format!(
        "select allowed, reason, limit_value, used, reserved, remaining, overage, soft_limit
        from check_feature_access({company}, '{feature}', {required})"
    );
    record(client, &query).await
}

async fn set_used(client: &Client, company: i64, feature: &str, used: i64, reserved: i64) {
    let update = "update secretaria.feature_usage
        set used = $3, reserved = $4,
          ceiling = greatest(ceiling, case when ceiling is not null then $3::bigint + $4::bigint end)
        where company_id = $1 and feature = $2";
    assert_eq!(client.execute(update, &[&company, &feature, &used, &reserved]).await.unwrap(), 1);
}

#[tokio::test]
async fn a_check_says_what_is_left_and_why_not() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let company = company(&client).await;
    let features =
        "('whatsapp_messages', 10, false, null), ('ai_tokens', 10, true, null), ('agents', null, false, null),
        ('ai_replies', null, false, null), ('support_level', null, false, '\"phone\"')";
    subscribe(&client, company, plan(&client, "small", features).await).await;
    set_used(&client, company, "whatsapp_messages", 6, 3).await;
    set_used(&client, company, "ai_tokens", 12, 0).await;
    set_used(&client, company, "agents", 7, 0).await;
    for (feature, required, answer) in [
        ("whatsapp_messages", 1, "(t,ok,10,6,3,1,0,f)"),
        ("whatsapp_messages", 2, "(f,usage_limit_reached,10,6,3,1,0,f)"),
        ("whatsapp_messages", 0, "(t,ok,10,6,3,1,0,f)"),
        ("whatsapp_messages", i64::MAX, "(f,usage_limit_reached,10,6,3,1,0,f)"),
        ("ai_tokens", 1, "(t,soft_limit_exceeded,10,12,0,0,2,t)"),
        ("ai_tokens", 0, "(t,ok,10,12,0,0,2,t)"),
        ("agents", i64::MAX, "(t,ok,,7,0,,0,f)"),
        ("ai_replies", 1, "(t,ok,,,,,,f)"),
        ("support_level", 1, "(t,ok,,,,,,f)"),
        ("reminders", 1, "(f,feature_unavailable,,,,,,f)"),
        ("data_export", 1, "(t,ok,,,,,,f)"),
        ("no_such_thing", 1, "(f,feature_not_found,,,,,,f)"),
    ] {
        assert_eq!(figures(&client, company, feature, required).await, answer, "{feature} {required}");
    }
    // Lowered below what is used: nothing breaks, nothing more is accepted.
    set_used(&client, company, "whatsapp_messages", 12, 0).await;
    assert_eq!(figures(&client, company, "whatsapp_messages", 0).await, "(t,ok,10,12,0,0,2,f)");
    assert_eq!(figures(&client, company, "whatsapp_messages", 1).await, "(f,usage_limit_reached,10,12,0,0,2,f)");
}

#[tokio::test]
async fn a_check_answers_one_row_with_the_columns_in_their_order() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let company = subscribed(&client).await;
    at(&client, "2026-02-10 00:00Z").await;
    client.execute("select secretaria_reference._materialise($1)", &[&company]).await.unwrap();
    let query = format!("select * from check_feature_access({company}, 'whatsapp_messages')");
    let expected = "(t,ok,metered,2000,0,0,2000,0,f,\"2026-01-31 13:00:00+00\",\"2026-02-28 13:00:00+00\",plan,\
        \"2026-02-10 00:00:00+00\")";
    assert_eq!(record(&client, &query).await, expected);
    let columns = client.prepare(&query).await.unwrap();
    let names: Vec<_> = columns.columns().iter().map(|it| it.name()).collect();
    let expected = "allowed reason feature_kind limit_value used reserved remaining overage soft_limit period_start \
        period_end source checked_at";
    assert_eq!(names.join(" "), expected);
    for listing in [format!("entitlements({company})"), format!("check_feature_access_many({company}, '{{}}')")] {
        let columns = client.prepare(&format!("select * from {listing}")).await.unwrap();
        let names: Vec<_> = columns.columns().iter().map(|it| it.name()).collect();
        assert_eq!(names.join(" "), format!("feature {expected}"), "{listing}");
    }
}

#[tokio::test]
async fn what_is_missing_or_negative_is_refused_by_its_code() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    for (call, code) in [
        ("check_feature_access(null, 'agents')", "22004"),
        ("check_feature_access(1, null)", "22004"),
        ("check_feature_access(1, 'agents', null)", "22004"),
        ("check_feature_access(1, 'agents', -1)", "22023"),
        ("has_feature(null, 'agents')", "22004"),
        ("has_feature(1, null)", "22004"),
        ("check_feature_access_many(null, '{agents}')", "22004"),
        ("check_feature_access_many(1, null)", "22004"),
        ("check_feature_access_many(1, '{agents,null}')", "22004"),
        ("entitlements(null)", "22004"),
        ("get_static_entitlement(null, 'agents')", "22004"),
        ("get_static_entitlement(1, null)", "22004"),
        ("secretaria_reference._authorise(null, 'read')", "22004"),
        ("secretaria_reference._authorise(1, 'dance')", "22023"),
    ] {
        assert_eq!(refused(&client, &format!("select {call}"), &[]).await, code, "{call}");
    }
}

#[tokio::test]
async fn an_unknown_company_has_no_subscription() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    assert_eq!(figures(&client, 404, "agents", 1).await, "(f,no_subscription,,0,0,0,0,f)");
    assert_eq!(figures(&client, 404, "data_export", 1).await, "(t,ok,,,,,,f)");
    assert_eq!(figures(&client, 404, "no_such_thing", 1).await, "(f,feature_not_found,,,,,,f)");
    assert_eq!(
        records(&client, "select company_id from secretaria.feature_usage where company_id = 404").await.len(),
        0
    );
}

#[tokio::test]
async fn another_company_is_refused_and_has_nothing() {
    let Some(database) = Database::create().await else { return };
    let admin = database.connect().await;
    let (own, other) = (subscribed(&admin).await, subscribed(&admin).await);
    let insert = "insert into secretaria.company_roles (company_id, role_name) values ($1, 'secretaria_analyst')";
    let api = database.connect_as("secretaria_api").await;
    // Who named no company has none.
    assert_eq!(record(&api, &format!("select has_feature({own}, 'agents')")).await, "(f)");
    api.batch_execute(&format!("set app.company_id = {own}")).await.unwrap();
    let role = database.connect().await;
    role.batch_execute("set role secretaria_analyst").await.unwrap();
    // Until the role is a company's, it may ask for none; and the setting is not for it.
    role.batch_execute(&format!("set app.company_id = {own}")).await.unwrap();
    assert_eq!(record(&role, &format!("select has_feature({own}, 'agents')")).await, "(f)");
    admin.execute(insert, &[&own]).await.unwrap();
    role.batch_execute(&format!("set app.company_id = {other}")).await.unwrap();
    for asking in [&api, &role] {
        assert_eq!(record(asking, &format!("select has_feature({own}, 'agents')")).await, "(t)");
        assert_eq!(record(asking, &format!("select has_feature({other}, 'agents')")).await, "(f)");
        assert_eq!(records(asking, &format!("select * from entitlements({own})")).await.len(), 8);
        assert!(figures(asking, own, "agents", 1).await.starts_with("(t,ok,3,"));
        for call in [
            format!("check_feature_access({other}, 'agents')"),
            format!("check_feature_access_many({other}, '{{agents}}')"),
            format!("entitlements({other})"),
            format!("get_static_entitlement({other}, 'support_level')"),
            format!("verify_entitlements({other})"),
            "verify_entitlements()".to_owned(),
            format!("secretaria_reference._materialise({own})"),
            format!("secretaria_reference._check({other}, 'agents', 1, null)"),
            format!("secretaria_reference._resolve({other}, now())"),
        ] {
            assert_eq!(refused(asking, &format!("select {call}"), &[]).await, "42501", "{call}");
        }
    }
    for everybody in ["secretaria_service", "secretaria_operator"] {
        let client = database.connect_as(everybody).await;
        assert_eq!(record(&client, &format!("select has_feature({other}, 'agents')")).await, "(t)");
        assert_eq!(records(&client, "select * from verify_entitlements()").await.len(), 0);
    }
}

#[tokio::test]
async fn only_a_superuser_moves_the_clock() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let company = subscribed(&client).await;
    let asked = format!("select checked_at from check_feature_access({company}, 'agents')");
    at(&client, "2030-01-01 00:00Z").await;
    assert_eq!(record(&client, &asked).await, "(\"2030-01-01 00:00:00+00\")");
    client.batch_execute("set role secretaria_service").await.unwrap();
    let is_now = format!("select checked_at = statement_timestamp() from check_feature_access({company}, 'agents')");
    assert_eq!(record(&client, &is_now).await, "(t)");
    client.batch_execute("reset role").await.unwrap();
    at(&client, "").await;
    assert_eq!(record(&client, &is_now).await, "(t)");
}

#[tokio::test]
async fn a_trial_and_a_grace_end_by_the_clock_alone() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let company = subscribed(&client).await;
    at(&client, "2026-03-01 00:00Z").await;
    let update = "update secretaria.subscriptions set status = 'trialing', trial_ends_at = '2026-03-15 00:00Z'";
    client.batch_execute(update).await.unwrap();
    let asked = format!("select allowed, reason, source from check_feature_access({company}, 'agents')");
    let always = format!("select has_feature({company}, 'data_export')");
    assert_eq!(record(&client, &asked).await, "(t,ok,plan)");
    at(&client, "2026-03-14 23:59:59.999999Z").await;
    assert_eq!(record(&client, &asked).await, "(t,ok,plan)");
    at(&client, "2026-03-15 00:00Z").await;
    assert_eq!(record(&client, &asked).await, "(f,trial_expired,subscription)");
    assert_eq!(record(&client, &always).await, "(t)");

    // Late with the bill: with a grace to its end, without one not at all.
    let update = "update secretaria.subscriptions set status = 'past_due', grace_until = '2026-03-20 00:00Z'";
    client.batch_execute(update).await.unwrap();
    assert_eq!(record(&client, &asked).await, "(t,ok,plan)");
    at(&client, "2026-03-20 00:00Z").await;
    assert_eq!(record(&client, &asked).await, "(f,subscription_inactive,subscription)");
    assert_eq!(record(&client, &always).await, "(t)");
    client.batch_execute("update secretaria.subscriptions set grace_until = null").await.unwrap();
    at(&client, "2026-03-16 00:00Z").await;
    assert_eq!(record(&client, &asked).await, "(f,subscription_inactive,subscription)");
    // A check may be asked for another instant than now.
    client.batch_execute("update secretaria.subscriptions set grace_until = '2026-03-20 00:00Z'").await.unwrap();
    let later = format!(
        "select a.allowed, b.allowed from check_feature_access({company}, 'agents', 1, '2026-03-19 00:00Z') a,
        check_feature_access({company}, 'agents', 1, '2026-03-21 00:00Z') b"
    );
    assert_eq!(record(&client, &later).await, "(t,f)");
}

#[tokio::test]
async fn a_period_that_is_over_is_answered_with_the_next_and_not_written() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    at(&client, "2026-02-10 00:00Z").await;
    let company = subscribed(&client).await;
    set_used(&client, company, "whatsapp_messages", 2000, 0).await;
    set_used(&client, company, "agents", 3, 0).await;
    let asked = format!(
        "select allowed, reason, used, remaining, period_start, period_end
        from check_feature_access({company}, 'whatsapp_messages')"
    );
    let full = "(f,usage_limit_reached,2000,0,\"2026-01-31 13:00:00+00\",\"2026-02-28 13:00:00+00\")";
    assert_eq!(record(&client, &asked).await, full);
    at(&client, "2026-02-28 13:00Z").await;
    let next = "(t,ok,0,2000,\"2026-02-28 13:00:00+00\",\"2026-03-31 13:00:00+00\")";
    assert_eq!(record(&client, &asked).await, next);
    // What never resets is still full.
    assert_eq!(record(&client, &format!("select has_feature({company}, 'agents')")).await, "(f)");
    let stored = "select used, period_start from secretaria.feature_usage where feature = 'whatsapp_messages'";
    assert_eq!(record(&client, stored).await, "(2000,\"2026-01-31 13:00:00+00\")");
    assert_eq!(records(&client, "select * from verify_entitlements()").await.len(), 0);
}

#[tokio::test]
async fn many_are_answered_in_the_order_asked() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let company = subscribed(&client).await;
    let many = format!(
        "select feature, allowed, reason
        from check_feature_access_many({company}, '{{reminders,nothing,agents,analytics_export,agents}}')"
    );
    let expected = [
        "(reminders,t,ok)",
        "(nothing,f,feature_not_found)",
        "(agents,t,ok)",
        "(analytics_export,f,feature_unavailable)",
        "(agents,t,ok)",
    ];
    assert_eq!(records(&client, &many).await, expected);
    let all = records(&client, &format!("select feature from entitlements({company})")).await;
    let catalogue = records(&client, "select feature from secretaria.features_catalog order by feature").await;
    assert_eq!(all, catalogue);
    let said = format!(
        "select get_static_entitlement({company}, 'support_level'), get_static_entitlement({company}, 'agents'),
        get_static_entitlement({company}, 'nothing')"
    );
    assert_eq!(record(&client, &said).await, r#"("""e-mail""",,)"#);
}

#[tokio::test]
async fn a_trigger_and_a_policy_hold_rows_to_a_feature() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let company = company(&client).await;
    client
        .batch_execute(
            "create table public.reports (company bigint, report text);
            create trigger paid_for before insert on public.reports
            for each row execute function require_feature('reminders', 'company');
            create trigger badly_made before update on public.reports
            for each row execute function require_feature('reminders', 'nothing');
            alter table public.reports enable row level security;
            create policy paid_for on public.reports using (has_feature(company, 'reminders'));
            grant select, insert, update on public.reports to secretaria_api",
        )
        .await
        .unwrap();
    let insert = "insert into public.reports values ($1, 'a report')";
    let problem = client.execute(insert, &[&company]).await.unwrap_err();
    let problem = problem.as_db_error().unwrap();
    assert_eq!(problem.code().code(), "42501");
    assert_eq!(problem.message(), "feature reminders is not allowed: no_subscription");
    subscribe(&client, company, starter(&client).await).await;
    client.execute(insert, &[&company]).await.unwrap();
    assert_eq!(refused(&client, "update public.reports set report = ''", &[]).await, "22023");
    assert_eq!(refused(&client, "insert into public.reports values (null)", &[]).await, "22004");

    let other = subscribed(&client).await;
    client.execute(insert, &[&other]).await.unwrap();
    let api = database.connect_as("secretaria_api").await;
    api.batch_execute(&format!("set app.company_id = {company}")).await.unwrap();
    assert_eq!(records(&api, "select company from public.reports").await, [format!("({company})")]);
    client.batch_execute("update secretaria.subscriptions set status = 'suspended'").await.unwrap();
    assert_eq!(records(&api, "select company from public.reports").await.len(), 0);
}
