//! Counters with shards are answered as PL/pgSQL answers them.

#[expect(dead_code, reason = "other tests use the rest")]
mod support;

use support::{agree, database};

#[test]
fn what_shards_have_used_counts() {
    let Some(database) = database() else { return };
    let (mut reader, mut writer, mut open) = (database.session(), database.session(), database.session());
    writer.batch_execute("set secretaria.slots = 'on'").expect("set");
    open.batch_execute("begin isolation level repeatable read; select 1").expect("begin");
    agree(&mut open);
    let used = "select used from secretaria.check_feature_access(2, 'whatsapp_messages')";
    for round in 1..=30_i64 {
        let increment = "select accepted from secretaria_reference.increment_feature_usage(2, 'whatsapp_messages', 5)";
        assert!(writer.query_one(increment, &[]).expect("counted").get::<_, bool>(0));
        assert_eq!(reader.query_one(used, &[]).expect("answered").get::<_, i64>(0), 5 * round);
        agree(&mut reader);
        agree(&mut open);
    }
    let given = "select lent from secretaria.feature_usage
        where company_id = 2 and feature = 'whatsapp_messages' and slot = 0";
    assert!(
        writer.query_one(given, &[]).expect("there").get::<_, i64>(0) > 0,
        "no shard got headroom, so nothing was shown"
    );
    writer.batch_execute("begin").expect("begin");
    let set = "select accepted from secretaria_reference.set_feature_usage(2, 'whatsapp_messages', 7, 'test')";
    writer.query_one(set, &[]).expect("set");
    agree(&mut writer);
    agree(&mut reader);
    writer.batch_execute("commit").expect("commit");
    agree(&mut reader);
    agree(&mut open);
    assert_eq!(reader.query_one(used, &[]).expect("answered").get::<_, i64>(0), 7);
    assert_eq!(open.query_one(used, &[]).expect("answered").get::<_, i64>(0), 0, "its snapshot is from before");
}
