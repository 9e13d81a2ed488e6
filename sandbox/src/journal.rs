//! The log — every provider request, in order, with what was done and what was answered.
//!
//! Promise: an entry stands here before its answer leaves, so a caller that was answered can always read it; sequence
//! numbers rise by one and survive a clear. Kept in memory: the newest 200,000.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// Entries kept; older ones fall out.
const CAPACITY: usize = 200_000;

/// A surface of the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    Model,
    Send,
    Login,
    /// A receiver of webhooks.
    Webhook,
}

/// One request and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Position in the log, from 1.
    pub seq: u64,
    /// Arrival, microseconds since the Unix epoch, UTC.
    pub at: i64,
    /// Which surface was called.
    pub target: Target,
    /// The number a message goes to, or the name of the webhook's receiver.
    pub number: Option<String>,
    /// The message, the user's last words to the model (a burst is joined by line breaks), the e-mail of a login, or a webhook's body.
    pub text: Option<String>,
    /// Bearer token or API key presented; for a login, the token issued.
    pub token: Option<String>,
    pub model: Option<String>,
    /// HTTP status answered; none while waiting, and none for ever if no answer went out.
    pub status: Option<u16>,
    /// Kind of the scripted fault that met it.
    pub fault: Option<&'static str>,
    /// Whether the effect took place: message sent, text generated, token issued, webhook verified and taken.
    pub performed: bool,
    pub trace: Option<String>,
    /// Value of `x-secretaria-delivery`, or of a webhook's `webhook-id`.
    pub message_key: Option<String>,
    /// The text answered: the model's words, Whaticket's message, or the error's.
    pub answer: Option<String>,
}

/// Which entries are wanted. An absent field means any.
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
    /// Only what took place, or only what did not.
    pub performed: Option<bool>,
    pub after_seq: Option<u64>,
    /// At most this many, oldest first.
    pub limit: Option<usize>,
}

impl Filter {
    /// Everything that met `target`.
    #[must_use]
    pub fn of(target: Target) -> Self {
        Self { target: Some(target), ..Self::default() }
    }

    #[must_use]
    pub fn sent() -> Self {
        Self { performed: Some(true), ..Self::of(Target::Send) }
    }

    /// Webhooks verified and taken.
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

    /// Only where the text holds `part`.
    #[must_use]
    pub fn text(mut self, part: impl Into<String>) -> Self {
        self.text = Some(part.into());
        self
    }

    fn means(&self, entry: &Entry) -> bool {
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

/// The ring of entries.
#[derive(Debug)]
pub(crate) struct Journal {
    ring: Mutex<Ring>,
    changes: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Ring {
    last_seq: u64,
    entries: VecDeque<Entry>,
}

impl Journal {
    pub(crate) fn new() -> Self {
        Self { ring: Mutex::default(), changes: watch::Sender::new(()) }
    }

    /// Writes an entry and returns its `seq`; the one in `entry` is ignored.
    pub(crate) fn append(&self, mut entry: Entry) -> u64 {
        let seq = {
            let mut ring = self.ring();
            ring.last_seq += 1;
            entry.seq = ring.last_seq;
            if ring.entries.len() == CAPACITY {
                ring.entries.pop_front();
            }
            ring.entries.push_back(entry);
            ring.last_seq
        };
        self.changes.send_replace(());
        seq
    }

    /// Notes the status that is about to go out; no-op if the entry is gone.
    pub(crate) fn answered(&self, seq: u64, status: u16) {
        {
            let mut ring = self.ring();
            let place = ring.place(seq);
            if let Some(entry) = place.and_then(|place| ring.entries.get_mut(place)) {
                entry.status = Some(status);
            }
        }
        self.changes.send_replace(());
    }

    pub(crate) fn list(&self, filter: &Filter) -> Vec<Entry> {
        self.ring().fitting(filter).cloned().collect()
    }

    pub(crate) fn count(&self, filter: &Filter) -> usize {
        self.ring().fitting(filter).count()
    }

    /// Waits until `at_least` entries fit; the entries then, or none if `within` passes first.
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
        self.ring().entries.clear();
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    /// Where `seq` stands, or would stand; none if it has fallen out.
    fn place(&self, seq: u64) -> Option<usize> {
        let first = self.entries.front().map_or(u64::MAX, |entry| entry.seq);
        seq.checked_sub(first).and_then(|place| usize::try_from(place).ok())
    }

    fn fitting<'a>(&'a self, filter: &'a Filter) -> impl Iterator<Item = &'a Entry> {
        // Sequence numbers have no gaps, so a caller that polls with `after_seq` costs only what is new.
        let known = filter.after_seq.and_then(|seq| self.place(seq)).map_or(0, |place| place + 1);
        let limit = filter.limit.unwrap_or(CAPACITY);
        self.entries.iter().skip(known).filter(|entry| filter.means(entry)).take(limit)
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
    fn the_ring_drops_the_oldest_and_still_settles_the_right_entry() {
        let journal = Journal::new();
        for _ in 0..CAPACITY + 3 {
            journal.append(entry("1"));
        }
        let last = journal.append(entry("2"));
        journal.answered(last, 200);
        journal.answered(1, 500);
        assert_eq!(journal.count(&Filter::default()), CAPACITY);
        assert_eq!(journal.list(&Filter::sent().number("2"))[0].status, Some(200));
        assert_eq!(journal.list(&Filter { limit: Some(1), ..Filter::default() })[0].seq, 5);
    }

    #[test]
    fn a_clear_empties_the_log_but_sequence_numbers_go_on() {
        let journal = Journal::new();
        let before = journal.append(entry("1"));
        journal.clear();
        assert_eq!(journal.append(entry("1")), before + 1);
        journal.answered(before, 200);
        assert_eq!(journal.list(&Filter::default())[0].status, None);
    }

    #[test]
    fn a_filter_picks_by_every_field_it_names() {
        let journal = Journal::new();
        journal.append(entry("1"));
        journal.append(entry("2"));
        assert_eq!(journal.count(&Filter::sent().number("2").text("Ana")), 1);
        assert_eq!(journal.count(&Filter::sent().text("Bia")), 0);
        assert_eq!(journal.count(&Filter::of(Target::Model)), 0);
        assert_eq!(journal.count(&Filter { after_seq: Some(1), ..Filter::default() }), 1);
    }
}
