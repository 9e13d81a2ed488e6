//! Who may ask, and who may not: a company's login, the API for another company, unknown logins and analysts, each
//! trying to read or change what is not theirs.

use tokio_postgres::{Client, SimpleQueryMessage};

use crate::support::{Database, record, records, starter};

/// Two companies with a login each, and a login of neither. Roles are the whole cluster's: their names have an id.
pub(crate) struct Stage {
    pub(crate) database: Database,
    pub(crate) owner: Client,
    pub(crate) ours: i64,
    pub(crate) theirs: i64,
    subscription: String,
    reservation: String,
}

impl Stage {
    pub(crate) async fn set(number: i64) -> Option<Stage> {
        let database = Database::create().await?;
        let owner = database.connect().await;
        let ours = i64::from(std::process::id()) * 1_000 + number;
        let theirs = ours + 1;
        let version = starter(&owner).await;
        for company in [ours, theirs] {
            let make = format!(
                "insert into companies (company_id, domain, name) overriding system value
                values ({company}, 'c{company}.test', 'A company');
                select create_subscription({company}, {version});
                select increment_feature_usage({company}, 'whatsapp_messages', 7, 'first');
                insert into ai_usage_by_model (company_id, month, model, messages, input_tokens, cost_usd_micros)
                values ({company}, date_trunc('month', now() at time zone 'America/Sao_Paulo'), 'm', 2, 30, 1500000);
                select create_company_role({company})"
            );
            owner.batch_execute(&make).await.unwrap();
        }
        // The login of neither may use the schemas, so that the functions refuse it, and not the schemas.
        let unknown = unknown_login(ours);
        let invite =
            format!("create role {unknown} login; grant usage on schema secretaria, secretaria_reference to {unknown}");
        owner.batch_execute(&invite).await.unwrap();
        let find = format!("select subscription_id::text from subscriptions where company_id = {theirs}");
        let subscription = owner.query_one(&find, &[]).await.unwrap().get(0);
        let reserve =
            format!("select reservation_id::text from reserve_feature_usage({theirs}, 'whatsapp_messages', 3)");
        let reservation = owner.query_one(&reserve, &[]).await.unwrap().get(0);
        Some(Stage { database, owner, ours, theirs, subscription, reservation })
    }

    /// All that could be moved of the other company, and the cluster's word on our role.
    pub(crate) async fn everything(&self) -> Vec<String> {
        let mut found = Vec::new();
        for table in [
            "feature_usage",
            "feature_usage_periods",
            "usage_events",
            "usage_reservations",
            "usage_grants",
            "subscriptions",
            "subscription_events",
            "company_overrides",
            "feature_flags",
            "audit_logs",
            "outbox",
            "company_roles",
            "ai_usage_by_model",
        ] {
            let rows = format!("select * from secretaria.{table} where company_id = {} order by t::text", self.theirs);
            found.extend(
                records(&self.owner, &rows.replace(&format!("{table} where"), &format!("{table} t where"))).await,
            );
        }
        found.extend(
            records(&self.owner, &format!("select * from pg_roles where rolname = 'tenant_{}'", self.ours)).await,
        );
        found
    }

    /// Runs a script as one of them, on a connection of its own; says what it got, if it got anything.
    pub(crate) async fn attempt(&self, who: Who, script: &str) -> Result<(), String> {
        let (login, before) = match who {
            Who::Company => (format!("tenant_{}", self.ours), String::new()),
            Who::Api => ("secretaria_api".to_owned(), format!("set app.company_id = '{}'", self.ours)),
            Who::Unknown => (unknown_login(self.ours), format!("set app.company_id = '{}'", self.theirs)),
            Who::Analyst => ("postgres".to_owned(), "set role secretaria_analyst".to_owned()),
        };
        let client = self.database.connect_as(&login).await;
        client.batch_execute(&before).await.unwrap();
        let script = script
            .replace("{theirs}", &self.theirs.to_string())
            .replace("{ours}", &self.ours.to_string())
            .replace("{subscription}", &self.subscription)
            .replace("{reservation}", &self.reservation);
        match client.simple_query(&script).await {
            Ok(answers) => match answers.iter().find_map(row) {
                Some(got) => Err(format!("{who:?} got {got:?}: {script}")),
                None => Ok(()),
            },
            Err(problem) => match problem.code().map(|it| it.code()) {
                Some("42501") => Ok(()),
                // The reservation is not ours, so for us there is none.
                Some("42704") if script.contains(&self.reservation) => Ok(()),
                _ => Err(format!("{who:?} was not refused but met {:?}: {script}", problem.as_db_error())),
            },
        }
    }

    pub(crate) async fn strike(self) {
        let Stage { owner, ours, theirs, database, .. } = self;
        let roles = format!("tenant_{ours}, tenant_{theirs}, {}", unknown_login(ours));
        owner.batch_execute(&format!("drop owned by {roles} cascade; drop role {roles}")).await.unwrap();
        drop(database);
    }
}

fn unknown_login(ours: i64) -> String {
    format!("unknown_{ours}")
}

fn row(message: &SimpleQueryMessage) -> Option<Vec<String>> {
    let SimpleQueryMessage::Row(row) = message else { return None };
    Some((0..row.len()).map(|column| row.get(column).unwrap_or("null").to_owned()).collect())
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Who {
    /// The login of a company, which tries for another's.
    Company,
    /// The API, which named one company and tries for another's.
    Api,
    /// Any login, which names a company by itself.
    Unknown,
    /// Who reads reports.
    Analyst,
}

const EVERYBODY: [Who; 4] = [Who::Company, Who::Api, Who::Unknown, Who::Analyst];

/// What no login may: each is refused, or answers no row.
const READS: &[&str] = &[
    "select check_feature_access({theirs}, 'agents')",
    "select check_feature_access({theirs}, 'agents', 0, now() - interval '1 day')",
    "select 'yes' where has_feature({theirs}, 'agents')",
    "select check_feature_access_many({theirs}, array['agents'])",
    "select entitlements({theirs})",
    "select get_static_entitlement({theirs}, 'support_level')",
    "select preview_plan_change({theirs}, '{subscription}', 1)",
    "select verify_usage({theirs})",
    "select verify_usage()",
    "select verify_entitlements({theirs})",
    "select verify_entitlements()",
    "select 1 from secretaria.feature_usage where company_id = {theirs}",
    "select 1 from secretaria.feature_usage_periods where company_id = {theirs}",
    "select 1 from secretaria.usage_events where company_id = {theirs}",
    "select 1 from secretaria.subscriptions where company_id = {theirs}",
    "select 1 from secretaria.subscription_events where company_id = {theirs}",
    "select 1 from secretaria.usage_reservations where company_id = {theirs}",
    "select 1 from secretaria.usage_grants where company_id = {theirs}",
    "select 1 from secretaria.ai_usage_by_model where company_id = {theirs}",
    "select 1 from secretaria.ai_usage_metrics where company_id = {theirs}",
    "select 1 from secretaria.current_month_ai_usage where company_id = {theirs}",
    "select 1 from secretaria.audit_logs where company_id = {theirs}",
    "select 1 from secretaria.outbox where company_id = {theirs}",
    "select 1 from secretaria.company_roles where company_id = {theirs}",
    "select 1 from secretaria.company_overrides where company_id = {theirs}",
    "select 1 from tenant_{theirs}.feature_usage",
    "copy secretaria.usage_events to program 'true'; select 1",
    "select 1 from pg_stats where schemaname = 'secretaria' and tablename = 'usage_events'",
    "select secretaria_reference._resolve({theirs}, now())",
    "select secretaria_reference._check({theirs}, 'agents', 1, now())",
    "select 'yes' where secretaria_reference._may({theirs}, 'read')",
];

const WRITES: &[&str] = &[
    "select increment_feature_usage({theirs}, 'whatsapp_messages', 1)",
    "select increment_feature_usage({theirs}, 'whatsapp_messages', 7, 'first')",
    "select increment_feature_usage({theirs}, 'whatsapp_messages', 0)",
    "select increment_feature_usage_or_raise({theirs}, 'whatsapp_messages', 1)",
    "select increment_feature_usage_bulk(array[{theirs}]::bigint[], array['agents'], array[1]::bigint[],
      array['x'], array[now()])",
    "select increment_feature_usage_bulk(array[{ours}, {theirs}]::bigint[], array['agents', 'agents'],
      array[1, 1]::bigint[], array['x', 'y'], array[now(), now()])",
    "select increment_ai_usage({theirs}, 'gemini-2.5-flash', 1, 1)",
    "select increment_ai_usage_bulk(array[{theirs}]::bigint[], array['m'], array[1]::bigint[], array[1]::bigint[],
      array[0]::bigint[], array['x'], array[now()])",
    "select record_message_facts_bulk(array[{theirs}]::bigint[], array['message_out'], array['x'], array[now()])",
    "select 'yes' where trim_usage_events(interval '0', 1000) > 0",
    "select reserve_feature_usage({theirs}, 'whatsapp_messages', 1)",
    "select commit_reservation({theirs}, '{reservation}')",
    "select commit_reservation({ours}, '{reservation}')",
    "select release_reservation({theirs}, '{reservation}')",
    "select 'yes' where release_reservation({ours}, '{reservation}')",
    "select 'yes' where expire_reservations() > 0",
    "select adjust_feature_usage({theirs}, 'whatsapp_messages', -1, now(), 'r')",
    "select set_feature_usage({theirs}, 'agents', 0, 'r')",
    "select grant_credits({theirs}, 'whatsapp_messages', 1000)",
    "select void_grant({theirs}, '{reservation}')",
    "select create_subscription({theirs}, 1)",
    "select change_subscription_plan({theirs}, '{subscription}', 1)",
    "select cancel_subscription({theirs}, '{subscription}')",
    "select cancel_subscription({ours}, '{subscription}')",
    "select resume_subscription({theirs}, '{subscription}')",
    "select set_subscription_status({theirs}, '{subscription}', 'suspended')",
    "select create_company_role({theirs})",
    "update secretaria.feature_usage set used = 0 where company_id = {theirs} returning 1",
    "delete from secretaria.usage_events where company_id = {theirs} returning 1",
    "truncate secretaria.feature_usage; select 1",
    "insert into secretaria.company_roles values ({theirs}, current_user) returning 1",
    "insert into secretaria.company_overrides (company_id, feature, reason)
      values ({theirs}, 'agents', 'r') returning 1",
    "update tenant_{theirs}.feature_usage set limit_value = null, reserved = 0 returning 1",
    "select secretaria_reference._materialise({theirs})",
    "select secretaria_reference._announce({theirs}, 'usage_threshold', '{}')",
    "select secretaria_reference._record_step({theirs}, '{subscription}', 'resumed', '{}', now())",
    "select secretaria_reference._register_company_role({theirs}, current_user)",
];

/// What a company's own rows are not changed by either: it manages nothing, not even itself.
const OWN_RIGHTS: &[&str] = &[
    "select increment_feature_usage({ours}, 'whatsapp_messages', 1, null, null, 'allow')",
    "select increment_feature_usage({ours}, 'whatsapp_messages', 1, null, now() - interval '30 days')",
    "select adjust_feature_usage({ours}, 'whatsapp_messages', -1, now(), 'r')",
    "select set_feature_usage({ours}, 'agents', 0, 'r')",
    "select grant_credits({ours}, 'whatsapp_messages', 1000)",
    "select create_subscription({ours}, 1)",
    "select preview_plan_change({ours}, '{subscription}', 1)",
    "select create_company_role({ours})",
];

/// Ways to get another role's rights, or to have a function resolve a wrong name.
const DISGUISES: &[&str] = &[
    "set app.company_id = '{theirs}'; select check_feature_access({theirs}, 'agents')",
    "set app.company_id = '{theirs}'; select increment_feature_usage({theirs}, 'agents', 1)",
    "set app.company_id = '{theirs}'; select 1 from secretaria.ai_usage_metrics where company_id = {theirs}",
    "set role tenant_{theirs}; select 1",
    "set role secretaria_service; select 1",
    "set role secretaria_quota; select 1",
    "set role secretaria_api; select 1",
    "set session authorization tenant_{theirs}; select 1",
    "select set_config('role', 'secretaria_owner', false)",
    "alter role tenant_{ours} createrole; select 1",
    "grant tenant_{theirs} to tenant_{ours}; select 1",
    "create temp table company_roles as select {theirs}::bigint company_id, current_user::name role_name;
      set search_path = pg_temp, secretaria, secretaria_reference; select check_feature_access({theirs}, 'agents')",
    "create function pg_temp.outer_role() returns name language sql as 'select ''secretaria_service''::name';
      set search_path = pg_temp, secretaria, secretaria_reference; select check_feature_access({theirs}, 'agents')",
    "create function secretaria_reference.outer_role() returns name language sql as 'select null::name'; select 1",
    "create or replace function secretaria.outer_role() returns name language sql as 'select null::name'; select 1",
    "create table secretaria.mine (a int); select 1",
    "create view tenant_{ours}.more as select 1; select 1",
    "create or replace view tenant_{ours}.feature_usage as select * from secretaria.feature_usage; select 1",
    "create function pg_temp.leak(bigint) returns boolean cost 0.0001 language sql as 'select $1 = {theirs}';
      select 1 from tenant_{ours}.feature_usage where pg_temp.leak(company_id)",
    "select 1 from tenant_{ours}.feature_usage where 1 / (company_id - {theirs}) is null",
    "select 1 from tenant_{ours}.usage_events where company_id <> {ours}",
    "select 1 from tenant_{ours}.ai_usage_metrics where company_id <> {ours}",
    "update tenant_{ours}.feature_usage set limit_value = null, reserved = 0 returning 1",
    "delete from tenant_{ours}.usage_events returning 1",
];

#[tokio::test]
async fn no_login_reads_or_changes_another_companys_usage() {
    let Some(stage) = Stage::set(1).await else { return };
    let before = stage.everything().await;
    let mut succeeded = Vec::new();
    let for_all = EVERYBODY.iter().flat_map(|who| READS.iter().chain(WRITES).chain(OWN_RIGHTS).map(|it| (*who, *it)));
    let disguises = [Who::Company, Who::Unknown].into_iter().flat_map(|who| DISGUISES.iter().map(move |it| (who, *it)));
    let attempts: Vec<_> = for_all.chain(disguises).collect();
    for (who, script) in &attempts {
        succeeded.extend(stage.attempt(*who, script).await.err());
    }
    let after = stage.everything().await;
    stage.strike().await;
    assert!(attempts.len() > 300, "{} attempts", attempts.len());
    assert!(succeeded.is_empty(), "{} of {}:\n{}", succeeded.len(), attempts.len(), succeeded.join("\n"));
    assert_eq!(before, after, "something was moved");
}

#[tokio::test]
async fn a_companys_role_reads_its_own_rows_and_counts_its_own_usage() {
    let Some(stage) = Stage::set(11).await else { return };
    let ours = stage.ours;
    let company = stage.database.connect_as(&format!("tenant_{ours}")).await;
    let mut got = Vec::new();
    for query in [
        "select sum(used) from feature_usage".to_owned(),
        "select count(*) from usage_events".to_owned(),
        "select status from subscriptions".to_owned(),
        "select messages_count, input_tokens, estimated_cost_usd from ai_usage_metrics".to_owned(),
        "select messages_count, input_tokens, estimated_cost_brl from current_month_ai_usage".to_owned(),
        format!("select used_after from increment_feature_usage({ours}, 'whatsapp_messages', 1)"),
        format!("select used from check_feature_access({ours}, 'whatsapp_messages')"),
        format!("select has_feature({ours}, 'agents')"),
    ] {
        got.push(record(&company, &query).await);
    }
    drop(company);
    stage.strike().await;
    assert_eq!(got, ["(7)", "(1)", "(active)", "(2,30,1.500000)", "(2,30,0.000000)", "(8)", "(8)", "(t)"]);
}

#[tokio::test]
async fn the_api_sees_the_company_it_named_and_none_before() {
    let Some(stage) = Stage::set(21).await else { return };
    let api = stage.database.connect_as("secretaria_api").await;
    let mut got = Vec::new();
    for named in [String::new(), stage.ours.to_string()] {
        api.batch_execute(&format!("set app.company_id = '{named}'")).await.unwrap();
        for table in ["subscriptions", "ai_usage_metrics", "current_month_ai_usage"] {
            got.push(record(&api, &format!("select count(*) from secretaria.{table}")).await);
        }
    }
    drop(api);
    let service = stage.database.connect_as("secretaria_service").await;
    got.push(record(&service, "select count(*) from secretaria.ai_usage_metrics").await);
    drop(service);
    stage.strike().await;
    assert_eq!(got, ["(0)", "(0)", "(0)", "(1)", "(1)", "(1)", "(2)"]);
}

#[tokio::test]
async fn the_test_clock_is_a_superusers_alone() {
    let Some(stage) = Stage::set(31).await else { return };
    let ours = stage.ours;
    let company = stage.database.connect_as(&format!("tenant_{ours}")).await;
    company.batch_execute("set secretaria.test_now = '2099-01-01'").await.unwrap();
    let asked = format!("select checked_at < now() + interval '1 day' from check_feature_access({ours}, 'agents')");
    let got = record(&company, &asked).await;
    drop(company);
    stage.strike().await;
    assert_eq!(got, "(t)");
}

#[tokio::test]
async fn a_companys_role_is_made_twice_and_is_one() {
    let Some(stage) = Stage::set(41).await else { return };
    let (ours, theirs) = (stage.ours, stage.theirs);
    let again = record(&stage.owner, &format!("select create_company_role({ours})")).await;
    let audited =
        format!("select count(*) from audit_logs where company_id = {ours} and action = 'company_role_created'");
    let audited = record(&stage.owner, &audited).await;
    let grant = format!("grant secretaria_service to tenant_{theirs}");
    stage.owner.batch_execute(&grant).await.unwrap();
    let stronger = stage.owner.query(&format!("select create_company_role({theirs})"), &[]).await;
    let stronger = stronger.err().and_then(|it| it.code().cloned());
    stage.strike().await;
    assert_eq!((again, audited), (format!("(tenant_{ours})"), "(1)".to_owned()));
    assert_eq!(stronger, Some(tokio_postgres::error::SqlState::DUPLICATE_OBJECT));
}
