//! Types that must see what comes next are refused in words that name them and the way out.

use crate::support::{SharedPool, over_every_transport};
use pool_runtime::{Process, task};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{collections::BTreeMap, fmt};

over_every_transport! {
    a_refusal_names_the_type_and_the_way_out,
}

static POOL: SharedPool = SharedPool::new();

/// Written as a string, and read from anything, as `rust_decimal::Decimal` and `serde_json::Value` are.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Decimal(i64);

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}.{:02}", self.0 / 100, self.0 % 100))
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DecimalVisitor;
        impl de::Visitor<'_> for DecimalVisitor {
            type Value = Decimal;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number with a fixed point")
            }
        }
        deserializer.deserialize_any(DecimalVisitor)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    name: String,
    prices: Vec<Decimal>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Flat {
    n: u32,
    #[serde(flatten)]
    rest: BTreeMap<String, u8>,
}

#[task]
fn takes_decimal(value: Decimal) -> bool {
    value.0 > 0
}

#[task]
fn makes_decimal() -> Option<Decimal> {
    Some(Decimal(7))
}

#[task]
fn takes_order(order: &Order) -> usize {
    order.prices.len()
}

#[task]
fn takes_flat(flat: Flat) -> u32 {
    flat.n
}

fn a_refusal_names_the_type_and_the_way_out() {
    let order = Order { name: "tea".into(), prices: vec![Decimal(350), Decimal(1)] };
    let refusals = [
        (POOL.apply(takes_decimal::call(Decimal(5))).unwrap_err(), "`value`", "types_that_ask_what_comes::Decimal`"),
        (POOL.apply(makes_decimal::call()).unwrap_err(), "result", "types_that_ask_what_comes::Decimal>`"),
        (POOL.apply(takes_order::call(&order)).unwrap_err(), "`order`", "types_that_ask_what_comes::Order`"),
        (Process::new(makes_decimal::call()).start().unwrap().join().unwrap_err(), "result", "Decimal>`"),
    ];
    for (error, what, of) in refusals {
        let text = error.to_string();
        assert!(error.is_decode(), "{text}");
        assert!(text.contains(what) && text.contains(of) && text.contains("a number with a fixed point"), "{text}");
        assert!(text.contains("`pool_runtime::Json` (its feature `json`)"), "{text}");
    }
    let error = POOL.apply(takes_flat::call(Flat { n: 1, rest: BTreeMap::new() })).unwrap_err();
    assert!(error.is_encode() && error.to_string().contains("inside of `pool_runtime::Json`"), "{error}");
}
