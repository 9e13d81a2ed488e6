//! Pagination of lists, the newest first: `limit`, `cursor`, and the link to the next page.
//!
//! A cursor holds the position where a page ended, the instant and the id of its last item; the next page is what is
//! older. So items added in between shift nothing: none is shown twice, and none that keeps its position is left out.
//! Cursors are opaque: base64url of a version, the position, and a digest that binds them to their list and company. The
//! digest is no proof of origin and need not be one, because a position gives access to nothing.

use aws_lc_rs::digest::{SHA256, digest};
use axum::http::header::LINK;
use axum::http::{HeaderValue, Uri};
use axum::response::{IntoResponseParts, ResponseParts};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::CompanyId;
use jiff::Timestamp;
use uuid::Uuid;

use crate::Rejection;
use crate::parameters::Parameters;

/// Items on a page by default.
const DEFAULT_LIMIT: i64 = 20;
/// Most items on a page.
const MAX_LIMIT: i64 = 50;
/// The first byte of every cursor.
const VERSION: u8 = 1;
const POSITION_BYTES: usize = 1 + 8 + 16;
const DIGEST_BYTES: usize = 8;

/// The parameter, and its older name, from when only one list had cursors.
const CURSOR: &str = "cursor";
const BEFORE: &str = "before";

/// Where an item is in its list. Items with the same instant are ordered by their id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) at: Timestamp,
    pub(crate) id: Uuid,
}

/// The page that a request asks for.
#[derive(Debug)]
pub(crate) struct Page {
    list: &'static str,
    company: CompanyId,
    limit: usize,
    /// The page shows what is older than this; without it, it is the first page.
    pub(crate) after: Option<Position>,
    /// Path and query of the request, without the cursor.
    url: String,
}

impl Page {
    /// Reads `limit` and `cursor`. A cursor of another list than `list` is refused.
    pub(crate) fn read(parameters: &mut Parameters, list: &'static str, company: CompanyId) -> Result<Self, Rejection> {
        let limit = match parameters.take("limit")? {
            None => DEFAULT_LIMIT,
            Some(text) => text
                .parse()
                .ok()
                .filter(|limit| (1..=MAX_LIMIT).contains(limit))
                .ok_or(Rejection::parameter("limit", "must be a whole number from 1 to 50"))?,
        };
        let read = |field, text: String| {
            let position = Position::read(&text, list, company);
            position.ok_or(Rejection::parameter(field, "must be the `next_cursor` of an earlier page of this list"))
        };
        let after = match (parameters.take(CURSOR)?, parameters.take(BEFORE)?) {
            (None, None) => None,
            (Some(text), None) => Some(read(CURSOR, text)?),
            (None, Some(text)) => Some(read(BEFORE, text)?),
            (Some(_), Some(_)) => return Err(Rejection::parameter(BEFORE, "must not be given along with `cursor`")),
        };
        let limit = usize::try_from(limit).unwrap_or_default();
        Ok(Page { list, company, limit, after, url: without_cursor(parameters.uri()) })
    }

    /// How many rows to read: one more than are shown, to know whether there is a next page.
    pub(crate) fn rows(&self) -> i64 {
        i64::try_from(self.limit + 1).unwrap_or(i64::MAX)
    }

    /// Removes the row that is not shown, and returns the link to the next page.
    pub(crate) fn cut<T>(&self, items: &mut Vec<T>, position: impl Fn(&T) -> Position) -> NextPage {
        let has_more = items.len() > self.limit;
        items.truncate(self.limit);
        let last = items.last().filter(|_| has_more);
        let cursor = last.map(|it| position(it).cursor(self.list, self.company));
        // A query that is no valid header value gets no link; the cursor is in the body all the same.
        let link = cursor.as_ref().and_then(|cursor| {
            let separator = if self.url.contains('?') { '&' } else { '?' };
            HeaderValue::from_str(&format!("<{}{separator}{CURSOR}={cursor}>; rel=\"next\"", self.url)).ok()
        });
        NextPage { cursor, link }
    }
}

/// The path and the query without the cursor, which are the same for the next page.
fn without_cursor(uri: &Uri) -> String {
    let pieces = uri.query().unwrap_or_default().split('&').filter(|it| !it.is_empty());
    let names = Parameters::of(uri).map(Parameters::names).unwrap_or_default();
    let kept: Vec<&str> =
        pieces.zip(names).filter(|(_, name)| name != CURSOR && name != BEFORE).map(|(piece, _)| piece).collect();
    let separator = if kept.is_empty() { "" } else { "?" };
    format!("{}{separator}{}", uri.path(), kept.join("&"))
}

/// The cursor of the next page, `None` on the last one. As a part of the response it is `Link: <…>; rel="next"` (RFC 8288).
#[derive(Debug)]
pub(crate) struct NextPage {
    pub(crate) cursor: Option<String>,
    link: Option<HeaderValue>,
}

impl IntoResponseParts for NextPage {
    type Error = std::convert::Infallible;

    fn into_response_parts(self, mut parts: ResponseParts) -> Result<ResponseParts, Self::Error> {
        if let Some(link) = self.link {
            parts.headers_mut().insert(LINK, link);
        }
        Ok(parts)
    }
}

impl Position {
    fn cursor(self, list: &str, company: CompanyId) -> String {
        let mut bytes = Vec::with_capacity(POSITION_BYTES + DIGEST_BYTES);
        bytes.push(VERSION);
        bytes.extend(self.at.as_microsecond().to_be_bytes());
        bytes.extend(self.id.as_bytes());
        bytes.extend(digest_of(&bytes, list, company));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn read(text: &str, list: &str, company: CompanyId) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (position, digest) = bytes.split_at_checked(POSITION_BYTES)?;
        if position.first() != Some(&VERSION) || digest != digest_of(position, list, company) {
            return None;
        }
        let (at, id) = position[1..].split_at(8);
        let at = i64::from_be_bytes(at.try_into().ok()?);
        // No cursor of ours has an instant before 1970, and some would be too early for Postgres.
        let at = Timestamp::from_microsecond(at).ok().filter(|it| *it >= Timestamp::UNIX_EPOCH)?;
        Some(Position { at, id: Uuid::from_slice(id).ok()? })
    }
}

/// Binds a position to its list and its company.
fn digest_of(position: &[u8], list: &str, company: CompanyId) -> [u8; DIGEST_BYTES] {
    let whole = digest(&SHA256, &[position, &company.0.to_be_bytes(), list.as_bytes()].concat());
    let mut first = [0; DIGEST_BYTES];
    first.copy_from_slice(&whole.as_ref()[..DIGEST_BYTES]);
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPANY: CompanyId = CompanyId(7);

    fn page(query: &str) -> Result<Page, String> {
        let mut parameters = Parameters::of(&format!("/api/x?{query}").parse().unwrap()).unwrap();
        Page::read(&mut parameters, "x", COMPANY).map_err(|it| it.to_string())
    }

    fn position(second: i64) -> Position {
        Position { at: Timestamp::from_microsecond(second * 1_000_000 + 123_456).unwrap(), id: Uuid::max() }
    }

    #[test]
    fn a_cursor_comes_back_as_it_was_given() {
        let cursor = position(1_764_000_000).cursor("x", COMPANY);
        assert_eq!(page(&format!("cursor={cursor}")).unwrap().after, Some(position(1_764_000_000)));
        assert_eq!(page(&format!("before={cursor}")).unwrap().after, Some(position(1_764_000_000)), "its older name");
        assert_eq!(page("").unwrap().after, None);
    }

    #[test]
    fn a_cursor_of_another_list_or_company_or_made_up_is_refused_by_name() {
        let good = position(1_764_000_000).cursor("x", COMPANY);
        let bytes = URL_SAFE_NO_PAD.decode(&good).unwrap();
        let changed = |at: usize| {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            URL_SAFE_NO_PAD.encode(bytes)
        };
        let mut wrong = vec![
            position(1_764_000_000).cursor("y", COMPANY),
            position(1_764_000_000).cursor("x", CompanyId(8)),
            position(-1_764_000_000).cursor("x", COMPANY),
            good[..good.len() - 1].to_owned(),
            format!("{good}A"),
            format!("{good}="),
            String::new(),
            "1764000000123456.ffffffffffffffffffffffffffffffff".to_owned(),
        ];
        wrong.extend((0..bytes.len()).map(changed));
        for it in wrong {
            for name in ["cursor", "before"] {
                assert!(page(&format!("{name}={it}")).unwrap_err().starts_with(&format!("{name}: must be")), "{it}");
            }
        }
        assert!(page(&format!("cursor={good}&before={good}")).unwrap_err().starts_with("before: must not"));
    }

    #[test]
    fn a_page_has_a_sane_size() {
        let limit = |query: &str| page(query).map(|it| it.limit);
        assert_eq!(limit(""), Ok(20));
        assert_eq!(limit("limit=50"), Ok(50));
        for wrong in ["0", "51", "-1", "x", ""] {
            assert_eq!(limit(&format!("limit={wrong}")).unwrap_err(), "limit: must be a whole number from 1 to 50");
        }
    }

    #[test]
    fn the_link_to_the_next_page_keeps_the_other_parameters() {
        let link = |query: &str| {
            let mut seconds = vec![9, 8, 7];
            let next = page(query).unwrap().cut(&mut seconds, |second| position(*second));
            assert_eq!(seconds, [9, 8]);
            (next.cursor.unwrap(), next.link.unwrap().to_str().unwrap().to_owned())
        };
        let older = position(10).cursor("x", COMPANY);
        for query in [format!("&limit=2&a=%20b&cursor={older}"), format!("%62efore={older}&limit=2&&a=%20b")] {
            let (cursor, link) = link(&query);
            assert_eq!(cursor, position(8).cursor("x", COMPANY), "the last one shown");
            assert_eq!(link, format!("</api/x?limit=2&a=%20b&cursor={cursor}>; rel=\"next\""));
        }
        let mut exact = vec![9, 8];
        let next = page("limit=2").unwrap().cut(&mut exact, |second| position(*second));
        assert!(next.cursor.is_none() && next.link.is_none(), "nothing comes after");
    }
}
