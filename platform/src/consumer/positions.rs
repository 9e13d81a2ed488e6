//! Committed offsets against what is read: records below them, gaps, and partitions that another process moved.

use super::*;

impl<I: Handler> Consumer<I> {
    pub(super) async fn move_offsets(
        &self,
        tx: &Transaction<'_>,
        batch: &[Record],
    ) -> Result<HashMap<TopicPartition, i64>, CommitError> {
        let steps = store::steps(batch, &self.positions());
        let moved = store::move_offsets(tx, I::PROCESSOR, &steps).await.map_err(Failure::from)?;
        if moved.len() == steps.len() {
            return Ok(moved);
        }
        // Somebody else has read on, or an earlier commit of ours succeeded without our hearing of it.
        let partitions: Vec<TopicPartition> = steps.iter().map(|it| it.at).collect();
        Err(CommitError::OffsetsMoved(store::load(tx, I::PROCESSOR, &partitions).await.map_err(Failure::from)?))
    }

    /// Holds back what must not be taken in: records below where Postgres stands are not repeats, because reading
    /// begins there. They say that the topic was made anew under an old database. Skipping them would lose what was
    /// accepted, so that partition stops until an operator has decided.
    pub(super) fn skip_below_committed(&self, batch: &mut Batch) {
        let mut stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let positions = self.positions();
        let next = |record: &Record| positions.get(&record.at()).copied().unwrap_or(i64::MIN);
        for record in batch.iter() {
            let next = next(record);
            // What was read before the partition last changed hands is a repeat after all, and says nothing of the log.
            if record.offset < next && self.reader.still_owns(record) && stopped.insert(record.at()) {
                tracing::error!(
                    processor = %I::PROCESSOR, partition = %record.at(), offset = record.offset, next,
                    "partition is stopped: topic was recreated and ends below the committed offset, see docs/OPERATING.md"
                );
            }
        }
        gauge!(metric::CONSUMER_STOPPED, "processor" => I::PROCESSOR.as_str()).set(stopped.len() as f64);
        batch.retain(|record| !stopped.contains(&record.at()) && record.offset >= next(record));
    }

    /// A batch begins where Postgres stands. One that begins later is read again from there, once: offsets that hold no
    /// record are rare and harmless, and a skipped record is neither.
    pub(super) fn seek_back_over_gaps(&self, batch: &mut Batch) {
        let mut gaps = HashMap::new();
        let mut seen = HashSet::new();
        for record in batch.iter().filter(|record| seen.insert(record.at())) {
            let position = self.positions().get(&record.at()).copied();
            let mut looked_at = self.gaps.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(next) = position.filter(|next| record.offset > *next)
                && looked_at.insert(record.at(), next) != Some(next)
            {
                gaps.insert(record.at(), next);
            }
        }
        for (&partition, &next) in &gaps {
            tracing::warn!(processor = %I::PROCESSOR, %partition, next, "offsets are missing: seeking back to the committed offset");
            self.reader.seek(partition, next);
        }
        batch.retain(|record| !gaps.contains_key(&record.at()));
    }

    /// Nothing of these records was committed: each of their partitions is read again from where Postgres stands, or
    /// from the first of them where it does not stand anywhere yet.
    pub(super) fn seek_to_committed(&self, records: &[Record], moved: &HashMap<TopicPartition, i64>) {
        let mut from = HashMap::new();
        for record in records {
            from.entry(record.at()).or_insert(record.offset);
        }
        for (partition, first) in from {
            let known = self.positions().get(&partition).copied();
            let next = moved.get(&partition).copied().or(known).unwrap_or(first);
            tracing::info!(processor = %I::PROCESSOR, %partition, next, "seeking to the committed offset");
            if moved.contains_key(&partition) {
                self.positions().insert(partition, next);
            }
            self.reader.seek(partition, next);
        }
    }

    /// Notes where partitions stand after a commit. One that has changed hands since was asked for anew, and what was
    /// heard then holds: it may be older, and the next compare-and-set puts that right.
    pub(super) fn remember(&self, batch: &[Record], next: HashMap<TopicPartition, i64>) {
        let ours = |at: &TopicPartition| batch.iter().any(|it| it.at() == *at && self.reader.still_owns(it));
        self.positions().extend(next.into_iter().filter(|(at, _)| ours(at)));
    }

    pub(super) fn positions(&self) -> std::sync::MutexGuard<'_, HashMap<TopicPartition, i64>> {
        self.positions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
