//! How a company is named at a shell: by its domain or its id, and digits alone are an id.

use std::process::{Command, Output};

use secretaria::Settings;

use crate::support::database::Database;

/// Runs the binary with the settings of a test's database.
pub(crate) async fn secretaria(settings: &Settings, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_secretaria"));
    command
        .env_clear()
        .env("SECRETARIA__POSTGRES__OPERATOR_URL", settings.postgres.operator_url.expose())
        .env("SECRETARIA__KEYS__DIR", &settings.keys.dir)
        .args(args);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

#[tokio::test]
async fn digits_alone_are_an_id_even_where_a_domain_reads_the_same() {
    let Some(database) = Database::create().await else { return };
    let mut settings = Settings::default();
    database.configure(&mut settings);
    let root = database.connect().await;
    // Registered before that was refused; the company with the id 1 is there after the migrations.
    let sql = "insert into companies (company_id, domain, name) overriding system value values (7, '1', 'Um')";
    root.batch_execute(sql).await.unwrap();

    let url = "https://clinica.example/alerts";
    for (name, company) in [("1", 1_i64), ("default.local", 1), ("7", 7)] {
        root.batch_execute("delete from company_webhooks").await.unwrap();
        let done = secretaria(&settings, &["company", "webhook", "--company", name, "--url", url]).await;
        assert!(done.status.success(), "{name}: {done:?}");
        let rows = root.query("select company_id from company_webhooks", &[]).await.unwrap();
        assert_eq!(rows.iter().map(|it| it.get::<_, i64>(0)).collect::<Vec<_>>(), [company], "{name}");
    }
    let unknown = secretaria(&settings, &["company", "webhook", "--company", "8", "--url", url]).await;
    assert!(String::from_utf8(unknown.stderr).unwrap().contains("no company `8`"));

    // Every other command resolves its company in the same place.
    let quota = secretaria(&settings, &["quota", "--company", "1"]).await;
    assert!(String::from_utf8(quota.stdout).unwrap().contains("whatsapp_messages"), "company 7 has no plan");
}

#[tokio::test]
async fn a_domain_of_digits_alone_is_refused_when_it_is_new_and_warned_of_when_it_is_there() {
    let Some(database) = Database::create().await else { return };
    let mut settings = Settings::default();
    database.configure(&mut settings);
    let root = database.connect().await;
    let add = async |domain: &str| secretaria(&settings, &["company", "add", "--domain", domain]).await;
    let refused = add("12").await;
    assert!(!refused.status.success());
    let printed = String::from_utf8(refused.stderr).unwrap();
    assert!(printed.contains("domain: must not be digits alone, which name a company by its id"), "{printed}");
    let quiet = secretaria(&settings, &["company", "list"]).await;
    assert!(!String::from_utf8(quiet.stdout).unwrap().contains("warning"));

    let sql = "insert into companies (company_id, domain, name) overriding system value values (7, '12', 'Doze')";
    root.batch_execute(sql).await.unwrap();
    assert!(add("12").await.status.success(), "what is there can be changed");
    let listed = String::from_utf8(secretaria(&settings, &["company", "list"]).await.stdout).unwrap();
    let warning = "warning: `--company 12` is the company with the id 12; the one with that domain is 7";
    assert_eq!(listed.lines().last(), Some(warning));
}
