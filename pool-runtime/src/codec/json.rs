//! `Json`: a value that travels as JSON inside of the encoding.

use serde::de::{DeserializeOwned, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser};
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// A value that travels to another process as JSON.
///
/// Arguments and results travel without the names of their fields. Types that have to see what comes next cannot be read
/// from that: `serde_json::Value`, `rust_decimal::Decimal`, and types with `#[serde(untagged)]`, `#[serde(flatten)]` or
/// `#[serde(tag = "…")]` without `content`. JSON has the names, so they travel in this wrapper; as a parameter or a result
/// of a task, or anywhere in one. It takes more time and bytes than the types that need no wrapper.
///
/// This needs the feature `json` of this crate.
///
/// ```
/// # use pool_runtime::{Json, Pool, Result, enter, task};
/// use serde::{Deserialize, Serialize};
/// use serde_json::{Value, json};
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// #[serde(untagged)]
/// enum Id {
///     Number(u64),
///     Name(String),
/// }
///
/// #[task]
/// fn id_of(Json(order): Json<Value>) -> Option<Json<Id>> {
///     serde_json::from_value(order["id"].clone()).ok().map(Json)
/// }
///
/// fn main() -> Result<()> {
///     enter();
///     let pool = Pool::new(1)?;
///     let id = pool.apply(id_of::call(Json(json!({ "id": "7-b", "items": [1, 2] }))))?;
///     assert_eq!(id, Some(Json(Id::Name("7-b".to_owned()))));
///     Ok(())
/// }
/// ```
///
/// # Errors
///
/// What JSON cannot carry is an error of the call: a map whose keys are neither strings nor numbers, or nesting deeper
/// than 128. A number that is not finite becomes `null`, which is an error when it is read as a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Json<T>(pub T);

impl<T> Json<T> {
    /// The value.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> From<T> for Json<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T> Deref for Json<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Json<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: fmt::Display> fmt::Display for Json<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: Serialize> Serialize for Json<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = serde_json::to_string(&self.0).map_err(|error| ser::Error::custom(not_json::<T>(&error)))?;
        serializer.serialize_str(&text)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Json<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(JsonVisitor(PhantomData))
    }
}

struct JsonVisitor<T>(PhantomData<T>);

impl<T: DeserializeOwned> Visitor<'_> for JsonVisitor<T> {
    type Value = Json<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a `{}` as JSON", std::any::type_name::<T>())
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Json<T>, E> {
        serde_json::from_str(text).map(Json).map_err(|error| E::custom(not_json::<T>(&error)))
    }
}

fn not_json<T>(error: &serde_json::Error) -> String {
    format!("`{}` as JSON: {error}", std::any::type_name::<T>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{CodecError, Probe, Reader, Value as _, Writer};
    use serde_json::{Value, json};
    use std::collections::BTreeMap;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Id {
        Number(u64),
        Name(String),
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Flat {
        id: Id,
        #[serde(flatten)]
        rest: BTreeMap<String, Value>,
    }

    /// As an argument and a result travel.
    fn there_and_back<T: Serialize + DeserializeOwned>(value: &T) -> Result<T, CodecError> {
        let mut writer = Writer::new();
        (&&&&&Probe::<T>::new()).encode(value, &mut writer)?;
        let bytes = writer.into_bytes();
        let mut reader = Reader::new(&bytes);
        let value = (&&&&&Probe::<T>::new()).decode(&mut reader)?;
        reader.finish().map(|()| value)
    }

    #[test]
    fn what_needs_names_travels_as_json() {
        for value in [json!(null), json!({"a": [1, 2.5, "é", {"b": null}], "c": u64::MAX}), json!("x".repeat(1 << 20))]
        {
            assert!(there_and_back(&value).is_err());
            assert_eq!(there_and_back(&Json(value.clone())), Ok(Json(value)));
        }
        let flat = Flat { id: Id::Name("7-b".into()), rest: BTreeMap::from([("more".into(), json!([true]))]) };
        assert!(there_and_back(&flat).is_err());
        let inside = (1_u8, vec![Some(Json(flat.clone())), None], Json(Id::Number(7)));
        assert_eq!(there_and_back(&inside), Ok(inside));
        assert_eq!(Json::from(flat.clone()).into_inner(), flat);
    }

    #[test]
    fn what_json_cannot_carry_is_an_error() {
        let text = |error: CodecError| error.to_string();
        let keyed = there_and_back(&Json(BTreeMap::from([((1, 2), 3)]))).unwrap_err();
        assert!(text(keyed).contains("as JSON: key must be a string"));
        let infinite = there_and_back(&Json(f64::INFINITY)).unwrap_err();
        assert!(text(infinite).contains("`f64` as JSON: invalid type: null"));
        assert_eq!(there_and_back(&Json(0.1)), Ok(Json(0.1)));
        let mut deep = json!(1);
        for _ in 0..200 {
            deep = json!([deep]);
        }
        assert!(text(there_and_back(&Json(deep)).unwrap_err()).contains("recursion limit"));
    }
}
