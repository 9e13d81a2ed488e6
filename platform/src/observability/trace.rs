//! W3C trace context (<https://www.w3.org/TR/trace-context/>) as far as it is needed here: one id from webhook to delivery.

use std::fmt;

use domain::EventId;

/// A `traceparent` value: `00-<32 hex trace id>-<16 hex span id>-<2 hex flags>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traceparent(String);

impl Traceparent {
    /// A header's value, if it is well-formed.
    pub fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split('-').collect();
        let hex =
            |part: &str, len: usize| part.len() == len && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let well_formed = matches!(parts[..], [version, trace, span, flags]
            if version == "00" && hex(trace, 32) && hex(span, 16) && hex(flags, 2)
                && trace.bytes().any(|b| b != b'0') && span.bytes().any(|b| b != b'0'));
        well_formed.then(|| Traceparent(text.to_owned()))
    }

    /// A trace of our own for an event whose producer sent none; derived, so that a repeat continues the same trace.
    pub fn of_event(event: EventId) -> Self {
        let trace = event.0.as_simple().to_string();
        let span = &trace[16..];
        let span = if span.bytes().all(|b| b == b'0') { "0000000000000001" } else { span };
        Traceparent(format!("00-{trace}-{span}-01"))
    }

    /// The trace id: what logs call `correlation_id`.
    pub fn correlation_id(&self) -> &str {
        self.0.get(3..35).unwrap_or("")
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_well_formed_values_are_accepted() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(Traceparent::parse(good).unwrap().correlation_id(), "0af7651916cd43dd8448eb211c80319c");
        for bad in ["", "00-0-0-0", &good.replace("0af", "0AF"), &good.replace("00-", "ff-"), &format!("{good}-x")] {
            assert_eq!(Traceparent::parse(bad), None, "{bad}");
        }
        assert_eq!(Traceparent::parse("00-00000000000000000000000000000000-b7ad6b7169203331-01"), None);
    }

    #[test]
    fn an_events_own_trace_is_well_formed_and_stable() {
        let event = EventId::of_position("t", 1, 2);
        let own = Traceparent::of_event(event);
        assert_eq!(Traceparent::parse(own.as_str()), Some(own.clone()));
        assert_eq!(own, Traceparent::of_event(event));
    }
}
