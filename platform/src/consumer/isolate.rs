//! A batch that failed because of one record: each record is committed by itself, and that one becomes a dead letter.
//!
//! At once if Postgres refuses its data (SQLSTATE class 22, 23 or 54). Another failure may be temporary, so such a record
//! is retried, and becomes a dead letter when it has failed alone `kafka.record_attempts` times while others succeeded.
//! A failure with a cause in the server or its administration never counts ([`Failure::may_blame_a_record`]).

use super::*;

/// Most records that become dead letters because they keep failing, without one that succeeds between them: beyond that
/// every record fails, so the fault is ours and not theirs.
const IN_A_ROW: u32 = 10;

impl<I: Handler> Consumer<I> {
    pub(super) async fn isolate(&self, mut left: Batch) {
        let mut attempts = HashMap::new();
        let mut wait = Duration::from_millis(50);
        loop {
            left = self.process_each(left, &mut attempts).await;
            if left.is_empty() {
                return;
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(Duration::from_secs(2)),
            }
            // When a record is dropped because its partition was revoked, so are all later records of that partition: it
            // may be assigned again any time, and they must not be committed past the dropped one.
            let gone: HashSet<TopicPartition> =
                left.iter().filter(|it| !self.reader.still_owns(it)).map(Record::at).collect();
            left.retain(|record| !gone.contains(&record.at()));
            attempts.retain(|partition, _| !gone.contains(partition));
            if attempts.values().any(|it| *it >= self.attempts) {
                // It has used its attempts and may not become a dead letter. Other partitions go on before its next read.
                return self.seek_to_committed(&left, &HashMap::new());
            }
        }
    }

    /// One attempt for each record, up to the first of its partition that fails. Returns what is left.
    async fn process_each(&self, batch: Batch, attempts: &mut HashMap<TopicPartition, u32>) -> Batch {
        let (mut failed, mut moved) = (HashSet::new(), HashSet::new());
        let mut left = Vec::new();
        let mut records = batch.into_iter();
        while let Some(record) = records.next() {
            let partition = record.at();
            if moved.contains(&partition) {
                continue;
            }
            if failed.contains(&partition) {
                left.push(record);
                continue;
            }
            match self.process_one(&record, attempts.entry(partition).or_default()).await {
                Ok(()) => drop(attempts.remove(&partition)),
                Err(CommitError::OffsetsMoved(to)) => {
                    self.seek_to_committed(std::slice::from_ref(&record), &to);
                    moved.insert(partition);
                    attempts.remove(&partition);
                }
                Err(CommitError::Postgres(failure)) => {
                    tracing::warn!(
                        processor = %I::PROCESSOR, %partition, offset = record.offset, error = chain(&failure),
                        "record failed, will be retried"
                    );
                    failed.insert(partition);
                    left.push(record);
                    if !failure.may_blame_a_record() {
                        left.extend(records.by_ref()); // The server is the cause, so the others would fail too.
                    }
                }
            }
        }
        left.retain(|record| !moved.contains(&record.at()));
        left
    }

    async fn process_one(&self, record: &Record, attempts: &mut u32) -> Result<(), CommitError> {
        let mut alone = vec![record.clone()];
        self.stop_recreated_partitions(&mut alone);
        if alone.is_empty() {
            return Ok(());
        }
        let failure = match self.commit(&alone).await {
            Ok(()) => {
                self.reset_dead_letter_streak();
                return Ok(());
            }
            Err(CommitError::Postgres(failure)) => failure,
            Err(moved) => return Err(moved),
        };
        if failure.blames_the_data() {
            let (partition, offset, error) = (record.at(), record.offset, chain(&failure));
            let cause = Cause { class: "refused_by_database".into(), detail: error.clone(), attempts: 1 };
            self.commit_dead_letter(record, cause).await?;
            tracing::error!(
                processor = %I::PROCESSOR, %partition, offset, error, "record is dead-lettered: postgres refuses it"
            );
            return Ok(());
        }
        if failure.may_blame_a_record() {
            *attempts += 1;
        }
        if *attempts < self.attempts || !failure.may_blame_a_record() {
            return Err(failure.into());
        }
        self.dead_letter_failing(record, failure, *attempts).await
    }

    /// Makes a dead letter of a record that keeps failing.
    async fn dead_letter_failing(&self, record: &Record, failure: Failure, attempts: u32) -> Result<(), CommitError> {
        let (partition, offset, error) = (record.at(), record.offset, chain(&failure));
        if self.dead_lettered_in_a_row.load(Ordering::Relaxed) >= IN_A_ROW {
            tracing::error!(
                processor = %I::PROCESSOR, %partition, offset, error,
                "record keeps failing and is not dead-lettered: no other record succeeded since the last {IN_A_ROW}"
            );
            return Err(failure.into());
        }
        let attempts_made = i32::try_from(attempts).unwrap_or(i32::MAX);
        let cause = Cause { class: "keeps_failing".into(), detail: error.clone(), attempts: attempts_made };
        self.commit_dead_letter(record, cause).await?;
        self.dead_lettered_in_a_row.fetch_add(1, Ordering::Relaxed);
        counter!(metric::CONSUMER_GIVEN_UP, "processor" => I::PROCESSOR.as_str()).increment(1);
        tracing::error!(
            processor = %I::PROCESSOR, %partition, offset, attempts, error,
            "record is dead-lettered: it failed alone {attempts} times"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::consumer::Ordering;
    use crate::consumer::tests::{consumer, counts, offsets, on, on_partition_4, outcomes, replayed, tokens, usage};
    use crate::tests::database::in_a_database;

    #[tokio::test]
    async fn an_event_that_postgres_refuses_is_dead_lettered_and_the_others_are_committed() {
        in_a_database(async |database| {
            let consumer = consumer(database);
            consumer.process_batch(vec![usage(10, 1), tokens(11, 2, "poison"), usage(12, 3)]).await;
            assert_eq!(outcomes(database).await, ["10 | done", "11 | dead_lettered", "12 | done"]);
            assert_eq!(counts(database).await, ["1 | 3 | 3 | 3 | 0 | 0"]);
            assert_eq!(offsets(database).await, ["3 | 10 | 13"]);
            let dead_letters =
                database.rows("select event_id, cause, encode(payload, 'escape') like '%poison%' from dead_letters");
            assert_eq!(dead_letters.await, ["00000000-0000-0000-0000-000000000002 | refused_by_database | t"]);

            // Refused once more when it comes back, it becomes a dead letter again; a mere repeat of it changes nothing.
            consumer.process_batch(vec![replayed(tokens(13, 2, "poison")), tokens(14, 2, "poison")]).await;
            assert_eq!(counts(database).await, ["1 | 3 | 5 | 3 | 1 | 1"]);
            assert_eq!(outcomes(database).await, ["10 | done", "11 | dead_lettered", "12 | done"]);
            assert_eq!(database.rows("select attempts from dead_letters").await, ["2"]);
            database.conserves().await;
        })
        .await;
    }

    #[tokio::test]
    async fn when_a_record_is_dropped_so_is_the_rest_of_its_partition() {
        in_a_database(async |database| {
            let consumer = consumer(database);
            let batch = vec![usage(10, 1), tokens(11, 2, "absent"), usage(12, 3), on_partition_4(7, 4)];
            let leave = async {
                while consumer.handler.failed.load(Ordering::Relaxed) < 6 {
                    tokio::task::yield_now().await;
                }
                consumer.reader.seek(on(3), 11);
            };
            tokio::join!(consumer.isolate(batch), leave);
            assert_eq!(
                offsets(database).await,
                ["3 | 10 | 11", "4 | 7 | 8"],
                "11 was not committed, so 12 is not either"
            );
            assert_eq!(database.rows("select from dead_letters").await, [""; 0], "a missing table empties no topic");
            database.conserves().await;
        })
        .await;
    }

    #[tokio::test]
    async fn a_record_that_keeps_failing_alone_becomes_a_dead_letter_and_the_others_are_committed() {
        in_a_database(async |database| {
            let consumer = consumer(database);
            consumer
                .process_batch(vec![usage(10, 1), tokens(11, 2, "raises"), usage(12, 3), on_partition_4(7, 4)])
                .await;
            assert_eq!(consumer.handler.failed.load(Ordering::Relaxed), 4, "once with the others, three times alone");
            assert_eq!(outcomes(database).await, ["7 | done", "10 | done", "11 | dead_lettered", "12 | done"]);
            assert_eq!(offsets(database).await, ["3 | 10 | 13", "4 | 7 | 8"]);
            assert_eq!(database.rows("select cause, attempts from dead_letters").await, ["keeps_failing | 3"]);
            database.conserves().await;
        })
        .await;
    }

    #[tokio::test]
    async fn when_every_record_fails_the_topic_is_not_emptied() {
        in_a_database(async |database| {
            let mut consumer = consumer(database);
            consumer.attempts = 1;
            let failing = |offset: i64| tokens(offset, offset as u128, "raises");
            consumer.process_batch((10..22).map(failing).collect()).await;
            assert_eq!(offsets(database).await, ["3 | 10 | 20"]);
            assert!(
                !consumer.reader.still_owns(&usage(20, 20)),
                "the rest is to be read again, after what others hold"
            );
            consumer.process_batch(vec![on_partition_4(7, 1)]).await;
            consumer.reader.own(&[on(3)]);
            consumer.process_batch((20..22).map(failing).collect()).await;
            assert_eq!(offsets(database).await, ["3 | 10 | 22", "4 | 7 | 8"], "others succeed, so it is these records");
            database.conserves().await;
        })
        .await;
    }
}
