//! Every public PL/pgSQL function has a binding of its name, which calls it.

use postgres::Client;

use crate::support::{agree, database, lines, outcome};

/// What the two schemas declare differently, a line each.
const DIFFERENCES: &str = "
with declared as (
  select n.nspname as schema, p.proname as name, oidvectortypes(p.proargtypes) as takes, p.prosrc as source,
    format('(%s) returns %s volatility=%s parallel=%s strict=%s', pg_get_function_arguments(p.oid),
      pg_get_function_result(p.oid), p.provolatile, p.proparallel, p.proisstrict) as declaration
  from pg_proc p
  join pg_namespace n on n.oid = p.pronamespace
  where p.proname not like '\\_%'
)
select format('%s(%s): %s instead of %s', r.name, r.takes, coalesce(e.declaration, 'nothing'), r.declaration)
from declared r
left join declared e on e.schema = 'secretaria' and (e.name, e.takes) = (r.name, r.takes)
where r.schema = 'secretaria_reference'
  and e.declaration is distinct from r.declaration
union all
select format('%s(%s) has no function to call', e.name, e.takes)
from declared e
where e.schema = 'secretaria'
  and e.source = 'secretaria_delegate'
  and not exists (
    select from declared r where r.schema = 'secretaria_reference' and (r.name, r.takes) = (e.name, e.takes)
  )";

#[test]
fn every_public_function_is_declared_as_in_plpgsql() {
    let Some(database) = database() else { return };
    let mut session = database.session();
    let public = "select count(*) from pg_proc
      where pronamespace = 'secretaria_reference'::regnamespace and proname not like '\\_%'";
    assert!(session.query_one(public, &[]).expect("counted").get::<_, i64>(0) > 25);
    assert_eq!(lines(session.simple_query(DIFFERENCES).expect("compared")), Vec::<String>::new());
    // An unqualified call is the extension's for every caller.
    let path = "set search_path = secretaria, secretaria_reference, public;
      select 'increment_feature_usage'::regproc::oid in (
        select objid from pg_depend join pg_extension on refobjid = pg_extension.oid where extname = 'secretaria')";
    assert_eq!(outcome(&mut session, path), Ok(vec!["t".to_owned()]));
}

/// Both answers to a query that names the schema as `{}`.
#[track_caller]
fn same(session: &mut Client, query: &str) -> Vec<String> {
    let ask = |schema: &str| format!("select asked::text from ({}) asked", query.replace("{}", schema));
    let wanted = outcome(session, &ask("secretaria_reference"));
    assert_eq!(outcome(session, &ask("secretaria")), wanted, "{query}");
    wanted.unwrap_or_else(|code| panic!("{query}: {code}"))
}

#[test]
fn rows_records_and_values_come_back_as_they_are() {
    let Some(database) = database() else { return };
    let mut session = database.session();
    session
        .batch_execute(
            "select secretaria.increment_feature_usage(2, 'ai_tokens', 7, 'a key');
             select set_config('secretaria.test_now', now()::text, false)",
        )
        .expect("something is booked, and the clock stands");
    for query in [
        "select * from {}.entitlements(1)",
        "select ({}.entitlements(n)).feature from generate_series(1, 3) n",
        "select n, e.feature, e.remaining from generate_series(1, 3) n cross join lateral {}.entitlements(n) e limit 5",
        "select * from {}.current_period('2026-01-31', 'month', 'America/Sao_Paulo', '2026-03-01')",
        "select ({}.current_period('2026-01-31', 'month', 'America/Sao_Paulo', '2026-03-01')).period_end",
        "select {}.get_static_entitlement(1, f.feature) from secretaria.features_catalog f",
        "select p.* from secretaria.subscriptions s
         cross join lateral {}.preview_plan_change(s.company_id, s.subscription_id, s.plan_version_id, now()) p",
        // What the key was answered before is answered again, by whichever.
        "select * from {}.increment_feature_usage(2, 'ai_tokens', 7, 'a key')",
        "select * from {}.increment_feature_usage_bulk(array[2], array['ai_tokens'], array[7], array['a key'], array[null::timestamptz])",
    ] {
        assert!(!same(&mut session, query).is_empty(), "{query}");
    }
    // One row at a time, as SQL functions return them, and stopped in the middle.
    session
        .batch_execute("update secretaria.feature_usage set allowed = not allowed where company_id = 1")
        .expect("spoilt");
    assert!(!same(&mut session, "select ({}.verify_entitlements(n)).* from generate_series(1, 3) n").is_empty());
    assert_eq!(same(&mut session, "select ({}.verify_entitlements()).feature limit 1").len(), 1);
    assert_eq!(same(&mut session, "select company_id, feature, drift from {}.verify_usage()"), ["(1,ai_tokens,20)"]);
}

#[test]
fn a_whole_life_of_calls_leaves_a_ledger_that_sums_up() {
    let Some(database) = database() else { return };
    let mut session = database.session();
    let life = "
        update secretaria.feature_usage set used = 0 where company_id = 1;
        do $$
        declare
          held uuid;
          given uuid;
          mine uuid;
        begin
          insert into secretaria.companies (company_id, domain, name) overriding system value values (4, 'four.test', '4');
          mine := secretaria.create_subscription(4, 1);
          held := (secretaria.reserve_feature_usage(4, 'ai_tokens', 50)).reservation_id;
          assert (secretaria.commit_reservation(4, held, 40)).accepted;
          held := (secretaria.reserve_feature_usage(4, 'ai_tokens', 50)).reservation_id;
          assert secretaria.release_reservation(4, held);
          perform secretaria.increment_ai_usage(4, 'gemini-2.5-flash', 10, 20);
          perform secretaria.adjust_feature_usage(4, 'ai_tokens', -5, null, 'a test');
          perform secretaria.set_feature_usage(4, 'agents', 1, 'a test');
          given := secretaria.grant_credits(4, 'ai_tokens', 1000);
          assert secretaria.void_grant(4, given);
          perform secretaria.record_message_facts_bulk(array[4], array['message_out'], array['m1'], array[now()]);
          perform secretaria.increment_ai_usage_bulk(array[4], array['x'], array[1], array[2], array[0], array['t1'], array[now()]);
          perform secretaria.change_subscription_plan(4, mine, 1);
          perform secretaria.set_subscription_status(4, mine, 'past_due', interval '1 day');
          perform secretaria.cancel_subscription(4, mine);
          perform secretaria.resume_subscription(4, mine);
          perform secretaria.trim_usage_events();
          perform secretaria.expire_reservations();
        end $$";
    session.batch_execute(life).unwrap_or_else(|error| panic!("{:?}", error.as_db_error()));
    let used = "select used::text from secretaria.check_feature_access(4, 'ai_tokens')";
    assert_eq!(outcome(&mut session, used), Ok(vec!["68".to_owned()]));
    for verify in ["verify_usage()", "verify_entitlements()"] {
        assert_eq!(
            outcome(&mut session, &format!("select t::text from secretaria.{verify} t")),
            Ok(vec![]),
            "{verify}"
        );
    }
}

#[test]
fn a_trigger_may_be_either() {
    let Some(database) = database() else { return };
    let mut session = database.session();
    for schema in ["secretaria_reference", "secretaria"] {
        session
            .batch_execute(&format!(
                "create table public.reports_of_{schema} (company bigint, report text);
                 create trigger paid_for before insert or delete on public.reports_of_{schema}
                 for each row execute function {schema}.require_feature('reminders', 'company');
                 create trigger badly_made before update on public.reports_of_{schema}
                 for each row execute function {schema}.require_feature('reminders', 'nothing')"
            ))
            .expect("made");
        let insert = |company: i64| {
            format!("insert into public.reports_of_{schema} values ({company}, 'a'), ({company}, 'b') returning report")
        };
        assert_eq!(outcome(&mut session, &insert(2)), Ok(vec!["a".to_owned(), "b".to_owned()]));
        let error = session.batch_execute(&insert(3)).expect_err("company 3 has no subscription");
        let error = error.as_db_error().expect("the server's");
        assert_eq!(error.message(), "feature reminders is not allowed: no_subscription");
        assert_eq!((error.code().code(), error.table()), ("42501", Some(format!("reports_of_{schema}").as_str())));
        assert_eq!(
            outcome(&mut session, &format!("update public.reports_of_{schema} set report = ''")),
            Err("22023".to_owned())
        );
        let delete = format!("delete from public.reports_of_{schema} returning report");
        assert_eq!(outcome(&mut session, &delete).map(|rows| rows.len()), Ok(2));
    }
    // No trigger: PL/pgSQL says what it is for.
    assert_eq!(outcome(&mut session, "select secretaria.require_feature()"), Err("0A000".to_owned()));
}

#[test]
fn a_function_that_is_replaced_or_created_again_is_followed_at_once() {
    let Some(database) = database() else { return };
    let (mut session, mut other) = (database.session(), database.session());
    let name = "secretaria_reference.get_static_entitlement";
    let declare = |answer: &str| {
        format!(
            "create or replace function {name}(company_id bigint, feature text) returns jsonb language sql stable
             as $$ select '\"{answer}\"'::jsonb $$"
        )
    };
    let ask = session.prepare("select secretaria.get_static_entitlement(1, 'agents')::text").expect("prepared");
    for change in [
        declare("replaced"),
        format!("drop function {name}(bigint, text); {}", declare("created again")),
        declare("replaced again"),
        format!("alter function {name}(bigint, text) security definer set search_path = pg_catalog"),
    ] {
        other.batch_execute(&change).expect("changed");
        let answer: Option<String> = session.query_one(&ask, &[]).expect("answered").get(0);
        let wanted: Option<String> = other
            .query_one("select secretaria_reference.get_static_entitlement(1, 'agents')::text", &[])
            .expect("answered")
            .get(0);
        assert_eq!(answer, wanted, "{change}");
    }
    // Within one transaction, from one place in a function, which keeps what it has looked up.
    let within = format!(
        "create function pg_temp.within() returns text language plpgsql as $f$
         declare
           answer jsonb;
           answers text := '';
         begin
           for n in 1..4 loop
             if n = 2 then
               execute $$ drop function {name}(bigint, text) $$;
               execute $q$ {} $q$;
             elsif n = 3 then
               execute $q$ {} $q$;
             end if;
             answer := secretaria.get_static_entitlement(1, 'agents');
             answers := answers || ' ' || (answer #>> '{{}}');
           end loop;
           return answers;
         end $f$",
        declare("two"),
        declare("three")
    );
    session.batch_execute(&within).expect("the function is made");
    let answers: String = session.query_one("select pg_temp.within()", &[]).expect("answered").get(0);
    assert_eq!(answers, " replaced again two three three");
}

#[test]
fn a_function_that_is_missing_or_declared_otherwise_is_refused() {
    let Some(database) = database() else { return };
    let mut session = database.session();
    let name = "secretaria_reference.get_static_entitlement";
    let ask = "select secretaria.get_static_entitlement(1, 'agents')";
    session.batch_execute(&format!("drop function {name}(bigint, text)")).expect("dropped");
    let error = session.simple_query(ask).expect_err("it is missing");
    let error = error.as_db_error().expect("the server's");
    assert_eq!(error.code().code(), "0A000");
    assert_eq!(error.message(), "function secretaria_reference.get_static_entitlement is missing");
    assert!(error.hint().is_some_and(|hint| hint.contains("secretaria migrate")));
    // A number is not to be read as a pointer.
    for declaration in [
        "returns bigint language sql as 'select 1::bigint'",
        "returns setof jsonb language sql as $$ select '1'::jsonb $$",
    ] {
        session
            .batch_execute(&format!("create function {name}(company_id bigint, feature text) {declaration}"))
            .expect("made");
        assert_eq!(outcome(&mut session, ask), Err("0A000".to_owned()), "{declaration}");
        session.batch_execute(&format!("drop function {name}(bigint, text)")).expect("dropped");
    }
    agree(&mut session);
}
