//! Databases of their own for tests: all migrations, the functions, the extension, three companies.
//!
//! Needs `SECRETARIA_TEST_POSTGRES`, a superuser's address of a server on which the extension is installed
//! (`dev/install-extension.sh`). Without it the tests say so and pass.

#![expect(clippy::expect_used, reason = "what fails here fails the test")]

use std::sync::OnceLock;

use postgres::{Client, NoTls, SimpleQueryMessage};
use testkit::{Template, block_on};

static TEMPLATE: OnceLock<Option<Template>> = OnceLock::new();

/// A database that is dropped with its value.
pub(crate) struct Database(testkit::Database);

/// A new database, or none where there is no server to test with.
pub(crate) fn database() -> Option<Database> {
    let template = TEMPLATE.get_or_init(|| block_on(template())).as_ref()?;
    let copy = block_on(testkit::Database::copy(template, "extension"));
    // Every caller's search path is another one: here there is none.
    block_on(copy.reset_settings());
    Some(Database(copy))
}

/// The migrations, the functions, the extension and the companies; none where the extension is not installed.
async fn template() -> Option<Template> {
    let server = testkit::connect(&testkit::postgres()?).await;
    let sql = "select exists (select from pg_available_extensions where name = 'secretaria')";
    if !server.query_one(sql, &[]).await.expect("the server answers").get::<_, bool>(0) {
        assert!(
            testkit::variable("SECRETARIA_TEST").is_none(),
            "the extension is not installed: dev/install-extension.sh"
        );
        eprintln!("left out: the extension is not installed on this server: dev/install-extension.sh");
        return None;
    }
    Template::of_files_and("extension_template", async |url| {
        testkit::connect(&url).await.batch_execute(COMPANIES).await.expect("companies");
    })
    .await
}

impl Database {
    /// A session of the superuser.
    pub(crate) fn session(&self) -> Client {
        Client::connect(&self.0.url("postgres"), NoTls).expect("the server can be reached")
    }
}

/// Companies 1 and 2 subscribe, with an override, a flag and some use; company 3 does not.
const COMPANIES: &str = "
create extension secretaria;
insert into secretaria.companies (company_id, domain, name)
overriding system value
select n, 'company-' || n || '.test', 'Company ' || n
from generate_series(1, 3) n;
insert into secretaria.subscriptions (company_id, subscription_id, plan_version_id, status, anchor_at, time_zone)
select n, gen_random_uuid(), 1, 'active', now() - interval '100 days', 'America/Sao_Paulo'
from generate_series(1, 2) n;
insert into secretaria.company_overrides (company_id, feature, mode, limit_value, soft, reason)
values (1, 'ai_tokens', 'replace', 10, true, 'test'), (1, 'agents', 'replace', null, false, 'test');
insert into secretaria.feature_flags (company_id, feature, enabled)
values (2, 'ai_replies', false), (2, 'agents', false);
update secretaria.feature_usage
set used = 20
where feature = 'ai_tokens' and company_id = 1;
";

/// Asks the extension and PL/pgSQL everything, and returns what they disagree about, a line each.
pub(crate) fn disagreements(session: &mut Client) -> Vec<String> {
    let rows = session
        .simple_query(
            "
with companies as (select unnest(array[1, 2, 3, 999]::bigint[]) as company),
features as (select feature from secretaria.features_catalog union all select 'no_such_feature'),
asked as (
  select *
  from companies
  cross join features
  cross join (values (0::bigint), (1), (100000000)) as r (required)
  cross join (values (null::timestamptz), (now() - interval '40 days'), (now() + interval '40 days')) as t (at)
)
select format('check %s: %s instead of %s', a, x, y)
from asked a
cross join lateral secretaria.check_feature_access(a.company, a.feature, a.required, a.at) x
cross join lateral secretaria_reference.check_feature_access(a.company, a.feature, a.required, a.at) y
where x is distinct from y
union all
select format('has %s %s', company, feature)
from companies
cross join features
where secretaria.has_feature(company, feature) is distinct from secretaria_reference.has_feature(company, feature)
union all
select format('many %s: %s instead of %s', c.company, x.answer, y.answer)
from companies c
cross join lateral (
  select array_agg(m.*::text) as answer
  from secretaria.check_feature_access_many(c.company, (select array_agg(feature) from features)) m
) x
cross join lateral (
  select array_agg(m.*::text) as answer
  from secretaria_reference.check_feature_access_many(c.company, (select array_agg(feature) from features)) m
) y
where x.answer is distinct from y.answer",
        )
        .expect("both answer");
    lines(rows)
}

/// The first column of each row.
pub(crate) fn lines(messages: Vec<SimpleQueryMessage>) -> Vec<String> {
    messages
        .into_iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("null").to_owned()),
            _ => None,
        })
        .collect()
}

/// What a statement answers: its first column's lines, or the SQLSTATE it fails with.
pub(crate) fn outcome(session: &mut Client, statement: &str) -> Result<Vec<String>, String> {
    session
        .simple_query(statement)
        .map(lines)
        .map_err(|error| error.code().map_or_else(|| error.to_string(), |code| code.code().to_owned()))
}

/// One column of the session's cache statistics.
pub(crate) fn stat(session: &mut Client, column: &str) -> i64 {
    session
        .query_one(&format!("select {column} from secretaria.location_cache_stats()"), &[])
        .expect("statistics")
        .get(0)
}

/// Asserts that both answer alike: as things are, from remembered places, and without them.
#[track_caller]
pub(crate) fn agree(session: &mut Client) {
    assert_eq!(disagreements(session), Vec::<String>::new(), "as things are");
    let before = stat(session, "hits");
    assert_eq!(disagreements(session), Vec::<String>::new(), "from remembered places");
    assert!(stat(session, "hits") > before, "no answer came from a remembered place");
    session.batch_execute("set secretaria.location_cache = off").expect("set");
    assert_eq!(disagreements(session), Vec::<String>::new(), "by the index");
    session.batch_execute("set secretaria.location_cache = on").expect("set");
}
