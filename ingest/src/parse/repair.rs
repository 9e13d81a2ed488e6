//! Repairs halves of emojis. A bridge that cuts a text in the middle of one writes a lone surrogate (`\ud83d`), which
//! serde_json refuses; a customer's message is not to be lost because of that.

/// The same body with each lone surrogate escape turned into U+FFFD, or `None` if it has none.
///
/// Lengths do not change, so positions in an error still fit the body as sent.
pub(super) fn without_lone_surrogates(body: &[u8]) -> Option<Vec<u8>> {
    let mut repaired: Option<Vec<u8>> = None;
    let mut at = 0;
    while let Some(found) = body[at..].iter().position(|byte| *byte == b'\\') {
        at += found;
        match escaped_unit(&body[at..]) {
            Some(0xd800..=0xdbff) if matches!(escaped_unit(&body[at + 6..]), Some(0xdc00..=0xdfff)) => at += 12,
            Some(0xd800..=0xdfff) => {
                repaired.get_or_insert_with(|| body.to_vec())[at + 2..at + 6].copy_from_slice(b"fffd");
                at += 6;
            }
            Some(_) => at += 6,
            None => at = (at + 2).min(body.len()),
        }
    }
    repaired
}

/// The UTF-16 unit of a `\uXXXX` at the start of `text`.
fn escaped_unit(text: &[u8]) -> Option<u16> {
    let digits = text.strip_prefix(br"\u")?.get(..4)?;
    digits.iter().try_fold(0, |unit, digit| Some(unit << 4 | char::from(*digit).to_digit(16)? as u16))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repaired(body: &str) -> Option<String> {
        without_lone_surrogates(body.as_bytes()).map(|it| String::from_utf8(it).unwrap())
    }

    #[test]
    fn half_an_emoji_becomes_a_replacement_character() {
        assert_eq!(repaired(r#""a\ud83d""#).as_deref(), Some(r#""a\ufffd""#));
        assert_eq!(repaired(r#""\uDC4D\ud83d\ud83d\udc4d""#).as_deref(), Some(r#""\ufffd\ufffd\ud83d\udc4d""#));
    }

    #[test]
    fn whole_surrogate_pairs_and_other_escapes_are_unchanged() {
        assert_eq!(repaired(r#""\ud83d\udc4d ol\u00e1 \\ud83d \n""#), None);
        assert_eq!(repaired(r"\"), None);
        assert_eq!(repaired(r"\ud8"), None);
    }
}
