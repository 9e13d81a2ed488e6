//! Which failures may be caused by a single record, on a real server.

use platform::postgres::{Db, Failure};

use super::database::in_a_database;

async fn raising(db: &Db, code: &str) -> Failure {
    let sql = format!("do $$ begin raise exception using errcode = '{code}', message = 'no'; end $$");
    db.get().await.unwrap().batch_execute(&sql).await.unwrap_err().into()
}

#[tokio::test]
async fn failures_of_the_server_or_its_administration_are_not_blamed_on_a_record() {
    in_a_database(async |database| {
        for code in [
            "08006", "25006", "25P02", "40001", "40P01", "42501", "42P01", "53100", "53300", "55P03", "57014", "57P01",
            "58030",
        ] {
            let failure = raising(&database.service, code).await;
            assert!(!failure.may_blame_a_record() && !failure.blames_the_data(), "{code}: {failure:?}");
        }
        for code in ["P0001", "XX000", "0A000", "21000", "38000", "44000"] {
            assert!(raising(&database.service, code).await.may_blame_a_record(), "{code}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_lost_connection_is_not_blamed_on_a_record() {
    in_a_database(async |database| {
        let client = database.service.get().await.unwrap();
        let lost = client.execute("select pg_terminate_backend(pg_backend_pid())", &[]).await.unwrap_err();
        let after = client.execute("select", &[]).await.unwrap_err();
        for failure in [Failure::from(lost), Failure::from(after)] {
            assert!(!failure.may_blame_a_record() && !failure.blames_the_data(), "{failure:?}");
        }
    })
    .await;
}
