//! Authenticates a request and reads its query string: first the token, then `company_id`, then the rest.
//!
//! Every parameter is read once, by name; a repeated or an unknown one is refused, because with a typo ignored the
//! response would not be what was asked for.

use std::borrow::Cow;

use axum::extract::{FromRequestParts, Query};
use axum::http::Uri;
use axum::http::request::Parts;
use domain::CompanyId;
use jiff::civil::Date;

use crate::request_log::LoggedCompany;
use crate::{Api, Rejection};

/// How many characters of an unknown parameter's name are repeated in the error.
const ECHOED: usize = 40;

/// A request for one company's data, which the caller may see, and its parameters not read yet.
pub(crate) struct CompanyRequest {
    /// Whose data to show.
    pub(crate) company: CompanyId,
    pub(crate) parameters: Parameters,
}

impl FromRequestParts<Api> for CompanyRequest {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Rejection> {
        let logged = parts.extensions.get::<LoggedCompany>().cloned().unwrap_or_default();
        let session = api.keys.read(&parts.headers, (api.now)()).map_err(|rejection| {
            tracing::debug!(%rejection, "request is not authenticated");
            rejection
        })?;
        let request = Parameters::of(&parts.uri).and_then(|mut parameters| {
            let company = parameters.company_id()?;
            session.may_see(company).map(|()| CompanyRequest { company, parameters })
        });
        logged.set(request.as_ref().map_or(session.company, |request| request.company));
        request
    }
}

pub(crate) struct Parameters {
    uri: Uri,
    unread: Vec<(String, String)>,
}

impl Parameters {
    pub(crate) fn of(uri: &Uri) -> Result<Self, Rejection> {
        let Query(unread) = Query::try_from_uri(uri).map_err(|_| Rejection::parameter("query", "cannot be read"))?;
        Ok(Parameters { uri: uri.clone(), unread })
    }

    pub(crate) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The names not read yet, in the order in which they were given.
    pub(crate) fn names(self) -> Vec<String> {
        self.unread.into_iter().map(|(name, _)| name).collect()
    }

    /// The one value of that name.
    pub(crate) fn take(&mut self, field: &'static str) -> Result<Option<String>, Rejection> {
        let Some(found) = self.unread.iter().position(|(name, _)| name == field) else { return Ok(None) };
        let (_, value) = self.unread.swap_remove(found);
        match self.unread.iter().any(|(name, _)| name == field) {
            true => Err(Rejection::parameter(field, "must be given once")),
            false => Ok(Some(value)),
        }
    }

    /// The day of that name, `YYYY-MM-DD` and nothing looser.
    pub(crate) fn day(&mut self, field: &'static str) -> Result<Option<Date>, Rejection> {
        let Some(text) = self.take(field)? else { return Ok(None) };
        let plain = text.len() == 10 && !text.starts_with(['-', '+']);
        let day = plain.then(|| Date::strptime("%Y-%m-%d", &text).ok()).flatten();
        day.map(Some).ok_or(Rejection::parameter(field, "must be a day: YYYY-MM-DD"))
    }

    /// Refuses parameters that the route has not read.
    pub(crate) fn finish(self) -> Result<(), Rejection> {
        match self.unread.into_iter().next() {
            None => Ok(()),
            Some((name, _)) => Err(Rejection::BadParameter {
                field: Cow::Owned(name.chars().take(ECHOED).collect()),
                problem: "is not a parameter of this path",
            }),
        }
    }

    fn company_id(&mut self) -> Result<CompanyId, Rejection> {
        let text = self.take("company_id")?.ok_or(Rejection::parameter("company_id", "must be given"))?;
        let company = text.parse().ok().filter(|company| *company > CompanyId::NONE);
        company.ok_or(Rejection::parameter("company_id", "must be a positive whole number"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(query: &str) -> Parameters {
        Parameters::of(&format!("/x?{query}").parse().unwrap()).unwrap()
    }

    #[test]
    fn a_day_is_ten_characters_that_exist_in_the_calendar() {
        let day = |text: &str| parameters(&format!("from={text}")).day("from").ok().flatten().map(|it| it.to_string());
        assert_eq!(day("2026-11-21").as_deref(), Some("2026-11-21"));
        assert_eq!(day("2024-02-29").as_deref(), Some("2024-02-29"));
        for wrong in
            ["2026-02-29", "2026-13-01", "2026-1-1", "20261121", "21/11/2026", "", "2026-11-21T00:00", "-026-11-21"]
        {
            assert_eq!(day(wrong), None, "{wrong}");
        }
        assert_eq!(parameters("").day("from").unwrap(), None);
    }

    #[test]
    fn a_company_is_a_positive_number_given_once() {
        let company = |query: &str| parameters(query).company_id().map_err(|it| it.to_string());
        assert_eq!(company("company_id=42").unwrap(), CompanyId(42));
        assert_eq!(company("").unwrap_err(), "company_id: must be given");
        assert_eq!(company("company_id=1&company_id=2").unwrap_err(), "company_id: must be given once");
        for wrong in ["", "abc", "0", "-1", "1.5", "99999999999999999999", "1%20or%201=1"] {
            let problem = company(&format!("company_id={wrong}")).unwrap_err();
            assert_eq!(problem, "company_id: must be a positive whole number", "{wrong}");
        }
    }

    #[test]
    fn a_typo_is_refused_by_name() {
        let mut request = parameters("company_id=1&form=2026-01-01");
        request.company_id().unwrap();
        assert_eq!(request.finish().unwrap_err().to_string(), "form: is not a parameter of this path");
    }
}
