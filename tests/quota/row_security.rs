//! Row-level security of every table that holds rows of companies, partitions included.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::support::{Database, records, starter};

const PARTITIONS: i64 = 8;

#[tokio::test]
async fn every_table_with_a_company_forces_row_level_security() {
    let Some(database) = Database::create().await else { return };
    let owner = database.connect().await;
    let tables = "
        from pg_class c
        join pg_attribute a on a.attrelid = c.oid and a.attname = 'company_id' and not a.attisdropped
        where c.relkind in ('r', 'p') and c.relnamespace = 'secretaria'::regnamespace";
    let many: i64 = owner.query_one(&format!("select count(*) {tables}"), &[]).await.unwrap().get(0);
    assert!(many > 30, "the reader of tables has gone blind: {many} tables");
    let open = format!("select c.relname {tables} and not (c.relrowsecurity and c.relforcerowsecurity) order by 1");
    assert_eq!(records(&owner, &open).await, [""; 0]);
}

#[tokio::test]
async fn every_partition_has_the_policies_of_its_parent() {
    let Some(database) = Database::create().await else { return };
    let owner = database.connect().await;
    let sql = "
        with partitions as (
          select i.inhparent, i.inhrelid
          from pg_inherits i
          join pg_class c on c.oid = i.inhrelid
          where c.relkind in ('r', 'p') and c.relnamespace = 'secretaria'::regnamespace
        ),
        policies as (
          select p.polrelid, p.polname, p.polpermissive, p.polcmd, p.polroles::text,
            pg_get_expr(p.polqual, p.polrelid) as qual, pg_get_expr(p.polwithcheck, p.polrelid) as with_check
          from pg_policy p
        ),
        expected as (
          select t.inhrelid as polrelid, p.polname, p.polpermissive, p.polcmd, p.polroles, p.qual, p.with_check
          from partitions t
          join policies p on p.polrelid = t.inhparent
        ),
        found as (
          select p.*
          from policies p
          join partitions t on t.inhrelid = p.polrelid
        )
        (select 'missing', e.polrelid::regclass, e.polname from (table expected except table found) e)
        union all
        (select 'not of the parent', f.polrelid::regclass, f.polname from (table found except table expected) f)
        order by 2, 3";
    assert_eq!(records(&owner, sql).await, [""; 0]);
    let many = "select count(*) from pg_inherits where inhparent = 'usage_events'::regclass";
    assert_eq!(owner.query_one(many, &[]).await.unwrap().get::<_, i64>(0), PARTITIONS);
}

#[tokio::test]
async fn the_api_reads_no_partition_and_were_it_allowed_to_no_other_company() {
    let Some(database) = Database::create().await else { return };
    let owner = database.connect().await;
    let version = starter(&owner).await;
    // Enough companies for every partition to hold lines of several.
    let fill = format!(
        "insert into companies (company_id, domain, name) overriding system value
         select n, 'c' || n || '.test', 'A company' from generate_series(1001, 1100) n;
         select create_subscription(n, {version}) from generate_series(1001, 1100) n;
         select increment_feature_usage(n, 'whatsapp_messages', 7, 'first') from generate_series(1001, 1100) n"
    );
    owner.batch_execute(&fill).await.unwrap();
    let api = database.connect_as("secretaria_api").await;
    for partition in (0..PARTITIONS).map(|it| format!("secretaria.usage_events_{it}")) {
        let companies = format!("select distinct company_id from {partition} order by 1");
        let there = ids(&owner, &companies).await;
        assert!(there.len() > 1, "{partition} holds lines of {there:?}");

        let refused = api.batch_execute(&companies).await.unwrap_err();
        assert_eq!(refused.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{partition}");

        // As if it had been granted by mistake.
        owner.batch_execute(&format!("grant select on {partition} to secretaria_api")).await.unwrap();
        api.batch_execute("reset app.company_id").await.unwrap();
        assert_eq!(ids(&api, &companies).await, [0_i64; 0], "{partition} without a company");
        api.batch_execute(&format!("set app.company_id = '{}'", there[0])).await.unwrap();
        assert_eq!(ids(&api, &companies).await, [there[0]], "{partition} for one company");
    }
}

#[tokio::test]
async fn services_read_every_row_of_a_partition_as_before() {
    let Some(database) = Database::create().await else { return };
    let owner = database.connect().await;
    let version = starter(&owner).await;
    let fill = format!(
        "insert into companies (company_id, domain, name) overriding system value values (1001, 'c.test', 'A company');
         select create_subscription(1001, {version});
         select increment_feature_usage(1001, 'whatsapp_messages', 7, 'first')"
    );
    owner.batch_execute(&fill).await.unwrap();
    let here: String = owner.query_one("select tableoid::regclass::text from usage_events", &[]).await.unwrap().get(0);
    for role in ["secretaria_service", "secretaria_operator"] {
        let client = database.connect_as(role).await;
        let seen: i64 = client.query_one(&format!("select count(*) from {here}"), &[]).await.unwrap().get(0);
        assert_eq!(seen, 1, "{role}");
    }
}

async fn ids(client: &Client, query: &str) -> Vec<i64> {
    client.query(query, &[]).await.unwrap().iter().map(|it| it.get(0)).collect()
}
