//! Signatures of outbound webhooks: Standard Webhooks (github.com/standard-webhooks, specification 1.0.0), symmetric.
//!
//! A secret is 24 to 64 bytes, written `whsec_` and base64. What is signed is `{id}.{timestamp}.{body}`, by HMAC-SHA256;
//! while a secret is being rotated out, a call carries one signature per secret.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretSlice, SecretString};

use crate::seal;

/// The event's id: the same for every attempt.
pub const ID_HEADER: &str = "webhook-id";
/// When the attempt was made, in epoch seconds.
pub const TIMESTAMP_HEADER: &str = "webhook-timestamp";
/// Signatures, separated by spaces.
pub const SIGNATURE_HEADER: &str = "webhook-signature";

const PREFIX: &str = "whsec_";

/// A secret shared with one receiver.
#[derive(Debug, Clone)]
pub struct Secret(SecretSlice<u8>);

/// The text is no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be whsec_ and the base64 of 24 to 64 bytes")]
pub struct Malformed;

impl Secret {
    /// Reads a secret in its text form.
    ///
    /// # Errors
    /// If it has another form; the text is not repeated.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let bytes = STANDARD.decode(text.strip_prefix(PREFIX).ok_or(Malformed)?).map_err(|_| Malformed)?;
        if !(24..=64).contains(&bytes.len()) {
            return Err(Malformed);
        }
        Ok(Secret(SecretSlice::from(bytes)))
    }

    /// A new random secret.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn random() -> Result<Self, seal::Error> {
        Ok(Secret(SecretSlice::from(seal::random_bytes::<32>()?.to_vec())))
    }

    /// The text form: `whsec_` and base64.
    pub fn to_text(&self) -> SecretString {
        SecretString::from(format!("{PREFIX}{}", STANDARD.encode(self.0.expose_secret())))
    }

    /// The signature of one call: `v1,` and base64.
    pub fn sign(&self, id: &str, timestamp_s: i64, body: &[u8]) -> String {
        let mut signing = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, self.0.expose_secret()));
        signing.update(format!("{id}.{timestamp_s}.").as_bytes());
        signing.update(body);
        format!("v1,{}", STANDARD.encode(signing.sign()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification and of its reference libraries.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn the_known_example_has_its_known_signature() {
        let signed = Secret::parse(SECRET).unwrap().sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_is_read_as_it_was_written_and_never_printed() {
        let secret = Secret::random().unwrap();
        let text = secret.to_text();
        let read = Secret::parse(text.expose_secret()).unwrap();
        assert_eq!(read.sign("a", 1, b"b"), secret.sign("a", 1, b"b"));
        assert!(!format!("{secret:?}").contains(&text.expose_secret()[PREFIX.len()..]));
    }

    #[test]
    fn what_is_too_short_too_long_or_no_secret_is_refused() {
        let of = |length: usize| format!("{PREFIX}{}", STANDARD.encode(vec![7; length]));
        assert!([24, 64].iter().all(|it| Secret::parse(&of(*it)).is_ok()));
        for wrong in [of(23), of(65), SECRET.replace("whsec_", ""), format!("{SECRET}!"), String::new()] {
            assert_eq!(Secret::parse(&wrong).err(), Some(Malformed), "{wrong}");
        }
    }
}
