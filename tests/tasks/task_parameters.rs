//! Every form that a parameter and a result can have, what `call` makes of it, and how it is shown in the table.

use pool_runtime::{Call, task};
use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

const N: usize = 2;

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Point {
    x: f64,
    y: f64,
}

#[task]
fn lent(text: &str, bytes: &[u8], points: &[Point], point: &Point, path: &Path, list: &Vec<u8>, pair: &(u8, String)) {
    let _ = (text, bytes, points, point, path, list, pair);
}

#[task]
fn values(n: u128, text: String, point: Point, map: HashMap<String, Vec<(u8, u8)>>, array: [f32; 2 * N], one: (u8,)) {
    let _ = (n, text, point, map, array, one);
}

#[task]
fn qualified(item: <Vec<u8> as IntoIterator>::Item, _: ()) -> Result<(), Box<str>> {
    let _ = item;
    Ok(())
}

#[task]
fn results(fail: bool) -> Result<Option<BTreeMap<u8, [Point; 2]>>, String> {
    if fail { Err("asked to".into()) } else { Ok(None) }
}

#[task]
#[allow(clippy::borrowed_box)]
fn boxed(lent: &Box<[u8]>, anonymous: &'_ str) -> Box<str> {
    format!("{lent:?} {anonymous}").into()
}

#[task]
fn owned_for_ever(text: std::borrow::Cow<'static, str>) -> std::borrow::Cow<'static, str> {
    text
}

fn signature(name: &str) -> &'static str {
    let name = format!("tasks::task_parameters::{name}");
    pool_runtime::tasks().find(|task| task.name() == name).expect(&name).signature()
}

#[test]
fn signatures_read_as_they_were_written() {
    assert_eq!(
        signature("lent"),
        "fn lent(text: &str, bytes: &[u8], points: &[Point], point: &Point, path: &Path, list: &Vec<u8>, pair: &(u8, \
         String))"
    );
    assert_eq!(
        signature("values"),
        "fn values(n: u128, text: String, point: Point, map: HashMap<String, Vec<(u8, u8)>>, array: [f32; 2 * N], one: \
         (u8,))"
    );
    assert_eq!(
        signature("qualified"),
        "fn qualified(item: <Vec<u8> as IntoIterator>::Item, _: ()) -> Result<(), Box<str>>"
    );
    assert_eq!(signature("results"), "fn results(fail: bool) -> Result<Option<BTreeMap<u8, [Point; 2]>>, String>");
    assert_eq!(signature("boxed"), "fn boxed(lent: &Box<[u8]>, anonymous: &'_ str) -> Box<str>");
}

#[test]
fn arguments_coerce_as_they_do_for_the_function() {
    let (text, bytes, points) = (String::from("text"), vec![1, 2], [Point { x: 0.0, y: 1.0 }]);
    let (path, pair, boxed_bytes) = (PathBuf::from("/tmp"), (1, String::new()), Box::from([1_u8]));
    let call: Call<'_, lent> = lent::call(&text, &bytes, &points, &points[0], &path, &bytes, &pair);
    assert_eq!(format!("{call:?}"), "Call(tasks::task_parameters::lent)");
    lent(&text, &bytes, &points, &points[0], &path, &bytes, &pair);

    let call: Call<'static, values> = values::call(1, text.clone(), points[0].clone(), HashMap::new(), [0.0; 4], (1,));
    drop(call);
    values(1, text.clone(), points[0].clone(), HashMap::new(), [0.0; 4], (1,));

    drop((
        qualified::call(1, ()),
        results::call(true),
        boxed::call(&boxed_bytes, &text),
        owned_for_ever::call("".into()),
    ));
    assert_eq!((qualified(1, ()), results(false)), (Ok(()), Ok(None)));
    assert_eq!((boxed(&boxed_bytes, "a"), owned_for_ever("b".into())), ("[1] a".into(), "b".into()));
    assert_eq!(results(true), Err("asked to".into()));
}

#[test]
fn call_is_a_function_like_any_other() {
    let words = ["to", "be"].map(String::from);
    let calls: Vec<Call<'_, length>> = words.iter().map(|word| length::call(word)).collect();
    assert_eq!(calls.len(), 2);
    let make: fn(u32) -> Call<'static, double> = double::call;
    assert_eq!([1, 2].map(make).len(), [1, 2].map(double).len());
    assert_eq!(length("four"), 4);
}

#[task]
fn length(text: &str) -> usize {
    text.len()
}

#[task]
fn double(n: u32) -> u32 {
    2 * n
}
