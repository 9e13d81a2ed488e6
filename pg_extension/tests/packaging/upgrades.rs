//! From any released version to this one, and what sessions that are open meanwhile notice of it: nothing.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use postgres::Client;

use crate::support::{Database, agree, database, lines, outcome, stat};

/// Everything the extension owns, as the catalogue has it.
pub(crate) fn owned(session: &mut Client) -> Vec<String> {
    let owned = "
        select concat_ws(E'\\n', pg_describe_object(d.classid, d.objid, 0), pg_get_functiondef(p.oid), p.proowner::regrole,
          p.proacl, p.procost, obj_description(p.oid, 'pg_proc'))
        from pg_depend d
        left join pg_proc p on p.oid = d.objid and d.classid = 'pg_proc'::regclass
        where d.refclassid = 'pg_extension'::regclass
          and d.refobjid = (select oid from pg_extension where extname = 'secretaria')
          and d.deptype = 'e'
        union all
        select concat_ws(' ', extversion, extowner::regrole, extnamespace::regnamespace, extrelocatable, extconfig)
        from pg_extension
        where extname = 'secretaria'
        order by 1";
    lines(session.simple_query(owned).expect("listed"))
}

/// The versions with a script that installs them.
fn versions() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sql");
    let mut versions: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("it can be listed").file_name().into_string().expect("a plain name"))
        .filter_map(|name| Some(name.strip_prefix("secretaria--")?.strip_suffix(".sql")?.to_owned()))
        .filter(|version| !version.contains("--"))
        .collect();
    versions.sort();
    versions
}

pub(crate) fn go_back_to(database: &Database, version: &str) {
    let install = format!("drop extension secretaria; create extension secretaria version '{version}'");
    database.session().batch_execute(&install).unwrap_or_else(|error| panic!("{version}: {error:?}"));
}

#[test]
fn an_updated_extension_is_what_a_new_one_is() {
    let Some(fresh) = database() else { return };
    let wanted = owned(&mut fresh.session());
    assert!(wanted.len() > 30, "{wanted:#?}");
    let versions = versions();
    assert_eq!(versions.last().map(String::as_str), Some(env!("CARGO_PKG_VERSION")), "the newest is this one");
    assert!(versions.len() > 1);
    for version in versions {
        let Some(database) = database() else { return };
        go_back_to(&database, &version);
        let mut session = database.session();
        session.batch_execute("alter extension secretaria update").expect("updated");
        assert_eq!(owned(&mut session), wanted, "from {version}");
        agree(&mut session);
    }
}

/// Company 2 sends a message, by whatever function is found first.
const SEND: &str = "select accepted::text from increment_feature_usage(2, 'whatsapp_messages', 1)";

#[test]
fn open_sessions_go_on_while_the_extension_is_updated() {
    for version in versions().iter().filter(|it| *it != env!("CARGO_PKG_VERSION")) {
        open_sessions_go_on_while_it_is_updated_from(version);
    }
}

fn open_sessions_go_on_while_it_is_updated_from(version: &str) {
    let Some(database) = database() else { return };
    go_back_to(&database, version);
    let mut owner = database.session();
    let mut sessions: Vec<_> = (0..3).map(|_| database.session()).collect();
    for session in &mut sessions {
        session.batch_execute("set search_path = secretaria, secretaria_reference, public").expect("set");
        agree(session);
    }
    let [idle, within, prepared] = sessions.as_mut_slice() else { unreachable!("there are three") };
    within.batch_execute("begin isolation level repeatable read").expect("begun");
    agree(within);
    let check = prepared.prepare("select remaining from check_feature_access($1, $2)").expect("prepared");
    let send = prepared.prepare(SEND).expect("prepared");
    let remaining = |session: &mut Client| -> Option<i64> {
        session.query_one(&check, &[&2_i64, &"whatsapp_messages"]).expect("answered").get(0)
    };
    let before = remaining(prepared);

    owner.batch_execute("alter extension secretaria update").expect("it waits for no session");

    assert_eq!(remaining(prepared), before);
    for session in [&mut *idle, &mut *within] {
        agree(session);
    }
    // What is new is there for every one of them.
    assert_eq!(outcome(within, SEND), Ok(vec!["true".to_owned()]));
    agree(within);
    within.batch_execute("commit").expect("committed");
    assert_eq!(outcome(idle, SEND), Ok(vec!["true".to_owned()]));
    prepared.query_one(&send, &[]).expect("answered");
    assert_eq!(remaining(prepared), before.map(|remaining| remaining - 3));
    for session in &mut sessions {
        agree(session);
    }
}

#[test]
fn open_sessions_go_on_when_the_extension_is_dropped_and_created_again() {
    let Some(database) = database() else { return };
    let (mut owner, mut session) = (database.session(), database.session());
    session.batch_execute("set search_path = secretaria, secretaria_reference, public").expect("set");
    agree(&mut session);
    let unqualified = session.prepare("select has_feature(1, 'agents')").expect("prepared");
    let ask = "select secretaria.has_feature(1, 'agents')";
    for _ in 0..3 {
        let hits = stat(&mut session, "hits");
        assert!(session.query_one(&unqualified, &[]).expect("answered").get::<_, bool>(0));
        assert!(stat(&mut session, "hits") > hits, "the extension did not answer");
        owner.batch_execute("drop extension secretaria").expect("dropped");
        assert_eq!(outcome(&mut session, ask), Err("42883".to_owned()));
        assert!(session.query_one(&unqualified, &[]).expect("PL/pgSQL answers").get::<_, bool>(0));
        assert_eq!(outcome(&mut session, SEND), Ok(vec!["true".to_owned()]));
        owner.batch_execute("create extension secretaria").expect("created again");
        agree(&mut session);
        assert_eq!(outcome(&mut session, SEND), Ok(vec!["true".to_owned()]));
        let again = session.prepare("select has_feature(1, 'agents')").expect("prepared");
        assert!(session.query_one(&again, &[]).expect("answered").get::<_, bool>(0));
        session.batch_execute("discard plans").expect("discarded");
    }
}

/// A copy of the library in a place of its own, gone with its value.
struct Older(PathBuf);

impl Older {
    fn of(session: &mut Client) -> Self {
        let folder = "select setting from pg_config where name = 'PKGLIBDIR'";
        let folder: String = session.query_one(folder, &[]).expect("the server says where").get(0);
        let copy = std::env::temp_dir().join(format!("secretaria-older-{}.so", std::process::id()));
        std::fs::copy(Path::new(&folder).join("secretaria.so"), &copy).expect("copied");
        std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755)).expect("the server may read it");
        Self(copy)
    }
}

impl Drop for Older {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_session_may_hold_the_library_of_another_release_beside_this_one() {
    let Some(database) = database() else { return };
    let mut owner = database.session();
    let older = Older::of(&mut owner);
    // As after an update under an open session: checks are answered by the library it has, bindings by the new one.
    let checks = format!(
        "do $do$
         declare
           declaration text;
         begin
           for declaration in
             select pg_get_functiondef(p.oid)
             from pg_proc p
             where p.pronamespace = 'secretaria'::regnamespace and p.probin = '$libdir/secretaria'
           loop
             execute replace(declaration, $q$'$libdir/secretaria'$q$, $q$'{}'$q$);
           end loop;
         end $do$",
        older.0.display()
    );
    owner.batch_execute(&checks).expect("checks are the copy's");
    for checks_first in [true, false] {
        let mut session = database.session();
        session.batch_execute("set search_path = secretaria, secretaria_reference, public").expect("set");
        if checks_first {
            agree(&mut session);
        }
        assert_eq!(outcome(&mut session, SEND), Ok(vec!["true".to_owned()]));
        agree(&mut session);
        let setting = "select count(*)::text from pg_settings where name like 'secretaria.%'";
        assert_eq!(outcome(&mut session, setting), Ok(vec!["4".to_owned()]));
    }
}

/// Which PL/pgSQL functions a statement runs, as the server counts them.
fn ran(session: &mut Client, statement: &str) -> String {
    session.batch_execute("begin; set local track_functions = 'pl'").expect("begun");
    assert_eq!(outcome(session, statement), Ok(vec!["true".to_owned()]), "{statement}");
    let ran = "select string_agg(funcname, ' ' order by funcname) from pg_stat_xact_user_functions
        where schemaname = 'secretaria_reference'";
    let ran = session.query_one(ran, &[]).expect("told").get(0);
    session.batch_execute("rollback").expect("rolled back");
    ran
}

const SETTINGS: &str = "set search_path = secretaria, secretaria_reference, public; set secretaria.slots = 'off'";

/// Between the installation of this library and `alter extension … update`, which may be long.
#[test]
fn a_database_that_is_still_on_the_release_before_is_served_by_this_library() {
    for version in versions() {
        let Some(database) = database() else { return };
        go_back_to(&database, &version);
        let mut session = database.session();
        session.batch_execute(SETTINGS).expect("set");
        agree(&mut session);
        // 0.1.0 has no increments: an unqualified call finds those in PL/pgSQL.
        let expected = match version.as_str() {
            "0.1.0" => "_increment_fast_path increment_feature_usage",
            _ => "_increment_fast_path",
        };
        assert_eq!(ran(&mut session, SEND), expected, "{version}");
        for key in ["one", "two"] {
            let send = SEND.replace(", 1)", &format!(", 1, '{key}')"));
            assert_eq!(outcome(&mut session, &send), Ok(vec!["true".to_owned()]), "{version}");
        }
        let used = "select used::text from check_feature_access(2, 'whatsapp_messages')";
        assert_eq!(outcome(&mut session, used), Ok(vec!["2".to_owned()]), "{version}");
        agree(&mut session);
    }
}

/// Gives the functions that this library calls the names that they had with 0.2.0.
const FORMER_NAMES: &str = "
    do $do$
    declare
      renamed regprocedure;
    begin
      for renamed in
        select p.oid
        from pg_proc p
        where p.pronamespace = 'secretaria_reference'::regnamespace
          and p.proname in ('_increment_fast_path', '_increment_slow_path', 'increment_feature_usage')
      loop
        execute replace(replace(pg_get_functiondef(renamed),
          '_increment_fast_path', '_increment_plainly'), '_increment_slow_path', '_increment_fully');
      end loop;
      drop function secretaria_reference._increment_fast_path, secretaria_reference._increment_slow_path;
    end
    $do$";

/// Between the installation of this library and `secretaria migrate`.
#[test]
fn functions_of_the_release_before_are_called_without_the_fast_path() {
    let Some(database) = database() else { return };
    go_back_to(&database, "0.2.0");
    let (mut owner, mut before) = (database.session(), database.session());
    before.batch_execute(SETTINGS).expect("set");
    assert_eq!(ran(&mut before, SEND), "_increment_fast_path");
    owner.batch_execute(FORMER_NAMES).expect("renamed");
    let mut after = database.session();
    after.batch_execute(SETTINGS).expect("set");
    for session in [&mut before, &mut after] {
        assert_eq!(ran(session, SEND), "_increment_plainly increment_feature_usage");
        agree(session);
    }
}
