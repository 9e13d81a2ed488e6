//! From any released version to this one, and what sessions that are open meanwhile notice of it: nothing.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use postgres::Client;

use crate::support::{Database, agree, database, lines, outcome, stat};

/// Everything the extension owns, as the catalogue has it.
fn owned(session: &mut Client) -> Vec<String> {
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

fn go_back_to(database: &Database, version: &str) {
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
    let Some(database) = database() else { return };
    go_back_to(&database, "0.1.0");
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

    owner.batch_execute("alter extension secretaria update").expect("nobody is waited for");

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
fn open_sessions_go_on_when_the_extension_is_dropped_and_made_anew() {
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
        assert!(session.query_one(&unqualified, &[]).expect("the reference answers").get::<_, bool>(0));
        assert_eq!(outcome(&mut session, SEND), Ok(vec!["true".to_owned()]));
        owner.batch_execute("create extension secretaria").expect("made anew");
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
