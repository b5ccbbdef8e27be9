//! `Json`: a value that travels as JSON inside of the encoding.

use crate::codec::guarded::Guarded;
use crate::codec::room::StackRoom;
use serde::de::{DeserializeOwned, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser};
use std::cell::Cell;
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
/// What JSON cannot carry is an error of the call: a map whose keys are neither strings nor numbers, or more than 127
/// brackets in one another. A number that is not finite becomes `null`, which is an error when it is read as a number.
///
/// A value from a process that you do not trust is read on no more of the stack than is left. But what serde does for
/// `untagged`, `flatten` and `tag` is out of reach: it keeps all of such a value and reads it again for each variant. In a
/// type that has itself in it, that takes time that doubles with each level, and room on the stack that nobody watches. Give
/// such a type a `tag` with `content`, or read it in a sandboxed worker.
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
        serializer.serialize_newtype_struct(NAME, &text)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Json<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(NAME, JsonVisitor(PhantomData))
    }
}

/// By which a reader of the encoding knows that JSON comes.
pub(super) const NAME: &str = "$pool_runtime::Json";

struct JsonVisitor<T>(PhantomData<T>);

impl<'de, T: DeserializeOwned> Visitor<'de> for JsonVisitor<T> {
    type Value = Json<T>;

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json<T>, D::Error> {
        deserializer.deserialize_str(self)
    }

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a `{}` as JSON", std::any::type_name::<T>())
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Json<T>, E> {
        let room = Cell::new(StackRoom::new());
        let mut json = serde_json::Deserializer::from_str(text);
        let read = T::deserialize(Guarded::new(&mut json, &room)).and_then(|value| json.end().map(|()| Json(value)));
        read.map_err(|error| E::custom(not_json::<T>(&error)))
    }
}

fn not_json<T>(error: &serde_json::Error) -> String {
    format!("`{}` as JSON: {error}", std::any::type_name::<T>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{ByValue as _, CodecError, Probe, Reader, Writer};
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
        (&&&Probe::<T>::new()).encode(value, &mut writer)?;
        let bytes = writer.into_bytes();
        let mut reader = Reader::new(&bytes);
        let value = (&&&Probe::<T>::new()).decode(&mut reader)?;
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

    /// 8 KiB, and more on the stack.
    type Pad = [[u64; 32]; 32];

    #[derive(Serialize, Deserialize)]
    struct Node {
        pad: Pad,
        next: Option<Box<Node>>,
    }

    #[derive(Serialize, Deserialize)]
    #[expect(clippy::large_enum_variant, reason = "that is what this is about")]
    enum Variants {
        Last,
        Next { pad: Pad, next: Box<Variants> },
    }

    /// As deep as JSON lets it be, on a thread with such a stack.
    fn read_on<T: DeserializeOwned>(stack: usize, outer: &str, last: &str) -> Result<(), CodecError> {
        let pad = serde_json::to_string(&[[0_u64; 32]; 32]).unwrap();
        let close = "}".repeat(outer.matches('{').count()).repeat(60);
        let text = [outer.repeat(60), last.to_owned(), close].concat().replace("PAD", &pad);
        let read = move || {
            let mut writer = Writer::new();
            writer.value(&text).unwrap();
            Reader::new(&writer.into_bytes()).value::<Json<T>>().map(drop)
        };
        std::thread::Builder::new().stack_size(stack).spawn(read).unwrap().join().unwrap()
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Skipped {
        #[serde(skip, default)]
        all: Option<Pad>,
    }

    /// A few bytes of JSON must not take gigabytes, in one part of the value or in many.
    #[test]
    fn what_is_large_in_memory_is_counted_in_json_too() {
        fn read<T: DeserializeOwned>(texts: &[String]) -> Result<Vec<Json<T>>, CodecError> {
            let mut writer = Writer::new();
            writer.value(texts).unwrap();
            Reader::new(&writer.into_bytes()).value()
        }
        fn list(element: &str, count: usize) -> String {
            ["[", &vec![element; count].join(","), "]"].concat()
        }
        let nothing = |count| list("null", count);
        let is_refused = |read: Result<(), CodecError>| {
            let error = text(read.unwrap_err());
            assert!(error.contains("would take more memory than its"), "{error}");
        };
        // 256 MiB are allowed for any value.
        assert_eq!(read::<Vec<Option<Pad>>>(&[nothing(10_000)]).unwrap()[0].len(), 10_000);
        is_refused(read::<Vec<Option<Pad>>>(&[nothing(40_000)]).map(drop));
        is_refused(read::<Vec<Box<Option<Pad>>>>(&[nothing(40_000)]).map(drop));
        is_refused(read::<Vec<BTreeMap<String, Option<Pad>>>>(&[list(r#"{"":null}"#, 4_000)]).map(drop));
        is_refused(read::<Vec<Skipped>>(&[list("[]", 40_000)]).map(drop));
        is_refused(read::<Vec<Option<Pad>>>(&vec![nothing(400); 100]).map(drop));
        is_refused(read::<Option<Pad>>(&vec!["null".into(); 40_000]).map(drop));
        // What has the bytes is as large as it is, and what was read before does not count.
        let full = serde_json::to_string(&vec![Some([[7_u64; 32]; 32]); 1000]).unwrap();
        assert_eq!(read::<Vec<Option<Pad>>>(&vec![full; 2]).unwrap().len(), 2);
    }

    /// Each would overflow a stack of this size, and end the process.
    #[test]
    fn large_values_in_one_another_do_not_overflow_the_stack() {
        for stack in [1 << 18, 1 << 20, 1 << 28] {
            let read = [
                read_on::<Node>(stack, r#"{"pad":PAD,"next":"#, r#"{"pad":PAD,"next":null}"#),
                read_on::<Variants>(stack, r#"{"Next":{"pad":PAD,"next":"#, r#""Last""#),
            ];
            for read in read {
                match read {
                    Ok(()) => assert!(stack > 1 << 18),
                    Err(error) => {
                        assert!(stack < 1 << 28 && text(error.clone()).contains("stack of this thread"), "{error}")
                    }
                }
            }
        }
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Chain {
        next: Option<Link>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Link(Box<Chain>);

    /// Options and newtypes have no brackets.
    #[test]
    fn values_nest_as_deeply_as_json_counts() {
        let chain = |count: usize| {
            let one = Chain { next: None };
            (1..count).fold(one, |chain, _| Chain { next: Some(Link(Box::new(chain))) })
        };
        for count in [84, 90, 127] {
            assert_eq!(there_and_back(&Json(chain(count))), Ok(Json(chain(count))));
        }
        assert!(text(there_and_back(&Json(chain(128))).unwrap_err()).contains("recursion limit"));
    }

    /// It consists of options and newtypes alone, and no text has an end of it.
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Endless(Option<Box<Endless>>);

    #[test]
    fn a_type_without_brackets_is_not_read_without_end() {
        let read = |text: &str| {
            let mut writer = Writer::new();
            writer.value(&vec![text; 1]).unwrap();
            Reader::new(&writer.into_bytes()).value::<Vec<Json<Endless>>>()
        };
        assert_eq!(read("null"), Ok(vec![Json(Endless(None))]));
        assert!(text(read("1").unwrap_err()).contains("nested"));
    }

    fn text(error: CodecError) -> String {
        error.to_string()
    }
}
