//! What was released stays as it was released: existing databases were made by it.

use std::process::Command;

use super::{files, nothing_in, root, run};

const MIGRATIONS: &str = "sql/migrations/";

/// What was released, by what `git hash-object` says of it: migrations, and scripts of the extension. A release adds
/// lines, and changes none.
const RELEASED: &[(&str, &str)] = &[
    ("sql/migrations/V0001__create_roles_and_schema.sql", "ca61693fd15ab4650456554b94191fd3615251d4"),
    ("sql/migrations/V0002__create_companies.sql", "855176645b2c77bf448dbafa6345fb7bf2b65514"),
    ("sql/migrations/V0003__create_pipeline.sql", "64f43f4038aebc01e1dbcf9879feafd3d48e9843"),
    ("sql/migrations/V0004__create_conversations.sql", "7c8a8ec72f1d7db433938ad1788e1bd34cb7d3be"),
    ("sql/migrations/V0005__create_deliveries.sql", "d649433128276f284d262a197fe4999b5fcae151"),
    ("sql/migrations/V0006__create_usage.sql", "c7e81ed71279121e22c6165daece82cead954fd9"),
    ("sql/migrations/V0007__restrict_rows_by_company.sql", "3706b7a482f9a897d15ec573b0f3629b3fe6be98"),
    ("sql/migrations/V0008__create_catalogue_and_plans.sql", "7ad7aa0b32014606a12650a66cd4d653d6d27420"),
    ("sql/migrations/V0009__create_subscriptions.sql", "48d1e558091b91662858ad189720972cdba062aa"),
    ("sql/migrations/V0010__create_feature_usage.sql", "f297fe2316c6510e3ae6c473627e4883c97d9556"),
    ("sql/migrations/V0011__restrict_entitlements_by_company.sql", "c3cdc2fdb852b3a6b68b9e5807e790fc67fe1dd9"),
    ("sql/migrations/V0012__seed_catalogue_and_starter_plan.sql", "59fc0daac2a7c7fd8c887128f9484ce6ef9e8d27"),
    ("sql/migrations/V0013__share_hot_limits.sql", "b6eaea2b20b643e84c936ee64d176a153eb586d2"),
    ("sql/migrations/V0014__create_webhooks.sql", "393ad6c1227cf67e9ed6f50a8a7149a8183b3c18"),
    ("sql/migrations/V0015__keep_what_periods_took_from_credits.sql", "44424c482f98038236b100d4aa87bddcd721f999"),
    ("sql/migrations/V0016__restrict_partitions_and_remember_alerts.sql", "b333472b7470536d00a5ae63daf16166e2416c39"),
    ("sql/migrations/V0017__remember_signatures.sql", "0b436dd02e3f111851f79567cc0a806c06c95977"),
    ("sql/migrations/V0018__account_by_offset_range.sql", "e9ca534f26b7b081d4c4aea1aa48149f9c6e4f32"),
    ("sql/migrations/V0019__create_job_queue.sql", "b511ad31133da77b79f17534eb7d99b0e583fe7d"),
    ("sql/migrations/V0020__move_work_to_jobs.sql", "a04fa18dcc378304507610d837ceea9d057b558e"),
    ("pg_extension/sql/secretaria--0.1.0--0.2.0.sql", "74307481bce6a3475750e99bf67e1cffd43a8690"),
    ("pg_extension/sql/secretaria--0.2.0.sql", "9702793bb85db2d3076099575a65bcc9a49493f4"),
    ("pg_extension/sql/secretaria--0.1.0.sql", "2143e46302cb54322dede17857323a633b742691"),
];

#[test]
fn no_released_migration_or_script_of_the_extension_is_ever_edited() {
    let hash = |path: &str| run(Command::new("git").args(["hash-object", path])).trim().to_owned();
    let edited = RELEASED.iter().filter_map(|(path, released)| match root().join(path).is_file() {
        true if hash(path) == *released => None,
        true => Some(format!("{path} was released as {released}: a change needs a new migration or version")),
        false => Some(format!("{path} was released, and is gone")),
    });
    nothing_in(edited);
}

#[test]
fn releases_take_migrations_in_their_order_and_leave_none_out() {
    let released: Vec<&str> = RELEASED.iter().map(|(path, _)| *path).filter(|it| it.starts_with(MIGRATIONS)).collect();
    let found: Vec<&str> = files().map(|it| it.path.as_str()).filter(|it| it.starts_with(MIGRATIONS)).collect();
    assert!(released.len() >= 20, "a release is missing: {released:?}");
    assert_eq!(released, found[..released.len()], "RELEASED lists the first migrations, in order");
}

#[test]
fn every_version_before_the_newest_is_released_and_leads_to_it() {
    let control = std::fs::read_to_string(root().join("pg_extension/secretaria.control")).unwrap();
    let newest = control.lines().find_map(|it| it.strip_prefix("default_version = '")).unwrap().trim_end_matches('\'');
    let manifest = std::fs::read_to_string(root().join("pg_extension/Cargo.toml")).unwrap();
    assert!(manifest.contains(&format!("version = \"{newest}\"")), "the library and its control file differ");
    let scripts: Vec<_> =
        files().filter_map(|it| it.path.strip_prefix("pg_extension/sql/secretaria--")?.strip_suffix(".sql")).collect();
    assert!(scripts.contains(&newest), "{newest} has no script that installs it");
    // A script belongs to the version that it ends in.
    let of_older = scripts.iter().filter(|it| it.rsplit("--").next() != Some(newest));
    nothing_in(of_older.filter_map(|it| {
        let path = format!("pg_extension/sql/secretaria--{it}.sql");
        (!RELEASED.iter().any(|(released, _)| *released == path)).then(|| format!("{path} is not in RELEASED"))
    }));
    let installing = scripts.iter().filter(|it| !it.contains("--") && **it != newest);
    nothing_in(installing.filter_map(|it| {
        let leads = scripts.iter().any(|script| script.starts_with(&format!("{it}--")));
        (!leads).then(|| format!("no script leads on from {it}"))
    }));
}
