//! Reading a set of thresholds: which keys there are, and that each value is one that [`Config`] takes for its key.

use std::fmt;
use std::sync::LazyLock;

use serde::Deserialize;
use serde::de::value::MapDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, Visitor};
use serde_json::Value;

use super::{Config, Overrides, Shadow, as_map};

/// Keys of [`Config`] that are settings of the detector as a whole; so is every `max_…`.
const OF_THE_DETECTOR: [&str; 4] = ["quiet_minutes", "day_quiet_minutes", "update_minutes", "erase_after_hours"];

/// The thresholds, by name. The names live as long as the process, and are those of one struct.
pub(super) static KEYS: LazyLock<&'static [&'static str]> = LazyLock::new(|| {
    let keys = as_map(&Config::default()).into_iter().map(|(key, _)| key);
    let keys = keys.filter(|key| !key.starts_with("max_") && !OF_THE_DETECTOR.contains(&key.as_str()));
    keys.map(|key| &*key.leak()).collect::<Vec<&'static str>>().leak()
});

/// A value of a threshold.
#[derive(Clone, Copy)]
enum Scalar {
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
}

impl Scalar {
    fn into_value(self) -> Option<Value> {
        Some(match self {
            Self::Bool(value) => value.into(),
            Self::Unsigned(value) => value.into(),
            Self::Signed(value) => value.into(),
            Self::Float(value) => Value::Number(serde_json::Number::from_f64(value)?),
        })
    }
}

impl<E: de::Error> IntoDeserializer<'_, E> for Scalar {
    type Deserializer = ScalarDeserializer<E>;

    fn into_deserializer(self) -> Self::Deserializer {
        ScalarDeserializer(self, std::marker::PhantomData)
    }
}

/// Hands one value to whatever type [`Config`] has for its key.
struct ScalarDeserializer<E>(Scalar, std::marker::PhantomData<E>);

impl<'de, E: de::Error> Deserializer<'de> for ScalarDeserializer<E> {
    type Error = E;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, E> {
        match self.0 {
            Scalar::Bool(value) => visitor.visit_bool(value),
            Scalar::Unsigned(value) => visitor.visit_u64(value),
            Scalar::Signed(value) => visitor.visit_i64(value),
            Scalar::Float(value) => visitor.visit_f64(value),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// Reads the value of the threshold with this name.
#[derive(Clone, Copy)]
struct ValueOf(&'static str);

impl<'de> DeserializeSeed<'de> for ValueOf {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let scalar = deserializer.deserialize_any(self)?;
        // Only whether `Config` takes it: which number it then is, is the same for both.
        Config::deserialize(MapDeserializer::<_, D::Error>::new(std::iter::once((self.0, scalar))))?;
        scalar.into_value().ok_or_else(|| de::Error::custom("must be a finite number"))
    }
}

impl Visitor<'_> for ValueOf {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Scalar, E> {
        Ok(Scalar::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Scalar, E> {
        Ok(Scalar::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Scalar, E> {
        Ok(Scalar::Signed(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Scalar, E> {
        Ok(Scalar::Float(value))
    }
}

/// One of `.0`, in its `'static` form.
struct OneOf(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for OneOf {
    type Value = &'static str;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for OneOf {
    type Value = &'static str;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        self.0.iter().find(|key| **key == text).copied().ok_or_else(|| E::unknown_field(text, self.0))
    }
}

/// A section of thresholds, with `name` among them where there is one.
struct Section {
    named: bool,
}

impl<'de> Visitor<'de> for Section {
    type Value = Shadow;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a section of thresholds")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shadow, A::Error> {
        static WITH_NAME: LazyLock<&'static [&'static str]> =
            LazyLock::new(|| std::iter::once("name").chain(KEYS.iter().copied()).collect::<Vec<_>>().leak());
        let mut read = Shadow::default();
        while let Some(key) = map.next_key_seed(OneOf(if self.named { *WITH_NAME } else { *KEYS }))? {
            if self.named && key == "name" {
                read.name = map.next_value()?;
            } else {
                read.overrides.0.insert(key.to_owned(), map.next_value_seed(ValueOf(key))?);
            }
        }
        Ok(read)
    }
}

impl<'de> Deserialize<'de> for Overrides {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Section { named: false }).map(|read| read.overrides)
    }
}

impl<'de> Deserialize<'de> for Shadow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Section { named: true })
    }
}
