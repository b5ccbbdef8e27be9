use crate::codec::{CodecError, Reader, Writer};
use crate::memory::referred::{came_with, collect, find_within};
use crate::memory::region::{Inbox, Ledger, Region, Regions, accept, deaths, fresh_id, is_known, offer, release};
use crate::objects::shared::*;
use crate::os::{Delivery, Handle, Outgoing, passing};
use std::panic;
use std::sync::Arc;
use std::time::Duration;

fn encoded<T: Serialize + ?Sized>(value: &T) -> (Vec<u8>, Regions) {
    let (bytes, regions) = collect(|| {
        let mut writer = Writer::new();
        writer.value(value).unwrap();
        writer.into_bytes()
    });
    (bytes, regions)
}

fn decoded<T: de::DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let mut reader = Reader::new(bytes);
    let value = reader.value()?;
    reader.finish()?;
    Ok(value)
}

/// The bytes of a `Shared` that another process made.
fn foreign(id: u64, values: &Shared<[f64]>) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.value(&(id, values.len() as u64 * 8, 8_u64)).unwrap();
    writer.into_bytes()
}

fn fd(shared: &Shared<[f64]>) -> io::Result<Handle> {
    shared.view.holder().memory().handle().try_clone_to_owned()
}

#[derive(Clone, Copy, Debug, PartialEq, NoUninit, AnyBitPattern)]
#[repr(C)]
struct Point {
    x: f64,
    y: f32,
    z: f32,
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Job {
    name: String,
    points: Option<Shared<[Point]>>,
    weights: Vec<(u8, Shared<[f64]>)>,
}

#[test]
fn all_ways_make_the_same_values() {
    let values: Vec<u32> = (0..100_000).map(|n| n * 3).collect();
    let copied = Shared::new(&values).unwrap();
    assert_eq!(copied.as_ref(), values);
    assert_eq!(Shared::from_fn(values.len(), |index| index as u32 * 3).unwrap(), copied);
    let filled = Shared::filled(values.len(), |place: &mut [u32]| {
        assert!(place.iter().all(|value| *value == 0));
        place.copy_from_slice(&values);
    });
    assert_eq!(filled.unwrap(), copied);
    assert_eq!(Shared::try_from(&values[..]).unwrap(), copied);
    assert_eq!((&copied).into_iter().copied().collect::<Vec<_>>(), values);
    assert_eq!(Shared::try_from(values).unwrap(), copied);
    assert_eq!(format!("{copied:?}"), "Shared<[u32]>(100000 values)");
    // Elements that do not divide what is written at once.
    let odd = Shared::from_fn(50_000, |index| [index as u8, 1, 2]).unwrap();
    assert_eq!((odd[49_999], odd.len()), ([49_999_u32 as u8, 1, 2], 50_000));
    assert!(Shared::<[f64]>::new(&[]).unwrap().is_empty());
    assert!(Shared::<[Point]>::from_fn(0, |_| unreachable!()).unwrap().is_empty());
    assert!(Shared::<[()]>::new(&[]).unwrap().is_empty());
}

#[test]
fn whatever_keeps_values_can_be_copied_from() {
    let values = vec![1_u32, 2, 3];
    let made: Shared<[u32]> = Shared::new(&values).unwrap();
    let others = [
        Shared::new(&values[..]),
        Shared::new([1, 2, 3]),
        Shared::new(&[1, 2, 3]),
        Shared::new(values.clone().into_boxed_slice()),
        Shared::new(Arc::<[u32]>::from(&values[..])),
        Shared::new(std::borrow::Cow::Borrowed(&values[..])),
        Shared::new(values),
    ];
    assert!(others.into_iter().all(|other| other.unwrap() == made));
}

#[test]
fn a_string_can_be_shared() {
    let text = String::from("zwölf Boxkämpfer");
    let shared: Shared<str> = Shared::new(&text).unwrap();
    assert_eq!((&*shared, shared.to_string()), (&*text, text.clone()));
    assert_eq!(format!("{shared:?}"), "Shared<str>(18 bytes)");
    assert!(shared == Shared::new("zwölf Boxkämpfer").unwrap() && shared == Shared::new(text).unwrap());
    assert!(Shared::new("").unwrap().is_empty());
    let (bytes, _regions) = encoded(&shared);
    let back: Shared<str> = decoded(&bytes).unwrap();
    assert!(Arc::ptr_eq(back.view.holder(), shared.view.holder()));
    assert_eq!(*decoded::<Shared<[u8]>>(&bytes).unwrap(), *shared.as_bytes());
    // Bytes are not believed to be a string, and nor are other elements.
    let (bytes, _regions) = encoded(&Shared::new([b'a', 0xFF]).unwrap());
    let error = decoded::<Shared<str>>(&bytes).unwrap_err();
    assert!(error.to_string().contains("does not hold a string: invalid utf-8"), "{error}");
    let (bytes, _regions) = encoded(&Shared::new([0_u16; 2]).unwrap());
    assert!(decoded::<Shared<str>>(&bytes).is_err());
}

#[test]
fn what_cannot_be_shared_is_an_error() {
    let error = Shared::<[f64]>::filled(usize::MAX, |_| unreachable!()).unwrap_err();
    assert!(error.to_string().starts_with("cannot make shared memory of 18446744073709551615 `f64`"), "{error}");
    let error = Shared::<[f64]>::from_fn(1 << 47, |_| unreachable!()).unwrap_err();
    assert!(error.to_string().starts_with("cannot make 1125899906842624 bytes of shared memory: "), "{error}");
    assert!(Shared::new(&[(), ()]).is_err());
    assert!(Shared::from_fn(2, |_| ()).is_err());

    #[derive(Clone, Copy, NoUninit, AnyBitPattern)]
    #[repr(C, align(8192))]
    struct Wide([[u8; 4096]; 2]);
    assert!(Shared::new(&[Wide([[0; 4096]; 2])]).is_err());
}

#[test]
fn it_travels_inside_of_any_argument() {
    let points = Shared::new(&[Point { x: 1.0, y: 2.0, z: 3.0 }]).unwrap();
    let weights = Shared::new(&[0.5; 1000]).unwrap();
    let job = Job {
        name: "fit".into(),
        points: Some(points.clone()),
        weights: vec![(1, weights.clone()), (2, weights.clone())],
    };
    let (bytes, regions) = encoded(&job);
    assert!(bytes.len() < 200);
    let ids: Vec<u64> = regions.iter().map(|region| region.id()).collect();
    assert_eq!(ids, [points.view.holder().id(), weights.view.holder().id()]);
    let back: Job = decoded(&bytes).unwrap();
    assert_eq!(back, job);
    // In the process that made it, it is the same memory again.
    assert!(Arc::ptr_eq(back.weights[1].1.view.holder(), weights.view.holder()));
    // Lent, and in a tuple.
    assert_eq!(decoded::<(u8, Shared<[f64]>)>(&encoded(&(7_u8, &weights)).0).unwrap(), (7, weights));
}

#[test]
#[expect(clippy::needless_borrow, reason = "as the macro writes it")]
fn macros_take_it_as_any_value() {
    use crate::codec::*;
    let shared = Shared::new(&[1.0, 2.0]).unwrap();
    let (bytes, regions) = collect(|| {
        let mut writer = Writer::new();
        (&&&&&Probe::<Shared<[f64]>>::new()).check();
        (&&&&&Probe::<Shared<[f64]>>::new()).encode(&shared, &mut writer).unwrap();
        writer.into_bytes()
    });
    assert_eq!(regions.len(), 1);
    let lent = (&&&&&Probe::<Shared<[f64]>>::new()).lend(&mut Reader::new(&bytes)).unwrap();
    assert_eq!(*lent, [1.0, 2.0]);
}

#[test]
fn a_call_holds_what_it_speaks_of() {
    let shared = Shared::new(&[1.0]).unwrap();
    let (bytes, regions) = encoded(&shared);
    let memory = Arc::downgrade(shared.view.holder());
    drop(shared);
    assert_eq!(*decoded::<Shared<[f64]>>(&bytes).unwrap(), [1.0]);
    let before = deaths();
    drop(regions);
    assert!(memory.upgrade().is_none());
    assert_ne!(deaths(), before);
    let error = decoded::<Shared<[f64]>>(&bytes);
    assert!(error.is_err(), "{error:?}");
}

#[test]
fn only_calls_can_carry_it() {
    let shared = Shared::new(&[1.0]).unwrap();
    let error = Writer::new().value(&shared).unwrap_err();
    assert!(error.to_string().contains("store what it holds"), "{error}");
    assert!(encoded(&5_u8).1.is_empty());
    assert_eq!(Arc::strong_count(shared.view.holder()), 1);
}

#[test]
fn calls_inside_of_calls_and_panics_do_not_mix() {
    let [outer, inner, lost] = [1.0, 2.0, 3.0].map(|value| Shared::new(&[value]).unwrap());
    let ids = |regions: &[Arc<Region>]| regions.iter().map(|region| region.id()).collect::<Vec<_>>();
    let (within, around) = collect(|| {
        encode_all([&outer, &outer]);
        let ((), within) = collect(|| encode_all([&inner, &outer, &inner]));
        let caught = panic::catch_unwind(panic::AssertUnwindSafe(|| {
            collect(|| {
                encode_all([&lost]);
                panic!("while encoding");
            })
        }));
        assert!(caught.is_err());
        encode_all([&inner]);
        within
    });
    assert_eq!(ids(&within), [inner.view.holder().id(), outer.view.holder().id(), inner.view.holder().id()]);
    assert_eq!(ids(&around), [outer.view.holder().id(), inner.view.holder().id()]);
    assert_eq!(Arc::strong_count(lost.view.holder()), 1);
    assert!(Writer::new().value(&outer).is_err());

    fn encode_all<const N: usize>(all: [&Shared<[f64]>; N]) {
        Writer::new().value(&all[..]).unwrap();
    }
}

#[test]
fn elements_of_another_size_are_an_error() {
    let shared = Shared::new(&[1.0_f64; 3]).unwrap();
    let (bytes, _regions) = encoded(&shared);
    let error = decoded::<Shared<[[u8; 3]]>>(&bytes).unwrap_err();
    assert!(error.to_string().contains("of elements of 8 bytes is read as one of `[u8; 3]`"), "{error}");
    assert!(decoded::<Shared<[f32]>>(&bytes).is_err());
    // Bytes that lie about the length, or the size of elements.
    for lie in [(shared.view.holder().id(), 16, 8), (shared.view.holder().id(), 24, 5)] {
        let bytes = encoded(&lie).0;
        assert!(decoded::<Shared<[f64]>>(&bytes).is_err());
        assert!(decoded::<Shared<[[u8; 5]]>>(&bytes).is_err());
    }
}

#[test]
fn what_is_received_lives_until_it_is_released_and_dropped() {
    let (here, there) = passing::pair().unwrap();
    let inbox = Inbox::open(there.into());
    let made = Shared::new(&[1.0, 2.0]).unwrap();
    let bytes = foreign(1001, &made);
    let waits = std::thread::spawn({
        let bytes = bytes.clone();
        move || decoded::<Shared<[f64]>>(&bytes).unwrap()
    });
    std::thread::sleep(Duration::from_millis(20));
    passing::send(&here, &Outgoing::Take { id: 1001, number: 0, handle: made.view.holder().memory().handle() })
        .unwrap();
    assert!(inbox.receive().unwrap());
    let first = waits.join().unwrap();
    let second: Shared<[f64]> = decoded(&bytes).unwrap();
    assert_eq!((&first, &second), (&made, &made));
    assert!(Arc::ptr_eq(first.view.holder(), second.view.holder()));
    // Outgoing on from here, it keeps its number.
    assert_eq!(encoded(&first).0, bytes);

    passing::send(&here, &Outgoing::Release { id: 1001 }).unwrap();
    assert!(inbox.receive().unwrap());
    let third: Shared<[f64]> = decoded(&bytes).unwrap();
    let memory = Arc::downgrade(third.view.holder());
    drop((first, second));
    assert_eq!(third, made);
    drop(third);
    assert!(memory.upgrade().is_none());
    assert!(find_within(1001, Duration::ZERO).is_err());
    drop(here);
    assert!(!inbox.receive().unwrap());
}

#[test]
fn what_is_received_again_is_the_same() {
    let made = Shared::new(&[1.0, 2.0]).unwrap();
    offer(1002, 0, fd(&made));
    let first: Shared<[f64]> = decoded(&foreign(1002, &made)).unwrap();
    offer(1002, 0, fd(&made));
    release(1002);
    release(1002);
    offer(1002, 0, fd(&made));
    let second: Shared<[f64]> = decoded(&foreign(1002, &made)).unwrap();
    assert!(Arc::ptr_eq(first.view.holder(), second.view.holder()));
    drop((first, second));
    assert!(find_within(1002, Duration::ZERO).is_ok());
    release(1002);
    assert!(!is_known(1002));
}

/// Of one number, whoever passes arguments is believed, and nobody else.
#[test]
fn another_region_of_the_same_number_is_told_apart() {
    let [made, forged] = [1.0, 2.0].map(|value| Shared::new(&[value]).unwrap());
    let take = |shared| Delivery::Take { id: 1004, number: 0, handle: fd(shared) };
    let false_one = accept(take(&forged)).unwrap();
    // It is there first, and gives way.
    offer(1004, 0, fd(&made));
    let real: Shared<[f64]> = decoded(&foreign(1004, &made)).unwrap();
    assert_eq!(real, made);
    // It comes later, and is refused.
    assert!(accept(take(&forged)).unwrap_err().contains("under a number that another one has"));
    assert!(Arc::ptr_eq(&accept(take(&made)).unwrap(), real.view.holder()));
    drop(false_one);
    assert!(is_known(1004));
    release(1004);
    drop(real);
    assert!(!is_known(1004));
}

#[test]
fn what_a_message_refers_to_has_come_with_it() {
    let (_here, there) = passing::pair().unwrap();
    let _inbox = Inbox::open(there.into());
    let made = Shared::new(&[1.0]).unwrap();
    // Nothing is waited for, and no call's arguments are waiting here.
    let error = came_with(&[], || find(1005)).unwrap_err();
    assert!(error.contains("did not come with it"), "{error}");
    let region = accept(Delivery::Take { id: 1005, number: 0, handle: fd(&made) }).unwrap();
    release(1005);
    let found = came_with(&[made.view.holder().clone(), region.clone()], || {
        assert!(came_with(&[], || find(made.view.holder().id())).is_ok(), "it is known here");
        find(1005).unwrap()
    });
    assert!(Arc::ptr_eq(&found, &region));
}

#[test]
fn what_does_not_arrive_is_an_error() {
    let made = Shared::new(&[1.0]).unwrap();
    offer(1003, 0, Ok(io::pipe().unwrap().0.into()));
    let error = decoded::<Shared<[f64]>>(&foreign(1003, &made)).unwrap_err();
    assert!(error.to_string().contains("cannot be taken: the memory is not sealed"), "{error}");
    release(1003);
    offer(1003, 0, Err(io::ErrorKind::Other.into()));
    assert!(find(1003).is_err());
    release(1003);

    let (_here, there) = passing::pair().unwrap();
    let inbox = Inbox::open(there.into());
    let error = find_within(1003, Duration::from_millis(10)).unwrap_err();
    assert!(error.contains("has not arrived within 10ms"), "{error}");
    drop(inbox);
}

#[test]
fn numbers_differ() {
    let ids: std::collections::HashSet<u64> = (0..100_000).map(|_| fresh_id()).collect();
    assert_eq!(ids.len(), 100_000);
    // Threads draw from the same numbers, and so do not draw the same ones.
    let other = std::thread::spawn(|| (0..1000).map(|_| fresh_id()).collect::<Vec<_>>()).join().unwrap();
    assert!(other.iter().all(|id| !ids.contains(id)));
    assert!(ids.iter().any(|id| *id > u64::MAX / 2));
}

#[test]
fn a_worker_is_given_each_region_once_and_told_when_it_is_gone() {
    let mut ledger = Ledger::default();
    let [one, two] = [1.0, 2.0].map(|value| Shared::new(&[value]).unwrap());
    let ids = [one.view.holder().id(), two.view.holder().id()];
    assert!(ledger.give(one.view.holder()) && ledger.give(two.view.holder()) && !ledger.give(one.view.holder()));
    assert!(ledger.take_dead().is_empty());
    let call = encoded(&one);
    drop((one, two));
    assert_eq!(ledger.take_dead(), [ids[1]]);
    drop(call);
    assert_eq!(ledger.take_dead(), [ids[0]]);
    assert!(ledger.take_dead().is_empty());
}

#[test]
fn a_string_is_converted_into_a_shared_one() {
    let of_str: Shared<str> = "größer".try_into().unwrap();
    let of_string = Shared::<str>::try_from(String::from("größer")).unwrap();
    assert_eq!((&*of_str, &*of_string), ("größer", "größer"));
}
