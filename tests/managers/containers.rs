//! `Dict` and `List`: what the server has as bytes.

use pool_runtime::{Dict, List, Manager, Pool, Queue, task};
use std::collections::BTreeMap;

#[test]
fn a_dict_does_what_a_map_does() {
    let manager = Manager::start().unwrap();
    let (dict, mut map) = (Dict::<String, Vec<u32>>::new(&manager).unwrap(), BTreeMap::new());
    // The same random steps in both.
    let mut state = 1_u64;
    for _ in 0..300 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (step, key) = ((state >> 33) % 5, format!("key {}", (state >> 40) % 20));
        let value = vec![step as u32; (state >> 50) as usize % 4];
        match step {
            0 | 1 => assert_eq!(dict.insert(&key, &value).unwrap(), map.insert(key, value)),
            2 => assert_eq!(dict.remove(&key).unwrap(), map.remove(&key)),
            3 => assert_eq!(dict.get(&key).unwrap().as_ref(), map.get(&key)),
            _ => {
                let expected = map.entry(key.clone()).or_insert_with(|| value.clone()).clone();
                assert_eq!(dict.get_or_insert(&key, &value).unwrap(), expected);
            }
        }
        assert_eq!(dict.len().unwrap(), map.len());
    }
    let mut items = dict.items().unwrap();
    items.sort();
    assert!(items.len() > 5 && items.into_iter().eq(map.clone()));
    assert!(map.keys().all(|key| dict.contains_key(key).unwrap()));
    dict.clear().unwrap();
    assert!(dict.is_empty().unwrap() && dict.keys().unwrap().is_empty() && dict.values().unwrap().is_empty());
}

#[test]
fn entries_keep_the_order_in_which_they_came() {
    let manager = Manager::start().unwrap();
    let dict = Dict::<u32, &str>::new(&manager).unwrap();
    assert!(dict.is_empty().unwrap());
    let dict = Dict::<u32, String>::new(&manager).unwrap();
    dict.update([(3, "c".into()), (1, "a".into()), (2, "b".into())]).unwrap();
    dict.insert(&3, "C").unwrap();
    dict.remove(&1).unwrap();
    dict.insert(&1, "A").unwrap();
    let expected = [(3, "C"), (2, "b"), (1, "A")].map(|(key, value)| (key, value.to_string()));
    assert_eq!(dict.items().unwrap(), expected);
    assert_eq!(dict.keys().unwrap(), [3, 2, 1]);
}

#[test]
fn keys_are_equal_if_their_encodings_are() {
    let manager = Manager::start().unwrap();
    let dict = Dict::<(f64, Option<bool>), u32>::new(&manager).unwrap();
    for (at, number) in [0.0, -0.0, f64::NAN, f64::NAN, 0.0].into_iter().enumerate() {
        dict.insert(&(number, None), &(at as u32)).unwrap();
    }
    assert_eq!(dict.len().unwrap(), 3);
    assert_eq!(dict.get(&(f64::NAN, None)).unwrap(), Some(3));
    assert_eq!(dict.get(&(f64::NAN, Some(false))).unwrap(), None);
}

#[test]
fn what_is_iterated_may_change() {
    let manager = Manager::start().unwrap();
    let dict = Dict::<u32, u32>::new(&manager).unwrap();
    dict.update((0..100).map(|n| (n, n))).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| (100..200).for_each(|n| assert_eq!(dict.insert(&n, &n).unwrap(), None)));
        for (key, value) in dict.iter().unwrap() {
            assert_eq!(key, value);
            dict.remove(&key).unwrap();
        }
    });
    assert!(dict.keys().unwrap().iter().all(|key| *key >= 100));
    let list = List::<u32>::new(&manager).unwrap();
    list.extend(0..10).unwrap();
    list.iter().unwrap().for_each(|item| list.push(&item).unwrap());
    assert_eq!(list.len().unwrap(), 20);
}

#[test]
fn a_list_does_what_a_vector_does() {
    let manager = Manager::start().unwrap();
    let list = List::<String>::new(&manager).unwrap();
    list.push("b").unwrap();
    list.extend(["c".to_string(), "d".to_string()]).unwrap();
    list.insert(0, "a").unwrap();
    list.insert(100, "e").unwrap();
    assert_eq!(list.to_vec().unwrap(), ["a", "b", "c", "d", "e"]);
    assert_eq!(list.set(1, "B").unwrap().as_deref(), Some("b"));
    assert_eq!(list.set(5, "F").unwrap(), None);
    assert_eq!(list.remove(2).unwrap().as_deref(), Some("c"));
    assert_eq!((list.remove(9).unwrap(), list.get(9).unwrap()), (None, None));
    assert_eq!((list.get(1).unwrap().as_deref(), list.pop().unwrap().as_deref()), (Some("B"), Some("e")));
    list.clear().unwrap();
    assert!(list.is_empty().unwrap() && list.pop().unwrap().is_none());
}

#[task]
fn take_all(numbers: &List<u32>) -> Vec<u32> {
    std::iter::from_fn(|| numbers.pop().unwrap()).collect()
}

#[task]
fn claim(owners: &Dict<u32, u32>, me: u32) -> usize {
    (0..100).filter(|key| owners.get_or_insert(key, &me).unwrap() == me).count()
}

#[test]
fn each_item_is_taken_once_and_each_key_has_one_value() {
    let manager = Manager::start().unwrap();
    let numbers = List::new(&manager).unwrap();
    numbers.extend(0..300).unwrap();
    let pool = Pool::new(3).unwrap();
    let mut taken = pool.map(|()| take_all::call(&numbers), [(); 3]).unwrap().concat();
    taken.sort_unstable();
    assert!(taken.into_iter().eq(0..300));
    let owners = Dict::new(&manager).unwrap();
    assert_eq!(pool.map(|me| claim::call(&owners, me), 0..3).unwrap().into_iter().sum::<usize>(), 100);
}

#[task]
fn count_up(dict: &Dict<String, u32>, times: u32) {
    for _ in 0..times {
        let mut current = dict.get("n").unwrap();
        while let Err(found) = dict.compare_exchange("n", current.as_ref(), Some(&(current.unwrap_or(0) + 1))).unwrap()
        {
            current = found;
        }
    }
}

#[test]
fn a_value_is_changed_by_what_it_was() {
    let manager = Manager::start().unwrap();
    let dict = Dict::new(&manager).unwrap();
    Pool::new(3).unwrap().map(|times| count_up::call(&dict, times), [50, 60, 70]).unwrap();
    assert_eq!(dict.get("n").unwrap(), Some(180));
    assert_eq!(dict.compare_exchange("n", Some(&180), None).unwrap(), Ok(()));
    assert_eq!(dict.compare_exchange("n", Some(&180), None).unwrap(), Err(None));
    assert!(dict.insert_new("n", &1).unwrap() && !dict.insert_new("n", &2).unwrap());
    assert_eq!(dict.pop_first().unwrap(), Some(("n".to_string(), 1)));
    assert_eq!((dict.pop_first().unwrap(), dict.get("n").unwrap()), (None, None));
}

#[test]
fn parts_of_a_list_are_as_those_of_a_vector() {
    let manager = Manager::start().unwrap();
    let (list, vec) = (List::new(&manager).unwrap(), ["a", "b", "c", "d"].map(String::from));
    list.extend(vec.clone()).unwrap();
    for (start, end) in (0..6).flat_map(|start| (0..6).map(move |end| (start, end))) {
        let expected = vec.iter().take(end).skip(start);
        assert!(list.range(start..end).unwrap().iter().eq(expected), "{start}..{end}");
    }
    assert_eq!(list.range(..=0).unwrap(), ["a"]);
    assert_eq!(list.range(usize::MAX..).unwrap().len() + list.range(..=usize::MAX).unwrap().len(), 4);
    assert_eq!((list.index_of("c").unwrap(), list.contains("x").unwrap()), (Some(2), false));
    list.reverse().unwrap();
    list.truncate(9).unwrap();
    list.truncate(2).unwrap();
    assert_eq!(list.to_vec().unwrap(), ["d", "c"]);
}

/// Takes the queue out of the dictionary, or uses the one that it is given.
#[task]
fn use_queue(queues: &Dict<String, Queue<u32>>, queue: Option<Queue<u32>>) -> Result<(), String> {
    let told = |error: pool_runtime::Error| error.to_string();
    match queue {
        None => queues.get("one").map(drop).map_err(told),
        Some(queue) => queue.put(&1).map_err(told),
    }
}

#[test]
fn what_comes_out_of_one_is_not_taken_from_a_call_that_was_given_it() {
    let manager = Manager::start().unwrap();
    let (queues, queue) = (Dict::new(&manager).unwrap(), Queue::unbounded().unwrap());
    queues.insert("one", &queue).unwrap();
    let pool = Pool::new(1).unwrap();
    // Several of them are sent together.
    let given = |index: u32| (index % 2 == 1).then(|| queue.clone());
    let all = pool.map(|index| use_queue::call(&queues, given(index)), 0..40).unwrap();
    assert_eq!(all, vec![Ok(()); 40]);
    assert_eq!(queue.len(), 20);
}
