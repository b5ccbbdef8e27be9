//! A value that the encoding cannot carry is an error of its job, and never another value; the worker goes on.
#![allow(clippy::type_complexity, reason = "the types are what is tested")]

use crate::support::{SharedPool, over_every_transport};
use pool_runtime::{Error, Process, Ran, task};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt::Debug};

over_every_transport! {
    names_of_fields_do_not_matter,
    a_field_skipped_both_ways_is_its_default,
    wide_integers_and_keys_that_are_no_strings_travel,
}

static POOL: SharedPool = SharedPool::new();

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(u32),
    Text(String),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Tagged {
    Circle { radius: u32 },
    Square { side: u32 },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "value")]
enum Adjacent {
    Circle { radius: u32 },
    Square(u32, u32),
    Nothing,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Inner {
    a: u32,
    b: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Flat {
    x: u32,
    #[serde(flatten)]
    inner: Inner,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct FlatMap {
    x: u32,
    #[serde(flatten)]
    rest: BTreeMap<String, u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SkippedIf {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    a: Option<u32>,
    b: u32,
    c: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SkippedOnTheWayOut {
    #[serde(skip_serializing, default)]
    a: u32,
    b: u32,
    c: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SkippedOnTheWayIn {
    #[serde(skip_deserializing)]
    a: u32,
    b: u32,
    c: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum SkippedVariant {
    #[serde(skip)]
    Never,
    Number(u32),
    Other(u32),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum VariantSkippedOnTheWayIn {
    #[serde(skip_deserializing)]
    Never(u32),
    Number(u32),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct RenamedOneWay {
    #[serde(rename(serialize = "written", deserialize = "read"))]
    a: u32,
    b: u32,
}

/// Left out on both ways: what arrives is the default, as the attribute says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Skipped {
    a: u32,
    #[serde(skip)]
    cache: u32,
}

/// Announces other than it writes.
#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Liar(Vec<u32>);

impl Serialize for Liar {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeSeq;
        let mut elements = serializer.serialize_seq(Some(self.0.len() + 1))?;
        self.0.iter().try_for_each(|element| elements.serialize_element(element))?;
        elements.end()
    }
}

/// Can be written and not read, and says so itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Unreadable(u32);

impl<'de> Deserialize<'de> for Unreadable {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("there is no way back"))
    }
}

#[task]
fn next(n: u32) -> u32 {
    n + 1
}

/// For each type: a task that takes it, and one that makes it.
macro_rules! both_ways {
    ($($test:ident, $takes:ident, $makes:ident: $type:ty = [$($value:expr),+ $(,)?], $may_arrive:literal;)*) => {$(
        #[task]
        fn $takes(value: $type) -> String {
            format!("{value:?}")
        }

        #[task]
        fn $makes(index: usize) -> $type {
            [$($value),+][index].clone()
        }

        over_every_transport! { $test }

        fn $test() {
            for (index, value) in [$($value),+].into_iter().enumerate() {
                let shown = format!("{value:?}");
                let arrived = POOL.apply($takes::call(value.clone())).map(|arrived| assert_eq!(arrived, shown));
                judge("argument", &shown, arrived, $may_arrive, Ran::No);
                let came = POOL.apply($makes::call(index)).map(|came| assert_eq!(came, value));
                judge("result", &shown, came, $may_arrive, Ran::Yes);
                let process = Process::new($makes::call(index)).start().expect("it starts");
                let came = process.join().map(|came| assert_eq!(came, value));
                judge("result of a process", &shown, came, $may_arrive, Ran::Yes);
            }
        }
    )*};
}

/// An error of encoding or decoding, or the very value; and the pool goes on.
#[track_caller]
fn judge(what: &str, shown: &str, outcome: Result<(), Error>, may_arrive: bool, ran: Ran) {
    match outcome {
        Ok(()) => assert!(may_arrive, "{what} {shown} cannot travel, and yet arrived"),
        Err(error) => {
            assert!(error.is_encode() || error.is_decode(), "{what} {shown}: {error}");
            assert!(!error.is_panic() && !error.is_worker_lost() && !error.is_timeout(), "{what} {shown}: {error}");
            assert_eq!(error.ran(), ran, "{what} {shown}: {error}");
            assert!(error.to_string().contains("serde_attributes_that_cannot_travel::"), "{error}");
        }
    }
    assert_eq!(POOL.apply(next::call(1)).expect("the pool goes on"), 2);
}

both_ways! {
    untagged, takes_untagged, makes_untagged: Untagged = [Untagged::Number(1), Untagged::Text("x".into())], false;
    tagged, takes_tagged, makes_tagged: Tagged = [Tagged::Circle { radius: 1 }, Tagged::Square { side: 1 }], false;
    adjacent, takes_adjacent, makes_adjacent: Adjacent =
        [Adjacent::Circle { radius: 1 }, Adjacent::Square(1, 2), Adjacent::Nothing], true;
    flatten, takes_flat, makes_flat: Flat = [Flat { x: 1, inner: Inner { a: 2, b: 3 } }], false;
    flatten_map, takes_flat_map, makes_flat_map: FlatMap =
        [FlatMap { x: 1, rest: BTreeMap::new() }, FlatMap { x: 1, rest: BTreeMap::from([("y".into(), 2)]) }], false;
    skip_serializing_if, takes_skipped_if, makes_skipped_if: SkippedIf = [SkippedIf { a: None, b: 1, c: 2 }], false;
    skip_serializing_if_not, takes_kept, makes_kept: SkippedIf = [SkippedIf { a: Some(0), b: 1, c: 2 }], true;
    skip_serializing, takes_way_out, makes_way_out: SkippedOnTheWayOut = [SkippedOnTheWayOut { a: 1, b: 2, c: 3 }], false;
    skip_deserializing, takes_way_in, makes_way_in: SkippedOnTheWayIn = [SkippedOnTheWayIn { a: 1, b: 2, c: 3 }], false;
    skipped_variant, takes_skipped, makes_skipped: SkippedVariant = [SkippedVariant::Never], false;
    variant_skipped_in, takes_variant_in, makes_variant_in: VariantSkippedOnTheWayIn =
        [VariantSkippedOnTheWayIn::Never(1)], false;
    other_variants, takes_variant, makes_variant: SkippedVariant = [SkippedVariant::Number(1), SkippedVariant::Other(2)], true;
    other_variants_in, takes_other_in, makes_other_in: VariantSkippedOnTheWayIn = [VariantSkippedOnTheWayIn::Number(1)], true;
    wrong_announcement, takes_liar, makes_liar: Liar = [Liar(vec![]), Liar(vec![1, 2])], false;
    no_way_back, takes_unreadable, makes_unreadable: Unreadable = [Unreadable(1)], false;
}

// ---- what travels all the same ----

#[task]
fn renamed(value: RenamedOneWay) -> RenamedOneWay {
    value
}

#[task]
fn skipped(value: Skipped) -> Skipped {
    value
}

type Wide = (i128, u128, BTreeMap<(u8, Option<u32>), u128>);

#[task]
fn wide(value: Wide) -> Wide {
    value
}

fn names_of_fields_do_not_matter() {
    let value = RenamedOneWay { a: 1, b: 2 };
    assert_eq!(POOL.apply(renamed::call(value.clone())).expect("it travels"), value);
}

fn a_field_skipped_both_ways_is_its_default() {
    let arrived = POOL.apply(skipped::call(Skipped { a: 1, cache: 2 })).expect("it travels");
    assert_eq!(arrived, Skipped { a: 1, cache: 0 });
}

fn wide_integers_and_keys_that_are_no_strings_travel() {
    let keys = BTreeMap::from([((1, None), u128::MAX), ((1, Some(7)), 0)]);
    let arrived = POOL.apply(wide::call((i128::MIN, u128::MAX, keys.clone()))).expect("it travels");
    assert_eq!(arrived, (i128::MIN, u128::MAX, keys));
}
