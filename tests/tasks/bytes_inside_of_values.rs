//! Bytes and numbers inside of tuples and structs arrive, as `serde_bytes` writes them or as plain vectors, and each way
//! of writing bytes can be read by the other.

use crate::support::{SharedPool, over_every_transport};
use pool_runtime::task;
use serde::{Deserialize, Serialize};
use serde_bytes::{ByteArray, ByteBuf};
use std::collections::{BTreeMap, VecDeque};

over_every_transport! {
    bytes_arrive_in_whatever_they_are,
}

static POOL: SharedPool = SharedPool::new();

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Image {
    name: String,
    #[serde(with = "serde_bytes")]
    pixels: Vec<u8>,
    depth: Vec<u16>,
    mask: Box<[bool]>,
    chunks: Vec<ByteBuf>,
    key: ByteArray<16>,
    rows: BTreeMap<u8, VecDeque<f32>>,
}

#[task]
fn turned(mut image: Image, plain: (Vec<u8>, Option<Vec<i64>>)) -> (Image, Option<Vec<i64>>, Vec<u8>) {
    image.pixels.reverse();
    image.depth.reverse();
    (image, plain.1, plain.0)
}

fn bytes_arrive_in_whatever_they_are() {
    for length in [0, 1, 1000, 1 << 20] {
        let numbers = || (0..length as u32).map(|n| n.wrapping_mul(0x9e37_79b9));
        let mut image = Image {
            name: "é".into(),
            pixels: numbers().map(|n| n as u8).collect(),
            depth: numbers().map(|n| n as u16).collect(),
            mask: numbers().map(|n| n % 3 == 0).collect(),
            chunks: vec![ByteBuf::from(vec![1; length / 2]), ByteBuf::new()],
            key: ByteArray::new([7; 16]),
            rows: BTreeMap::from([(3, numbers().map(|n| n as f32).collect())]),
        };
        let (bytes, wide): (Vec<u8>, Vec<i64>) = numbers().map(|n| (n as u8, -i64::from(n))).unzip();
        let call = turned::call(image.clone(), (bytes.clone(), Some(wide.clone())));
        image.pixels.reverse();
        image.depth.reverse();
        assert!(POOL.apply(call).unwrap() == (image, Some(wide), bytes), "{length}");
    }
}
