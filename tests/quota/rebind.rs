//! Policies and triggers move between the PL/pgSQL functions and the extension, and nothing else about them changes.

use secretaria::commands::rebind::{Mode, Side, rebind};
use tokio_postgres::Client;

use crate::support::{Database, company, has_extension, record, records, refused, subscribed};

/// Tables of another application, with rules from before the extension was created.
const RULES: &str = "
create schema shop;
create table shop.reports (company bigint, report text, note text default 'secretaria_reference.has_feature(');
alter table shop.reports enable row level security;
create policy \"Paid for\" on shop.reports as restrictive for select to secretaria_api
  using (has_feature(company, 'reminders') and note <> 'secretaria_reference.has_feature(1, 2)');
create policy everybody on shop.reports using (true);
create policy checked on shop.reports for insert with check (
  (select c.allowed from secretaria_reference.check_feature_access(company, 'reminders') c)
  and exists (select from secretaria.companies t where t.company_id = company));
comment on policy \"Paid for\" on shop.reports is 'kept';
grant usage on schema shop to secretaria_api;
grant select, insert on shop.reports to secretaria_api;
create trigger paid_for before insert on shop.reports
  for each row when (new.report <> 'free') execute function require_feature('reminders', 'company');
create trigger sleeping before update on shop.reports
  for each row execute function require_feature('reminders', 'company');
alter table shop.reports disable trigger sleeping;
create table shop.years (company bigint, year integer) partition by list (year);
create table shop.year_2026 partition of shop.years for values in (2026);
create trigger paid_for before insert on shop.years
  for each row execute function require_feature('reminders', 'company');
create trigger unrelated before update on shop.reports
  for each row execute function suppress_redundant_updates_trigger();
create view shop.allowed as select has_feature(1, 'reminders') as allowed;
";

/// Everything there is to know of the rules, as their definitions spell it.
const SPELLED: &str = "
select format('%s %s %s %s %s %s %s', polname, polrelid::regclass, polpermissive, polcmd, polroles::regrole[],
  pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)) || coalesce(obj_description(oid, 'pg_policy'), '')
from pg_policy where polrelid::regclass::text like 'shop.%'
union all
select format('%s %s %s', pg_get_triggerdef(oid), tgrelid::regclass, tgenabled)
from pg_trigger where tgrelid::regclass::text like 'shop.%'
order by 1";

/// With every name spelled out.
async fn spelled(client: &Client) -> String {
    client.batch_execute("set search_path = pg_catalog").await.unwrap();
    let spelled = records(client, SPELLED).await.join("\n");
    client.batch_execute("reset search_path").await.unwrap();
    spelled
}

#[tokio::test]
async fn rules_move_to_the_extension_and_back_with_nothing_else_changed() {
    let Some(database) = Database::create_plain().await else { return };
    let mut client = database.connect().await;
    let (paying, other) = (subscribed(&client).await, company(&client).await);
    client.batch_execute(RULES).await.unwrap();
    let before = spelled(&client).await;

    let problem = rebind(&mut client, Side::Extension, Mode::Real).await.unwrap_err();
    assert!(problem.to_string().contains("create extension secretaria"), "{problem}");
    assert!(rebind(&mut client, Side::Reference, Mode::Real).await.unwrap().moves.is_empty());
    if !has_extension(&client).await {
        return;
    }
    client.batch_execute("create extension secretaria version '0.3.0'").await.unwrap();

    let would = rebind(&mut client, Side::Extension, Mode::Dry).await.unwrap();
    assert_eq!(spelled(&client).await, before, "a dry run changes nothing");
    let did = rebind(&mut client, Side::Extension, Mode::Real).await.unwrap();
    assert_eq!(did.moves, would.moves);
    let what: Vec<_> = did.moves.iter().map(|(what, _)| what.as_str()).collect();
    assert_eq!(
        what,
        [
            "policy Paid for on table shop.reports",
            "policy checked on table shop.reports",
            "trigger paid_for on table shop.reports",
            "trigger paid_for on table shop.years",
            "trigger sleeping on table shop.reports",
            "trigger sleeping on table shop.reports stays as it is: disabled",
        ]
    );
    assert_eq!(did.stays, ["rule _RETURN on view shop.allowed"]);
    assert_eq!(would.stays, did.stays);

    // What is a name has moved; what is a text has not.
    let after = before
        .replace("secretaria_reference.has_feature(company", "secretaria.has_feature(company")
        .replace("secretaria_reference.check_feature_access(", "secretaria.check_feature_access(")
        .replace("secretaria_reference.require_feature(", "secretaria.require_feature(");
    assert_ne!(after, before);
    assert_eq!(spelled(&client).await, after);
    assert!(rebind(&mut client, Side::Extension, Mode::Real).await.unwrap().moves.is_empty(), "once is enough");

    // They hold as before.
    client.execute("insert into shop.reports values ($1, 'a')", &[&paying]).await.unwrap();
    client.execute("insert into shop.reports values ($1, 'free')", &[&other]).await.unwrap();
    assert_eq!(refused(&client, "insert into shop.reports values ($1, 'a')", &[&other]).await, "42501");
    assert_eq!(refused(&client, "insert into shop.years values ($1, 2026)", &[&other]).await, "42501");
    let api = database.connect_as("secretaria_api").await;
    for (company, seen) in [(paying, "(1)"), (other, "(0)")] {
        api.batch_execute(&format!("set app.company_id = {company}")).await.unwrap();
        assert_eq!(record(&api, "select count(*) from shop.reports").await, seen);
    }

    // Bound to it, they keep the extension from being dropped; bound back, they do not.
    client.batch_execute("drop view shop.allowed").await.unwrap();
    assert_eq!(refused(&client, "drop extension secretaria", &[]).await, "2BP01");
    rebind(&mut client, Side::Reference, Mode::Real).await.unwrap();
    assert_eq!(spelled(&client).await, before);
    client.batch_execute("drop extension secretaria").await.unwrap();
}

#[tokio::test]
async fn a_table_that_stays_in_use_keeps_everything_where_it_was() {
    let Some(database) = Database::create_plain().await else { return };
    let mut client = database.connect().await;
    if !has_extension(&client).await {
        return;
    }
    client.batch_execute(RULES).await.unwrap();
    client.batch_execute("create extension secretaria version '0.3.0'").await.unwrap();
    let before = spelled(&client).await;
    // Another session holds the last table that is moved.
    let holder = database.connect().await;
    holder.batch_execute("begin; lock table shop.years in row exclusive mode").await.unwrap();
    let problem = rebind(&mut client, Side::Extension, Mode::Real).await.unwrap_err();
    assert_eq!(problem.to_string(), "trigger paid_for on table shop.years");
    assert_eq!(spelled(&client).await, before);
    holder.batch_execute("rollback").await.unwrap();
    rebind(&mut client, Side::Extension, Mode::Real).await.unwrap();
    assert_ne!(spelled(&client).await, before);
}
