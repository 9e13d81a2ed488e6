//! A company's own login, while the tables change that it is answered from.

use crate::support::{database, outcome};

#[test]
fn a_companys_own_login_survives_changes_of_the_tables_definition() {
    let Some(database) = database() else { return };
    let (mut reader, mut owner) = (database.session(), database.session());
    let role = format!("reads_{}_login", std::process::id());
    owner
        .batch_execute(&format!(
            "create role {role}; grant usage on schema secretaria, secretaria_reference to {role};
             insert into secretaria.company_roles (company_id, role_name) values (2, '{role}')"
        ))
        .expect("the role is made");
    // Who it is takes another table, which is opened before the one that changes; and the index is searched each time.
    reader.batch_execute(&format!("set secretaria.location_cache = off; set role {role}")).expect("set");
    let ask = |schema: &str| {
        format!("select regexp_replace(({schema}.check_feature_access(2, 'agents'))::text, '\"[^\"]*\"\\)$', '')")
    };
    let mut answers = Vec::new();
    for change in [
        "select",
        "reindex table concurrently secretaria.feature_usage",
        "alter table secretaria.feature_usage rename soft to was_soft;
         alter table secretaria.feature_usage add soft boolean not null default true",
    ] {
        owner.batch_execute(change).expect(change);
        let answer = outcome(&mut reader, &ask("secretaria"));
        assert_eq!(answer, outcome(&mut reader, &ask("secretaria_reference")), "{change}");
        answers.push(answer);
    }
    assert!(answers[0].is_ok() && answers[0] == answers[1] && answers[1] != answers[2], "{answers:?}");
    drop(reader);
    owner.batch_execute(&format!("drop owned by {role}; drop role {role}")).expect("the role is dropped");
}
