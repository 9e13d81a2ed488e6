//! Makes text from outside storable: Postgres stores no NUL, and nothing is kept beyond the lengths that WhatsApp allows.

use std::borrow::Cow;

/// The most characters that WhatsApp lets anybody send.
const BODY_CHARS: usize = 65_536;
/// WhatsApp shows 25 characters of a name; bridges add to it.
const NAME_CHARS: usize = 256;
/// Providers' message ids have 20 to 128 bytes; it becomes part of a key.
const ID_BYTES: usize = 256;

/// The text of a message, at most 65,536 characters of it.
pub(super) fn body(text: Cow<'_, str>) -> String {
    clean(text, BODY_CHARS)
}

/// The text of a message, if it is more than blanks.
pub(super) fn non_blank_body(text: Option<Cow<'_, str>>) -> Option<String> {
    text.map(body).filter(|it| !it.trim().is_empty())
}

/// A display name, if it is more than blanks.
pub(super) fn name(text: &str) -> Option<String> {
    Some(clean(Cow::Borrowed(text.trim()), NAME_CHARS)).filter(|it| !it.is_empty())
}

/// A provider's message id, unchanged, or `None` if it cannot be kept: a shortened one could be another message's.
pub(super) fn id(text: &str) -> Option<String> {
    (text.len() <= ID_BYTES && !text.chars().any(char::is_control)).then(|| text.to_owned())
}

fn clean(text: Cow<'_, str>, most_chars: usize) -> String {
    let mut text = if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text.into_owned() };
    // A string never has more characters than bytes, so most texts are not counted.
    if text.len() > most_chars
        && let Some((end, _)) = text.char_indices().nth(most_chars)
    {
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters_at_whatsapps_own_limit() {
        let long = "ã".repeat(BODY_CHARS + 3);
        assert_eq!(body(Cow::Borrowed(&long)), "ã".repeat(BODY_CHARS));
        assert_eq!(body(Cow::Borrowed("ã")), "ã");
    }

    #[test]
    fn nothing_that_postgres_cannot_store_gets_through() {
        assert_eq!(body(Cow::Borrowed("a\0b")), "a\u{fffd}b");
        assert_eq!(name("  Ma\0ria "), Some("Ma\u{fffd}ria".to_owned()));
        assert_eq!(name("  "), None);
        assert_eq!(id("3EB0\0"), None);
    }
}
