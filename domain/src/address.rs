//! Who writes to a company: the form of an address that is compared, hashed and keyed.
//!
//! The same Brazilian mobile is reported as `55 31 9 8888-0002` and as `55 31 8888-0002` (the ninth digit came in
//! 2012–2016 and WhatsApp keeps some accounts in the older form). For identity the ninth digit is removed, but only
//! before 6–9: before 2–5 what remains would be a landline, which may be another person's, and no mobile with 0–5 there
//! ever had eight digits. A send always uses the form the provider reported.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The channel a message came through. Ids never cross channels.
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
    /// A phone number in any notation: only digits count, and the Brazilian ninth digit is dropped before 6–9.
    ///
    /// Returns `None` when fewer than 8 or more than 15 digits remain (E.164 allows 15).
    pub fn phone(text: &str) -> Option<Self> {
        let digits: String = text.chars().filter(char::is_ascii_digit).collect();
        (8..=15).contains(&digits.len()).then(|| Address(without_ninth_digit(digits)))
    }

    /// A WhatsApp id such as `5511999990001@s.whatsapp.net`, `1169…@lid` or `1203…@g.us`.
    ///
    /// A device part (`5511…:12@…`) does not identify a person and is dropped. Returns `None` when nothing is before
    /// the `@`.
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

    /// The address that releases before 0.2.0 gave this mobile: they dropped the ninth digit before 0–5 too.
    pub fn former_form(&self) -> Option<Self> {
        let digits = self.0.as_bytes();
        let changed = is_with_ninth_digit(&self.0) && matches!(digits[5], b'0'..=b'5');
        changed.then(|| Address(format!("{}{}", &self.0[..4], &self.0[5..])))
    }

    /// The mobile to which releases before 0.2.0 gave this address too: its [`Address::former_form`] is this.
    pub fn confused_mobile(&self) -> Option<Self> {
        let digits = self.0.as_bytes();
        let shared = digits.len() == 12
            && digits.iter().all(u8::is_ascii_digit)
            && digits.starts_with(b"55")
            && matches!(digits[4], b'0'..=b'5');
        shared.then(|| Address(format!("{}9{}", &self.0[..4], &self.0[4..])))
    }

    /// An address from what [`Address::as_str`] returned, unchecked.
    pub fn trusted(text: impl Into<String>) -> Self {
        Address(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// 55 + two-digit area + 9 + eight digits of which the first is 6–9 → the same without that 9. Anything else stays.
fn without_ninth_digit(mut digits: String) -> String {
    if is_with_ninth_digit(&digits) && matches!(digits.as_bytes()[5], b'6'..=b'9') {
        digits.remove(4);
    }
    digits
}

/// 55 + two-digit area + 9 + eight digits.
fn is_with_ninth_digit(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 13 && bytes.iter().all(u8::is_ascii_digit) && bytes.starts_with(b"55") && bytes[4] == b'9'
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
    fn a_mobile_never_has_the_address_of_a_landline() {
        for first in 0..=5 {
            let (landline, mobile) = (format!("5511{first}3334444"), format!("55119{first}3334444"));
            let [landline, mobile] = [&landline, &mobile].map(|it| Address::phone(it).unwrap());
            assert_ne!(landline, mobile);
            assert_eq!(mobile.as_str().len(), 13);
            assert_eq!(mobile.former_form().as_ref(), Some(&landline));
            assert_eq!(landline.confused_mobile().as_ref(), Some(&mobile));
            assert_eq!((landline.former_form(), mobile.confused_mobile()), (None, None));
        }
        for first in 6..=9 {
            let (eight, nine) = (format!("5511{first}3334444"), format!("55119{first}3334444"));
            let [eight, nine] = [&eight, &nine].map(|it| Address::phone(it).unwrap());
            assert_eq!(eight, nine);
            assert_eq!((eight.former_form(), eight.confused_mobile()), (None, None));
        }
        for other in ["14155550100", "lid:551133334444", "g.us:551133334444"] {
            let other = Address::trusted(other);
            assert_eq!((other.former_form(), other.confused_mobile()), (None, None));
        }
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
