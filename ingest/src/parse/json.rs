//! A JSON value of any type: reading one never fails because of its type, so each field is checked where it is used.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

/// Any JSON value; an object is read as a `T`. Text is borrowed from the body where possible.
#[derive(Debug, Default)]
pub(super) enum Json<'a, T = IgnoredAny> {
    /// Absent, or null.
    #[default]
    Missing,
    Text(Cow<'a, str>),
    Number(Number),
    Bool(bool),
    /// An array; no field that we read is one.
    List,
    Object(T),
}

impl<'a, T> Json<'a, T> {
    pub(super) fn is_present(&self) -> bool {
        !matches!(self, Json::Missing)
    }

    /// `true`, or the text "true".
    pub(super) fn is_true(&self) -> bool {
        matches!(self, Json::Bool(true)) || matches!(self, Json::Text(text) if text == "true")
    }

    pub(super) fn object(&self) -> Option<&T> {
        match self {
            Json::Object(object) => Some(object),
            _ => None,
        }
    }

    pub(super) fn into_object(self) -> Option<T> {
        match self {
            Json::Object(object) => Some(object),
            _ => None,
        }
    }

    /// The text, if it is text and not blank.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Json::Text(text) if !text.trim().is_empty() => Some(text),
            _ => None,
        }
    }

    /// Text, or the digits of a number: some bridges turn a typed "1" into a number.
    pub(super) fn into_text_or_number(self) -> Option<Cow<'a, str>> {
        match self {
            Json::Text(text) => Some(text),
            Json::Number(number) => Some(Cow::Owned(number.to_string())),
            Json::Missing | Json::Bool(_) | Json::List | Json::Object(_) => None,
        }
    }
}

impl<'de: 'a, 'a, T: Deserialize<'de>> Deserialize<'de> for Json<'a, T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(AnyValue(PhantomData))
    }
}

struct AnyValue<'a, T>(PhantomData<Json<'a, T>>);

impl<'de: 'a, 'a, T: Deserialize<'de>> Visitor<'de> for AnyValue<'a, T> {
    type Value = Json<'a, T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Json::Missing)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Self::Value, E> {
        Ok(Json::Bool(truth))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Json::Number(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Json::Number(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Number::from_f64(number).map_or(Json::Missing, Json::Number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Json::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Json::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Json::List)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Json::Object)
    }
}
