//! Who writes to a company: the form of an address that is compared, hashed and keyed.
//!
//! The same Brazilian mobile is reported as `55 31 9 8888-0002` and as `55 31 8888-0002` (the ninth digit came in
//! 2012–2016 and WhatsApp keeps some accounts in the older form). For identity the ninth digit is removed; a send
//! always uses the form the provider reported.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The road a message came on. Identity never crosses channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// WhatsApp through a Whaticket bridge.
    Whaticket,
}

impl Channel {
    /// The name used in ids, columns and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Channel::Whaticket => "whaticket",
        }
    }

    /// The channel of that name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "whaticket" => Some(Channel::Whaticket),
            _ => None,
        }
    }
}

/// A chat's address in its one comparable form: digits of a phone without the ninth digit, `lid:…`, or a group's id.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Address(String);

/// One of the names a contact is known by on a channel; a contact is a set of these.
pub type Alias = Address;

impl Address {
    /// A phone number in any notation: only digits count, and the Brazilian ninth digit is dropped.
    ///
    /// Returns `None` when fewer than 8 or more than 15 digits remain (E.164 allows 15).
    pub fn phone(text: &str) -> Option<Self> {
        let digits: String = text.chars().filter(char::is_ascii_digit).collect();
        (8..=15).contains(&digits.len()).then(|| Address(without_ninth_digit(digits)))
    }

    /// A WhatsApp id such as `5511999990001@s.whatsapp.net`, `1169…@lid` or `1203…@g.us`.
    ///
    /// A device part (`5511…:12@…`) is not part of who somebody is. Returns `None` when nothing is before the `@`.
    pub fn jid(jid: &str) -> Option<Self> {
        let (user, server) = jid.split_once('@').unwrap_or((jid, "s.whatsapp.net"));
        let user = user.split(':').next().unwrap_or(user);
        match server {
            _ if user.is_empty() => None,
            "s.whatsapp.net" | "c.us" => Address::phone(user),
            "lid" => Some(Address(format!("lid:{user}"))),
            _ => Some(Address(format!("{server}:{user}"))),
        }
    }

    /// Takes back what [`Address::as_str`] gave.
    pub fn trusted(text: impl Into<String>) -> Self {
        Address(text.into())
    }

    /// The comparable form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// 55 + two-digit area + 9 + eight digits → the same without that 9. Anything else stays.
fn without_ninth_digit(mut digits: String) -> String {
    if digits.len() == 13 && digits.starts_with("55") && digits.as_bytes()[4] == b'9' {
        digits.remove(4);
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ninth_digit_does_not_make_another_person() {
        assert_eq!(Address::phone("+55 (31) 98888-0002"), Address::phone("553188880002"));
        assert_eq!(Address::phone("5531988880002").unwrap().as_str(), "553188880002");
    }

    #[test]
    fn a_foreign_number_keeps_every_digit() {
        assert_eq!(Address::phone("+1 (415) 555-0100").unwrap().as_str(), "14155550100");
        assert_eq!(Address::phone("9123456789012").unwrap().as_str(), "9123456789012");
    }

    #[test]
    fn what_has_too_few_or_too_many_digits_is_no_phone() {
        assert_eq!(Address::phone("12"), None);
        assert_eq!(Address::phone("1234567890123456"), None);
        assert_eq!(Address::phone("olá"), None);
    }

    #[test]
    fn jids_are_told_apart_by_their_server() {
        let show = |jid| Address::jid(jid).map(|it| it.to_string());
        assert_eq!(show("5511999990001@s.whatsapp.net").as_deref(), Some("551199990001"));
        assert_eq!(show("5511999990001:7@s.whatsapp.net").as_deref(), Some("551199990001"));
        assert_eq!(show("116900000000001@lid").as_deref(), Some("lid:116900000000001"));
        assert_eq!(show("120363000000000000@g.us").as_deref(), Some("g.us:120363000000000000"));
        assert_eq!(show("@lid"), None);
    }
}
