//! Values: whatever the bytes are, decoding ends in a value or an error, with bounded memory and depth.

use crate::codec::{ByValue as _, CodecError, Lend as _, Probe, Reader, Writer};
use crate::fuzz::{Kind, Plan, run};
use crate::memory::{Block, Hold};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Tree {
    Leaf,
    Boxed(Box<Tree>),
    Several(Vec<Tree>),
    Fields { left: Option<Box<Tree>>, text: String },
    Pair(u8, char),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Everything {
    flag: bool,
    letter: char,
    numbers: (i8, u16, i32, u64, i128, f32),
    texts: Vec<String>,
    map: BTreeMap<String, Vec<u32>>,
    hashed: HashMap<u16, Option<bool>>,
    set: BTreeSet<char>,
    queue: VecDeque<(u8, ())>,
    tree: Tree,
    bytes: Vec<Vec<u8>>,
    array: [i16; 5],
    result: Result<u8, String>,
    time: Duration,
    nothing: Vec<()>,
    unit: (),
}

fn tree(depth: u32) -> Tree {
    match depth {
        0 => Tree::Leaf,
        depth if depth % 3 == 0 => Tree::Several(vec![Tree::Pair(1, 'ß'), tree(depth - 1), Tree::Leaf]),
        depth if depth % 3 == 1 => Tree::Boxed(tree(depth - 1).into()),
        depth => Tree::Fields { left: Some(tree(depth - 1).into()), text: "text".into() },
    }
}

fn everything() -> Everything {
    Everything {
        flag: true,
        letter: '\u{10ffff}',
        numbers: (-1, 2, -3, 4, -5, 0.5),
        texts: vec!["one".into(), String::new(), "drei, é".into()],
        map: [("a".into(), vec![1, 2, 3]), ("b".into(), vec![])].into(),
        hashed: [(1, Some(true)), (2, None)].into(),
        set: ['x', 'y'].into(),
        queue: [(1, ()), (2, ())].into(),
        tree: tree(9),
        bytes: vec![vec![1; 30], vec![], vec![2; 3]],
        array: [1, -2, 3, -4, 5],
        result: Err("no".into()),
        time: Duration::from_millis(1500),
        nothing: vec![(); 9],
        unit: (),
    }
}

/// An element takes a byte at the least, and no more memory than an [`Everything`] while it is one of them; vectors
/// double, and maps have nodes.
fn elements(length: usize) -> usize {
    (64 << 10) + 8 * size_of::<Tree>().max(64) * length
}

/// Decodes a value; if there is one, what it is encoded as is decoded as the same.
fn decoded<T: Serialize + for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, CodecError> {
    let mut reader = Reader::new(bytes);
    let value: T = reader.value()?;
    reader.finish()?;
    let encoded = |value: &T| {
        let mut writer = Writer::new();
        writer.value(value).map(|()| writer.into_bytes())
    };
    // What can be read is not always what can be written, which may not be nested as deeply.
    if let Ok(bytes) = encoded(&value) {
        let again: T = Reader::new(&bytes).value().expect("what was just encoded");
        // The order in a map may be another.
        assert_eq!(encoded(&again).map(|bytes| bytes.len()), Ok(bytes.len()));
    }
    Ok(value)
}

/// Among inputs that end in the same way, those of different lengths are kept.
fn kind<T>(input: &[u8], decoded: Result<T, CodecError>, shape: impl Fn(T) -> usize) -> Kind {
    let length = input.len().min(1000) / 16;
    match decoded {
        Ok(value) => Kind::of((length, shape(value))),
        Err(why) => Kind::of((length, Kind::of_text(&why.to_string()))),
    }
}

#[test]
fn nested_values() {
    let mut corpus = Vec::new();
    for value in [everything(), Everything { tree: Tree::Leaf, result: Ok(1), texts: vec![], ..everything() }] {
        let mut writer = Writer::new();
        writer.value(&value).unwrap();
        let bytes = writer.into_bytes();
        assert_eq!(decoded::<Everything>(&bytes), Ok(value));
        corpus.push(bytes);
    }
    let tried = run(Plan { name: "nested values", corpus, memory: elements }, |bytes| {
        kind(bytes, decoded::<Everything>(bytes), |value| value.texts.len().min(4) + 8 * value.map.len().min(4))
    });
    assert!(tried.kinds > 8, "{tried:?}");
}

/// Vectors in vectors, of one element each; all say to have `announced`.
fn announcing(depth: u32, announced: u16) -> Vec<u8> {
    let encoded = |tree: &Tree| {
        let mut writer = Writer::new();
        writer.value(tree).unwrap();
        writer.into_bytes()
    };
    let one = encoded(&Tree::Several(vec![]));
    let (variant, count) = one.split_at(one.len() - 1);
    assert_eq!(count, [0]);
    assert_eq!(encoded(&Tree::Several(vec![Tree::Leaf]))[..one.len()], [variant, &[1]].concat());
    let announced = [announced as u8 | 0x80, (announced >> 7) as u8];
    [variant, &announced].concat().repeat(depth as usize)
}

#[test]
fn what_nested_vectors_announce_does_not_add_up() {
    let bytes = [announcing(120, 8000), vec![0; 8000]].concat();
    let (decoded, most) = super::memory::most_of(|| decoded::<Tree>(&bytes));
    assert!(decoded.is_err());
    assert!(most <= elements(bytes.len()), "{most} bytes of memory for {} of input", bytes.len());
}

#[test]
fn trees() {
    let mut corpus = Vec::new();
    for depth in [0, 3, 20, 70, 200] {
        let mut writer = Writer::new();
        if writer.value(&tree(depth)).is_ok() {
            corpus.push(writer.into_bytes());
        }
    }
    assert!(corpus.len() > 3);
    corpus.push(announcing(30, 200));
    fn depth(tree: Tree) -> usize {
        match tree {
            Tree::Leaf | Tree::Pair(..) => 0,
            Tree::Boxed(tree) => 1 + depth(*tree),
            Tree::Several(trees) => 1 + trees.into_iter().map(depth).max().unwrap_or(0),
            Tree::Fields { left, .. } => 1 + left.map_or(0, |tree| depth(*tree)),
        }
    }
    let tried =
        run(Plan { name: "trees", corpus, memory: elements }, |bytes| kind(bytes, decoded::<Tree>(bytes), depth));
    assert!(tried.kinds > 8, "{tried:?}");
}

/// The ways that are not serde's. The first byte says which.
fn plain(input: &[u8]) -> Kind {
    let Some((way, bytes)) = input.split_first() else { return Kind::of("empty") };
    let hold = Hold::default();
    let mut reader = Reader::of_arguments(bytes, &hold);
    let read = match way % 8 {
        0 => (&&&&Probe::<[f64]>::new()).lend(&mut reader).map(|lent| lent.len()),
        1 => (&&&&Probe::<Vec<u8>>::new()).decode(&mut reader).map(|bytes| bytes.len()),
        2 => (&&&&Probe::<String>::new()).decode(&mut reader).map(|text| text.chars().count()),
        3 => (&&&Probe::<str>::new()).lend(&mut reader).map(|text| text.chars().count()),
        4 => (&&&&Probe::<[u32; 9]>::new()).decode(&mut reader).map(|array| array.len()),
        5 => (&&Probe::<[String]>::new()).lend(&mut reader).map(|texts| texts.len()),
        6 => (&&Probe::<(u8, Option<char>)>::new()).decode(&mut reader).map(|(number, _)| number.into()),
        // Two parameters: where the second one begins, the first one says.
        _ => (&&&&Probe::<[u16]>::new()).lend(&mut reader).and_then(|first| {
            let second = (&&&&Probe::<[u64]>::new()).lend(&mut reader)?;
            Ok(first.len() + second.len())
        }),
    };
    let read = read.and_then(|length| reader.finish().map(|()| length));
    kind(input, read, |length| 8 * length.min(6) + usize::from(way % 8))
}

#[test]
fn plain_data() {
    let write = |way: u8, write: &dyn Fn(&mut Writer) -> Result<(), CodecError>| {
        let mut writer = Writer::new();
        write(&mut writer).unwrap();
        [vec![way], writer.into_bytes()].concat()
    };
    let texts: Vec<String> = vec!["a".into(), "éé".into()];
    let corpus = vec![
        write(0, &|writer| writer.bulk(&[1.5_f64, 2.5, -0.0])),
        write(1, &|writer| writer.bulk(&[7_u8; 33])),
        write(2, &|writer| writer.text("einige Zeichen, é")),
        write(3, &|writer| writer.text("")),
        write(4, &|writer| writer.bulk(&[3_u32; 9])),
        write(5, &|writer| writer.value(&texts)),
        write(6, &|writer| writer.value(&(9_u8, Some('c')))),
        write(7, &|writer| writer.bulk(&[1_u16; 5]).and_then(|()| writer.bulk(&[2_u64; 2]))),
        // Long text is plain data; of what is somewhere else, the bytes have the number alone.
        [&[2, 1][..], &4_u64.to_le_bytes(), &[0; 7], b"text"].concat(),
        [&[1][..], &(1_u64 << 63 | 1 << 20).to_le_bytes(), &77_u64.to_le_bytes()].concat(),
    ];
    let memory = |length| (64 << 10) + 64 * length;
    let tried = run(Plan { name: "plain data", corpus, memory }, plain);
    assert!(tried.kinds > 20, "{tried:?}");
}

/// A result whose plain data has memory of its own: before it, what the input's first part says.
fn split(input: &[u8]) -> Kind {
    let Some((lengths, rest)) = input.split_first_chunk::<4>() else { return Kind::of("empty") };
    let [way, before, align, _] = *lengths;
    let (before, data) = rest.split_at(usize::from(before).min(rest.len()));
    let block = Block::with_room(data.len(), 1 << (align % 13)).map(|mut block| {
        block.append(data);
        block
    });
    let tail = RefCell::new(block);
    let mut reader = Reader::of_split(before, &tail);
    let read = match way % 4 {
        0 => (&&&&Probe::<Vec<u8>>::new()).decode(&mut reader).map(|bytes| bytes.len()),
        1 => (&&&&Probe::<Vec<f64>>::new()).decode(&mut reader).map(|numbers| numbers.len()),
        2 => (&&&&Probe::<String>::new()).decode(&mut reader).map(|text| text.len()),
        _ => (&&Probe::<Vec<String>>::new()).decode(&mut reader).map(|texts| texts.len()),
    };
    let read = read.and_then(|length| reader.finish().map(|()| length));
    kind(input, read, |length| 8 * length.min(6) + usize::from(way % 4))
}

#[test]
fn results_that_come_in_two_parts() {
    let input = |way: u8, text: bool, align: u8, data: &[u8]| {
        let mut before = vec![1; usize::from(text)];
        before.extend_from_slice(&(data.len() as u64).to_le_bytes());
        before.resize(16, 0);
        [&[way, 16, align, 0][..], &before, data].concat()
    };
    let corpus = vec![
        input(0, false, 0, &[1; 40]),
        input(1, false, 3, &[2; 80]),
        input(1, false, 0, &[2; 80]),
        input(2, true, 0, "Zeichen, é".as_bytes()),
    ];
    let memory = |length| (64 << 10) + 64 * length;
    let tried = run(Plan { name: "results that come in two parts", corpus, memory }, split);
    assert!(tried.kinds > 6, "{tried:?}");
}
