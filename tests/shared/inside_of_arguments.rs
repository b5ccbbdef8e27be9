//! A shared slice travels as any argument does, also inside of one: in structs, tuples, options and vectors, by value
//! and lent, in each way to call.

over_every_transport! {
    in_turn:
    it_travels_inside_of_any_argument,
    each_way_to_call_carries_it,
    the_handle_may_go_before_the_call_runs,
}

use crate::support::regions::held;
use crate::support::{builder, over_every_transport, pool};
use bytemuck::{AnyBitPattern, NoUninit};
use pool_runtime::{Call, Pool, Shared, task};
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, NoUninit, AnyBitPattern)]
#[repr(C)]
struct Point {
    x: f32,
    y: f32,
}

#[derive(Serialize, Deserialize)]
struct Scene {
    name: String,
    points: Shared<[Point]>,
    weights: Option<Shared<[f64]>>,
    layers: Vec<(u8, Shared<[u32]>)>,
    choice: Choice,
}

#[derive(Serialize, Deserialize)]
enum Choice {
    Few(Vec<u32>),
    Many { all: Shared<[u32]> },
}

impl Scene {
    fn sum(&self) -> f64 {
        let points: f32 = self.points.iter().map(|point| point.x + point.y).sum();
        let weights: f64 = self.weights.iter().flatten().sum();
        let layers: u32 =
            self.layers.iter().map(|(factor, layer)| u32::from(*factor) * layer.iter().sum::<u32>()).sum();
        let choice: u32 = match &self.choice {
            Choice::Few(few) => few.iter().sum(),
            Choice::Many { all } => all.iter().sum(),
        };
        f64::from(points) + weights + f64::from(layers + choice) + self.name.len() as f64
    }
}

#[task]
fn of_value(scene: Scene) -> f64 {
    scene.sum()
}

#[task]
fn of_lent(scene: &Scene) -> f64 {
    scene.sum()
}

#[task]
fn of_many(by_value: Shared<[u32]>, lent: &Shared<[u32]>, bytes: &[u8], more: Option<Vec<Shared<[u32]>>>) -> u32 {
    let more: u32 = more.iter().flatten().flatten().sum();
    by_value.iter().chain(lent).sum::<u32>() + more + bytes.len() as u32
}

#[task]
fn of_pair((factor, numbers): (u32, Shared<[u32]>)) -> u32 {
    factor * numbers.iter().sum::<u32>()
}

#[task]
fn length(empty: &Shared<[u64]>) -> usize {
    empty.len()
}

#[task]
fn of_slice(numbers: &[u32]) -> u32 {
    numbers.iter().sum()
}

fn scene(layers: &Shared<[u32]>, choice: Choice) -> Scene {
    Scene {
        name: "scene".into(),
        points: Shared::new(&[Point { x: 1.0, y: 2.0 }, Point { x: 3.0, y: 4.0 }]).unwrap(),
        weights: Some(Shared::new(&[0.5; 4]).unwrap()),
        layers: vec![(1, layers.clone()), (2, layers.clone())],
        choice,
    }
}

fn it_travels_inside_of_any_argument() {
    let numbers = Shared::new(&[1_u32, 2, 3]).unwrap();
    let scenes =
        [scene(&numbers, Choice::Many { all: Shared::new(&[10, 20]).unwrap() }), scene(&numbers, Choice::Few(vec![5]))];
    let pool = builder().processes(2).build().unwrap();
    for scene in &scenes {
        assert_eq!(pool.apply(of_lent::call(scene)).unwrap(), scene.sum());
    }
    let value = scene(&numbers, Choice::Few(Vec::new()));
    let expected = value.sum();
    assert_eq!(pool.apply(of_value::call(value)).unwrap(), expected);
    let more = Some(vec![numbers.clone(), Shared::new(&[100]).unwrap()]);
    assert_eq!(pool.apply(of_many::call(numbers.clone(), &numbers, &[0; 50], more)).unwrap(), 168);
    assert_eq!(pool.apply(of_pair::call((7, numbers.clone()))).unwrap(), 42);
    assert_eq!(pool.apply(length::call(&Shared::new(&[]).unwrap())).unwrap(), 0);
    // As any slice, it can be lent as one; then it is copied.
    assert_eq!(pool.apply(of_slice::call(&numbers)).unwrap(), 6);
}

fn each_way_to_call_carries_it() {
    let all = Shared::from_fn(100, |index| index as u32).unwrap();
    let expected: Vec<u32> = (0..300).map(|n| n * 4950).collect();
    let call = |n| -> Call<'_, of_pair> { of_pair::call((n, all.clone())) };
    let pool: Pool = builder().processes(2).build().unwrap();
    assert_eq!(pool.map(call, 0..300).unwrap(), expected);
    assert_eq!(pool.map_async(call, 0..300).get().unwrap(), expected);
    assert_eq!(pool.imap(call, 0..300).collect::<Result<Vec<_>, _>>().unwrap(), expected);
    assert_eq!(pool.imap(call, 0..300).chunk_size(50).collect::<Result<Vec<_>, _>>().unwrap(), expected);
    let mut unordered: Vec<u32> = pool.imap_unordered(call, 0..300).map(Result::unwrap).collect();
    unordered.sort_unstable();
    assert_eq!(unordered, expected);
    let jobs: Vec<_> = (0..300).map(|n| pool.apply_async(call(n))).collect();
    assert_eq!(jobs.into_iter().map(|job| job.get().unwrap()).collect::<Vec<_>>(), expected);
    for worker in pool.workers() {
        assert!(held(worker.pid).is_some_and(|(mapped, _)| mapped <= 1), "it is passed once");
    }
}

fn the_handle_may_go_before_the_call_runs() {
    let pool = pool(1);
    let jobs: Vec<_> = (0..50)
        .map(|n| {
            let numbers = Shared::new(&[n, 1]).unwrap();
            pool.apply_async(of_pair::call((2, numbers)))
        })
        .collect();
    for (n, job) in (0..).zip(jobs) {
        assert_eq!(job.get().unwrap(), 2 * (n + 1));
    }
}
