//! Whatever form arguments and results have, the worker gets what was given, and its result comes back.
#![allow(clippy::type_complexity, reason = "the types are what is tested")]

use crate::support::{SharedPool, over_every_transport};
use pool_runtime::task;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    path::{Path, PathBuf},
    time::Duration,
};

over_every_transport! {
    nothing,
    strings,
    borrows,
    what_patterns_take_apart,
    results_of_the_task_itself,
    enums_and_options,
    maps_with_keys_of_any_type,
    numbers_at_their_limits,
    the_standard_library_s_own_types,
}

static POOL: SharedPool = SharedPool::new();

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Point {
    x: f64,
    y: f64,
    label: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Empty,
    Circle(Point, f64),
    Polygon { corners: Vec<Point>, closed: bool },
    Group(Vec<Shape>),
}

fn point(x: f64) -> Point {
    Point { x, y: -x, label: (x > 1.0).then(|| "far".to_owned()) }
}

#[task]
fn no_parameters() {}

#[task]
fn text(text: &str, owned: String) -> String {
    format!("{text}{owned}")
}

#[task]
fn slices(bytes: &[u8], numbers: &[f64], points: &[Point], texts: &[String]) -> (usize, f64, Vec<Point>, String) {
    (bytes.len(), numbers.iter().sum(), points.to_vec(), texts.concat())
}

#[task]
fn borrowed(point: &Point, path: &Path, list: &Vec<u16>, pair: &(u8, String), array: &[u8; 3]) -> String {
    format!("{} {} {list:?} {pair:?} {array:?}", point.x, path.display())
}

#[task]
fn patterns(_: u8, (a, b): (u8, u8), mut sum: u8, [first, .., last]: [u8; 4], Point { x, .. }: Point) -> (u8, f64) {
    sum += a + b + first + last;
    (sum, x)
}

#[task]
fn fallible(fail: bool) -> Result<u8, Vec<String>> {
    if fail { Err(vec!["no".into(), "never".into()]) } else { Ok(7) }
}

#[task]
fn shapes(
    shapes: Vec<Shape>,
    none: Option<Shape>,
    some: Option<Option<u8>>,
) -> (Vec<Shape>, Option<Shape>, Option<Option<u8>>) {
    (shapes, none, some)
}

type Maps = (HashMap<String, Vec<(u8, Option<bool>)>>, BTreeMap<(u8, char), BTreeSet<i64>>, HashMap<Vec<u8>, Point>);

#[task]
fn maps(maps: Maps) -> Maps {
    maps
}

type Small = (i8, u8, i16, u16);
type Large = (i32, u32, i64, u64);
type Rest = (bool, char, (), isize, usize);
type Numbers = (Small, Large, (i128, u128), (f32, f64), Rest);

#[task]
fn numbers(small: Small, large: Large, huge: (i128, u128), floats: (f32, f64), rest: Rest) -> Numbers {
    (small, large, huge, floats, rest)
}

#[task]
fn others(
    queue: VecDeque<u8>,
    boxed: Box<[u16]>,
    duration: Duration,
    path: PathBuf,
) -> (VecDeque<u8>, Box<[u16]>, Duration, PathBuf) {
    (queue, boxed, duration, path)
}

fn nothing() {
    POOL.apply(no_parameters::call()).expect("it runs");
}

fn strings() {
    assert_eq!(POOL.apply(text::call("añ", "\0🦀".into())).expect("it runs"), "añ\0🦀");
    assert_eq!(POOL.apply(text::call("", String::new())).expect("it runs"), "");
}

fn borrows() {
    let points = [point(1.0), point(2.0)];
    let texts = ["a", "", "b"].map(String::from);
    let arrived = POOL.apply(slices::call(&[1, 2, 3], &[0.5, 0.25], &points, &texts)).expect("it runs");
    assert_eq!(arrived, (3, 0.75, points.to_vec(), "ab".into()));
    let arrived = POOL.apply(slices::call(&[], &[], &[], &[])).expect("it runs");
    assert_eq!(arrived, (0, 0.0, vec![], String::new()));

    let (list, pair) = (vec![1, 2], (3, "x".into()));
    let call = borrowed::call(&points[1], Path::new("/a b"), &list, &pair, &[4, 5, 6]);
    assert_eq!(POOL.apply(call).expect("it runs"), "2 /a b [1, 2] (3, \"x\") [4, 5, 6]");
}

fn what_patterns_take_apart() {
    let call = patterns::call(1, (2, 3), 4, [10, 99, 99, 20], point(0.5));
    assert_eq!(POOL.apply(call).expect("it runs"), (39, 0.5));
}

fn results_of_the_task_itself() {
    assert_eq!(POOL.apply(fallible::call(false)).expect("it runs"), Ok(7));
    assert_eq!(POOL.apply(fallible::call(true)).expect("it runs"), Err(vec!["no".into(), "never".into()]));
}

fn enums_and_options() {
    let all = vec![
        Shape::Empty,
        Shape::Circle(point(1.0), 2.0),
        Shape::Polygon { corners: vec![point(3.0), point(0.0)], closed: true },
        Shape::Group(vec![Shape::Group(vec![Shape::Empty]), Shape::Empty]),
    ];
    for (option, nested) in [(None, None), (Some(Shape::Empty), Some(None)), (Some(all[1].clone()), Some(Some(1)))] {
        let arrived = POOL.apply(shapes::call(all.clone(), option.clone(), nested)).expect("it runs");
        assert_eq!(arrived, (all.clone(), option, nested));
    }
}

fn maps_with_keys_of_any_type() {
    let value: Maps = (
        HashMap::from([("a".into(), vec![(1, None), (2, Some(true))]), (String::new(), vec![])]),
        BTreeMap::from([((1, 'x'), BTreeSet::from([i64::MIN, 0, i64::MAX])), ((0, 'y'), BTreeSet::new())]),
        HashMap::from([(vec![1, 2], point(1.0)), (vec![], point(5.0))]),
    );
    assert_eq!(POOL.apply(maps::call(value.clone())).expect("it runs"), value);
}

fn numbers_at_their_limits() {
    for (i128, u128) in [(i128::MIN, u128::MAX), (i128::MAX, 0), (-1, 1 << 64)] {
        let small = (i8::MIN, u8::MAX, i16::MIN, u16::MAX);
        let large = (i32::MIN, u32::MAX, i64::MIN, u64::MAX);
        let floats = (f32::MIN_POSITIVE, f64::NEG_INFINITY);
        let rest = (true, char::MAX, (), isize::MIN, usize::MAX);
        let call = numbers::call(small, large, (i128, u128), floats, rest);
        assert_eq!(POOL.apply(call).expect("it runs"), (small, large, (i128, u128), floats, rest));
    }
    let call = numbers::call((0, 0, 0, 0), (0, 0, 0, 0), (0, 0), (f32::NAN, -0.0), (false, '\0', (), 0, 0));
    let (.., (nan, zero), _) = POOL.apply(call).expect("it runs");
    assert!(nan.is_nan() && zero.is_sign_negative());
}

fn the_standard_library_s_own_types() {
    let call = others::call(VecDeque::from([1, 2]), [3, 4].into(), Duration::new(5, 6), PathBuf::from("/tmp/ü"));
    let expected = (VecDeque::from([1, 2]), Box::from([3, 4]), Duration::new(5, 6), PathBuf::from("/tmp/ü"));
    assert_eq!(POOL.apply(call).expect("it runs"), expected);
}
