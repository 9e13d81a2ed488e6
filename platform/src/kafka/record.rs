//! A record as it was read, with owned bytes.

use std::fmt;

use domain::Topic;
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Headers, Message};

/// A partition of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    pub topic: Topic,
    pub partition: i32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// A record as it was read from its topic.
#[derive(Debug, Clone)]
pub struct Record {
    pub topic: Topic,
    pub partition: i32,
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub payload: Option<Vec<u8>>,
    /// Its headers, in order.
    pub headers: Vec<(String, Vec<u8>)>,
    pub(super) generation: u64,
}

impl Record {
    /// Copies a record from librdkafka.
    pub(super) fn read(topic: Topic, message: &BorrowedMessage<'_>, generation: u64) -> Self {
        let owned = |headers: &BorrowedHeaders| -> Vec<(String, Vec<u8>)> {
            headers.iter().map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec())).collect()
        };
        Record {
            topic,
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(<[u8]>::to_vec),
            payload: message.payload().map(<[u8]>::to_vec),
            headers: message.headers().map(owned).unwrap_or_default(),
            generation,
        }
    }

    /// A record that was stored in Postgres with its work, to become a dead letter if the work fails.
    pub fn kept(
        topic: Topic,
        partition: i32,
        offset: i64,
        key: Option<Vec<u8>>,
        payload: Option<Vec<u8>>,
        headers: Vec<(String, Vec<u8>)>,
    ) -> Self {
        Record { topic, partition, offset, key, payload, headers, generation: 0 }
    }

    /// Its size in bytes: key, value and headers.
    pub(super) fn size(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        headers + [&self.key, &self.payload].into_iter().flatten().map(Vec::len).sum::<usize>()
    }

    pub fn at(&self) -> TopicPartition {
        TopicPartition { topic: self.topic, partition: self.partition }
    }

    /// A header's bytes, the first of that name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_slice())
    }

    /// A header's text, if it is text.
    pub fn header_text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.header(name)?).ok()
    }
}
