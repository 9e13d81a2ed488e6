//! Authentication: a bearer token (RFC 6750) that names a company and a scope, signed by us (JWT, RFC 7519; EdDSA, RFC 8037).
//!
//! Exactly one algorithm is allowed, so neither `none` nor our public key as an HMAC secret is accepted; `exp`, `nbf`,
//! `iss` and `aud` are required. The clock is a parameter, so the instants are compared here and not in the library.

use std::path::Path;
use std::time::Duration;

use aws_lc_rs::signature::KeyPair;
use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, COOKIE};
use domain::CompanyId;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};

use crate::{Rejection, keys};

const ISSUER: &str = "secretaria";
const AUDIENCE: &str = "secretaria-api";
const TOKEN_COOKIE: &str = "panel_token";
/// How far the clock of the machine that issued a token may differ from ours.
const LEEWAY_S: i64 = 30;

/// Which companies' data a token gives access to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The token's company.
    Company,
    /// Any company, one at a time.
    Operator,
}

/// The verified claims of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// The company the token was made for.
    pub company: CompanyId,
    pub scope: Scope,
}

impl Session {
    /// Checks that this session may read that company's data.
    ///
    /// # Errors
    /// If it is another company and the scope is not the operator's.
    pub fn may_see(self, company: CompanyId) -> Result<(), Rejection> {
        match self.scope {
            Scope::Operator => Ok(()),
            Scope::Company if company == self.company => Ok(()),
            Scope::Company => Err(Rejection::OtherCompany),
        }
    }
}

/// A token could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("token cannot be signed")]
    Unsigned(#[from] jsonwebtoken::errors::Error),
}

/// Makes and reads tokens.
pub struct Keys {
    signing: EncodingKey,
    reading: DecodingKey,
    validation: Validation,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    company_id: CompanyId,
    scope: Scope,
    iat: i64,
    nbf: i64,
    exp: i64,
}

impl Keys {
    /// Reads the signing key: Ed25519, PKCS#8, as PEM, base64 or hex.
    ///
    /// # Errors
    /// If the file cannot be read or holds something else.
    pub fn from_pkcs8_file(path: &Path) -> Result<Self, keys::Error> {
        let malformed = || keys::Error::Malformed { path: path.display().to_string() };
        let pair = keys::read_signing_key(path)?;
        let pkcs8 = pair.to_pkcs8v1().map_err(|_| malformed())?;
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud"]);
        // `check_at` compares the instants.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        Ok(Keys {
            signing: EncodingKey::from_ed_der(pkcs8.as_ref()),
            reading: DecodingKey::from_ed_der(pair.public_key().as_ref()),
            validation,
        })
    }

    /// A token for `company` with `scope`, valid from `now` on for `ttl`.
    ///
    /// # Errors
    /// If the key cannot sign.
    pub fn issue(&self, company: CompanyId, scope: Scope, now: Timestamp, ttl: Duration) -> Result<String, Error> {
        let now = now.as_second();
        let exp = now.saturating_add(i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX));
        let claims =
            Claims { iss: ISSUER.into(), aud: AUDIENCE.into(), company_id: company, scope, iat: now, nbf: now, exp };
        Ok(jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &self.signing)?)
    }

    /// Verifies the token in `Authorization: Bearer …`, or else in the cookie `panel_token`.
    ///
    /// # Errors
    /// If there is no token, it is not one of ours, not valid yet, or expired.
    pub fn read(&self, headers: &HeaderMap, now: Timestamp) -> Result<Session, Rejection> {
        let token = token_in(headers)?;
        let read = jsonwebtoken::decode::<Claims>(token, &self.reading, &self.validation);
        let claims = read.map_err(|_| Rejection::InvalidToken)?.claims;
        claims.check_at(now)?;
        Ok(Session { company: claims.company_id, scope: claims.scope })
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys")
    }
}

impl Claims {
    fn check_at(&self, now: Timestamp) -> Result<(), Rejection> {
        let now = now.as_second();
        if self.company_id <= CompanyId::NONE || self.nbf > now.saturating_add(LEEWAY_S) {
            return Err(Rejection::InvalidToken);
        }
        if self.exp.saturating_add(LEEWAY_S) <= now {
            return Err(Rejection::ExpiredToken);
        }
        Ok(())
    }
}

/// The two ways to send a token, for the OpenAPI document.
pub(crate) fn security_schemes() -> [(&'static str, SecurityScheme); 2] {
    let about = "A signed token that names a company and a scope; `secretaria token` issues one.";
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").description(Some(about));
    let cookie = ApiKeyValue::with_description(TOKEN_COOKIE, "The same token. The header takes precedence.");
    [("token", SecurityScheme::Http(bearer.build())), ("cookie", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)))]
}

/// The header takes precedence: a program sets it on purpose, while a browser adds cookies by itself.
fn token_in(headers: &HeaderMap) -> Result<&str, Rejection> {
    let mut authorizations = headers.get_all(AUTHORIZATION).iter();
    if let Some(authorization) = authorizations.next() {
        let (scheme, token) =
            authorization.to_str().ok().and_then(|it| it.split_once(' ')).ok_or(Rejection::InvalidToken)?;
        let sole_bearer = scheme.eq_ignore_ascii_case("bearer") && authorizations.next().is_none();
        return if sole_bearer { Ok(token.trim()) } else { Err(Rejection::InvalidToken) };
    }
    let cookies = headers.get_all(COOKIE).iter().filter_map(|it| it.to_str().ok()).flat_map(|it| it.split(';'));
    cookies
        .filter_map(|cookie| cookie.trim().split_once('='))
        .find_map(|(name, token)| (name == TOKEN_COOKIE && !token.is_empty()).then_some(token))
        .ok_or(Rejection::MissingToken)
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::{Value, json};

    use super::*;

    const NOW: i64 = 1_764_000_000;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn keys() -> Keys {
        let dir = std::env::temp_dir().join(hex::encode(platform::seal::random_bytes::<8>().unwrap())).join("keys");
        keys::create_missing(&dir).unwrap();
        let keys = Keys::from_pkcs8_file(&dir.join(keys::SIGNING_KEY)).unwrap();
        std::fs::remove_dir_all(dir.parent().unwrap()).unwrap();
        keys
    }

    fn with(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    fn bearer(token: &str) -> HeaderMap {
        with(AUTHORIZATION, &format!("Bearer {token}"))
    }

    fn good_claims() -> Value {
        json!({"iss": "secretaria", "aud": "secretaria-api", "company_id": 7, "scope": "company",
               "iat": NOW, "nbf": NOW, "exp": NOW + 60})
    }

    /// Valid claims with `change` merged over them; a null removes a claim.
    fn signed(keys: &Keys, change: Value) -> String {
        let mut claims = good_claims();
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &keys.signing).unwrap()
    }

    fn outcome_of(keys: &Keys, token: &str) -> String {
        match keys.read(&bearer(token), at(NOW)) {
            Ok(session) => format!("{} {:?}", session.company, session.scope),
            Err(rejection) => format!("{rejection:?}"),
        }
    }

    #[test]
    fn a_token_we_issued_names_its_company_and_scope_until_it_expires() {
        let keys = keys();
        let token = keys.issue(CompanyId(7), Scope::Company, at(NOW), Duration::from_secs(60)).unwrap();
        let read = |second| keys.read(&bearer(&token), at(second));
        assert_eq!(read(NOW).unwrap(), Session { company: CompanyId(7), scope: Scope::Company });
        assert!(read(NOW + 89).is_ok(), "within the leeway");
        assert!(matches!(read(NOW + 90), Err(Rejection::ExpiredToken)));
        assert!(read(NOW - 30).is_ok(), "within the leeway");
        assert!(matches!(read(NOW - 31), Err(Rejection::InvalidToken)), "not good yet");
    }

    #[test]
    fn each_claim_is_needed_and_must_be_ours() {
        let keys = keys();
        assert_eq!(outcome_of(&keys, &signed(&keys, json!({}))), "7 Company");
        assert_eq!(outcome_of(&keys, &signed(&keys, json!({"scope": "operator", "sub": "ana"}))), "7 Operator");
        for name in ["exp", "nbf", "iat", "iss", "aud", "company_id", "scope"] {
            assert_eq!(outcome_of(&keys, &signed(&keys, json!({name: null}))), "InvalidToken", "without {name}");
        }
        for change in [
            json!({"iss": "someone"}),
            json!({"iss": ["secretaria"]}),
            json!({"aud": "secretaria"}),
            json!({"company_id": 0}),
            json!({"company_id": -7}),
            json!({"company_id": "7"}),
            json!({"scope": "root"}),
            json!({"exp": "tomorrow"}),
            json!({"exp": 1e300}),
        ] {
            assert_eq!(outcome_of(&keys, &signed(&keys, change.clone())), "InvalidToken", "{change}");
        }
        assert_eq!(outcome_of(&keys, &signed(&keys, json!({"exp": NOW - 31}))), "ExpiredToken");
    }

    #[test]
    fn a_token_that_we_did_not_sign_is_refused() {
        let keys = keys();
        assert_eq!(outcome_of(&keys, &signed(&self::keys(), json!({}))), "InvalidToken", "another key");

        let encode = |header: Value| {
            let part = |it: &Value| URL_SAFE_NO_PAD.encode(it.to_string());
            format!("{}.{}", part(&header), part(&good_claims()))
        };
        for alg in ["none", "None", "NONE", "EdDSA", "HS256"] {
            let unsigned = encode(json!({"alg": alg, "typ": "JWT"}));
            assert_eq!(outcome_of(&keys, &format!("{unsigned}.")), "InvalidToken", "unsigned, alg {alg}");
            assert_eq!(outcome_of(&keys, &unsigned), "InvalidToken", "two parts, alg {alg}");
        }

        // A known attack: the public key, which is no secret, as the secret of an HMAC.
        let public = keys.reading.try_get_as_bytes().unwrap();
        let forged =
            jsonwebtoken::encode(&Header::new(Algorithm::HS256), &good_claims(), &EncodingKey::from_secret(public));
        assert_eq!(outcome_of(&keys, &forged.unwrap()), "InvalidToken", "HS256 under the public key");

        let good = signed(&keys, json!({}));
        let other = signed(&keys, json!({"company_id": 8}));
        let swapped = format!("{}.{}", other.rsplit_once('.').unwrap().0, good.rsplit_once('.').unwrap().1);
        assert_eq!(outcome_of(&keys, &swapped), "InvalidToken", "claims exchanged under a signature");
        assert_eq!(outcome_of(&keys, ""), "InvalidToken");
        assert_eq!(outcome_of(&keys, "a.b.c"), "InvalidToken");
    }

    #[test]
    fn the_token_is_found_in_the_header_or_else_in_the_cookie() {
        let keys = keys();
        let token = signed(&keys, json!({}));
        let read = |headers: &HeaderMap| keys.read(headers, at(NOW)).map(|it| it.company);
        assert_eq!(read(&with(AUTHORIZATION, &format!("bearer {token}"))).unwrap(), CompanyId(7));
        assert_eq!(read(&with(COOKIE, &format!("theme=dark; panel_token={token}; x=y"))).unwrap(), CompanyId(7));
        assert!(matches!(read(&HeaderMap::new()), Err(Rejection::MissingToken)));
        assert!(matches!(read(&with(COOKIE, &format!("other={token}"))), Err(Rejection::MissingToken)));

        let mut both = with(COOKIE, &format!("panel_token={token}"));
        both.insert(AUTHORIZATION, HeaderValue::from_static("Basic YTpi"));
        assert!(matches!(read(&both), Err(Rejection::InvalidToken)), "a cookie does not make up for a wrong header");

        let mut two = bearer(&token);
        two.append(AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {token}")).unwrap());
        assert!(matches!(read(&two), Err(Rejection::InvalidToken)));
    }

    #[test]
    fn a_company_sees_itself_and_the_operator_sees_any() {
        let company = Session { company: CompanyId(7), scope: Scope::Company };
        assert!(company.may_see(CompanyId(7)).is_ok());
        assert!(matches!(company.may_see(CompanyId(8)), Err(Rejection::OtherCompany)));
        assert!(Session { scope: Scope::Operator, ..company }.may_see(CompanyId(8)).is_ok());
    }
}
