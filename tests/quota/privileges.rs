//! Who may call a function stands in one table, and a function that is not in it stops `secretaria migrate`.

use secretaria::commands::functions;
use tokio_postgres::Client;

use crate::support::{Database, records};

/// The table, and what applies it.
const PRIVILEGES: &str = include_str!("../../sql/functions/99_privileges.sql");

/// Every function of the schema with its owner and everybody else who may execute it.
const GRANTED: &str = "
select p.proname, p.proowner::regrole,
  array_remove(array_agg(case e.grantee when 0 then 'public' else e.grantee::regrole::text end order by e.grantee),
    p.proowner::regrole::text)
from pg_proc p
cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) e
where p.pronamespace = 'secretaria_reference'::regnamespace
group by p.oid
order by p.proname";

/// Replaces the functions; all that is said of why that failed.
async fn refusal(client: &mut Client) -> String {
    format!("{:?}", functions::apply(client).await.expect_err("it is refused"))
}

#[tokio::test]
async fn a_function_without_a_row_stops_the_migration_and_is_named() {
    let Some(database) = Database::create().await else { return };
    let mut client = database.connect().await;
    let create = "create function secretaria_reference._unlisted(p_company bigint) returns void language sql as ''";
    client.batch_execute(create).await.unwrap();
    let said = refusal(&mut client).await;
    assert!(said.contains("99_privileges.sql has no row for _unlisted(bigint)"), "{said}");
    client.batch_execute("drop function secretaria_reference._unlisted(bigint)").await.unwrap();
    functions::apply(&mut client).await.unwrap();
}

#[tokio::test]
async fn a_row_without_a_function_stops_the_migration_and_is_named() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    client.batch_execute("alter function secretaria_reference._micros(timestamptz) rename to _gone").await.unwrap();
    client.batch_execute("alter function secretaria_reference._gone(timestamptz) set schema public").await.unwrap();
    let refused = client.batch_execute(PRIVILEGES).await.expect_err("it is refused");
    let said = format!("{:?}", anyhow::Error::from(refused));
    assert!(said.contains("99_privileges.sql has a row for _micros, which is no function"), "{said}");
}

#[tokio::test]
async fn a_second_function_of_a_name_stops_the_migration_and_is_named() {
    let Some(database) = Database::create().await else { return };
    let mut client = database.connect().await;
    let create = "create function secretaria_reference._micros(text) returns bigint language sql as 'select 1::bigint'";
    client.batch_execute(create).await.unwrap();
    let said = refusal(&mut client).await;
    assert!(said.contains("several functions of the name _micros"), "{said}");
}

#[tokio::test]
async fn what_was_granted_beside_the_table_is_taken_back() {
    let Some(database) = Database::create().await else { return };
    let mut client = database.connect().await;
    let before = records(&client, GRANTED).await;
    assert!(before.len() > 100, "{before:#?}");
    client
        .batch_execute(
            "grant execute on function secretaria_reference._audit(bigint, text, text, jsonb) to public, secretaria_api;
             revoke execute on function secretaria_reference.has_feature(bigint, text) from public;
             revoke execute on function secretaria_reference._micros(timestamptz) from secretaria_quota;
             alter function secretaria_reference._now() owner to secretaria_owner",
        )
        .await
        .unwrap();
    assert_ne!(records(&client, GRANTED).await, before);
    functions::apply(&mut client).await.unwrap();
    assert_eq!(records(&client, GRANTED).await, before);
}

#[tokio::test]
async fn everybody_may_call_what_asks_who_calls_and_little_else() {
    let Some(database) = Database::create().await else { return };
    let client = database.connect().await;
    // Both helpers of periods read nothing but their arguments.
    let internal = "
        select p.proname
        from pg_proc p
        where p.pronamespace = 'secretaria_reference'::regnamespace
          and p.proname like '\\_%'
          and has_function_privilege('secretaria_analyst', p.oid, 'execute')
        order by p.proname";
    assert_eq!(records(&client, internal).await, ["(_boundary)", "(_instant)"]);
    let asking = "
        select p.proname
        from pg_proc p
        where p.pronamespace = 'secretaria_reference'::regnamespace
          and p.proname not like '\\_%'
          and not has_function_privilege('secretaria_analyst', p.oid, 'execute')";
    assert_eq!(records(&client, asking).await, ["(create_company_role)"]);
}
