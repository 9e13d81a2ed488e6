//! Compares committed offsets with the records read: records below them, gaps, and partitions that another process moved.

use super::*;

impl<I: Handler> Consumer<I> {
    pub(super) async fn move_offsets(
        &self,
        tx: &Transaction<'_>,
        batch: &[Record],
    ) -> Result<HashMap<TopicPartition, i64>, CommitError> {
        let steps = store::steps(batch, &self.committed_offsets());
        let moved = store::move_offsets(tx, I::PROCESSOR, &steps).await.map_err(Failure::from)?;
        if moved.len() == steps.len() {
            return Ok(moved);
        }
        // Another process has moved them, or an earlier commit of ours succeeded without an answer reaching us.
        let partitions: Vec<TopicPartition> = steps.iter().map(|it| it.at).collect();
        Err(CommitError::OffsetsMoved(store::load(tx, I::PROCESSOR, &partitions).await.map_err(Failure::from)?))
    }

    /// Drops records below the committed offset. They are not repeats, because reading starts at that offset: the topic
    /// was recreated while the database was kept. Skipping them would lose accepted events, so the partition stops until an
    /// operator has decided.
    pub(super) fn stop_recreated_partitions(&self, batch: &mut Batch) {
        let mut stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let committed_offsets = self.committed_offsets();
        let next = |record: &Record| committed_offsets.get(&record.at()).copied().unwrap_or(i64::MIN);
        for record in batch.iter() {
            let next = next(record);
            // A record that was read before the partition was last reassigned may be a repeat: it says nothing about the log.
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

    /// A batch should begin at the committed offset. One that begins later is read again from there, once: offsets without
    /// a record are rare and harmless, but a skipped record would be lost.
    pub(super) fn seek_back_over_gaps(&self, batch: &mut Batch) {
        let mut gaps = HashMap::new();
        let mut seen = HashSet::new();
        for record in batch.iter().filter(|record| seen.insert(record.at())) {
            let position = self.committed_offsets().get(&record.at()).copied();
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

    /// None of these records was committed: each of their partitions is read again from its committed offset, or from the
    /// first of these records if it has none yet.
    pub(super) fn seek_to_committed(&self, records: &[Record], moved: &HashMap<TopicPartition, i64>) {
        let mut from = HashMap::new();
        for record in records {
            from.entry(record.at()).or_insert(record.offset);
        }
        for (partition, first) in from {
            let known = self.committed_offsets().get(&partition).copied();
            let next = moved.get(&partition).copied().or(known).unwrap_or(first);
            tracing::info!(processor = %I::PROCESSOR, %partition, next, "seeking to the committed offset");
            if moved.contains_key(&partition) {
                self.committed_offsets().insert(partition, next);
            }
            self.reader.seek(partition, next);
        }
    }

    /// Stores the offsets of partitions after a commit. A partition that was reassigned meanwhile was loaded again and is
    /// left as loaded: that value may be older, and the next compare-and-set corrects it.
    pub(super) fn cache_offsets(&self, batch: &[Record], next: HashMap<TopicPartition, i64>) {
        let ours = |at: &TopicPartition| batch.iter().any(|it| it.at() == *at && self.reader.still_owns(it));
        self.committed_offsets().extend(next.into_iter().filter(|(at, _)| ours(at)));
    }

    pub(super) fn committed_offsets(&self) -> std::sync::MutexGuard<'_, HashMap<TopicPartition, i64>> {
        self.committed_offsets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
