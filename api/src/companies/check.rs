//! Validates and normalises the values of a company: domain, time zone, secrets, URLs. Pure.

use std::time::Duration;

use axum::http::Uri;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use platform::egress::Policy;
use secrecy::{ExposeSecret, SecretString};

use super::{Auth, Channel, Error, NewCompany};

/// How long a previous secret may stay valid at most.
const MAX_DAYS_KEPT: u64 = 90;

/// The company as it is stored: domain and time zone normalised, everything else checked.
pub(super) fn company(given: NewCompany) -> Result<NewCompany, Error> {
    let texts = [("assistant_prompt", &given.assistant_prompt), ("fallback_text", &given.fallback_text)];
    for (field, text) in texts {
        if text.as_ref().is_some_and(|it| it.len() > 65_536 || it.contains('\0')) {
            return Err(invalid(field, "must be text of at most 64 KiB"));
        }
    }
    let unnamed = |it: &String| it.trim().is_empty() || it.chars().count() > 200 || it.chars().any(char::is_control);
    if given.name.as_ref().is_some_and(unnamed) {
        return Err(invalid("name", "must have 1 to 200 characters"));
    }
    Ok(NewCompany {
        domain: domain(&given.domain)?,
        time_zone: given.time_zone.as_deref().map(time_zone).transpose()?,
        channel: given.channel.map(channel).transpose()?,
        webhook_secret: given.webhook_secret.map(|it| secret("webhook_secret", it)).transpose()?,
        webhook_token: given.webhook_token.map(|it| secret("webhook_token", it)).transpose()?,
        ..given
    })
}

/// A host name in lower case (RFC 1123 §2.1): labels of letters, digits and inner hyphens.
pub(super) fn domain(text: &str) -> Result<String, Error> {
    let domain = text.trim().to_ascii_lowercase();
    let label_is_good = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    match domain.len() <= 253 && domain.split('.').all(label_is_good) {
        true => Ok(domain),
        false => Err(invalid("domain", "must be a host name: letters, digits and hyphens between dots")),
    }
}

/// Checks the domain of a new company. Digits alone are refused, because commands read them as an id.
pub(super) fn new_domain(domain: &str) -> Result<&str, Error> {
    match reads_as_id(domain) {
        false => Ok(domain),
        true => Err(invalid("domain", "must not be digits alone, which name a company by its id")),
    }
}

/// Whether an argument that names a company is its id, digits alone, and not its domain.
pub fn reads_as_id(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|it| it.is_ascii_digit())
}

/// A webhook secret or token: long enough not to be guessed, and valid in a header.
pub(super) fn secret(field: &'static str, secret: SecretString) -> Result<SecretString, Error> {
    let text = secret.expose_secret();
    match (16..=512).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()) {
        true => Ok(secret),
        false => Err(invalid(field, "must have 16 to 512 visible ASCII characters, without spaces")),
    }
}

/// A URL that alerts may be sent to. The addresses that its host resolves to are checked at every call.
pub(super) fn webhook_url(text: &str, policy: Policy) -> Result<String, Error> {
    match policy.url(text.trim()).ok().filter(|it| it.as_str().len() <= 2_048 && it.fragment().is_none()) {
        // The normalised URL is stored: without tabs, and with its host in ASCII.
        Some(url) => Ok(url.into()),
        None => Err(invalid("url", "must be https:// and a public host, without user, password or fragment")),
    }
}

/// Until when a secret that is being rotated out is valid.
pub(super) fn end_of(now: Timestamp, keep: Duration) -> Result<Timestamp, Error> {
    let too_long = || invalid("keep_previous_for", "must be at most 90 days");
    if keep > Duration::from_secs(MAX_DAYS_KEPT * 86_400) {
        return Err(too_long());
    }
    now.checked_add(keep).map_err(|_| too_long())
}

/// The time zone's name in its canonical spelling.
fn time_zone(name: &str) -> Result<String, Error> {
    let zone = TimeZone::get(name).ok();
    let name = zone.as_ref().and_then(TimeZone::iana_name).map(str::to_owned);
    name.ok_or(invalid("time_zone", "must be an IANA time zone, such as America/Sao_Paulo"))
}

fn channel(given: Channel) -> Result<Channel, Error> {
    let base_url = given.base_url.trim().trim_end_matches('/').to_owned();
    // The URL is not encrypted, so it must hold no password; the paths of requests are appended to it.
    let plain = base_url.parse().is_ok_and(|url: Uri| {
        matches!(url.scheme_str(), Some("http" | "https"))
            && url.authority().is_some_and(|it| !it.as_str().contains('@') && !it.host().is_empty())
            && url.query().is_none()
    });
    if !plain || base_url.contains('#') {
        return Err(invalid("base_url", "must be http:// or https:// and a host, without user, password or query"));
    }
    let unfit = |secret: &SecretString| {
        let text = secret.expose_secret();
        text.is_empty() || text.len() > 4_096 || text.chars().any(char::is_control)
    };
    match &given.auth {
        Auth::Token(token) if unfit(token) => Err(invalid("token", "must be 1 to 4096 visible characters")),
        Auth::Login { password, .. } if unfit(password) => {
            Err(invalid("password", "must be 1 to 4096 visible characters"))
        }
        Auth::Login { email, .. } if !email.contains('@') || email.chars().any(char::is_control) => {
            Err(invalid("email", "must be an e-mail address"))
        }
        Auth::Token(_) | Auth::Login { .. } => Ok(Channel { base_url, auth: given.auth }),
    }
}

fn invalid(field: &'static str, problem: &'static str) -> Error {
    Error::Invalid { field, problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem<T>(result: Result<T, Error>) -> String {
        result.err().map(|it| it.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_domain_is_a_host_name_in_lower_case() {
        assert_eq!(domain(" Clinica-Sol.Example ").unwrap(), "clinica-sol.example");
        assert_eq!(domain("localhost").unwrap(), "localhost");
        let long = format!("{}.example", "a".repeat(64));
        for wrong in ["", ".", "a..b", "a.", "-a.example", "a-.example", "a_b.example", "clínica.example", "a/b", &long]
        {
            assert!(domain(wrong).is_err(), "{wrong}");
        }
        assert!(domain(&["abcdefg"; 33].join(".")).is_err(), "longer than 253");
    }

    #[test]
    fn a_new_domain_is_not_digits_alone() {
        assert!(problem(new_domain("1")).starts_with("domain:"));
        for right in ["1.example", "1-2", "1.2", "a1"] {
            assert_eq!(new_domain(right).unwrap(), right);
        }
    }

    #[test]
    fn a_zone_is_one_that_exists() {
        assert_eq!(time_zone("america/sao_paulo").unwrap(), "America/Sao_Paulo");
        assert!(problem(time_zone("Brasilia")).starts_with("time_zone:"));
    }

    #[test]
    fn a_guessable_secret_is_refused_and_not_repeated() {
        let refused = problem(secret("webhook_secret", SecretString::from("segredo")));
        assert!(refused.starts_with("webhook_secret:") && !refused.contains("segredo"));
        assert!(secret("webhook_secret", SecretString::from("minha-shared-secret")).is_ok());
        assert!(secret("webhook_secret", SecretString::from("with spaces and such")).is_err());
    }

    #[test]
    fn a_bridge_has_a_plain_url_and_credentials() {
        let at = |base_url: &str| {
            channel(Channel { base_url: base_url.into(), auth: Auth::Token(SecretString::from("t")) })
                .map(|it| it.base_url)
        };
        assert_eq!(at("https://bridge.example/api/").unwrap(), "https://bridge.example/api");
        assert_eq!(at("http://127.0.0.1:8090").unwrap(), "http://127.0.0.1:8090");
        for wrong in
            ["", "bridge.example", "ftp://a.example", "https://u:p@a.example", "https://a.example/?k=v", "http://"]
        {
            assert!(problem(at(wrong)).starts_with("base_url:"), "{wrong}");
        }
        let login = Auth::Login { email: "ana".into(), password: SecretString::from("p") };
        assert!(problem(channel(Channel { base_url: "http://a.example".into(), auth: login })).starts_with("email:"));
    }

    #[test]
    fn alerts_are_sent_to_public_hosts_over_tls_alone() {
        let at = |url: &str| webhook_url(url, Policy::Public);
        for right in ["https://clinica.example/alerts?k=v", "https://8.8.8.8:8443/"] {
            assert_eq!(at(&format!(" {right}")).unwrap(), right);
        }
        let long = format!("https://clinica.example/{}", "a".repeat(2_048));
        for (given, kept) in [
            ("https://clínica.example/a", "https://xn--clnica-4va.example/a"),
            ("https:clinica.example", "https://clinica.example/"),
            ("https://clinica.example/\ta", "https://clinica.example/a"),
        ] {
            assert_eq!(at(given).unwrap(), kept, "as it is stored");
        }
        let wrong = [
            "",
            "clinica.example",
            "http://clinica.example",
            "https://u:p@a.example",
            "https://10.0.0.1/",
            "https://0x7f.1/",
            "https://clinica.example/#a",
            &long,
        ];
        for it in wrong {
            assert!(problem(at(it)).starts_with("url:"), "{it}");
        }
        assert!(webhook_url("http://127.0.0.1:8090/webhooks/a", Policy::Anywhere).is_ok());
        assert!(webhook_url("http://clinica.example/", Policy::Anywhere).is_err());
    }

    #[test]
    fn a_previous_secret_is_not_valid_for_ever() {
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(end_of(now, Duration::from_secs(60)).unwrap().as_second(), 60);
        assert!(end_of(now, Duration::from_secs(91 * 86_400)).is_err());
    }
}
