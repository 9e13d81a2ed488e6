//! A dump of a database with the extension goes into another one, which then answers the same.

use std::path::PathBuf;
use std::process::{Command, Output};

use postgres::config::Host;
use postgres::{Client, Config, NoTls};

use crate::support::{Database, agree, database, lines, outcome};
use crate::upgrades::{go_back_to, owned};

/// The server's own programs, told where the server is.
struct Programs {
    folder: PathBuf,
    server: Config,
}

impl Programs {
    #[expect(clippy::disallowed_methods, reason = "a test's own setting")]
    fn of(session: &mut Client) -> Self {
        let folder = "select setting from pg_config where name = 'BINDIR'";
        let folder: String = session.query_one(folder, &[]).expect("the server says where").get(0);
        let address = std::env::var("SECRETARIA_TEST_POSTGRES").expect("there is a database, so there is a server");
        Self { folder: folder.into(), server: address.parse().expect("an address") }
    }

    fn run(&self, program: &str, user: &str, arguments: &[&str]) -> Output {
        let host = match self.server.get_hosts().first() {
            Some(Host::Tcp(name)) => name.clone(),
            Some(Host::Unix(folder)) => folder.display().to_string(),
            None => panic!("the address names no host"),
        };
        let port = self.server.get_ports().first().copied().unwrap_or(5432).to_string();
        Command::new(self.folder.join(program))
            .args(["--host", &host, "--port", &port, "--username", user, "--no-password"])
            .args(arguments)
            .output()
            .expect("it is installed with the server")
    }

    fn session(&self, database: &str) -> Client {
        self.server.clone().dbname(database).connect(NoTls).expect("the server can be reached")
    }
}

/// A database with nothing in it, dropped with its value.
struct Empty<'a> {
    programs: &'a Programs,
    name: String,
}

impl<'a> Empty<'a> {
    fn create(programs: &'a Programs, name: String) -> Self {
        programs
            .session("postgres")
            .batch_execute(&format!("create database {name} template template0"))
            .expect("created");
        Self { programs, name }
    }
}

impl Drop for Empty<'_> {
    fn drop(&mut self) {
        let drop = format!("drop database {} with (force)", self.name);
        let _ = self.programs.session("postgres").batch_execute(&drop);
    }
}

/// A file that is gone with its value.
struct Dump(PathBuf);

impl Drop for Dump {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[track_caller]
fn succeeded(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Use, a reservation, a call of the model, an event: something in every table that counts.
const USE: &str = "
    update secretaria.feature_usage set used = 0 where company_id = 1;
    select secretaria.increment_feature_usage(2, 'whatsapp_messages', 3, 'a key');
    select secretaria.reserve_feature_usage(2, 'ai_tokens', 50);
    select secretaria.increment_ai_usage(2, 'gemini-2.5-flash', 10, 20);
    select secretaria.grant_credits(1, 'ai_tokens', 5);
    select secretaria.cancel_subscription(company_id, subscription_id) from secretaria.subscriptions where company_id = 1;
    create table public.reports (company_id bigint not null, name text);
    alter table public.reports enable row level security;
    create policy with_the_feature on public.reports using (secretaria.has_feature(company_id, 'reminders'));
    create trigger with_the_feature before insert on public.reports
    for each row execute function secretaria.require_feature('reminders', 'company_id');
    insert into public.reports values (1, 'a'), (2, 'b');
    grant select on public.reports to secretaria_api;
    alter table public.reports owner to secretaria_owner";

/// Each table of ours with the sum of its rows, and each row-level rule.
fn contents(session: &mut Client) -> Vec<String> {
    let sum = "
        select format('%s %s %s', c.oid::regclass, c.relrowsecurity, c.relforcerowsecurity)
          || (xpath('/row/sum/text()', query_to_xml(format(
            'select coalesce(md5(string_agg(t::text, chr(10) order by t::text)), ''empty'') as sum from %s t', c.oid::regclass),
            false, true, '')))[1]::text
        from pg_class c
        where c.relkind in ('r', 'p')
          and c.relnamespace in ('secretaria'::regnamespace, 'public'::regnamespace)
        union all
        select format('%s.%s %s %s %s %s', schemaname, tablename, policyname, roles, qual, with_check)
        from pg_policies
        union all
        select pg_get_triggerdef(oid)
        from pg_trigger
        where not tgisinternal
        order by 1";
    lines(session.simple_query(sum).expect("summed"))
}

#[test]
fn a_restored_database_answers_the_same() {
    let Some(database) = database() else { return };
    is_restored(&database, |_| {});
}

/// It is dumped as it is, and restored with the extension of this release.
#[test]
fn a_database_that_is_still_on_the_release_before_is_restored_with_this_one() {
    let Some(database) = database() else { return };
    go_back_to(&database, "0.2.0");
    let version = "select extversion from pg_extension where extname = 'secretaria'";
    is_restored(&database, |other| {
        let mut session = database.session();
        assert_eq!(outcome(&mut session, version), Ok(vec!["0.2.0".to_owned()]));
        assert_eq!(outcome(other, version), Ok(vec![env!("CARGO_PKG_VERSION").to_owned()]));
        session.batch_execute("alter extension secretaria update").expect("updated");
        assert_eq!(owned(other), owned(&mut session));
    });
}

/// Dumps a database that is in use, restores it, and compares; at last the restored one is looked at.
fn is_restored(database: &Database, look: impl FnOnce(&mut Client)) {
    let mut session = database.session();
    session.batch_execute(USE).unwrap_or_else(|error| panic!("{error:?}"));
    let programs = Programs::of(&mut session);
    let from: String = session.query_one("select current_database()::text", &[]).expect("named").get(0);
    let backup = format!("{from}_backup");
    session
        .batch_execute(&format!("create role {backup} login bypassrls; grant pg_read_all_data to {backup}"))
        .expect("the role is made");
    let dump = Dump(std::env::temp_dir().join(format!("secretaria-{from}.dump")));
    let file = dump.0.to_str().expect("a plain path");
    let dumping = ["--format", "custom", "--file", file, &from];

    // A role that row-level security binds does not get half a dump: it gets none.
    let bound = programs.run("pg_dump", "postgres", &[&["--role", "secretaria_owner"][..], &dumping].concat());
    assert!(!bound.status.success());
    assert!(String::from_utf8_lossy(&bound.stderr).contains("row-level security"), "{bound:?}");
    succeeded(&programs.run("pg_dump", &backup, &dumping));

    let restored = Empty::create(&programs, format!("{from}_restored"));
    succeeded(&programs.run("pg_restore", "postgres", &["--exit-on-error", "--dbname", &restored.name, file]));
    let mut other = programs.session(&restored.name);
    assert_eq!(contents(&mut other), contents(&mut session));
    agree(&mut other);
    let entitlements = "
        select (n, e.feature, e.allowed, e.reason, e.used, e.reserved, e.remaining, e.source, e.period_start, e.period_end)::text
        from generate_series(1, 3) n
        cross join lateral secretaria.entitlements(n) e
        order by 1";
    let expected = outcome(&mut session, entitlements).expect("answered");
    assert!(expected.len() > 10);
    assert_eq!(outcome(&mut other, entitlements), Ok(expected));
    for verify in ["verify_usage()", "verify_entitlements()"] {
        assert_eq!(outcome(&mut other, &format!("select t::text from secretaria.{verify} t")), Ok(vec![]), "{verify}");
    }

    // It goes on: a key is known, a hidden row stays hidden, a company without the feature is refused.
    for (statement, wanted) in [
        ("select duplicate::text from secretaria.increment_feature_usage(2, 'whatsapp_messages', 3, 'a key')", "true"),
        ("select used_after::text from secretaria.increment_feature_usage(2, 'whatsapp_messages', 1)", "4"),
        ("set role secretaria_api; set app.company_id = '2'; select name from public.reports", "b"),
        ("select count(*)::text from secretaria.feature_usage where company_id <> 2", "0"),
    ] {
        assert_eq!(outcome(&mut other, statement), Ok(vec![wanted.to_owned()]), "{statement}");
    }
    other.batch_execute("reset role").expect("reset");
    assert_eq!(outcome(&mut other, "insert into public.reports values (3, 'c')"), Err("42501".to_owned()));
    session.batch_execute(&format!("drop role {backup}")).expect("the role is dropped");
    look(&mut other);
}
