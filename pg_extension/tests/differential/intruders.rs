//! Logins that may little, at the doors of both twins: neither says a word about another's company.

use postgres::{Client, Config, NoTls};

use crate::support::database;

/// What is tried, with a twin's schema for `{twin}`. None returns a row unless it worked.
const ATTEMPTS: &[&str] = &[
    "select {twin}.check_feature_access(1, 'agents')",
    "select {twin}.check_feature_access(1, 'agents', 0, now() - interval '1 day')",
    "select {twin}.check_feature_access(1, 'no_such_feature')",
    "select {twin}.check_feature_access(404, 'agents')",
    "select 'yes' where {twin}.has_feature(1, 'agents')",
    "select 'yes' where {twin}.has_feature(1, 'data_export')",
    "select {twin}.check_feature_access_many(1, array['agents', 'ai_tokens'])",
    "select {twin}.check_feature_access_many(1, '{}')",
    "set app.company_id = '1'; select {twin}.check_feature_access(1, 'agents')",
    "set app.company_id = ' 01 '; select 'yes' where {twin}.has_feature(1, 'agents')",
    "set role secretaria_service; select {twin}.check_feature_access(1, 'agents')",
    "set session authorization postgres; select {twin}.check_feature_access(1, 'agents')",
    "set secretaria.test_now = '2099-01-01'; select {twin}.check_feature_access(1, 'agents')",
    "set secretaria.location_cache = off; select {twin}.check_feature_access(1, 'agents')",
    // Only a role that may ask for a row remembers its place.
    "select {twin}.check_feature_access(2, 'agents') where false; select 'yes' where {twin}.has_feature(1, 'agents')",
    "create function pg_temp.mine(bigint) returns boolean security definer language sql
       as 'select {twin}.has_feature($1, ''agents'')'; select 'yes' where pg_temp.mine(1)",
    "create function pg_temp.outer_role() returns name language sql as 'select ''secretaria_service''::name';
     set search_path = pg_temp, secretaria; select {twin}.check_feature_access(1, 'agents')",
    "create temporary table company_roles as select 1::bigint as company_id, current_user::name as role_name;
     set search_path = pg_temp, secretaria; select {twin}.check_feature_access(1, 'agents')",
    "create temporary table feature_usage as select 1::bigint as company_id, 'agents'::text as feature, true as allowed;
     set search_path = pg_temp, secretaria; select 'yes' where {twin}.has_feature(1, 'agents')",
    "create function pg_temp.same(bigint, bigint) returns boolean language sql as 'select true';
     create operator pg_temp.= (leftarg = bigint, rightarg = bigint, function = pg_temp.same);
     set search_path = pg_temp, secretaria; select {twin}.check_feature_access(1, 'agents')",
    "create domain pg_temp.company as bigint; select {twin}.check_feature_access(1::pg_temp.company, 'agents')",
    "create type pg_temp.whose as enum ('ours');
     create function pg_temp.number(pg_temp.whose) returns bigint language sql as 'select 1::bigint';
     create cast (pg_temp.whose as bigint) with function pg_temp.number(pg_temp.whose) as implicit;
     select 'yes' where {twin}.has_feature('ours'::pg_temp.whose, 'agents')",
    "create temporary table mine as select 1::bigint as company_id; alter table mine enable row level security;
     alter table mine force row level security;
     create policy ask on mine using ({twin}.has_feature(company_id, 'agents')); select 1 from mine",
    "create temporary table mine (yes boolean default {twin}.has_feature(1, 'agents'));
     insert into mine default values; select 1 from mine where yes",
    "create temporary view mine as select {twin}.has_feature(n, 'agents') as yes from generate_series(1, 1) n;
     select 1 from mine where yes",
    "prepare ask (bigint) as select {twin}.check_feature_access($1, 'agents'); execute ask (1)",
    "create function pg_temp.mine(bigint, text) returns boolean language c as 'secretaria', 'secretaria_has_feature';
     select 1",
    "alter function {twin}.has_feature(bigint, text) owner to current_user; select 1",
    "drop function {twin}.has_feature(bigint, text); select 1",
    "drop extension secretaria; select 1",
    "alter extension secretaria update; select 1",
];

/// A login of company 2, one of no company, one of a company that is gone, and who reads reports. The roles are the
/// whole server's, so they are named apart.
struct Logins {
    names: [String; 3],
}

impl Logins {
    fn make(owner: &mut Client, test: &str) -> Self {
        let names = ["ours", "other", "gone"].map(|it| format!("intruder_{}_{test}_{it}", std::process::id()));
        for name in &names {
            let make =
                format!("create role {name} login; grant usage on schema secretaria, secretaria_reference to {name}");
            owner.batch_execute(&make).expect("the role is made");
        }
        let ours = format!("insert into secretaria.company_roles (company_id, role_name) values (2, '{}')", names[0]);
        owner.batch_execute(&ours).expect("it speaks for company 2");
        Self { names }
    }

    fn drop(&self, owner: &mut Client) {
        let names = self.names.join(", ");
        owner.batch_execute(&format!("drop owned by {names}; drop role {names}")).expect("the roles are dropped");
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's own setting")]
fn log_in(database: &str, role: &str) -> Client {
    let server = std::env::var("SECRETARIA_TEST_POSTGRES").expect("there is a database, so there is an address");
    let mut server: Config = server.parse().expect("an address");
    server.dbname(database).user(role).connect(NoTls).expect("the login is let in")
}

/// What somebody got who should get nothing.
fn attempt(session: &mut Client, script: &str) -> Option<String> {
    match session.simple_query(script) {
        Ok(answers) => {
            let rows = crate::support::lines(answers);
            (!rows.is_empty()).then(|| format!("got {rows:?}"))
        }
        Err(problem) => {
            let code = problem.code().map(|it| it.code().to_owned());
            (code.as_deref() != Some("42501")).then(|| format!("met {problem:?}"))
        }
    }
}

#[test]
fn no_login_learns_anything_of_another_company_from_either_twin() {
    let Some(database) = database() else { return };
    let mut owner = database.session();
    let logins = Logins::make(&mut owner, "doors");
    let name: String = owner.query_one("select current_database()::text", &[]).expect("answered").get(0);
    let mut succeeded = Vec::new();
    for role in logins.names.iter().map(String::as_str).chain(["secretaria_api"]) {
        for script in ATTEMPTS {
            // The API may name any company: the service checks which one its caller may name.
            if role == "secretaria_api" && script.contains("set app.company_id") {
                continue;
            }
            for twin in ["secretaria", "secretaria_reference"] {
                let script = script.replace("{twin}", twin);
                // A session of its own each: an attempt may leave things behind.
                let got = attempt(&mut log_in(&name, role), &script);
                succeeded.extend(got.map(|it| format!("{role} {it}: {script}")));
            }
        }
    }
    // What they may ask, they may: the doors are not merely shut.
    let own = "select secretaria.has_feature(2, 'data_export') and secretaria_reference.has_feature(2, 'data_export')";
    let may: bool = log_in(&name, &logins.names[0]).query_one(own, &[]).expect("answered").get(0);
    logins.drop(&mut owner);
    assert!(succeeded.is_empty(), "{}:\n{}", succeeded.len(), succeeded.join("\n"));
    assert!(may, "its own company is refused too, so this proved nothing");
    assert!(ATTEMPTS.len() >= 20);
}

/// A session that asked as a role with more rights keeps its plans and its remembered places, and not those rights.
#[test]
fn a_session_that_becomes_somebody_else_keeps_no_right_of_before() {
    let Some(database) = database() else { return };
    let mut owner = database.session();
    let logins = Logins::make(&mut owner, "before");
    let mut session = database.session();
    let statements = ["secretaria", "secretaria_reference"].map(|twin| {
        let check = format!("select ({twin}.check_feature_access($1, 'agents')).allowed is not null");
        let many =
            format!("select count(*) > 0 from {twin}.check_feature_access_many($1, array['agents', 'ai_tokens'])");
        let has = format!("select {twin}.has_feature($1, 'agents') or {twin}.has_feature($1, 'data_export')");
        [check, many, has].map(|it| session.prepare(&it).expect("prepared"))
    });
    let mut got = Vec::new();
    for role in ["none", "secretaria_service", &logins.names[0], &logins.names[1], "none", &logins.names[2]] {
        session.batch_execute(&format!("set role {role}")).expect("set role");
        for twin in &statements {
            let mut answers = Vec::new();
            for statement in twin {
                for company in [1_i64, 2] {
                    // Often enough for the plan to be kept.
                    for _ in 0..7 {
                        let answer = session.query_one(statement, &[&company]);
                        answers.push(answer.map_or_else(
                            |problem| problem.code().map_or("lost", |code| code.code()).to_owned(),
                            |row| row.get::<_, bool>(0).to_string(),
                        ));
                    }
                }
            }
            answers.dedup();
            got.push((role.to_owned(), answers.join(" ")));
        }
    }
    session.batch_execute("reset role").expect("reset");
    drop(session);
    logins.drop(&mut owner);
    for (role, answers) in got {
        let expected = match role {
            it if it == "none" || it == "secretaria_service" => "true",
            it if it == logins.names[0] => "42501 true 42501 true false true",
            _ => "42501 false",
        };
        assert_eq!(answers, expected);
    }
}
