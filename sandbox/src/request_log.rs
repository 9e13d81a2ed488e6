//! The log — every provider request, in order, with what was done and what was answered.
//!
//! Promise: an entry is here before its response is sent, so a caller with a response can always read it; sequence
//! numbers rise by one and continue after a clear. In memory; the newest 200,000 are kept.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// How many entries are kept.
const CAPACITY: usize = 200_000;

/// An endpoint of the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    Model,
    Send,
    Login,
    /// A receiver of webhooks.
    Webhook,
}

/// One request and its outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Position in the log, from 1.
    pub seq: u64,
    /// Arrival, microseconds since the Unix epoch, UTC.
    pub at: i64,
    pub target: Target,
    /// The number a message goes to, or the name of the webhook's receiver.
    pub number: Option<String>,
    /// The message, the user's latest messages to the model (joined by line breaks), the e-mail of a login, or a webhook's body.
    pub text: Option<String>,
    /// Bearer token or API key presented; for a login, the token issued.
    pub token: Option<String>,
    pub model: Option<String>,
    /// HTTP status of the response; `None` until it is sent, and for ever if none is.
    pub status: Option<u16>,
    /// Kind of the scripted fault that applied.
    pub fault: Option<&'static str>,
    /// Whether the effect took place: message sent, text generated, token issued, webhook verified.
    pub performed: bool,
    pub trace: Option<String>,
    /// Value of `x-secretaria-delivery`, or of a webhook's `webhook-id`.
    pub message_key: Option<String>,
    /// The text of the response: the model's, Whaticket's message, or the error's.
    pub answer: Option<String>,
}

/// Which entries to select. An absent field means any.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    pub target: Option<Target>,
    pub number: Option<String>,
    /// Part of the text.
    pub text: Option<String>,
    /// Whole bearer token or API key.
    pub token: Option<String>,
    /// Whole `x-secretaria-delivery` or `webhook-id`.
    pub message_key: Option<String>,
    /// Only requests whose effect took place, or only those whose effect did not.
    pub performed: Option<bool>,
    pub after_seq: Option<u64>,
    /// At most this many, oldest first.
    pub limit: Option<usize>,
}

impl Filter {
    /// Every request to `target`.
    #[must_use]
    pub fn of(target: Target) -> Self {
        Self { target: Some(target), ..Self::default() }
    }

    #[must_use]
    pub fn sent() -> Self {
        Self { performed: Some(true), ..Self::of(Target::Send) }
    }

    /// Webhooks that were verified and accepted.
    #[must_use]
    pub fn taken() -> Self {
        Self { performed: Some(true), ..Self::of(Target::Webhook) }
    }

    /// Only to this number, or to the receiver of this name.
    #[must_use]
    pub fn number(mut self, number: impl Into<String>) -> Self {
        self.number = Some(number.into());
        self
    }

    /// Only where the text contains `part`.
    #[must_use]
    pub fn text(mut self, part: impl Into<String>) -> Self {
        self.text = Some(part.into());
        self
    }

    fn matches(&self, entry: &Entry) -> bool {
        let whole = |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        self.target.is_none_or(|target| target == entry.target)
            && self.performed.is_none_or(|performed| performed == entry.performed)
            && self.after_seq.is_none_or(|seq| entry.seq > seq)
            && whole(&self.number, &entry.number)
            && whole(&self.token, &entry.token)
            && whole(&self.message_key, &entry.message_key)
            && self.text.as_deref().is_none_or(|part| entry.text.as_deref().is_some_and(|text| text.contains(part)))
    }
}

/// The entries, in a ring buffer, and a notification of changes.
#[derive(Debug)]
pub(crate) struct RequestLog {
    buffer: Mutex<Buffer>,
    changes: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Buffer {
    last_seq: u64,
    entries: VecDeque<Entry>,
}

impl RequestLog {
    pub(crate) fn new() -> Self {
        Self { buffer: Mutex::default(), changes: watch::Sender::new(()) }
    }

    /// Writes an entry and returns its `seq`; the one in `entry` is ignored.
    pub(crate) fn append(&self, mut entry: Entry) -> u64 {
        let seq = {
            let mut buffer = self.buffer();
            buffer.last_seq += 1;
            entry.seq = buffer.last_seq;
            if buffer.entries.len() == CAPACITY {
                buffer.entries.pop_front();
            }
            buffer.entries.push_back(entry);
            buffer.last_seq
        };
        self.changes.send_replace(());
        seq
    }

    /// Records the status that is about to be sent; does nothing if the entry is gone.
    pub(crate) fn answered(&self, seq: u64, status: u16) {
        {
            let mut buffer = self.buffer();
            let index = buffer.index_of(seq);
            if let Some(entry) = index.and_then(|index| buffer.entries.get_mut(index)) {
                entry.status = Some(status);
            }
        }
        self.changes.send_replace(());
    }

    pub(crate) fn list(&self, filter: &Filter) -> Vec<Entry> {
        self.buffer().matching(filter).cloned().collect()
    }

    pub(crate) fn count(&self, filter: &Filter) -> usize {
        self.buffer().matching(filter).count()
    }

    /// Waits until `at_least` entries match and returns them; `None` if `within` passes first.
    pub(crate) async fn seen(&self, filter: &Filter, at_least: usize, within: Duration) -> Option<Vec<Entry>> {
        let mut changes = self.changes.subscribe();
        let enough = async {
            while self.count(filter) < at_least {
                if changes.changed().await.is_err() {
                    break;
                }
            }
        };
        tokio::time::timeout(within, enough).await.ok()?;
        Some(self.list(filter))
    }

    pub(crate) fn clear(&self) {
        self.buffer().entries.clear();
    }

    fn buffer(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Buffer {
    /// The index of `seq`, also of one that is still to come; `None` if it was dropped.
    fn index_of(&self, seq: u64) -> Option<usize> {
        let first = self.entries.front().map_or(u64::MAX, |entry| entry.seq);
        seq.checked_sub(first).and_then(|index| usize::try_from(index).ok())
    }

    fn matching<'a>(&'a self, filter: &'a Filter) -> impl Iterator<Item = &'a Entry> {
        // Sequence numbers have no gaps, so a caller that polls with `after_seq` costs only what is new.
        let known = filter.after_seq.and_then(|seq| self.index_of(seq)).map_or(0, |index| index + 1);
        let limit = filter.limit.unwrap_or(CAPACITY);
        self.entries.iter().skip(known).filter(|entry| filter.matches(entry)).take(limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: &str) -> Entry {
        Entry {
            seq: 0,
            at: 0,
            target: Target::Send,
            number: Some(number.into()),
            text: Some("Olá, Ana".into()),
            token: None,
            model: None,
            status: None,
            fault: None,
            performed: true,
            trace: None,
            message_key: None,
            answer: None,
        }
    }

    #[test]
    fn the_buffer_drops_the_oldest_and_still_updates_the_right_entry() {
        let log = RequestLog::new();
        for _ in 0..CAPACITY + 3 {
            log.append(entry("1"));
        }
        let last = log.append(entry("2"));
        log.answered(last, 200);
        log.answered(1, 500);
        assert_eq!(log.count(&Filter::default()), CAPACITY);
        assert_eq!(log.list(&Filter::sent().number("2"))[0].status, Some(200));
        assert_eq!(log.list(&Filter { limit: Some(1), ..Filter::default() })[0].seq, 5);
    }

    #[test]
    fn a_clear_empties_the_log_but_sequence_numbers_go_on() {
        let log = RequestLog::new();
        let before = log.append(entry("1"));
        log.clear();
        assert_eq!(log.append(entry("1")), before + 1);
        log.answered(before, 200);
        assert_eq!(log.list(&Filter::default())[0].status, None);
    }

    #[test]
    fn a_filter_picks_by_every_field_it_names() {
        let log = RequestLog::new();
        log.append(entry("1"));
        log.append(entry("2"));
        assert_eq!(log.count(&Filter::sent().number("2").text("Ana")), 1);
        assert_eq!(log.count(&Filter::sent().text("Bia")), 0);
        assert_eq!(log.count(&Filter::of(Target::Model)), 0);
        assert_eq!(log.count(&Filter { after_seq: Some(1), ..Filter::default() }), 1);
    }
}
