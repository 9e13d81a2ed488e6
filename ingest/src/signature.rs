//! Proves which company sent a webhook: `X-Signature = hex(hmac_sha256(secret, "{X-Timestamp}." + raw_body))`, at most 300 s from now.
//!
//! Every verification that gets as far as hashing evaluates two HMACs over the raw bytes, whether the company has
//! two secrets, one, or does not exist, so neither time nor answer reveals which. Comparisons take constant time.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::rejection::{Rejection, Unauthenticated};

/// When the webhook was signed, in epoch seconds.
pub const TIMESTAMP_HEADER: &str = "x-timestamp";
pub const SIGNATURE_HEADER: &str = "x-signature";
/// The company's static token, where it has one.
pub const TOKEN_HEADER: &str = "x-webhook-token";
/// Which company the webhook is for.
pub const COMPANY_HEADER: &str = "x-company-domain";
/// The producer's own id for a webhook without a provider's message id.
pub const IDEMPOTENCY_HEADER: &str = "x-idempotency-key";

/// How far a webhook's timestamp may be from our clock, either way.
pub const TOLERANCE_S: u64 = 300;

/// The secrets a company signs with, as HMAC states already keyed.
#[derive(Clone)]
pub struct Secrets {
    current: HmacKey,
    previous: HmacKey,
    previous_until: Timestamp,
}

/// Which secret a webhook was signed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SigningSecret {
    Current,
    /// The one being rotated out.
    Previous,
}

/// What a verified webhook proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proof {
    /// The verified MAC. It covers the timestamp and every byte of the body, so it identifies the webhook.
    pub mac: [u8; 32],
    /// When the sender signed.
    pub signed_at: Timestamp,
    pub secret: SigningSecret,
}

/// A company's static token, kept as a digest.
#[derive(Clone)]
pub struct Token([u8; 32]);

/// The timestamp and signature in a webhook's headers, checked as far as possible before its body has arrived.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    timestamp: &'a [u8],
    signed_at: Timestamp,
    mac: [u8; 32],
}

impl<'a> Claim<'a> {
    /// Reads the headers' bytes; the timestamp is kept exactly as it was sent, because those bytes were signed.
    ///
    /// # Errors
    /// Which header is missing or wrong, the timestamp first, for known and unknown companies alike.
    pub fn read(timestamp: Option<&'a [u8]>, signature: Option<&[u8]>, now: Timestamp) -> Result<Self, Rejection> {
        let timestamp = timestamp.filter(|it| !it.is_empty()).ok_or(Unauthenticated::MissingTimestamp)?;
        let signed_at = within_tolerance(seconds(timestamp)?, now)?;
        let signature = signature.filter(|it| !it.is_empty()).ok_or(Unauthenticated::MissingSignature)?;
        let mut mac = [0; 32];
        hex::decode_to_slice(signature, &mut mac).map_err(|_| Unauthenticated::BadSignature)?;
        Ok(Claim { timestamp, signed_at, mac })
    }

    /// Checks the signature against a company's secrets, or against the decoy if the company is unknown.
    ///
    /// # Errors
    /// `bad_signature`, if none of them made it. The previous one counts until it expires, however long ago it was loaded.
    pub fn verify(self, secrets: &Secrets, body: &[u8], now: Timestamp) -> Result<Proof, Rejection> {
        let by_current = secrets.current.is_valid(self.timestamp, body, &self.mac);
        let is_live = Choice::from(u8::from(now < secrets.previous_until));
        let by_previous = secrets.previous.is_valid(self.timestamp, body, &self.mac) & is_live;
        let secret = match (bool::from(by_current), bool::from(by_previous)) {
            (true, _) => SigningSecret::Current,
            (false, true) => SigningSecret::Previous,
            (false, false) => return Err(Unauthenticated::BadSignature.into()),
        };
        Ok(Proof { mac: self.mac, signed_at: self.signed_at, secret })
    }
}

/// The value of `X-Signature` for a body.
pub fn sign(secret: &[u8], timestamp: i64, body: &[u8]) -> String {
    hex::encode(mac_of(&keyed(secret), timestamp.to_string().as_bytes(), body))
}

impl Secrets {
    /// A company's secret, and the one being rotated out with the instant from which it no longer counts. With an
    /// empty one no signature is valid, because everybody knows it.
    pub fn new(current: &[u8], previous: Option<(&[u8], Timestamp)>) -> Self {
        let (previous, previous_until) =
            previous.map_or((HmacKey::decoy(), Timestamp::MIN), |(secret, until)| (HmacKey::live(secret), until));
        Secrets { current: HmacKey::live(current), previous, previous_until }
    }

    /// Secrets for a company that does not exist: verifying takes as long, and no signature is valid.
    pub fn decoy() -> Self {
        Secrets { current: HmacKey::decoy(), previous: HmacKey::decoy(), previous_until: Timestamp::MIN }
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(..)")
    }
}

impl Token {
    pub fn new(token: &[u8]) -> Self {
        Token(Sha256::digest(token).into())
    }

    /// A token of which only the SHA-256 is known.
    pub fn of_digest(digest: [u8; 32]) -> Self {
        Token(digest)
    }

    /// Checks the `X-Webhook-Token` of a webhook for a company that has a token. Digests are compared, so that time does
    /// not even reveal the length.
    ///
    /// # Errors
    /// `bad_token` when it is missing or another one.
    pub fn verify(&self, given: Option<&[u8]>) -> Result<(), Rejection> {
        let given = given.filter(|it| !it.is_empty()).ok_or(Unauthenticated::BadToken)?;
        let given: [u8; 32] = Sha256::digest(given).into();
        if bool::from(self.0.ct_eq(&given)) { Ok(()) } else { Err(Unauthenticated::BadToken.into()) }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// One HMAC state. If it is not live, no signature is valid, and checking one takes as long.
#[derive(Clone)]
struct HmacKey {
    state: Hmac<Sha256>,
    live: Choice,
}

impl HmacKey {
    fn live(secret: &[u8]) -> Self {
        HmacKey { state: keyed(secret), live: !Choice::from(u8::from(secret.is_empty())) }
    }

    fn decoy() -> Self {
        HmacKey { state: keyed(b"decoy"), live: Choice::from(0) }
    }

    fn is_valid(&self, timestamp: &[u8], body: &[u8], claimed: &[u8; 32]) -> Choice {
        mac_of(&self.state, timestamp, body).ct_eq(claimed) & self.live
    }
}

#[expect(clippy::expect_used, reason = "HMAC is defined for keys of every length, so the error cannot occur")]
fn keyed(secret: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(secret).expect("HMAC takes a key of any length")
}

fn mac_of(state: &Hmac<Sha256>, timestamp: &[u8], body: &[u8]) -> [u8; 32] {
    state.clone().chain_update(timestamp).chain_update(b".").chain_update(body).finalize().into_bytes().into()
}

/// Reads a whole number; one beyond 64 bits counts as future or stale by its sign.
fn seconds(timestamp: &[u8]) -> Result<i64, Unauthenticated> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    let text = std::str::from_utf8(timestamp).map_err(|_| Unauthenticated::MissingTimestamp)?;
    text.parse().map_err(|error: std::num::ParseIntError| match error.kind() {
        PosOverflow => Unauthenticated::FutureTimestamp,
        NegOverflow => Unauthenticated::StaleTimestamp,
        _ => Unauthenticated::MissingTimestamp,
    })
}

fn within_tolerance(signed_at: i64, now: Timestamp) -> Result<Timestamp, Unauthenticated> {
    let now = now.as_second();
    let outside = if signed_at < now { Unauthenticated::StaleTimestamp } else { Unauthenticated::FutureTimestamp };
    if now.abs_diff(signed_at) > TOLERANCE_S {
        return Err(outside);
    }
    Timestamp::from_second(signed_at).map_err(|_| outside)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    const NOW: i64 = 1_700_000_000;
    const BODY: &[u8] = br#"{"message":{"conversation":"oi"},"number":"5511999990001"}"#;

    #[derive(Deserialize)]
    struct Vector {
        case: String,
        current: String,
        previous: Option<String>,
        timestamp: Option<String>,
        signature: Option<String>,
        body: String,
        now: i64,
        expect: String,
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn verify(
        secrets: &Secrets,
        timestamp: Option<&[u8]>,
        signature: Option<&[u8]>,
        body: &[u8],
        now: Timestamp,
    ) -> Result<Proof, Rejection> {
        Claim::read(timestamp, signature, now)?.verify(secrets, body, now)
    }

    fn check(secrets: &Secrets, timestamp: &str, signature: &str, body: &[u8]) -> Result<Proof, Rejection> {
        verify(secrets, Some(timestamp.as_bytes()), Some(signature.as_bytes()), body, at(NOW))
    }

    fn outcome(secrets: &Secrets, timestamp: &str, signature: &str) -> &'static str {
        outcome_of(check(secrets, timestamp, signature, BODY))
    }

    fn outcome_of(result: Result<Proof, Rejection>) -> &'static str {
        match result {
            Ok(Proof { secret: SigningSecret::Current, .. }) => "current",
            Ok(Proof { secret: SigningSecret::Previous, .. }) => "previous",
            Err(rejection) => rejection.outcome(),
        }
    }

    #[test]
    fn every_published_vector_has_its_expected_outcome() {
        let vectors = include_str!("../../fixtures/hooks/signature_vectors.json");
        let vectors: Vec<Vector> = serde_json::from_str(vectors).unwrap();
        for Vector { case, current, previous, timestamp, signature, body, now, expect } in vectors {
            let secrets = Secrets::new(current.as_bytes(), previous.as_ref().map(|it| (it.as_bytes(), Timestamp::MAX)));
            let (timestamp, signature) = (timestamp.map(String::into_bytes), signature.map(String::into_bytes));
            let result = verify(&secrets, timestamp.as_deref(), signature.as_deref(), body.as_bytes(), at(now));
            assert_eq!(outcome_of(result), expect, "{case}");
        }
    }

    #[test]
    fn a_proof_carries_the_mac_and_the_signing_time() {
        let signature = sign(b"s3cret", NOW - 7, BODY);
        let (timestamp, secrets) = ((NOW - 7).to_string(), Secrets::new(b"s3cret", None));
        let proof = check(&secrets, &timestamp, &signature, BODY);
        let Ok(Proof { mac, signed_at, secret: SigningSecret::Current }) = proof else { panic!("{proof:?}") };
        assert_eq!((hex::encode(mac), signed_at), (signature, at(NOW - 7)));
    }

    #[test]
    fn the_window_is_300_seconds_both_ways_and_ends_there() {
        let secrets = Secrets::new(b"s3cret", None);
        let signed = |second: i64| outcome(&secrets, &second.to_string(), &sign(b"s3cret", second, BODY));
        assert_eq!([signed(NOW - 300), signed(NOW + 300)], ["current"; 2]);
        assert_eq!([signed(NOW - 301), signed(NOW + 301)], ["stale_timestamp", "future_timestamp"]);
    }

    #[test]
    fn the_previous_secret_ends_by_the_clock_and_not_when_secrets_are_read_again() {
        let secrets = Secrets::new(b"new", Some((b"old", at(NOW + 60))));
        let signed_old = |second: i64| {
            let (timestamp, signature) = (second.to_string(), sign(b"old", second, BODY));
            outcome_of(verify(&secrets, Some(timestamp.as_bytes()), Some(signature.as_bytes()), BODY, at(second)))
        };
        assert_eq!([signed_old(NOW), signed_old(NOW + 59)], ["previous"; 2]);
        assert_eq!([signed_old(NOW + 60), signed_old(NOW + 3_600)], ["bad_signature"; 2]);
        assert_eq!(outcome(&secrets, &NOW.to_string(), &sign(b"new", NOW, BODY)), "current");
    }

    #[test]
    fn an_unknown_company_gets_the_answer_of_a_forged_signature() {
        let signature = sign(b"decoy", NOW, BODY);
        assert_eq!(outcome(&Secrets::decoy(), &NOW.to_string(), &signature), "bad_signature");
        let one_secret = Secrets::new(b"s3cret", None);
        assert_eq!(
            outcome(&one_secret, &NOW.to_string(), &signature),
            "bad_signature",
            "no signature is valid for the decoy beside it"
        );
    }

    #[test]
    fn no_signature_is_valid_for_an_empty_secret() {
        let secrets = Secrets::new(b"", Some((b"", Timestamp::MAX)));
        assert_eq!(outcome(&secrets, &NOW.to_string(), &sign(b"", NOW, BODY)), "bad_signature");
    }

    #[test]
    fn a_timestamp_beyond_64_bits_is_stale_or_future_by_its_sign() {
        let secrets = Secrets::new(b"s3cret", None);
        assert_eq!(outcome(&secrets, "99999999999999999999", "00"), "future_timestamp");
        assert_eq!(outcome(&secrets, "-99999999999999999999", "00"), "stale_timestamp");
        assert_eq!(outcome(&secrets, "1700000000.5", "00"), "missing_timestamp");
    }

    #[test]
    fn only_the_whole_token_is_accepted() {
        let token = Token::new(b"tok-1");
        assert!(token.verify(Some(b"tok-1")).is_ok());
        for wrong in [None, Some(&b""[..]), Some(b"tok-"), Some(b"tok-11")] {
            assert_eq!(token.verify(wrong), Err(Unauthenticated::BadToken.into()));
        }
        assert!(Token::new(b"").verify(None).is_err(), "an empty token does not match an absent one");
    }

    proptest! {
        #[test]
        fn nothing_unsigned_panics_or_passes(
            timestamp in proptest::option::of(prop_oneof![
                any::<i64>().prop_map(|it| it.to_string().into_bytes()),
                (NOW - 400..NOW + 400).prop_map(|it| it.to_string().into_bytes()),
                Just(i64::MIN.to_string().into_bytes()),
                Just(i64::MAX.to_string().into_bytes()),
                any::<Vec<u8>>(),
            ]),
            signature in proptest::option::of(prop_oneof![proptest::collection::vec(any::<u8>(), 32)
                .prop_map(|it| hex::encode(it).into_bytes()), any::<Vec<u8>>()]),
            body: Vec<u8>,
            now in prop_oneof![Just(Timestamp::MIN), Just(Timestamp::MAX), Just(Timestamp::from_second(NOW).unwrap())],
        ) {
            let secrets = Secrets::new(b"current", Some((b"previous", Timestamp::MAX)));
            prop_assert!(verify(&secrets, timestamp.as_deref(), signature.as_deref(), &body, now).is_err());
        }

        #[test]
        fn what_is_signed_is_accepted_and_one_changed_byte_is_not(
            secret in proptest::collection::vec(any::<u8>(), 1..200), mut body: Vec<u8>, at_byte: prop::sample::Index,
        ) {
            let signature = sign(&secret, NOW, &body);
            let secrets = Secrets::new(&secret, None);
            let timestamp = NOW.to_string();
            let is_accepted = |body: &[u8]| check(&secrets, &timestamp, &signature, body).is_ok();
            prop_assert!(is_accepted(&body));
            if body.is_empty() { body.push(0) } else { let at_byte = at_byte.index(body.len()); body[at_byte] ^= 1 }
            prop_assert!(!is_accepted(&body));
        }
    }
}
