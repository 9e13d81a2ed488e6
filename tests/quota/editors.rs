//! Editors at work at once, of any kind: what is stored in the end is what resolving says.

use tokio_postgres::Client;

use crate::support::{Database, assert_entitlements_verify, company, record, refused, starter, subscribe, subscribed};

async fn run(client: &Client, statement: &str) {
    client.batch_execute(statement).await.unwrap_or_else(|it| panic!("{statement}: {it:?}"));
}

/// Waits until a session waits for a lock.
async fn blocked(client: &Client, session: i32) {
    let waits = "select exists (select from pg_locks where pid = $1 and not granted)";
    while !client.query_one(waits, &[&session]).await.unwrap().get::<_, bool>(0) {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

async fn session(client: &Client) -> i32 {
    client.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0)
}

/// Lets two edits overlap: the first is made and held, the second waits for it, and the first is committed.
async fn overlap(database: &Database, first: &str, second: &str) {
    let (one, other) = (database.connect().await, database.connect().await);
    let waiting = session(&other).await;
    run(&one, "begin").await;
    run(&one, first).await;
    let second = second.to_owned();
    let second = platform::task::spawn("editor", async move { run(&other, &second).await });
    blocked(&one, waiting).await;
    run(&one, "commit").await;
    second.await.unwrap();
}

#[tokio::test]
async fn the_second_of_two_edits_sees_the_first() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let company = subscribed(&client).await;
    let limit = format!(
        "insert into secretaria.company_overrides (company_id, feature, limit_value, reason)
        values ({company}, 'agents', 50, 'test')"
    );
    let switch = format!("insert into secretaria.feature_flags values ({company}, 'reminders', false)");
    overlap(&database, &limit, &switch).await;
    let both = format!(
        "select a.limit_value, b.reason
        from check_feature_access({company}, 'agents') a, check_feature_access({company}, 'reminders') b"
    );
    assert_eq!(record(&client, &both).await, "(50,feature_disabled)");
    assert_entitlements_verify(&client).await;

    let archive = "update secretaria.features_catalog set status = 'archived' where feature = 'ai_tokens'";
    overlap(&database, archive, "delete from secretaria.company_overrides").await;
    assert_entitlements_verify(&client).await;
    let suspend = "update secretaria.subscriptions set status = 'suspended'";
    let policy = "update secretaria.subscription_policies set allows = true where status = 'suspended'";
    overlap(&database, suspend, policy).await;
    assert_eq!(record(&client, &both).await, "(3,feature_disabled)");
    assert_entitlements_verify(&client).await;
}

#[tokio::test]
async fn the_first_two_edits_of_a_company_see_each_other_too() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let company = company(&client).await;
    // As if it had been there before there were rows.
    run(&client, "delete from secretaria.feature_usage").await;
    run(&client, "delete from secretaria.entitlement_epochs").await;
    let version = starter(&client).await;
    let one = database.connect().await;
    run(&one, "begin").await;
    subscribe(&one, company, version).await;
    let other = database.connect().await;
    let waiting = session(&other).await;
    let switch = format!("insert into secretaria.feature_flags values ({company}, 'reminders', false)");
    let second = platform::task::spawn("editor", async move { run(&other, &switch).await });
    blocked(&client, waiting).await;
    run(&one, "commit").await;
    second.await.unwrap();
    let agents = format!("select limit_value from check_feature_access({company}, 'agents')");
    assert_eq!(record(&client, &agents).await, "(3)");
    assert_entitlements_verify(&client).await;
}

#[tokio::test]
async fn an_edit_from_an_old_snapshot_is_to_be_tried_again() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let company = subscribed(&client).await;
    let old = database.connect().await;
    for level in ["repeatable read", "serializable"] {
        run(&old, &format!("begin isolation level {level}; select 1 from secretaria.companies")).await;
        run(&client, "update secretaria.subscriptions set updated_at = now()").await;
        let switch = format!(
            "insert into secretaria.feature_flags values ({company}, 'reminders', false)
            on conflict (company_id, feature) do update set enabled = excluded.enabled"
        );
        assert_eq!(refused(&old, &switch, &[]).await, "40001", "{level}");
        run(&old, "rollback").await;
        run(&old, &format!("begin isolation level {level}; {switch}; commit")).await;
        assert_entitlements_verify(&client).await;
    }
}

/// What an editor does in one round.
fn edit(company: i64, editor: usize, round: usize) -> String {
    let feature = ["agents", "whatsapp_messages", "ai_tokens", "reminders"][(editor + round) % 4];
    let amount = 10 * editor + round;
    match (editor + 3 * round) % 6 {
        0 => format!(
            "insert into secretaria.company_overrides (company_id, feature, mode, limit_value, reason)
            values ({company}, '{feature}', '{}', {amount}, 'test') on conflict (company_id, feature)
            do update set mode = excluded.mode, limit_value = excluded.limit_value",
            ["replace", "stack"][round % 2]
        ),
        1 => format!("delete from secretaria.company_overrides where company_id = {company} and feature = '{feature}'"),
        2 => format!(
            "insert into secretaria.feature_flags values ({company}, '{feature}', {}) on conflict (company_id, feature)
            do update set enabled = excluded.enabled",
            round.is_multiple_of(2)
        ),
        3 => format!(
            "update secretaria.subscriptions set status = '{}' where company_id = {company}",
            ["active", "suspended", "canceled", "active"][(editor + round) % 4]
        ),
        4 => format!(
            "insert into secretaria.usage_grants (company_id, feature, amount, effective_at)
            values ({company}, '{feature}', {}, now())",
            amount + 1
        ),
        _ if editor % 8 == 5 => format!(
            "update secretaria.features_catalog set status = '{}' where feature = 'reminders'",
            ["active", "disabled"][round % 2]
        ),
        _ => format!(
            "update secretaria.usage_grants set voided_at = now() where company_id = {company} and amount % 7 = {}",
            round % 7
        ),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn thirty_two_editors_leave_what_resolving_says() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    let company = subscribed(&client).await;
    subscribed(&client).await;
    let mut editors = Vec::new();
    for _ in 0..32 {
        editors.push(database.connect().await);
    }
    // In every round all edit at once, so that there are as many last edits as rounds.
    for round in 0..12 {
        let mut edits = Vec::new();
        for (editor, client) in editors.drain(..).enumerate() {
            edits.push(platform::task::spawn("editor", async move {
                retried(&client, &edit(company, editor, round)).await;
                client
            }));
        }
        for edit in edits {
            editors.push(edit.await.unwrap());
        }
        assert_entitlements_verify(&client).await;
    }
    let epoch = format!("select epoch > 200 from secretaria.entitlement_epochs where company_id = {company}");
    assert_eq!(record(&client, &epoch).await, "(t)", "they have edited nothing");
}

/// A deadlock and a lost race are to be tried again; nothing else is forgiven.
async fn retried(client: &Client, statement: &str) {
    for _ in 0..100 {
        let Err(problem) = client.batch_execute(statement).await else { return };
        let code = problem.code().unwrap_or_else(|| panic!("{problem}")).code();
        assert!(["40P01", "40001"].contains(&code), "{statement}: {problem:?}");
    }
    panic!("a hundred times in vain: {statement}");
}
