//! What Postgres itself refuses to show, whatever the SQL says.

use platform::postgres::query;

use crate::database::Database;

const TABLES: [&str; 8] =
    ["companies", "contacts", "conversations", "turns", "messages", "deliveries", "delivery_attempts", "usage_totals"];

#[tokio::test]
async fn no_filter_shows_the_api_role_another_companys_rows() {
    let Some(database) = Database::create().await else { return };
    let ours = database.talking_company("a.example", 2).await;
    let theirs = database.talking_company("b.example", 3).await;
    let sql = "
        insert into delivery_attempts (company_id, delivery_id, attempt, of_round)
        select company_id, delivery_id, 1, 1
        from deliveries";
    database.root.execute(sql, &[]).await.unwrap();

    let mut client = database.pool("secretaria_api").get().await.unwrap();
    for table in TABLES {
        let count = |filter: &str| format!("select count(*) from {table} where {filter}");
        let theirs_exist = format!("company_id = {theirs}");
        let really: i64 = database.root.query_one(&count(&theirs_exist), &[]).await.unwrap().get(0);
        assert!(really > 0, "{table} has rows that must not be seen");

        let transaction = client.transaction().await.unwrap();
        query(&transaction, "select set_config('app.company_id', $1, true)", &[&ours.to_string()]).await.unwrap();
        for forged in [theirs_exist.as_str(), &format!("company_id = {ours} or true"), "company_id <> 0"] {
            let sql = format!("select company_id from {table} where {forged}");
            let seen = transaction.query(&sql, &[]).await.unwrap();
            assert!(seen.iter().all(|row| row.get::<_, i64>(0) == ours.0), "{table}: {forged}");
        }
        let own: i64 = transaction.query_one(&count("true"), &[]).await.unwrap().get(0);
        assert!(own > 0, "{table}: its own rows are seen");
        transaction.commit().await.unwrap();

        // The company was set for the transaction only: the same connection carries nothing over to the next user.
        let seen: i64 = client.query_one(&count("true"), &[]).await.unwrap().get(0);
        assert_eq!(seen, 0, "{table} without a company");
    }
    drop(client);
}

#[tokio::test]
async fn the_api_role_reads_no_secret_and_writes_nothing() {
    let Some(database) = Database::create().await else { return };
    let company = database.talking_company("a.example", 1).await;
    let client = database.pool("secretaria_api").get().await.unwrap();
    client.batch_execute(&format!("set app.company_id = '{company}'")).await.unwrap();
    for forbidden in [
        "select webhook_secret_sealed from companies",
        "select * from companies",
        "select * from channels",
        "select * from company_webhooks",
        "select * from webhook_deliveries",
        "select * from webhook_attempts",
        "select * from outbox",
        "select * from dead_letters",
        "select * from contact_aliases",
        "select * from usage_events",
        "update companies set name = 'x'",
        "insert into usage_totals values (1, 'message_in', '', now(), 1)",
        "delete from messages",
        "set role secretaria_service",
    ] {
        let refused = client.batch_execute(forbidden).await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "42501", "{forbidden}");
    }
    drop(client);
}
